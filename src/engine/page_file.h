// PageFile: pages of a cache in one bounded file on disk, found by a digest of all that they depend
// on.
//
// The file has a header with its identity (whatever changes the bytes of a page: model, kernels,
// types) and slots of one size. A page is written behind an erased header, then gets its header, so
// that a process that dies leaves no half page that looks whole; a checksum finds what a disk
// breaks. A file of another identity is begun anew, broken pages are forgotten: whoever asks
// computes them again. The page that was not used for longest gives its place to a new one. Knows
// nothing of what a page holds; the prefix cache calls it (engine/page_store.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/result.h"

namespace hadal {

class PageFile {
 public:
  struct Options {
    std::filesystem::path path;
    uint64_t max_bytes = 0;   ///< of the file
    uint64_t page_bytes = 0;  ///< the largest page
    Digest identity{};
  };
  /// Errors: kUsage (no page fits in max_bytes; the file holds something else than pages), kFailed
  /// (cannot be written, or another process uses it).
  static Result<std::unique_ptr<PageFile>> open(const Options& options);
  ~PageFile();
  PageFile(const PageFile&) = delete;
  PageFile& operator=(const PageFile&) = delete;

  /// The parts (bits, the caller's) that the page of this digest holds; 0: there is none.
  [[nodiscard]] uint64_t parts(const Digest& key) const;
  /// Writes a page, in the place of one of the same digest. An error turns the file off.
  Status write(const Digest& key, uint64_t parts, std::span<const std::byte> page);
  /// Reads a page of `page.size()` bytes; false if it is not there whole and sound: then it is
  /// forgotten.
  [[nodiscard]] bool read(const Digest& key, std::span<std::byte> page);
  /// Writing failed before: nothing is written any more.
  [[nodiscard]] bool off() const { return off_; }

  /// Pages that were there when the file was opened.
  [[nodiscard]] int64_t found() const { return found_; }
  [[nodiscard]] int64_t reads() const { return reads_; }
  /// A file of another model or version was there and was begun anew.
  [[nodiscard]] bool was_foreign() const { return foreign_; }

 private:
  struct Page {
    uint64_t slot = 0, parts = 0, bytes = 0, checksum = 0;
    std::list<Digest>::iterator used;
  };
  PageFile() = default;
  Status begin();
  void scan();
  void forget(std::map<Digest, Page>::iterator page);
  uint64_t free_slot();
  [[nodiscard]] uint64_t offset_of(uint64_t slot) const;
  [[nodiscard]] bool put(uint64_t offset, std::span<const std::byte> bytes) const;
  [[nodiscard]] bool get(uint64_t offset, std::span<std::byte> bytes) const;
  [[nodiscard]] Error error(const char* what) const;

  Options options_;
  int file_ = -1;
  uint64_t slot_bytes_ = 0, slots_ = 0, sequence_ = 0;
  std::map<Digest, Page> index_;
  std::list<Digest> used_;  // the longest unused first
  std::vector<uint64_t> free_;
  uint64_t fresh_ = 0;  // slots from here on were never written
  int64_t found_ = 0, reads_ = 0;
  bool off_ = false, foreign_ = false;
};

}  // namespace hadal
