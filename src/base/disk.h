// How fast a disk is.
#pragma once

#include <filesystem>
#include <optional>

namespace hadal {

/// Bytes a second that the disk of a file reads past the page cache, eight reads of 3 MiB at once,
/// here and there, for `seconds`. None where that cannot be measured: the file is shorter than a
/// read, or its file system knows no direct reads.
std::optional<double> disk_bytes_per_second(const std::filesystem::path& file, double seconds);

}  // namespace hadal
