// Numbers of planes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"
#include "kernels/kernels.h"

namespace hadal::cpu {

/// Numbers of a plane (F32, F16, BF16) as floats.
inline void load_numbers(const KernelTable& kernels, DType dtype, const std::byte* from, int64_t n,
                         float* to) {
  switch (dtype) {
    case HADAL_F16:
      return kernels.f16_to_f32(reinterpret_cast<const uint16_t*>(from), to, n);
    case HADAL_BF16:
      return kernels.bf16_to_f32(reinterpret_cast<const uint16_t*>(from), to, n);
    default:
      std::memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
  }
}

}  // namespace hadal::cpu
