#include "shrunk_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/file.h"

namespace hadal::app {
namespace {

TEST(ShrunkFile, IsNamedWhenItIsRead) {
  const auto path =
      std::filesystem::temp_directory_path() / ("hadal_shrunk_" + std::to_string(::getpid()));
  std::ofstream(path) << std::string(100'000, 'x');
  EXPECT_EXIT(
      {
        name_shrunk_files();
        const auto file = MappedFile::open(path);
        std::filesystem::resize_file(path, 10);
        const volatile std::byte* bytes = file->bytes().data();
        std::exit(bytes[90'000] == std::byte{'x'} ? 0 : 3);
      },
      ::testing::ExitedWithCode(1), "hadal: .*hadal_shrunk_.*: became shorter");
  std::filesystem::remove(path);
}

TEST(ShrunkFile, AMappingIsForgottenWithItsFile) {
  const auto path =
      std::filesystem::temp_directory_path() / ("hadal_mapped_" + std::to_string(::getpid()));
  std::ofstream(path) << "some bytes";
  const std::byte* inside = nullptr;
  {
    const auto file = MappedFile::open(path);
    inside = file->bytes().data() + 3;
    EXPECT_STREQ(mapped_path_at(inside), path.c_str());
    EXPECT_EQ(mapped_path_at(&path), nullptr);
  }
  EXPECT_EQ(mapped_path_at(inside), nullptr);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace hadal::app
