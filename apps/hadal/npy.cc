#include "npy.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace hadal::app {
namespace {

constexpr long kHeaderBytes = 128;

Error write_error(const std::string& path) {
  return failed(path + ": cannot write: " + std::generic_category().message(errno));
}

}  // namespace

Result<NpyWriter> NpyWriter::create(const std::string& path, int64_t cols) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (!file)
    return Error{errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kFailed,
                 path + ": cannot create: " + std::generic_category().message(errno)};
  NpyWriter writer(path, file, cols);
  HADAL_TRY(writer.write_header());
  return writer;
}

NpyWriter::NpyWriter(NpyWriter&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::exchange(other.file_, nullptr)),
      cols_(other.cols_),
      rows_(other.rows_) {}

NpyWriter::~NpyWriter() {
  if (file_) std::fclose(file_);
}

Status NpyWriter::write_header() {
  // Format version 1.0; padded, so that the final number of rows fits in the same place.
  std::string dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(rows_) +
                     ", " + (cols_ > 0 ? std::to_string(cols_) : "") + "), }";
  dict.resize(kHeaderBytes - 10 - 1, ' ');
  dict += '\n';
  const std::string head =
      std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(dict.size()) + '\0' + dict;
  if (std::fseek(file_, 0, SEEK_SET) != 0 ||
      std::fwrite(head.data(), 1, head.size(), file_) != head.size())
    return write_error(path_);
  return {};
}

Status NpyWriter::append(std::span<const float> row) {
  if (std::fwrite(row.data(), sizeof(float), row.size(), file_) != row.size())
    return write_error(path_);
  ++rows_;
  return {};
}

Status NpyWriter::truncate(int64_t rows) {
  HADAL_CHECK(rows <= rows_);
  rows_ = rows;
  if (std::fseek(file_,
                 kHeaderBytes + static_cast<long>(rows * std::max<int64_t>(cols_, 1) *
                                                  static_cast<int64_t>(sizeof(float))),
                 SEEK_SET) != 0)
    return write_error(path_);
  return {};
}

Status NpyWriter::finish() {
  HADAL_TRY(write_header());
  if (std::fclose(std::exchange(file_, nullptr)) != 0) return write_error(path_);
  return {};
}

}  // namespace hadal::app
