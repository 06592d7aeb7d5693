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
    std::span<const std::byte> data;  ///< rows · row_bytes, may be unaligned
    int64_t rows = 0;
    std::span<const std::byte> scales;  ///< block scales, row-major, empty if none
    int64_t scale_row = 0;              ///< the piece's first row within the first row of blocks
  };
  std::string name;  ///< for messages
  DType dtype = HADAL_F32;
  uint32_t uses = 0;  ///< HADAL_USE_…
  int64_t batch = 1, rows = 0, cols = 0;
  DType scale_dtype = HADAL_DTYPE_NONE;
  int64_t scale_block_rows = 0, scale_block_cols = 0;
  std::vector<Piece> pieces;
  bool transposed = false;  ///< the pieces hold every matrix as [cols, rows]

  /// No chip can read the pieces as they lie: they are decoded and put together at load.
  [[nodiscard]] bool rebuilt() const {
    const auto shifted = [](const Piece& p) { return p.scale_row != 0; };
    return transposed || std::any_of(pieces.begin(), pieces.end(), shifted);
  }
  /// Bytes of all pieces, scales included.
  [[nodiscard]] uint64_t bytes() const {
    uint64_t bytes = 0;
    for (const Piece& piece : pieces) bytes += piece.data.size() + piece.scales.size();
    return bytes;
  }
};

}  // namespace hadal
