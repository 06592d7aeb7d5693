// Device and its plug-ins: what is refused in words, what a chip of 1.0 gets by default. The chip
// is testing_chip.c.
#include "device/device.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "device/plugins.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

const std::string kChip = HADAL_TESTING_CHIP_FILE;

Result<std::unique_ptr<Device>> open(const std::string& fault, DeviceOptions options = {}) {
  ::setenv("HADAL_TESTING_CHIP", fault.c_str(), 1);
  options.chip = kChip;
  return Device::open(options);
}

std::string refusal(const std::string& fault) {
  const auto device = open(fault);
  return device ? "" : device.error().message;
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::span<const hadal_tensor> none() {
  static const hadal_tensor tensors[HADAL_MAX_OPERANDS] = {};
  return tensors;
}

TEST(Device, AChipOfThisVersionIsAskedForAllItKnows) {
  const auto device = open("");
  ASSERT_TRUE(device) << device.error().message;
  const int64_t limits[HADAL_DIM_COUNT] = {1, 1, 1, 1, 1};
  hadal_op op{};
  op.id = HADAL_OP_ADD;
  const OpSupport support = (*device)->query(op, none(), limits);
  EXPECT_TRUE(support.supported);
  EXPECT_EQ(support.workspace_bytes, 4096U);
  EXPECT_EQ(support.numerics.name(), "block8 (256)");
  ASSERT_EQ((*device)->weight_forms(HADAL_USE_MATMUL).size(), 1U);
  EXPECT_EQ((*device)->weight_forms(HADAL_USE_MATMUL)[0].dtype, uint32_t{HADAL_BF16});
  EXPECT_EQ((*device)->alignment(), 256U);
  hadal_plane_desc plane{.size = sizeof plane, .dtype = HADAL_F16, .slots = 64, .width = 4};
  EXPECT_EQ(*(*device)->plane_block_bytes(plane), 4096U);
  plane.dtype = HADAL_F32;
  EXPECT_TRUE(says((*device)->plane_block_bytes(plane).error().message, "too large"));
  op.id = HADAL_OP_MATMUL;
  EXPECT_EQ((*device)->query(op, none(), limits).reason, "only add is taken");
}

TEST(Device, AChipOfOldLoadsWithTheDefaultsOfItsTime) {
  const auto device = open("1.0");
  ASSERT_TRUE(device) << device.error().message;
  const int64_t limits[HADAL_DIM_COUNT] = {1, 1, 1, 1, 1};
  hadal_op op{};
  op.id = HADAL_OP_ADD;
  const OpSupport support = (*device)->query(op, none(), limits);
  EXPECT_TRUE(support.supported);
  EXPECT_EQ(support.numerics.numerics, HADAL_NUMERICS_UNSAID);
  EXPECT_EQ((*device)->weight_forms(HADAL_USE_MATMUL)[0].dtype, uint32_t{HADAL_F32});
  const hadal_plane_desc plane{.size = sizeof plane, .dtype = HADAL_F16, .slots = 64, .width = 4};
  EXPECT_EQ(*(*device)->plane_block_bytes(plane), 512U);
  EXPECT_EQ((*device)->contract(), 1U << 16);
  EXPECT_FALSE((*device)->copies_at_once());
  EXPECT_EQ((*device)->info().largest_allocation, 0U);  // what it does not know is absent
  EXPECT_FALSE((*device)->has_program() || (*device)->has_profile() || (*device)->has_events() ||
               (*device)->has_comm());
  // 1.0 asked for no power of two.
  const auto odd = open("1.0 alignment");
  ASSERT_TRUE(odd) << odd.error().message;
  EXPECT_EQ((*odd)->info().alignment, 64U);
}

TEST(Device, AChipOfTheFutureWhoseStructsAreLongerThanOurs) {
  const auto device = open("1.2");
  ASSERT_TRUE(device) << device.error().message;
  EXPECT_EQ((*device)->contract(), HADAL_ABI);
  EXPECT_EQ((*device)->alignment(), 256U);
  EXPECT_STREQ((*device)->info().name, "testing");
  EXPECT_EQ((*device)->device_count(), 1);
  const int64_t limits[HADAL_DIM_COUNT] = {1, 1, 1, 1, 1};
  hadal_op op{};
  op.id = HADAL_OP_ADD;
  const OpSupport support = (*device)->query(op, none(), limits);
  EXPECT_EQ(support.workspace_bytes, 4096U);
  EXPECT_EQ(support.numerics.name(), "block8 (256)");
  EXPECT_TRUE(says(refusal("1.2 unasked"), "answers with contract 1.2")) << refusal("1.2 unasked");
}

TEST(Device, WhatCannotBeUsedIsSaidInALine) {
  EXPECT_TRUE(says(refusal("other major"), "built for contract 9.0")) << refusal("other major");
  EXPECT_TRUE(says(refusal("crash"), "it crashes when it is loaded and queried (Aborted)"))
      << refusal("crash");
  EXPECT_TRUE(says(refusal("table size"), "writes beyond the")) << refusal("table size");
  EXPECT_TRUE(says(refusal("info size"), "device_info writes beyond")) << refusal("info size");
  EXPECT_TRUE(says(refusal("alignment"), "alignment of 48 bytes is no power of two up to 4096"));
  EXPECT_TRUE(says(refusal("no device"), "it finds no device here")) << refusal("no device");
  EXPECT_TRUE(says(refusal("no op_run"), "lacks the mandatory function op_run"));
  const auto device = open("plane bytes");
  ASSERT_TRUE(device);
  const hadal_plane_desc plane{.size = sizeof plane, .dtype = HADAL_F16, .slots = 64, .width = 4};
  EXPECT_TRUE(says((*device)->plane_block_bytes(plane).error().message,
                   "which cannot be: a multiple of its alignment"));
  const int64_t limits[HADAL_DIM_COUNT] = {1, 1, 1, 1, 1};
  const auto silent = open("no reason");
  hadal_op op{};
  op.id = HADAL_OP_MATMUL;
  EXPECT_EQ((*silent)->query(op, none(), limits).reason, "the chip gives no reason");
}

TEST(Device, LogAndOptionsOfAChip) {
  std::vector<std::string> lines;
  DeviceOptions options;
  options.log = [&](std::string_view line) { lines.emplace_back(line); };
  options.chip_options = {{"speed", "11"}};
  ASSERT_TRUE(open("", options));
  EXPECT_EQ(lines, std::vector<std::string>{"the fan is loud"});
  options.chip_options = {{"colour", "red"}};
  const auto refused = open("", options);
  ASSERT_FALSE(refused);
  EXPECT_TRUE(says(refused.error().message, "there is only the option speed"));
  EXPECT_TRUE(says(open("1.0", options).error().message, "which has no options"));
}

class Plugins : public ::testing::Test {
 protected:
  Plugins() : folder(fs::temp_directory_path() / ("hadal_plugins_" + std::to_string(::getpid()))) {
    fs::create_directories(folder);
    fs::copy_file(kChip, folder / "libhadal_testing.so", fs::copy_options::overwrite_existing);
    ::setenv("HADAL_CHIPS", ("relative::" + folder.string()).c_str(), 1);
    ::setenv("HADAL_TESTING_CHIP", "", 1);
  }
  ~Plugins() override {
    ::unsetenv("HADAL_CHIPS");
    fs::remove_all(folder);
  }
  fs::path folder;
};

std::vector<fs::path> searched() {
  return plugin_folders([](const char* name) { return std::getenv(name); });
}

TEST_F(Plugins, AreFoundByNameInTheFoldersThatAreSearched) {
  const auto folders = searched();
  ASSERT_FALSE(folders.empty());
  EXPECT_EQ(folders[0], folder);  // relative ones are never searched
  EXPECT_EQ(plugin_names(folders), std::vector<std::string>{"testing"});
  EXPECT_TRUE(Device::open({.chip = "testing", .plugin_folders = folders}));
  EXPECT_FALSE(Device::open({.chip = "testing"}));  // nothing is searched unasked
  const auto unknown = Device::open({.chip = "nothing", .plugin_folders = folders});
  ASSERT_FALSE(unknown);
  EXPECT_TRUE(says(unknown.error().message, "there are cpu, ref, testing;"))
      << unknown.error().message;
}

TEST_F(Plugins, AreListedWithTheirFilesAndWhatMakesThemTrusted) {
  const fs::path file = folder / "libhadal_testing.so";
  std::vector<PluginFile> files = plugin_files(searched());
  ASSERT_EQ(files.size(), 1U);
  EXPECT_EQ(files[0].name, "testing");
  EXPECT_EQ(files[0].file, file);
  EXPECT_EQ(files[0].fault.why + files[0].fault.command, "");
  ASSERT_EQ(::chmod(file.c_str(), 0666), 0);
  files = plugin_files(searched());
  EXPECT_TRUE(says(files[0].fault.why, "others may write to it"));
  EXPECT_EQ(files[0].fault.command, "chmod go-w " + file.string());
}

TEST_F(Plugins, SayWhatIsWrongWithTheirFiles) {
  const auto fault = [&](const std::string& name) {
    const fs::path file = folder / name;
    const PluginFault found = plugin_fault(file);
    const auto opened = Device::open({.chip = file.string()});
    EXPECT_TRUE(!opened && says(opened.error().message, found.why)) << found.why;
    return found.why + " | " + found.command;
  };
  const auto write = [&](const std::string& name, size_t at, const std::string& bytes) {
    fs::copy_file(kChip, folder / name);
    std::fstream(folder / name, std::ios::in | std::ios::out | std::ios::binary)
        .seekp(static_cast<std::streamoff>(at))
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  };
  fs::create_symlink("nowhere", folder / "dangling.so");
  EXPECT_EQ(fault("dangling.so"), "it is a link to nowhere, which is not there | rm " +
                                      (folder / "dangling.so").string());
  fs::create_symlink("loop $.so", folder / "loop $.so");
  EXPECT_EQ(fault("loop $.so"), "it is a link that leads back to itself | rm '" +
                                    (folder / "loop $.so").string() + "'");
  fs::create_directory(folder / "folder.so");
  EXPECT_EQ(fault("folder.so"), "it is a folder; expected a shared library | ");
  std::ofstream(folder / "empty.so").flush();
  EXPECT_EQ(fault("empty.so"), "it is empty; expected a shared library | ");
  std::ofstream(folder / "text.so") << "no library, but a text that is long enough";
  EXPECT_EQ(fault("text.so"), "it is no shared library: it does not begin like one | ");
  write("far.so", 18, std::string("\x02\x01", 2));  // loongarch
  EXPECT_TRUE(says(fault("far.so"), "it is built for loongarch, this machine is "))
      << fault("far.so");
  write("narrow.so", 4, "\x01");
  EXPECT_TRUE(says(fault("narrow.so"), " with 32 bits, this machine is ")) << fault("narrow.so");
  write("object.so", 16, std::string("\x01\x00", 2));
  EXPECT_TRUE(says(fault("object.so"), "as a program or an object")) << fault("object.so");
  write("locked.so", 0, "\x7f");
  ASSERT_EQ(::chmod((folder / "locked.so").c_str(), 0), 0);
  if (::geteuid() != 0) {  // root reads everything
    EXPECT_EQ(fault("locked.so"),
              "this user may not read it | chmod a+r " + (folder / "locked.so").string());
  }
}

TEST_F(Plugins, ALinkThatLeadsNowhereIsListedAndRefused) {
  fs::create_symlink("nowhere", folder / "libhadal_gone.so");
  const auto refused = Device::open({.chip = "gone", .plugin_folders = searched()});
  ASSERT_FALSE(refused);
  EXPECT_TRUE(says(refused.error().message, "it is a link to nowhere")) << refused.error().message;
  EXPECT_EQ(plugin_files(searched())[0].file, folder / "libhadal_gone.so");
}

TEST_F(Plugins, FoldersThatAreNotSearchedAreNamed) {
  std::ofstream(folder / "file").flush();
  const std::string all =
      "relative:" + folder.string() + ":/no/such/folder::" + (folder / "file").string();
  const std::vector<PluginFolder> places = plugin_places(
      [&](const char* name) { return name == std::string("HADAL_CHIPS") ? all.c_str() : nullptr; });
  ASSERT_EQ(places.size(), 5U);  // the last one is beside the program
  using State = PluginFolder::State;
  const State expected[] = {State::kRelative, State::kThere, State::kAbsent, State::kNoFolder};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(places[i].state, expected[i]) << i;
    EXPECT_TRUE(places[i].listed);
  }
  EXPECT_FALSE(places[4].listed);
  EXPECT_EQ(searched_folders(places)[0], folder);
}

TEST_F(Plugins, ThatOthersMayWriteAreRefused) {
  ASSERT_EQ(::chmod((folder / "libhadal_testing.so").c_str(), 0666), 0);
  const auto refused = Device::open({.chip = "testing", .plugin_folders = searched()});
  ASSERT_FALSE(refused);
  EXPECT_TRUE(says(refused.error().message, "others may write to it")) << refused.error().message;
}

TEST_F(Plugins, WithoutTheSymbolAreNoChips) {
  const auto refused = Device::open({.chip = HADAL_NO_CHIP_FILE});
  ASSERT_FALSE(refused);
  EXPECT_TRUE(says(refused.error().message, "exports no hadal_chip_query"))
      << refused.error().message;
}

}  // namespace
}  // namespace hadal
