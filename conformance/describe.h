// A case in words: its name, and each operand with its shape and type.
#pragma once

#include <string>

#include "kit.h"

namespace hadal::conformance {

/// "bias given; X [3, 100] F32, W [17, 100] Q4_0, OUT [3, 17] F32"
std::string describe(const Case& c);

}  // namespace hadal::conformance
