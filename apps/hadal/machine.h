// What `hadal doctor` asks of the machine that it stands on. Everything can be another's in a test:
// the files of /proc, /sys, /dev and /etc lie under a root, and what only a process can tell of
// itself is plain data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace hadal::app {

/// What became of loading a library by its name.
struct LibraryState {
  enum class Kind : uint8_t { kLoads, kAbsent, kBroken } kind = Kind::kAbsent;
  std::string reason;  ///< of a broken one
};

struct Machine {
  static constexpr uint64_t kUnlimited = UINT64_MAX;

  std::filesystem::path root = "/";
  int32_t processors = 1;           ///< that this process may use at once
  uint64_t memory_available = 0;    ///< with the limits of its cgroup
  std::optional<uint64_t> threads;  ///< that its cgroup may have
  uint64_t locked_memory = kUnlimited, open_files = kUnlimited;
  int64_t seconds_since_1970 = 0;
  std::string library_version;           ///< of the libhadal beside the program, "": there is none
  std::filesystem::path program_folder;  ///< where the program lies
  std::function<bool(const std::filesystem::path& file)> may_use;
  std::function<std::string(const char* name)> variable;  ///< of the environment, "": it is not set
  std::function<LibraryState(const std::string& name)> library;

  /// This process on its machine. Libraries are loaded in a child process, since a driver's may
  /// crash, or start threads.
  static Machine own();

  [[nodiscard]] std::filesystem::path at(const char* path) const {
    return root / std::filesystem::path(path).relative_path();
  }
  /// The first line of a file, "" if there is none.
  [[nodiscard]] std::string line_of(const char* path) const;
  /// "key: value" of a file, as /proc/cpuinfo has them; "" if the key is not there.
  [[nodiscard]] std::string value_of(const char* path, const std::string& key) const;
  /// Lines of a file that begin with `key`.
  [[nodiscard]] int32_t count_of(const char* path, const std::string& key) const;
  /// Files of a folder under the root whose names begin with `prefix`, sorted.
  [[nodiscard]] std::vector<std::string> files_in(const char* folder,
                                                  const std::string& prefix) const;
};

/// A device on PCI.
struct PciDevice {
  std::string address;            ///< "0000:01:00.0"
  uint32_t vendor = 0, type = 0;  ///< type: base class, sub-class, interface, of 8 bits each
};
std::vector<PciDevice> pci_devices(const Machine& machine);

/// Whether it computes: displays, accelerators, co-processors.
bool is_accelerator(const PciDevice& device);

}  // namespace hadal::app
