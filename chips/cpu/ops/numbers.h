// Numbers of planes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"
#include "kernels/kernels.h"

namespace hadal::cpu {

/// Of the numbers of a plane (F32, F16, BF16), among the float layouts.
inline int cache_layout(DType dtype) {
  return (dtype == HADAL_F16 ? kF16 : dtype == HADAL_BF16 ? kBF16 : kF32) - kIntLayouts;
}
inline void load_numbers(const KernelTable& kernels, DType dtype, const std::byte* from, int64_t n,
                         float* to) {
  kernels.decode[cache_layout(dtype)](reinterpret_cast<const uint8_t*>(from), n, to);
}

inline void store_numbers(const KernelTable& kernels, DType dtype, const float* x, int64_t n,
                          std::byte* to) {
  switch (dtype) {
    case HADAL_F16:
      return kernels.f32_to_f16(x, reinterpret_cast<uint16_t*>(to), n);
    case HADAL_BF16:
      return kernels.f32_to_bf16(x, reinterpret_cast<uint16_t*>(to), n);
    default:
      std::memcpy(to, x, static_cast<size_t>(n) * sizeof(float));
  }
}

}  // namespace hadal::cpu
