// A growing .npy file of fp32 rows: header first, rows as they come, the number of rows filled in
// at the end.
#pragma once

#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

#include "base/result.h"

namespace hadal::app {

class NpyWriter {
 public:
  /// Creates (or empties) `path` for rows of `cols` numbers; 0: for single numbers, of one
  /// dimension.
  static Result<NpyWriter> create(const std::string& path, int64_t cols);
  NpyWriter(NpyWriter&& other) noexcept;
  NpyWriter& operator=(NpyWriter&&) = delete;
  ~NpyWriter();
  Status append(std::span<const float> row);
  /// Keeps the first `rows` rows; the next append goes after them.
  Status truncate(int64_t rows);
  /// Writes the number of rows and closes the file; an error if anything did not reach the disk.
  Status finish();

 private:
  NpyWriter(std::string path, std::FILE* file, int64_t cols)
      : path_(std::move(path)), file_(file), cols_(cols) {}
  Status write_header();
  std::string path_;
  std::FILE* file_;
  int64_t cols_, rows_ = 0;
};

}  // namespace hadal::app
