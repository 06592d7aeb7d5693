// The functions that a chip's table must have.
#pragma once

#include "hadal/chip.h"

namespace hadal::contract {

/// The first mandatory function that the table lacks; null: it has all.
const char* missing_function(const hadal_chip& chip);

}  // namespace hadal::contract
