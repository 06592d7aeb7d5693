// One panel of weights times tiles of activations: what matmul and grouped_matmul share.
#pragma once

#include <algorithm>
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
};

/// Row `row` of a matrix of `rows` rows of k values, to its place in `quants`: among the rows of
/// its tile, or a row of its own where all are multiplied in place.
inline void quantise(const KernelTable& kernels, const float* x, int64_t k, int64_t rows,
                     int64_t row, uint8_t* quants) {
  if (rows <= kInPlaceRows) {
    uint8_t* q = quants + quant_bytes(row, k);
    return kernels.quantize(x, k, {q, q + k, kBlock, 4, 4 * (k / kBlock)});
  }
  const int64_t first = row / kTile * kTile, height = std::min<int64_t>(kTile, rows - first);
  uint8_t* tile = quants + quant_bytes(first, k);
  kernels.quantize(x, k,
                   {tile + kBlock * (row - first), tile + kBlock * height + 4 * (row - first),
                    height * kActBytes, height * kActBytes, 4 * height});
}

/// kPanel rows of weights, read as the file holds them, or made ready for many rows of activations.
class Panel {
 public:
  /// Worker memory of a panel whose rows have `k` values.
  static uint64_t bytes(int64_t k);
  Panel(const KernelTable& kernels, uint8_t* memory) : kernels_(kernels), memory_(memory) {}

  /// Takes panel `index` of matrix `batch`, to be multiplied by a matrix of `rows` rows.
  void take(const Weight& w, int64_t batch, int64_t index, int64_t rows);
  /// out[rows][16] = rows [from, from + rows) of the activations times the panel; at most kTile.
  void multiply(const Acts& acts, int64_t from, int64_t rows, float* out);
  /// How many of the 16 the matrix has.
  [[nodiscard]] int64_t count() const { return count_; }

 private:
  void decode();
  void decode_scales(int64_t r, int64_t count, float* to) const;

  const KernelTable& kernels_;
  uint8_t* memory_;
  const Weight* weight_ = nullptr;
  int64_t first_ = 0, count_ = 0;  ///< rows of the handle
  NativePanel native_{};
  const float* scales_[kPanel] = {};
  const uint8_t* fetch_behind_ = nullptr;  ///< the panel's last row, until its first product
  bool in_place_ = false;
};

}  // namespace hadal::cpu
