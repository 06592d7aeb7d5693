// Single rows of a weight as fp32: at load where a chip cannot read what is stored, and for writing
// a model in other types.
#pragma once

#include "device/convert.h"

namespace hadal {

/// Decodes row `row` of a piece, as stored, to out[0 … its numbers), block scales applied. False if
/// its type holds no numbers.
bool decode_row(const WeightSource& source, const WeightSource::Piece& piece, int64_t row,
                float* out);

}  // namespace hadal
