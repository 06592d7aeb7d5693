#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/text.h"

namespace hadal {
namespace {

/// An open descriptor that closes itself.
struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

Error io_error(const std::filesystem::path& path, const char* what) {
  const int number = errno;
  Error error{number == ENOENT || number == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kFailed,
              path.string() + ": " + what + ": " + std::generic_category().message(number)};
  return error;
}

/// The size of an open regular file.
Result<int64_t> regular_size(int fd, const std::filesystem::path& path) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return io_error(path, "cannot read its size");
  if (!S_ISREG(info.st_mode)) return failed(path.string() + ": not a regular file");
  return static_cast<int64_t>(info.st_size);
}

/// Opens a regular file and tells its size.
Result<int64_t> open_regular(const std::filesystem::path& path, Descriptor& out) {
  out.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (out.fd < 0) return io_error(path, "cannot open");
  return regular_size(out.fd, path);
}

/// The error of a mapping that failed; where memory is what lacks, with the limit that says so.
Error map_error(const std::filesystem::path& path, int64_t size) {
  if (errno != ENOMEM) return io_error(path, "cannot map");
  struct rlimit space{};
  const bool limited = ::getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY;
  return memory_error(path.string() + ": cannot map its " + std::to_string(size) + " bytes: " +
                      (limited ? "this process may have " + std::to_string(space.rlim_cur) +
                                     " bytes of address space; raise the limit (ulimit -v)"
                               : std::string("no address space left, or more mappings than "
                                             "/proc/sys/vm/max_map_count allows")));
}

/// A clone made without Git LFS has a short text in the place of each large file.
Status refuse_lfs_pointer(const std::filesystem::path& path, std::string_view bytes) {
  if (!bytes.starts_with("version https://git-lfs.github.com/spec/")) return {};
  return failed(path.string() +
                ": a Git LFS pointer, not the file that it stands for: fetch that with 'git lfs "
                "pull' in its folder");
}

uintptr_t page_size() { return static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE)); }

/// Tells the system about all pages that `part` touches.
void advise_whole_pages(std::span<const std::byte> part, int advice) {
  if (part.empty()) return;
  const uintptr_t page = page_size();
  const auto begin = reinterpret_cast<uintptr_t>(part.data()) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(part.data()) + part.size();
  ::madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

/// What is mapped, for a signal handler: no locks, and a path stays once it was seen.
struct MappedRange {
  std::atomic<uintptr_t> begin{0}, end{0};
  std::atomic<const char*> path{nullptr};
};
std::array<MappedRange, 512> mapped_ranges;  // more files than that are mapped, but not named

void note_mapping(const std::byte* data, size_t size, const std::filesystem::path& path) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  for (MappedRange& range : mapped_ranges) {
    uintptr_t free = 0;
    if (!range.begin.compare_exchange_strong(free, begin)) continue;
    char* copy = ::strdup(path.c_str());
    if (copy) blank_controls(copy);  // it is for a terminal
    range.path = copy;
    range.end = begin + size;
    return;
  }
}

void forget_mapping(const std::byte* data) {
  for (MappedRange& range : mapped_ranges)
    if (range.begin == reinterpret_cast<uintptr_t>(data)) {
      range.end = 0;
      std::free(const_cast<char*>(range.path.exchange(nullptr)));
      range.begin = 0;
      return;
    }
}

}  // namespace

const char* mapped_path_at(const void* address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  for (const MappedRange& range : mapped_ranges)
    if (at >= range.begin && at < range.end) return range.path;
  return nullptr;
}

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  Descriptor file;
  HADAL_TRY(open_regular(path, file));
  return map(file.fd, path);
}

Result<MappedFile> MappedFile::map(int descriptor, const std::filesystem::path& path) {
  HADAL_TRY(const int64_t size, regular_size(descriptor, path));
  MappedFile mapped;
  mapped.path_ = path;
  if (size == 0) return mapped;
  void* data = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (data == MAP_FAILED) return map_error(path, size);
  mapped.data_ = static_cast<const std::byte*>(data);
  mapped.size_ = static_cast<size_t>(size);
  note_mapping(mapped.data_, mapped.size_, path);
  HADAL_TRY(refuse_lfs_pointer(path, {static_cast<const char*>(data), mapped.size_}));
  return mapped;
}

Result<MappedFile> MappedFile::lend(std::span<const std::byte> bytes,
                                    const std::filesystem::path& name) {
  MappedFile lent;
  lent.path_ = name;
  lent.data_ = bytes.data();
  lent.size_ = bytes.size();
  lent.lent_ = true;
  HADAL_TRY(refuse_lfs_pointer(name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  return lent;
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(lent_, other.lent_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!data_ || lent_) return;
  forget_mapping(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::drop(std::span<const std::byte> part) const {
  if (lent_) return;  // memory that no file stands behind would lose what it holds
  const uintptr_t page = page_size();
  const auto begin = (reinterpret_cast<uintptr_t>(part.data()) + page - 1) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(part.data()) + part.size()) / page * page;
  if (end > begin) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void expect_scattered_reads(std::span<const std::byte> mapped) {
  advise_whole_pages(mapped, MADV_RANDOM);
}

void fetch_ahead(std::span<const std::byte> mapped) {
  // The system reads no more at once than its usual read-ahead, and forgets the rest.
  constexpr size_t kPiece = size_t{128} << 10;
  for (; !mapped.empty(); mapped = mapped.subspan(std::min(kPiece, mapped.size())))
    advise_whole_pages(mapped.first(std::min(kPiece, mapped.size())), MADV_WILLNEED);
}

Result<std::string> read_text_file(const std::filesystem::path& path, int64_t limit) {
  Descriptor file;
  HADAL_TRY(const int64_t size, open_regular(path, file));
  if (size > limit)
    return failed(path.string() + ": " + std::to_string(size) + " bytes, more than the " +
                  std::to_string(limit) + " that such a file may have");
  std::string text(static_cast<size_t>(size), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::read(file.fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return io_error(path, "cannot read");
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  text.resize(done);
  HADAL_TRY(refuse_lfs_pointer(path, text));
  return text;
}

}  // namespace hadal
