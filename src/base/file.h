// Files: a read-only mapping, and the one checked type through which all sizes read from a file go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "base/result.h"

namespace hadal {

/// A size or offset that came from outside. Arithmetic that overflows, goes negative or was invalid
/// to begin with yields an invalid size, and only `get()` of a valid one gives a number: no check
/// can be forgotten in between.
class CheckedSize {
 public:
  constexpr CheckedSize() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): implicit on purpose
  constexpr CheckedSize(uint64_t v) : value_(static_cast<int64_t>(v)), ok_(v <= INT64_MAX) {}
  static constexpr CheckedSize invalid() { return CheckedSize(UINT64_MAX); }

  [[nodiscard]] constexpr bool ok() const { return ok_; }
  /// The number, or `otherwise` when the size is not valid.
  [[nodiscard]] constexpr int64_t get_or(int64_t otherwise) const {
    return ok_ ? value_ : otherwise;
  }
  /// True if this size is valid and at most `limit`.
  [[nodiscard]] constexpr bool at_most(int64_t limit) const { return ok_ && value_ <= limit; }

  friend constexpr CheckedSize operator+(CheckedSize a, CheckedSize b) {
    int64_t r = 0;
    if (!a.ok_ || !b.ok_ || __builtin_add_overflow(a.value_, b.value_, &r)) return invalid();
    return CheckedSize(static_cast<uint64_t>(r));
  }
  friend constexpr CheckedSize operator*(CheckedSize a, CheckedSize b) {
    int64_t r = 0;
    if (!a.ok_ || !b.ok_ || __builtin_mul_overflow(a.value_, b.value_, &r)) return invalid();
    return CheckedSize(static_cast<uint64_t>(r));
  }
  /// Rounded up to a multiple of `unit`.
  [[nodiscard]] constexpr CheckedSize round_up(CheckedSize unit) const {
    if (!ok_ || !unit.ok_ || unit.value_ == 0) return invalid();
    const int64_t rest = value_ % unit.value_;
    return rest == 0 ? *this : *this + CheckedSize(static_cast<uint64_t>(unit.value_ - rest));
  }

 private:
  int64_t value_ = 0;
  bool ok_ = true;
};

/// A whole file, mapped read-only, or memory that holds one. Move-only; the mapping lives as long
/// as the object.
class MappedFile {
 public:
  /// Errors: kNotFound; kMemory where address space lacks; kFailed, for a Git LFS pointer as well.
  static Result<MappedFile> open(const std::filesystem::path& path);
  /// Of an open descriptor of a regular file, from its first byte on; the descriptor stays the
  /// caller's, who may close it at once. `name` stands for the path in messages. Errors: as open().
  static Result<MappedFile> map(int descriptor, const std::filesystem::path& name);
  /// The caller's memory, which must outlive the object and stay as it is. Errors: a Git LFS
  /// pointer.
  static Result<MappedFile> lend(std::span<const std::byte> bytes,
                                 const std::filesystem::path& name);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// Gives the pages that lie wholly inside `part` back to the system; they are read again from the
  /// file when touched. Memory that was lent stays as it is.
  void drop(std::span<const std::byte> part) const;

 private:
  MappedFile() = default;
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  bool lent_ = false;
};

/// The path of the mapped file that holds `address`; null: none does. Safe in a signal handler: who
/// reads a mapped file that became shorter gets SIGBUS, and this says which file it was.
const char* mapped_path_at(const void* address);

/// Mapped bytes of which single rows will be read, here and there: nothing around them is fetched.
void expect_scattered_reads(std::span<const std::byte> mapped);
/// Asks the system to have these mapped bytes in memory soon; returns at once.
void fetch_ahead(std::span<const std::byte> mapped);

/// A small text file (configuration, tokenizer) as a string; fails if it is larger than `limit`
/// bytes, or is a Git LFS pointer.
Result<std::string> read_text_file(const std::filesystem::path& path,
                                   int64_t limit = int64_t{256} << 20);

}  // namespace hadal
