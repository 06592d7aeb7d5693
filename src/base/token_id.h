// TokenId: a token by its number in the vocabulary, for everyone between text and engine.
#pragma once

#include <cstdint>

namespace hadal {

/// Plain int32: ids cross the C API and the chip contract as such.
using TokenId = int32_t;

}  // namespace hadal
