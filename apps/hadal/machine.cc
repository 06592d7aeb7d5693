#include "machine.h"

#include <dlfcn.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <fstream>

#include "base/child.h"
#include "base/cpu_info.h"

namespace hadal::app {
namespace {

namespace fs = std::filesystem;

LibraryState load(const std::string& name) {
  const auto ask = [&name]() -> std::string {
    if (::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return {};
    const char* said = ::dlerror();
    return said ? said : "no reason is given";
  };
  const Result<std::string> why = ask_in_child(ask, "it is loaded", kLoadingLimit);
  if (!why) return {LibraryState::Kind::kBroken, why.error().message};
  if (why->empty()) return {LibraryState::Kind::kLoads, {}};
  // What is not there begins with its own name; what lacks another library, with that one's.
  const bool absent =
      why->starts_with(name + ":") && why->find("No such file") != std::string::npos;
  if (absent) return {LibraryState::Kind::kAbsent, {}};
  return {LibraryState::Kind::kBroken, *why};
}

uint64_t soft_limit(int resource) {
  struct rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource_t>(resource), &limit) != 0 ||
      limit.rlim_cur == RLIM_INFINITY)
    return Machine::kUnlimited;
  return limit.rlim_cur;
}

/// The version in the name of the file that libhadal.so leads to, beside the program; it is not
/// loaded for that.
std::string version_of_library() {
  std::error_code unused;
  const fs::path program = fs::read_symlink("/proc/self/exe", unused);
  const fs::path prefix = program.parent_path().parent_path();
  for (const char* folder : {"lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"}) {
    const fs::path file = fs::canonical(prefix / folder / "libhadal.so", unused);
    const std::string name = file.filename().string(), stem = "libhadal.so.";
    if (name.starts_with(stem)) return name.substr(stem.size());
  }
  return {};
}

uint32_t hexadecimal(const std::string& text) {
  return static_cast<uint32_t>(std::strtoul(text.c_str(), nullptr, 16));
}

}  // namespace

Machine Machine::own() {
  Machine m;
  m.processors = available_processors();
  m.memory_available = available_memory();
  m.threads = cgroup_threads();
  m.locked_memory = soft_limit(RLIMIT_MEMLOCK);
  m.open_files = soft_limit(RLIMIT_NOFILE);
  m.seconds_since_1970 = std::time(nullptr);
  m.library_version = version_of_library();
  std::error_code unused;
  m.program_folder = fs::read_symlink("/proc/self/exe", unused).parent_path();
  m.variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  m.may_use = [](const fs::path& file) { return ::access(file.c_str(), R_OK | W_OK) == 0; };
  m.library = load;
  return m;
}

std::string Machine::line_of(const char* path) const {
  std::ifstream file(at(path));
  std::string line;
  std::getline(file, line);
  return line;
}

std::string Machine::value_of(const char* path, const std::string& key) const {
  std::ifstream file(at(path));
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line.find_first_not_of(" \t", key.size()) != colon) continue;
    const size_t value = line.find_first_not_of(" \t", colon + 1);
    return value == std::string::npos ? "" : line.substr(value);
  }
  return {};
}

int32_t Machine::count_of(const char* path, const std::string& key) const {
  std::ifstream file(at(path));
  int32_t count = 0;
  for (std::string line; std::getline(file, line);) count += line.starts_with(key) ? 1 : 0;
  return count;
}

std::vector<std::string> Machine::files_in(const char* folder, const std::string& prefix) const {
  std::vector<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(at(folder), error))
    if (const std::string name = entry.path().filename().string(); name.starts_with(prefix))
      names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<PciDevice> pci_devices(const Machine& machine) {
  std::vector<PciDevice> devices;
  for (const std::string& address : machine.files_in("/sys/bus/pci/devices", "")) {
    const std::string folder = "/sys/bus/pci/devices/" + address;
    devices.push_back({address, hexadecimal(machine.line_of((folder + "/vendor").c_str())),
                       hexadecimal(machine.line_of((folder + "/class").c_str()))});
  }
  return devices;
}

bool is_accelerator(const PciDevice& device) {
  const uint32_t base = device.type >> 16, sub = device.type >> 8 & 0xff;
  return base == 0x03 || base == 0x12 || (base == 0x0b && sub == 0x40);
}

}  // namespace hadal::app
