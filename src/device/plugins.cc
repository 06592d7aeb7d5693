#include "device/plugins.h"

#include <dlfcn.h>
#include <elf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <system_error>

#include "base/child.h"
#include "base/text.h"
#include "device/guarded.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "libhadal_";
constexpr const char* kWorldPrefix = "libhadal_comm_";
constexpr const char* kSuffix = ".so";

std::string word_of(const fs::path& file) { return shell_word(file.string()); }

using Fault = PluginFault;

Fault fault_of_link(const fs::path& file) {
  struct stat info{};
  if (::stat(file.c_str(), &info) == 0) return {};
  const int error = errno;
  std::error_code unused;
  const fs::path target = fs::read_symlink(file, unused);
  if (error == ELOOP) return {"it is a link that leads back to itself", "rm " + word_of(file)};
  if (!target.empty() && (error == ENOENT || error == ENOTDIR))
    return {"it is a link to " + target.string() + ", which is not there", "rm " + word_of(file)};
  return {std::strerror(error), ""};
}

Fault fault_of_trust(const fs::path& file, const struct stat& info) {
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return {"others may write to it, and what it holds would run as you",
            "chmod go-w " + word_of(file)};
  struct stat folder{};
  const fs::path parent = file.parent_path().empty() ? fs::path(".") : file.parent_path();
  if (::stat(parent.c_str(), &folder) == 0 && (folder.st_mode & S_IWOTH) != 0 &&
      (folder.st_mode & S_ISVTX) == 0)
    return {"others may write to its folder, and what they put there would run as you",
            "chmod o-w " + word_of(parent)};
  if (info.st_uid != 0 && info.st_uid != ::geteuid())
    return {"it belongs to another user, and what it holds would run as you",
            "sudo chown root " + word_of(file)};
  if (::access(file.c_str(), R_OK) != 0)
    return {"this user may not read it",
            (info.st_uid == ::geteuid() ? "chmod a+r " : "sudo chmod a+r ") + word_of(file)};
  return {};
}

/// What the first bytes of a file tell of whom it is for.
struct ElfHeader {
  size_t bytes = 0;  ///< that could be read
  bool is_elf = false, is_library = false;
  std::string machine;
};

ElfHeader header_of(const fs::path& file) {
  unsigned char b[EI_NIDENT + 4] = {};  // then come two bytes of type and two of machine
  std::ifstream in(file, std::ios::binary);
  in.read(reinterpret_cast<char*>(b), sizeof b);
  ElfHeader header{.bytes = static_cast<size_t>(in.gcount())};
  if (header.bytes < sizeof b || std::memcmp(b, ELFMAG, SELFMAG) != 0) return header;
  const bool big = b[EI_DATA] == ELFDATA2MSB;
  const auto number = [&](size_t at) { return b[at + (big ? 1 : 0)] | b[at + (big ? 0 : 1)] << 8; };
  header.is_elf = true;
  header.is_library = number(EI_NIDENT) == ET_DYN;
  static const std::map<int, const char*> names = {
      {EM_386, "i386"},    {EM_X86_64, "x86_64"}, {EM_ARM, "arm"},     {EM_AARCH64, "aarch64"},
      {EM_PPC64, "ppc64"}, {EM_S390, "s390x"},    {EM_RISCV, "riscv"}, {258, "loongarch"}};
  const auto name = names.find(number(EI_NIDENT + 2));
  header.machine =
      name != names.end() ? name->second : "machine " + std::to_string(number(EI_NIDENT + 2));
  if (b[EI_CLASS] == ELFCLASS32) header.machine += " with 32 bits";
  if (big) header.machine += ", big-endian";
  return header;
}

Fault fault_of_content(const fs::path& file) {
  const ElfHeader its = header_of(file), ours = header_of("/proc/self/exe");
  if (its.bytes == 0) return {"it is empty; expected a shared library", ""};
  if (!its.is_elf) return {"it is no shared library: it does not begin like one", ""};
  if (ours.is_elf && its.machine != ours.machine)
    return {"it is built for " + its.machine + ", this machine is " + ours.machine, ""};
  if (!its.is_library)
    return {"it is built as a program or an object, not as a shared library", ""};
  return {};
}

/// Loads the plug-in and asks it in a child process, so that a crash there is a line here: what
/// went wrong, or an empty text.
std::string fault_of_query(const fs::path& file) {
  const auto ask = [&file]() -> std::string {
    void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    const auto query =
        library ? reinterpret_cast<hadal_chip_query_fn>(::dlsym(library, "hadal_chip_query"))
                : nullptr;
    if (query) {
      hadal_host host{};
      host.size = sizeof host;
      host.log = [](void*, uint32_t, const char*) {};
      Guarded<hadal_chip> chip;  // who writes beyond it is told so when it is opened
      query(&host, HADAL_ABI, &chip.value);
    }
    return {};
  };
  const auto said = ask_in_child(ask, "it is loaded and queried", kLoadingLimit);
  if (said || said.error().code == ErrorCode::kBusy) return {};  // it is asked here, then
  return said.error().message +
         "; if the file is whole, that is a fault of the plug-in: ask its maker";
}

/// Whether a file of this name is there, be it a link that leads nowhere.
bool has_file(const fs::path& file) {
  std::error_code unused;
  return fs::exists(fs::symlink_status(file, unused));
}

/// The file of the plug-in that is called so, in the first folder that has one; empty: in none.
fs::path file_in(const std::string& name, std::span<const fs::path> folders) {
  std::string underscored = name;  // apart-half lies in libhadal_apart_half.so
  std::replace(underscored.begin(), underscored.end(), '-', '_');
  for (const fs::path& folder : folders)
    for (const std::string& stem : {name, underscored}) {
      const fs::path file = folder / (kPrefix + stem + kSuffix);
      if (has_file(file)) return file;
    }
  return {};
}

/// A relative folder would depend on the working folder, or be it.
PluginFolder::State state_of(const fs::path& folder) {
  using State = PluginFolder::State;
  if (!folder.is_absolute()) return State::kRelative;
  std::error_code error;
  const fs::directory_iterator unused(folder, error);
  if (!error) return State::kThere;
  return error == std::errc::permission_denied ? State::kLocked
         : error == std::errc::not_a_directory ? State::kNoFolder
                                               : State::kAbsent;
}

}  // namespace

Result<fs::path> find_plugin(const std::string& name, std::span<const fs::path> searched) {
  if (name.find('/') != std::string::npos) {
    if (!has_file(name)) return not_found(name + ": no such file; expected a chip's plug-in");
    return fs::path(name);
  }
  std::string folders;
  for (const fs::path& folder : searched)
    folders += (folders.empty() ? "" : ", ") + folder.string();
  if (const fs::path file = file_in(name, searched); !file.empty()) return file;
  if (name.ends_with(kSuffix))
    return usage_error("chip '" + name + "' is unknown; a file is given by its path: ./" + name);
  std::string there;
  for (const std::string& known : plugin_names(searched)) there += ", " + known;
  return usage_error("chip '" + name + "' is unknown; there are cpu, ref" + there +
                     (folders.empty()
                          ? std::string("; a plug-in is given by its path")
                          : std::string("; a plug-in is a file ") + kPrefix + "NAME" + kSuffix +
                                " in " + folders + " (or HADAL_CHIPS), or is given by its path"));
}

std::vector<PluginFolder> plugin_places(
    const std::function<const char*(const char* name)>& environment) {
  const auto from_environment = [&](const char* name) {
    const char* value = environment(name);
    return std::string(value ? value : "");
  };
  std::vector<PluginFolder> places;
  const std::string listed = from_environment("HADAL_CHIPS");
  for (size_t at = 0, end = 0; at < listed.size(); at = end + 1) {
    end = std::min(listed.find(':', at), listed.size());
    if (end > at) places.push_back({.path = listed.substr(at, end - at), .listed = true});
  }
  const fs::path data = from_environment("XDG_DATA_HOME"), home = from_environment("HOME");
  if (data.is_absolute())
    places.push_back({.path = data / "hadal/chips"});
  else if (home.is_absolute())
    places.push_back({.path = home / ".local/share/hadal/chips"});
  std::error_code unused;
  if (const fs::path program = fs::read_symlink("/proc/self/exe", unused); !program.empty())
    places.push_back({.path = program.parent_path().parent_path() / "lib/hadal/chips"});
  for (PluginFolder& place : places) place.state = state_of(place.path);
  return places;
}

std::vector<fs::path> searched_folders(std::span<const PluginFolder> places) {
  std::vector<fs::path> folders;
  for (const PluginFolder& place : places)
    if (place.state != PluginFolder::State::kRelative) folders.push_back(place.path);
  return folders;
}

std::vector<fs::path> plugin_folders(
    const std::function<const char*(const char* name)>& environment) {
  return searched_folders(plugin_places(environment));
}

std::vector<std::string> plugin_names(std::span<const fs::path> folders) {
  std::vector<std::string> names;
  for (const fs::path& folder : folders) {
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
      const std::string file = entry.path().filename().string();
      const size_t frame = std::strlen(kPrefix) + std::strlen(kSuffix);
      if (file.size() > frame && file.starts_with(kPrefix) && file.ends_with(kSuffix) &&
          !file.starts_with(kWorldPrefix))
        names.push_back(file.substr(std::strlen(kPrefix), file.size() - frame));
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

std::vector<PluginFile> plugin_files(std::span<const fs::path> folders) {
  std::vector<PluginFile> files;
  for (const std::string& name : plugin_names(folders)) {
    const fs::path file = file_in(name, folders);
    files.push_back({name, file, plugin_fault(file)});
  }
  return files;
}

PluginFault plugin_fault(const fs::path& file) {
  if (Fault fault = fault_of_link(file); !fault.why.empty()) return fault;
  struct stat info{};
  ::stat(file.c_str(), &info);
  if (S_ISDIR(info.st_mode)) return {"it is a folder; expected a shared library", ""};
  if (!S_ISREG(info.st_mode)) return {"it is no regular file; expected a shared library", ""};
  if (Fault fault = fault_of_trust(file, info); !fault.why.empty()) return fault;
  return fault_of_content(file);
}

Status check_plugin(const fs::path& file) {
  const Fault fault = plugin_fault(file);
  if (fault.why.empty()) return {};
  return failed(file.string() + ": it is not loaded: " + fault.why +
                (fault.command.empty() ? "" : "; " + fault.command));
}

Result<hadal_chip_query_fn> load_plugin(const std::string& name,
                                        std::span<const fs::path> folders) {
  HADAL_TRY(const fs::path file, find_plugin(name, folders));
  HADAL_TRY(check_plugin(file));
  if (const std::string why = fault_of_query(file); !why.empty())
    return failed(file.string() + ": it is not loaded: " + why);
  void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) return failed(file.string() + ": cannot load the chip: " + ::dlerror());
  const auto query = reinterpret_cast<hadal_chip_query_fn>(::dlsym(library, "hadal_chip_query"));
  if (!query) return failed(file.string() + ": exports no hadal_chip_query, so it is no chip");
  return query;
}

Result<hadal_world_query_fn> load_world_plugin(const std::string& name,
                                               std::span<const fs::path> folders) {
  fs::path file = name;
  std::string searched;
  if (name.find('/') == std::string::npos) {
    file.clear();
    for (const fs::path& folder : folders) {
      const fs::path candidate = folder / (kWorldPrefix + name + kSuffix);
      if (file.empty() && has_file(candidate)) file = candidate;
      searched += (searched.empty() ? "" : ", ") + folder.string();
    }
  }
  if (file.empty())
    return not_found(kWorldPrefix + name + kSuffix + ": not found in " +
                     (searched.empty() ? "any folder" : searched) +
                     " (or HADAL_CHIPS); it joins the processes of a run and is built where the "
                     "library that it speaks is installed (MPI: libopenmpi-dev)");
  if (!has_file(file))
    return not_found(file.string() + ": no such file; expected what joins the processes of a run");
  HADAL_TRY(check_plugin(file));
  void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) return failed(file.string() + ": cannot load it: " + ::dlerror());
  const auto query = reinterpret_cast<hadal_world_query_fn>(::dlsym(library, "hadal_world_query"));
  if (!query)
    return failed(file.string() + ": exports no hadal_world_query, so it joins no processes");
  return query;
}

}  // namespace hadal
