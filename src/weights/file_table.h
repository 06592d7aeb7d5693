// FileTable: a table that stays in the checkpoint's file and is read by the host, a row at a time:
// too large for any memory, and a step touches few rows of it (Engram of DeepSeek-V4.1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace hadal {

class FileTable {
 public:
  /// The numbers that one block scale of a row serves.
  static constexpr int64_t kScaled = 32;

  FileTable() = default;
  /// Rows of `cols` numbers; `scales`: of their blocks, empty if there are none. Both are mapped
  /// from a file and outlive the table.
  FileTable(int64_t rows, int64_t cols, DType dtype, std::span<const std::byte> data,
            DType scale_dtype = HADAL_DTYPE_NONE, std::span<const std::byte> scales = {});

  /// Each row's FP8 numbers with their E8M0 scales behind them, in one tensor.
  static FileTable of_joined_rows(int64_t rows, int64_t cols, std::span<const std::byte> data);

  [[nodiscard]] int64_t rows() const { return rows_; }
  [[nodiscard]] int64_t cols() const { return cols_; }
  [[nodiscard]] size_t bytes() const {
    return data_.size() + (scales_at_ > 0 ? 0 : scales_.size());
  }
  /// Asks for the row's pages; returns at once.
  void fetch_ahead(int64_t row) const;
  /// to[0 … cols): the row's numbers. `row` must be in [0, rows).
  void read(int64_t row, float* to) const;

 private:
  [[nodiscard]] std::span<const std::byte> row_of(std::span<const std::byte> data,
                                                  int64_t row) const;
  int64_t rows_ = 0, cols_ = 0;
  DType dtype_ = HADAL_F32, scale_dtype_ = HADAL_DTYPE_NONE;
  size_t scales_at_ = 0;  ///< bytes of a row before its scales, where one tensor holds both
  std::span<const std::byte> data_, scales_;
};

}  // namespace hadal
