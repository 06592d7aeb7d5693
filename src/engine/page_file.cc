#include "engine/page_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace hadal {
namespace {

constexpr uint64_t kBlock = 4096;  ///< the file's header, and what slots are multiples of
constexpr std::array<char, 16> kMagic = {"hadal pages v1\n"};

/// In front of the file.
struct FileHeader {
  std::array<char, 16> magic = kMagic;
  Digest identity{};
  uint64_t slot_bytes = 0;
  uint64_t checksum = 0;  ///< of what stands before it
};

/// In front of a page. All bytes are fields: there is no padding to be checked by accident.
struct PageHeader {
  std::array<char, 16> magic = kMagic;
  Digest key{};
  uint64_t sequence = 0;  ///< the later one was written later
  uint64_t parts = 0, bytes = 0;
  uint64_t page_checksum = 0;
  uint64_t checksum = 0;  ///< of what stands before it
};
static_assert(sizeof(FileHeader) == 64 && sizeof(PageHeader) == 88);

template <typename Header>
std::span<std::byte> bytes_of(Header& header) {
  return std::as_writable_bytes(std::span(&header, 1));
}

template <typename Header>
uint64_t checksum_of(Header& header) {
  return checksum(bytes_of(header).first(sizeof header - sizeof header.checksum));
}

}  // namespace

Error PageFile::error(const char* what) const {
  return failed(options_.path.string() + ": " + what + ": " + std::strerror(errno));
}

uint64_t PageFile::offset_of(uint64_t slot) const { return kBlock + slot * slot_bytes_; }

bool PageFile::put(uint64_t offset, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    offset += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return true;
}

bool PageFile::get(uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = pread(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    offset += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return true;
}

Result<std::unique_ptr<PageFile>> PageFile::open(const Options& options) {
  std::unique_ptr<PageFile> f(new PageFile);
  f->options_ = options;
  f->slot_bytes_ = (sizeof(PageHeader) + options.page_bytes + kBlock - 1) / kBlock * kBlock;
  f->slots_ = options.max_bytes > kBlock ? (options.max_bytes - kBlock) / f->slot_bytes_ : 0;
  if (f->slots_ == 0)
    return usage_error(options.path.string() + ": " + std::to_string(options.max_bytes) +
                       " bytes hold no page; one takes " + std::to_string(f->slot_bytes_ + kBlock));
  f->file_ = ::open(options.path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (f->file_ < 0) return f->error("cannot be opened");
  if (flock(f->file_, LOCK_EX | LOCK_NB) != 0)
    return failed(options.path.string() +
                  ": another process uses it; each needs a file of its own");
  struct stat info{};
  if (fstat(f->file_, &info) != 0) return f->error("cannot be read");
  FileHeader header;
  const bool readable = info.st_size >= static_cast<off_t>(sizeof header) &&
                        f->get(0, bytes_of(header)) && header.magic == kMagic;
  if (info.st_size > 0 && !readable)
    return usage_error(options.path.string() +
                       ": is not a file of pages and will not be overwritten; name another one");
  if (readable && header.checksum == checksum_of(header) && header.identity == options.identity &&
      header.slot_bytes == f->slot_bytes_) {
    f->scan();
  } else {
    f->foreign_ = readable;
    HADAL_TRY(f->begin());
  }
  return f;
}

PageFile::~PageFile() {
  if (file_ >= 0) ::close(file_);
}

Status PageFile::begin() {
  FileHeader header{.identity = options_.identity, .slot_bytes = slot_bytes_};
  header.checksum = checksum_of(header);
  if (ftruncate(file_, 0) != 0 || !put(0, bytes_of(header))) return error("cannot be written");
  return {};
}

/// Finds the pages of a file that is ours; of two with one digest the later.
void PageFile::scan() {
  struct stat info{};
  if (fstat(file_, &info) != 0) return;
  const auto size = static_cast<uint64_t>(info.st_size);
  // A smaller bound than before leaves the pages behind it unread, and the file is cut.
  const auto end = static_cast<off_t>(offset_of(slots_));
  if (size > offset_of(slots_) && ftruncate(file_, end) != 0) off_ = true;
  fresh_ = std::min(slots_, size <= kBlock ? 0 : (size - kBlock + slot_bytes_ - 1) / slot_bytes_);
  std::map<uint64_t, std::pair<Digest, Page>> by_age;
  for (uint64_t slot = 0; slot < fresh_; ++slot) {
    PageHeader header;
    if (get(offset_of(slot), bytes_of(header)) && header.magic == kMagic &&
        header.checksum == checksum_of(header) && header.bytes <= options_.page_bytes &&
        !by_age.contains(header.sequence))
      by_age[header.sequence] = {header.key,
                                 {.slot = slot,
                                  .parts = header.parts,
                                  .bytes = header.bytes,
                                  .checksum = header.page_checksum,
                                  .used = {}}};
    else
      free_.push_back(slot);
  }
  for (auto& [sequence, entry] : by_age) {
    auto& [key, page] = entry;
    if (const auto old = index_.find(key); old != index_.end()) forget(old);
    page.used = used_.insert(used_.end(), key);
    index_.emplace(key, page);
    sequence_ = sequence + 1;
  }
  found_ = static_cast<int64_t>(index_.size());
}

void PageFile::forget(std::map<Digest, Page>::iterator page) {
  free_.push_back(page->second.slot);
  used_.erase(page->second.used);
  index_.erase(page);
}

uint64_t PageFile::free_slot() {
  if (free_.empty() && fresh_ < slots_) return fresh_++;
  if (free_.empty()) forget(index_.find(used_.front()));
  const uint64_t slot = free_.back();
  free_.pop_back();
  return slot;
}

uint64_t PageFile::parts(const Digest& key) const {
  const auto page = index_.find(key);
  return page == index_.end() ? 0 : page->second.parts;
}

Status PageFile::write(const Digest& key, uint64_t parts, std::span<const std::byte> page) {
  HADAL_CHECK(!off_ && page.size() <= options_.page_bytes);
  if (const auto old = index_.find(key); old != index_.end()) forget(old);
  const uint64_t slot = free_slot();
  PageHeader header{.key = key,
                    .sequence = sequence_++,
                    .parts = parts,
                    .bytes = page.size(),
                    .page_checksum = checksum(page)};
  header.checksum = checksum_of(header);
  PageHeader erased{.magic = {}};
  const uint64_t at = offset_of(slot);
  if (!put(at, bytes_of(erased)) || !put(at + sizeof header, page) || !put(at, bytes_of(header))) {
    off_ = true;
    return error("no more pages are written");
  }
  index_.emplace(key, Page{.slot = slot,
                           .parts = parts,
                           .bytes = page.size(),
                           .checksum = header.page_checksum,
                           .used = used_.insert(used_.end(), key)});
  return {};
}

bool PageFile::read(const Digest& key, std::span<std::byte> page) {
  const auto found = index_.find(key);
  if (found == index_.end()) return false;
  const Page& entry = found->second;
  if (entry.bytes != page.size() || !get(offset_of(entry.slot) + sizeof(PageHeader), page) ||
      checksum(page) != entry.checksum) {
    forget(found);
    return false;
  }
  used_.splice(used_.end(), used_, entry.used);
  ++reads_;
  return true;
}

}  // namespace hadal
