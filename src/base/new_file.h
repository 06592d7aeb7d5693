// NewFile: a file that appears whole or not at all.
//
// It is written under a temporary name in the folder of its own and renamed at the end. What is not
// committed is removed, so that a full disk or an interrupt leaves nothing behind.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include "base/result.h"

namespace hadal {

class NewFile {
 public:
  /// kUsage if `path` exists and `replace` is not set.
  static Result<NewFile> create(const std::filesystem::path& path, bool replace);
  NewFile(NewFile&& other) noexcept;
  NewFile& operator=(NewFile&&) = delete;
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile();

  Status write(std::span<const std::byte> bytes);
  /// Takes the disk space of `bytes` in all, so that a disk too small is found at once.
  Status reserve(int64_t bytes);
  /// Where it lies until commit().
  [[nodiscard]] const std::filesystem::path& temporary() const { return temporary_; }
  /// Everything is on the disk, and the file has its name.
  Status commit();

 private:
  NewFile() = default;
  [[nodiscard]] Error error(const char* what) const;
  std::filesystem::path path_, temporary_;
  int file_ = -1;
  bool replace_ = false;
};

}  // namespace hadal
