// WeightSource: a weight as the checkpoint's mapped files hold it, in pieces: whole tensors, one
// tensor an expert, or the rows of one head. A binder fills it, convert.h reads it. Owns no bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace hadal {

struct WeightSource {
  struct Piece {
    std::span<const std::byte> data;  ///< from its first number to its last, may be unaligned
    int64_t rows = 0;
    std::span<const std::byte> scales;  ///< block scales, row-major, empty if none
    int64_t scale_row = 0;              ///< the piece's first row within the first row of blocks
    int64_t row_stride = 0;    ///< bytes from row to row, of some columns; 0: rows side by side
    int64_t scale_stride = 0;  ///< of the rows of scales
  };
  std::string name;  ///< for messages
  DType dtype = HADAL_F32;
  uint32_t uses = 0;  ///< HADAL_USE_…
  int64_t batch = 1, rows = 0, cols = 0;
  DType scale_dtype = HADAL_DTYPE_NONE;
  int64_t scale_block_rows = 0, scale_block_cols = 0;
  std::vector<Piece> pieces;
  bool transposed = false;  ///< the pieces hold every matrix as [cols, rows]

  /// Numbers of a row of the pieces.
  [[nodiscard]] int64_t stored_cols() const { return transposed ? rows : cols; }
  /// Bytes from row to row of a piece, and from one row of its scales to the next.
  [[nodiscard]] int64_t stride_of(const Piece& piece) const {
    return piece.row_stride != 0 ? piece.row_stride : row_bytes(dtype, stored_cols()).value_or(0);
  }
  [[nodiscard]] int64_t scale_stride_of(const Piece& piece) const {
    if (piece.scale_stride != 0 || scale_dtype == HADAL_DTYPE_NONE) return piece.scale_stride;
    const int64_t blocks = (stored_cols() + scale_block_cols - 1) / scale_block_cols;
    return row_bytes(scale_dtype, blocks).value_or(0);
  }
  /// No chip can read the pieces as they lie: they are decoded and put together at load.
  [[nodiscard]] bool rebuilt() const {
    const auto shifted = [](const Piece& p) { return p.scale_row != 0; };
    return transposed || std::any_of(pieces.begin(), pieces.end(), shifted);
  }
  /// Bytes of all pieces, scales included; of some columns, those alone.
  [[nodiscard]] uint64_t bytes() const {
    uint64_t bytes = 0;
    for (const Piece& piece : pieces) {
      const auto own =
          static_cast<uint64_t>(piece.rows * row_bytes(dtype, stored_cols()).value_or(0));
      bytes += (piece.row_stride != 0 ? own : piece.data.size()) + piece.scales.size();
    }
    return bytes;
  }
};

}  // namespace hadal
