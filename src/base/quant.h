// Block formats: decoding to fp32, the definition for every chip. Formats as in ggml and in
// DeepSeek's checkpoints.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace hadal {

/// Decodes `values` values of `dtype` from `src` (any alignment) to fp32. `values` is a whole
/// number of blocks. Returns false if the type holds no numbers that can be decoded (BOOL) or the
/// count is no whole number of blocks. Each value is exactly what the format defines, rounded once
/// to fp32 the way the Python package `gguf` does.
bool decode_to_f32(DType dtype, const void* src, int64_t values, float* dst);

}  // namespace hadal
