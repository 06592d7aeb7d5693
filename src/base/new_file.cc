#include "base/new_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
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
  std::string name = path.string() + ".XXXXXX";
  out.file_ = ::mkstemp(name.data());
  if (out.file_ < 0) return out.error("create it");
  out.temporary_ = name;
  const mode_t mask = ::umask(0);  // mkstemp gives the owner's rights alone
  ::umask(mask);
  if (::fchmod(out.file_, 0666 & ~mask) != 0) return out.error("set its rights");
  return out;
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
