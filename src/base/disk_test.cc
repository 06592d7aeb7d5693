#include "base/disk.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace hadal {
namespace {

TEST(Disk, SaysARateOrNothing) {
  std::string name = (std::filesystem::temp_directory_path() / "hadal-disk-XXXXXX").string();
  const int fd = ::mkstemp(name.data());
  ASSERT_GE(fd, 0);
  ::close(fd);
  EXPECT_FALSE(disk_bytes_per_second(name, 0.01)) << "an empty file";
  std::ofstream(name) << std::string(size_t{4} << 20, 'x');
  // A file system in memory may know no direct reads.
  const auto rate = disk_bytes_per_second(name, 0.05);
  EXPECT_TRUE(!rate || *rate > 0);
  std::filesystem::remove(name);
  EXPECT_FALSE(disk_bytes_per_second(name, 0.01)) << "no file";
}

}  // namespace
}  // namespace hadal
