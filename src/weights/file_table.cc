#include "weights/file_table.h"

#include <algorithm>

#include "base/file.h"
#include "base/quant.h"

namespace hadal {

FileTable::FileTable(int64_t rows, int64_t cols, DType dtype, std::span<const std::byte> data,
                     DType scale_dtype, std::span<const std::byte> scales)
    : rows_(rows),
      cols_(cols),
      dtype_(dtype),
      scale_dtype_(scale_dtype),
      data_(data),
      scales_(scales) {
  expect_scattered_reads(data_);
  if (!scales_.empty()) expect_scattered_reads(scales_);
}

FileTable FileTable::of_joined_rows(int64_t rows, int64_t cols, std::span<const std::byte> data) {
  FileTable table(rows, cols, HADAL_F8_E4M3, data);
  table.scale_dtype_ = HADAL_F8_E8M0;
  table.scales_ = data;
  table.scales_at_ = static_cast<size_t>(cols);
  return table;
}

std::span<const std::byte> FileTable::row_of(std::span<const std::byte> data, int64_t row) const {
  const size_t bytes = data.size() / static_cast<size_t>(rows_);
  return data.subspan(static_cast<size_t>(row) * bytes, bytes);
}

void FileTable::fetch_ahead(int64_t row) const {
  hadal::fetch_ahead(row_of(data_, row));
  if (!scales_.empty() && scales_at_ == 0) hadal::fetch_ahead(row_of(scales_, row));
}

void FileTable::read(int64_t row, float* to) const {
  decode_to_f32(dtype_, row_of(data_, row).data(), cols_, to);
  if (scales_.empty()) return;
  const std::span<const std::byte> stored = row_of(scales_, row).subspan(scales_at_);
  const int64_t count = (cols_ + kScaled - 1) / kScaled;
  const size_t size = stored.size() / static_cast<size_t>(count);
  for (int64_t i = 0; i < count; ++i) {
    float scale = 0;
    decode_to_f32(scale_dtype_, stored.data() + static_cast<size_t>(i) * size, 1, &scale);
    for (int64_t c = i * kScaled; c < std::min(cols_, (i + 1) * kScaled); ++c) to[c] *= scale;
  }
}

}  // namespace hadal
