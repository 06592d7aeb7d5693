// One panel of weights times some rows of activations: what matmul and grouped_matmul share.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"
#include "runtime/weights.h"

namespace hadal::cpu {

/// Bytes of quantised activations: rows of `k` values.
constexpr int64_t quant_bytes(int64_t rows, int64_t k) { return rows * (k / kBlock) * kActBytes; }

/// Activations of one matrix of the batch: floats, and their quantised tiles if any.
struct Acts {
  const float* x;
  int64_t stride;  ///< floats from row to row
  const uint8_t* tiles;
  int64_t rows;
};

/// Worker memory of a matmul.
struct MatmulTemp {
  /// Weights that are decoded on the way are decoded for so many rows at once, so many values at a
  /// time.
  static constexpr int64_t kDecodeRows = 128, kDecodeValues = 512;
  static constexpr int64_t kOutFloats = kDecodeRows * kPanel;
  static constexpr int64_t kAccFloats = kDecodeRows * kPartials * kPanel;
  static constexpr int64_t kDecodeFloats = kDecodeValues * kPanel;

  float *out, *second, *acc, *rows, *panel;
  explicit MatmulTemp(uint8_t* memory)
      : out(reinterpret_cast<float*>(memory)),
        second(out + kOutFloats),
        acc(second + kOutFloats),
        rows(acc + kAccFloats),
        panel(rows + kDecodeFloats) {}
  static constexpr uint64_t bytes() {
    return static_cast<uint64_t>(2 * kOutFloats + kAccFloats + 2 * kDecodeFloats) * sizeof(float);
  }
};

/// out[rows][16] = rows [from, from + rows) of the activations times a panel of matrix `batch`.
void multiply(const KernelTable& kernels, const Weight& w, int64_t batch, int64_t panel,
              const Acts& a, int64_t from, int64_t rows, const MatmulTemp& temp, float* out);

}  // namespace hadal::cpu
