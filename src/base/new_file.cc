#include "base/new_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <utility>

namespace hadal {
namespace {

Error already_there(const std::filesystem::path& path) {
  return usage_error(fmt::format("{}: is there already; --force replaces it", path.string()));
}

}  // namespace

Error NewFile::error(const char* what) const {
  return failed(fmt::format("{}: cannot {}: {}", path_.string(), what, std::strerror(errno)));
}

Result<NewFile> NewFile::create(const std::filesystem::path& path, bool replace) {
  NewFile out;
  out.path_ = path;
  out.replace_ = replace;
  std::error_code unused;
  if (!replace && std::filesystem::exists(path, unused)) return already_there(path);
  // Not mkstemp, which gives the owner's rights alone: what the user's mask allows is known to the
  // kernel, and to a process only by changing it for all its threads.
  std::random_device random;
  do {
    out.temporary_ = fmt::format("{}.{:08x}", path.string(), random());
    out.file_ = ::open(out.temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (out.file_ < 0 && errno == EEXIST);
  if (out.file_ >= 0) return out;
  out.temporary_.clear();
  return out.error("create it");
}

NewFile::NewFile(NewFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      file_(std::exchange(other.file_, -1)),
      replace_(other.replace_) {}

NewFile::~NewFile() {
  if (file_ >= 0) ::close(file_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Status NewFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(file_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return error("write");
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status NewFile::reserve(int64_t bytes) {
  // Not every file system can reserve; the length alone then has to do.
  int wrong = ::fallocate(file_, 0, 0, bytes);
  if (wrong != 0 && errno == EOPNOTSUPP) wrong = ::ftruncate(file_, bytes);
  if (wrong == 0) return {};
  std::error_code unused;
  const auto space = std::filesystem::space(temporary_, unused);
  return failed(fmt::format("{}: cannot write {} bytes: {} ({} bytes are free)", path_.string(),
                            bytes, std::strerror(errno), space.available));
}

Status NewFile::commit() {
  if (::fsync(file_) != 0) return error("write");
  if (::close(std::exchange(file_, -1)) != 0) return error("write");
  if (replace_) {
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) return error("rename it");
    temporary_.clear();
    return {};
  }
  // A link, other than a rename, does not replace what somebody else made in the meantime.
  if (::link(temporary_.c_str(), path_.c_str()) != 0) {
    if (errno == EEXIST) return already_there(path_);
    // a file system without links
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) return error("rename it");
    temporary_.clear();
  }
  return {};
}

}  // namespace hadal
