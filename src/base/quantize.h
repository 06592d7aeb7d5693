// Block formats the other way: fp32 values to the bytes that decode_to_f32 reads.
//
// Scales and minima are searched so that the squared error, weighted, is small; nothing beside the
// values themselves is known. A block depends on its own values alone, and its bytes are the same
// on every machine and with any number of threads. Called by src/quantize.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace hadal {

/// Whether encode_from_f32 writes this type: F32, F16, BF16, I32, Q4_0, Q5_0, Q5_1, Q8_0, Q4_K,
/// Q5_K, Q6_K.
bool can_encode(DType dtype);

/// Encodes `values` finite values, a whole number of blocks, to `dst` (any alignment). Returns
/// false if the type is not one of those, or if a number or a scale is too large for it.
bool encode_from_f32(DType dtype, const float* src, int64_t values, void* dst);

}  // namespace hadal
