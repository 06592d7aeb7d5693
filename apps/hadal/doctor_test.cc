// The doctor's checks on machines that are made up: files under a folder of its own.
#include "doctor.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <set>

#include "hadal/version.h"

namespace hadal::app {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kGiB = 1ULL << 30;

class Doctor : public ::testing::Test {
 protected:
  Doctor() : root_(fs::temp_directory_path() / ("hadal_doctor_" + std::to_string(::getpid()))) {
    fs::remove_all(root_);
    machine_.root = root_;
    machine_.processors = 2;
    machine_.memory_available = 7 * kGiB;
    machine_.seconds_since_1970 = 1800000000;
    machine_.may_use = [this](const fs::path& file) { return !locked_.contains(file.string()); };
    machine_.library = [this](const std::string& name) {
      return libraries_.contains(name) ? LibraryState{LibraryState::Kind::kLoads, {}}
                                       : LibraryState{};
    };
    machine_.variable = [this](const std::string& name) { return variables_[name]; };
    machine_.program_folder = root_ / "bin";
    cpu_ = {.kernels = "avx2", .instruction_sets = "avx2 fma f16c"};
    write("proc/cpuinfo",
          "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 fma f16c hypervisor\n"
          "processor\t: 1\nmodel name\t: Some CPU\n");
    write("proc/meminfo", "MemTotal:  8388608 kB\nMemFree: 100 kB\nMemAvailable:  7340032 kB\n");
    write("proc/self/cgroup", "0::/system.slice/hadal.service\n");
    write("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1\n");
    write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  }
  ~Doctor() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void pci(const std::string& address, const std::string& vendor, const std::string& type) {
    write("sys/bus/pci/devices/" + address + "/vendor", vendor + "\n");
    write("sys/bus/pci/devices/" + address + "/class", type + "\n");
  }

  /// A file that begins like a library of this machine.
  void plugin(const std::string& path) {
    std::string header(64, '\0');
    std::ifstream("/proc/self/exe", std::ios::binary)
        .read(header.data(), static_cast<std::streamsize>(header.size()));
    header[16] = 3, header[17] = 0;  // ET_DYN
    write(path, header);
  }

  [[nodiscard]] Findings host() const { return check_machine(machine_, cpu_); }
  [[nodiscard]] Findings chips() const {
    return check_chips(machine_, places_, [](const std::string& chip) {
      ChipFacts facts;
      facts.devices = {"A device", "B device"};
      if (chip.find("broken") != std::string::npos) facts.fault = "it speaks version 9.0";
      return facts;
    });
  }
  /// The last finding of a check; one without a text if there is none.
  static Finding find(const Findings& findings, const std::string& check) {
    Finding found;
    for (const Finding& f : findings)
      if (f.check == check) found = f;
    EXPECT_EQ(found.check, check);
    return found;
  }

  fs::path root_;
  Machine machine_;
  ChipFacts cpu_;
  std::set<std::string> libraries_, locked_;
  std::map<std::string, std::string> variables_;
  std::vector<PluginFolder> places_ = {{.path = root_ / "chips"}};
};

TEST_F(Doctor, AMachineThatIsAsItShouldBe) {
  for (const Finding& f : host()) EXPECT_EQ(f.verdict, Verdict::kOk) << f.check;
  for (const Finding& f : chips()) EXPECT_EQ(f.verdict, Verdict::kOk) << f.check;
  EXPECT_EQ(find(chips(), "accelerators").text, Message::kNoAccelerators);
  EXPECT_EQ(find(host(), "memory").arguments, (std::vector<std::string>{"7.0", "8.0"}));
  EXPECT_EQ(find(host(), "huge_pages").arguments, std::vector<std::string>{"madvise"});
  EXPECT_EQ(find(host(), "clock").arguments, std::vector<std::string>{"2027-01-15 08:00 UTC"});
}

TEST_F(Doctor, ALibraryOfAnotherVersion) {
  machine_.library_version = HADAL_VERSION;
  EXPECT_EQ(find(host(), "library").verdict, Verdict::kOk);
  machine_.library_version = "0.0.9";
  EXPECT_EQ(find(host(), "library").verdict, Verdict::kWrong);
}

TEST_F(Doctor, InstructionsThatAVirtualMachineHides) {
  cpu_ = {.kernels = "portable", .instruction_sets = ""};
  write("proc/cpuinfo", "processor\t: 0\nmodel name\t: QEMU CPU\nflags\t\t: fpu sse2 hypervisor\n");
  const Finding hidden = find(host(), "processor");
  EXPECT_EQ(hidden.text, Message::kProcessorHidden);
  EXPECT_EQ(hidden.arguments[1], "avx2 fma f16c");
  EXPECT_EQ(hidden.command, "virt-xml DOMAIN --edit --cpu host-passthrough");
  write("proc/cpuinfo", "processor\t: 0\nmodel name\t: Old\nflags\t\t: fpu avx2 sse2\n");
  const Finding old = find(host(), "processor");
  EXPECT_EQ(old.text, Message::kProcessorOld);
  EXPECT_EQ(old.arguments[1], "fma f16c");
  EXPECT_FALSE(old.needed);
  EXPECT_EQ(count_needed(host()), 0U);
  cpu_.fault = "no thread can be started";
  EXPECT_EQ(count_needed(host()), 1U);
}

TEST_F(Doctor, LimitsOfAServiceAContainerAndAPod) {
  machine_.processors = 1;
  machine_.threads = 20;
  machine_.memory_available = 2 * kGiB;
  EXPECT_EQ(find(host(), "processors").command,
            "sudo systemctl set-property hadal.service CPUQuota=");
  EXPECT_EQ(find(host(), "threads").command,
            "sudo systemctl set-property hadal.service TasksMax=infinity");
  EXPECT_EQ(find(host(), "memory").text, Message::kMemoryLimited);
  write(".dockerenv", "");
  write("etc/hostname", "0a1b2c\n");
  EXPECT_EQ(find(host(), "processors").command, "docker update --cpus 2 0a1b2c");
  EXPECT_EQ(find(host(), "memory").command, "docker update --memory 8g --memory-swap -1 0a1b2c");
  write("proc/self/cgroup", "0::/kubepods/besteffort/pod1\n");
  EXPECT_EQ(find(host(), "memory").command,
            "kubectl set resources deployment NAME --limits=memory=64Gi");
  EXPECT_EQ(find(host(), "threads").command, "");
  write("proc/self/status", "Cpus_allowed_list:\t1\n");
  EXPECT_EQ(find(host(), "processors").text, Message::kCoresAffinity);
  EXPECT_EQ(find(host(), "processors").command, "taskset -cp 0-1 $$");
}

TEST_F(Doctor, OtherThingsOfTheMachine) {
  machine_.memory_available = kGiB / 2;
  write("proc/meminfo", "MemTotal:  8388608 kB\nMemAvailable:  524288 kB\n");
  EXPECT_EQ(find(host(), "memory").text, Message::kMemoryLow);
  write("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
  EXPECT_EQ(find(host(), "huge_pages").command,
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled");
  machine_.open_files = 256;
  EXPECT_EQ(find(host(), "open_files").command, "ulimit -n 4096");
  machine_.locked_memory = 64 << 10;
  EXPECT_EQ(find(host(), "locked_memory").verdict, Verdict::kOk);  // nothing here wants it
  write("dev/kfd", "");
  EXPECT_EQ(find(host(), "locked_memory").verdict, Verdict::kWrong);
  machine_.seconds_since_1970 = 0;
  EXPECT_EQ(find(host(), "clock").arguments, std::vector<std::string>{"1970-01-01 00:00 UTC"});
  EXPECT_EQ(find(host(), "clock").verdict, Verdict::kWrong);
}

TEST_F(Doctor, ABareMachineGivesNoNonsense) {
  fs::remove_all(root_);
  for (const Finding& f : host()) EXPECT_EQ(f.verdict, Verdict::kOk) << f.check;
  EXPECT_EQ(find(host(), "huge_pages").text, Message::kHugePagesNone);
}

TEST_F(Doctor, AnAscendCardWithItsDriverAndNoRuntime) {
  pci("0000:01:00.0", "0x19e5", "0x120000");
  pci("0000:02:00.0", "0x19e5", "0x020000");  // a network card of the same maker
  EXPECT_EQ(find(chips(), "huawei_hardware").arguments,
            (std::vector<std::string>{"1", "0000:01:00.0"}));
  EXPECT_EQ(find(chips(), "huawei_nodes").command, "lspci -nnk -d 19e5:");
  write("dev/davinci0", "");
  EXPECT_EQ(find(chips(), "huawei_nodes").arguments, std::vector<std::string>{"/dev/davinci0"});
  EXPECT_EQ(find(chips(), "huawei_runtime").verdict, Verdict::kMissing);
  libraries_ = {"libascendcl.so"};
  EXPECT_EQ(find(chips(), "huawei_runtime").verdict, Verdict::kOk);
  const Finding chip = find(chips(), "huawei_chip");
  EXPECT_EQ(chip.text, Message::kNoChipYet);
  EXPECT_EQ(chip.arguments, std::vector<std::string>{"CANN"});
  EXPECT_EQ(chip.command, "hadal run MODEL --chip cpu");
  EXPECT_EQ(count_needed(chips()), 0U);
}

TEST_F(Doctor, ANodeThatTheUserMayNotUse) {
  write("dev/nvidia0", "");  // a container shows no PCI
  locked_ = {(root_ / "dev/nvidia0").string()};
  EXPECT_EQ(find(chips(), "nvidia_hardware").text, Message::kHardwareNodes);
  EXPECT_EQ(find(chips(), "nvidia_nodes").verdict, Verdict::kWrong);
  EXPECT_EQ(find(chips(), "nvidia_nodes").command,
            "sudo usermod -aG \"$(stat -c %G /dev/nvidia0)\" \"$USER\"");
}

TEST_F(Doctor, ALibraryThatIsThereAndBroken) {
  pci("0000:01:00.0", "0x10de", "0x030200");
  machine_.library = [](const std::string& name) -> LibraryState {
    if (name == "libcuda.so.1") return {LibraryState::Kind::kBroken, "libnvidia.so is missing"};
    return {};
  };
  EXPECT_EQ(find(chips(), "nvidia_runtime").text, Message::kRuntimeBroken);
  EXPECT_EQ(find(chips(), "nvidia_runtime").arguments[1], "libnvidia.so is missing");
}

TEST_F(Doctor, TheWayOverOpencl) {
  pci("0000:03:00.0", "0x1ed5", "0x030000");
  EXPECT_EQ(find(chips(), "moorethreads_chip").text, Message::kNoChipOpencl);
  const auto said = [this] {
    std::set<Message> texts;
    for (const Finding& f : chips())
      if (f.check == "opencl") texts.insert(f.text);
    return texts;
  };
  EXPECT_EQ(said(), (std::set<Message>{Message::kOpenclLoaderNone, Message::kOpenclIcdNone,
                                       Message::kOpenclPluginNone}));
  libraries_ = {"libOpenCL.so.1"};
  write("etc/OpenCL/vendors/mt.icd", "libOpenCL_MUSA.so\n");
  EXPECT_EQ(said(), (std::set<Message>{Message::kOpenclLoader, Message::kOpenclIcdBroken,
                                       Message::kOpenclPluginNone}));
  EXPECT_EQ(find(chips(), "opencl").command, "");  // it lies nowhere
  write("bin/libhadal_opencl.so", "");
  EXPECT_EQ(find(chips(), "opencl").command, "install -D -m 755 " +
                                                 (root_ / "bin/libhadal_opencl.so").string() + " " +
                                                 (root_ / "chips/libhadal_opencl.so").string());
  libraries_.insert("libOpenCL_MUSA.so");
  plugin("chips/libhadal_opencl.so");
  EXPECT_EQ(said(), (std::set<Message>{Message::kOpenclLoader, Message::kOpenclIcd,
                                       Message::kOpenclPlugin}));
}

TEST_F(Doctor, AVariableThatHidesTheImplementationsOfOpencl) {
  libraries_ = {"libOpenCL.so.1", "libpocl.so.2"};
  write("etc/OpenCL/vendors/pocl.icd", "libpocl.so.2\n");
  write("junk/junk.icd", "no library\n");
  fs::create_directories(root_ / "empty");
  const auto command = [&](const std::string& value) {
    variables_["OCL_ICD_VENDORS"] = value;
    for (const Finding& f : chips())
      if (f.check == "opencl" && f.verdict != Verdict::kOk && f.text != Message::kOpenclPluginNone)
        return f.command;
    return std::string("none");
  };
  EXPECT_EQ(command(""), "none");
  for (const char* hides : {"/empty", "/junk", "/junk/junk.icd", "/no/such", "other.icd"})
    EXPECT_EQ(command(hides), "unset OCL_ICD_VENDORS") << hides;
  for (const char* shows : {"/etc/OpenCL/vendors", "pocl.icd", "libpocl.so.2"})
    EXPECT_EQ(command(shows), "none") << shows;
}

TEST_F(Doctor, WhatJoinsProcesses) {
  const auto mpi = [this] { return find(chips(), "mpi"); };
  variables_["PATH"] = "relative:/usr/bin";
  EXPECT_EQ(mpi().text, Message::kMpiUnneeded);
  write("usr/bin/mpirun", "");
  EXPECT_EQ(mpi().text, Message::kMpiPluginNone);
  EXPECT_EQ(mpi().command, "");
  write("bin/libhadal_comm_mpi.so", "");
  EXPECT_TRUE(mpi().command.starts_with("install -D -m 755 "));
  plugin("chips/libhadal_comm_mpi.so");
  EXPECT_EQ(mpi().text, Message::kMpiBroken);
  libraries_ = {(root_ / "chips/libhadal_comm_mpi.so").string()};
  EXPECT_EQ(mpi().text, Message::kMpiText);
  EXPECT_EQ(mpi().arguments[0], "/usr/bin/mpirun");
  fs::remove(root_ / "usr/bin/mpirun");
  EXPECT_EQ(mpi().text, Message::kMpiRunNone);
}

TEST_F(Doctor, FoldersOfHadalChipsThatAreNotThere) {
  using State = PluginFolder::State;
  fs::create_directories(root_ / "chips");
  places_ = {{.path = "/no/such", .listed = true, .state = State::kAbsent},
             {.path = "relative", .listed = true, .state = State::kRelative},
             {.path = "/of/another user", .listed = false, .state = State::kLocked},
             {.path = "/home/x/chips", .listed = false, .state = State::kAbsent},
             {.path = root_ / "chips"}};
  std::vector<Finding> said;
  for (const Finding& f : chips())
    if (f.check == "plugin_folder") said.push_back(f);
  ASSERT_EQ(said.size(), 3U);  // where a chip may be put is no fault
  EXPECT_EQ(said[0].verdict, Verdict::kMissing);
  EXPECT_EQ(said[1].text, Message::kFolderRelative);
  EXPECT_EQ(said[2].command, "sudo chmod a+rx '/of/another user'");
  EXPECT_EQ(find(chips(), "plugin_folders").arguments[0], (root_ / "chips").string());
}

TEST_F(Doctor, AnAcceleratorOfAnUnknownMaker) {
  pci("0000:04:00.0", "0xcabc", "0x120000");
  pci("0000:05:00.0", "0x1a03", "0x030000");  // the display of a board
  EXPECT_EQ(find(chips(), "unknown_accelerator").arguments,
            (std::vector<std::string>{"0000:04:00.0", "cabc"}));
  size_t unknown = 0;
  for (const Finding& f : chips()) unknown += f.check == "unknown_accelerator" ? 1 : 0;
  EXPECT_EQ(unknown, 1U);
}

TEST_F(Doctor, PluginsThatRunThatFailAndThatOthersMayWrite) {
  plugin("chips/libhadal_good.so");
  plugin("chips/libhadal_broken.so");
  plugin("chips/libhadal_open.so");
  ASSERT_EQ(::chmod((root_ / "chips/libhadal_open.so").c_str(), 0666), 0);
  const Finding good = find(chips(), "plugin_good");
  EXPECT_EQ(good.verdict, Verdict::kOk);
  EXPECT_EQ(good.arguments[1], "A device, B device");
  EXPECT_EQ(find(chips(), "plugin_broken").arguments[0], "it speaks version 9.0");
  EXPECT_EQ(find(chips(), "plugin_broken").command, "");  // none mends it
  const Finding open = find(chips(), "plugin_open");
  EXPECT_EQ(open.verdict, Verdict::kWrong);
  EXPECT_EQ(open.command, "chmod go-w " + (root_ / "chips/libhadal_open.so").string());
}

TEST(Machine, LoadsLibrariesInAChild) {
  const Machine own = Machine::own();
  EXPECT_EQ(own.library("libm.so.6").kind, LibraryState::Kind::kLoads);
  EXPECT_EQ(own.library("libhadal-is-not-there.so.1").kind, LibraryState::Kind::kAbsent);
  const std::string text = (fs::temp_directory_path() / "hadal_no_library.so").string();
  std::ofstream(text) << "no library";
  EXPECT_EQ(own.library(text).kind, LibraryState::Kind::kBroken);
  EXPECT_FALSE(own.library(text).reason.empty());
  fs::remove(text);
}

}  // namespace
}  // namespace hadal::app
