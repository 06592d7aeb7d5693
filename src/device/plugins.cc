#include "device/plugins.h"

#include <dlfcn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>

#include "device/guarded.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "libhadal_";
constexpr const char* kWorldPrefix = "libhadal_comm_";
constexpr const char* kSuffix = ".so";

/// Why a plug-in must not be loaded, and the command that mends it; both empty if it may be.
struct Distrust {
  std::string why, command;
};

Distrust distrust_of(const fs::path& file) {
  struct stat info{};
  if (::stat(file.c_str(), &info) != 0) return {};  // dlopen says why
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return {"others may write to it, and what it holds would run as you",
            "chmod go-w " + file.string()};
  struct stat folder{};
  const fs::path parent = file.parent_path().empty() ? fs::path(".") : file.parent_path();
  if (::stat(parent.c_str(), &folder) == 0 && (folder.st_mode & S_IWOTH) != 0 &&
      (folder.st_mode & S_ISVTX) == 0)
    return {"others may write to its folder, and what they put there would run as you",
            "chmod o-w " + parent.string()};
  if (info.st_uid != 0 && info.st_uid != ::geteuid())
    return {"it belongs to another user, and what it holds would run as you",
            "sudo chown root " + file.string()};
  return {};
}

/// The same in one text.
std::string distrusted(const fs::path& file) {
  const Distrust distrust = distrust_of(file);
  return distrust.why.empty() ? "" : distrust.why + "; " + distrust.command;
}

constexpr int kAnswered = 42;  ///< exit code of the child that got through
constexpr unsigned kSecondsOfAQuery = 20;

/// Loads the plug-in and asks it in a child process, so that a crash there is a line here: what
/// went wrong, or an empty text.
std::string fault_of_query(const fs::path& file) {
  const pid_t child = ::fork();
  if (child < 0) return {};  // it is asked here, then
  if (child == 0) {
    ::alarm(kSecondsOfAQuery);  // a query that hangs ends by a signal
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
    ::_exit(kAnswered);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
    return "it does not come back within " + std::to_string(kSecondsOfAQuery) +
           " s when it is loaded and queried; that is a fault of the plug-in: ask its maker";
  if (WIFSIGNALED(status))
    return std::string("it crashes when it is loaded and queried (") +
           ::strsignal(WTERMSIG(status)) +
           "); if the file is whole, that is a fault of the plug-in: ask its maker";
  if (WEXITSTATUS(status) != kAnswered)
    return "it ends the process when it is queried; that is a fault of the plug-in: ask its maker";
  return {};
}

/// The file of the plug-in that is called so, in the first folder that has one; empty: in none.
fs::path file_in(const std::string& name, std::span<const fs::path> folders) {
  std::string underscored = name;  // apart-half lies in libhadal_apart_half.so
  std::replace(underscored.begin(), underscored.end(), '-', '_');
  for (const fs::path& folder : folders)
    for (const std::string& stem : {name, underscored}) {
      const fs::path file = folder / (kPrefix + stem + kSuffix);
      if (std::error_code unused; fs::exists(file, unused)) return file;
    }
  return {};
}

}  // namespace

Result<fs::path> find_plugin(const std::string& name, std::span<const fs::path> searched) {
  if (name.find('/') != std::string::npos) {
    if (std::error_code unused; !fs::exists(name, unused))
      return not_found(name + ": no such file; expected a chip's plug-in");
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

std::vector<fs::path> plugin_folders(
    const std::function<const char*(const char* name)>& environment) {
  const auto from_environment = [&](const char* name) -> std::optional<fs::path> {
    const char* value = environment(name);
    if (!value || *value == '\0') return std::nullopt;
    return fs::path(value);
  };
  std::vector<fs::path> folders;
  if (const auto listed = from_environment("HADAL_CHIPS")) {
    const std::string& text = listed->native();
    for (size_t at = 0; at <= text.size();) {
      const size_t end = std::min(text.find(':', at), text.size());
      // An empty or relative entry would be the working folder.
      if (const fs::path folder = text.substr(at, end - at); folder.is_absolute())
        folders.push_back(folder);
      at = end + 1;
    }
  }
  if (const auto data = from_environment("XDG_DATA_HOME"); data && data->is_absolute())
    folders.push_back(*data / "hadal/chips");
  else if (const auto home = from_environment("HOME"); home && home->is_absolute())
    folders.push_back(*home / ".local/share/hadal/chips");
  std::error_code unused;
  if (const fs::path program = fs::read_symlink("/proc/self/exe", unused); !program.empty())
    folders.push_back(program.parent_path().parent_path() / "lib/hadal/chips");
  return folders;
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
    Distrust distrust = distrust_of(file);
    files.push_back({name, file, std::move(distrust.why), std::move(distrust.command)});
  }
  return files;
}

Result<hadal_chip_query_fn> load_plugin(const std::string& name,
                                        std::span<const fs::path> folders) {
  HADAL_TRY(const fs::path file, find_plugin(name, folders));
  if (const std::string why = distrusted(file); !why.empty())
    return failed(file.string() + ": the chip is not loaded: " + why);
  if (const std::string why = fault_of_query(file); !why.empty())
    return failed(file.string() + ": the chip is not loaded: " + why);
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
      if (std::error_code unused; file.empty() && fs::exists(candidate, unused)) file = candidate;
      searched += (searched.empty() ? "" : ", ") + folder.string();
    }
  }
  if (file.empty())
    return not_found(kWorldPrefix + name + kSuffix + ": not found in " +
                     (searched.empty() ? "any folder" : searched) +
                     " (or HADAL_CHIPS); it joins the processes of a run and is built where the "
                     "library that it speaks is installed (MPI: libopenmpi-dev)");
  if (std::error_code unused; !fs::exists(file, unused))
    return not_found(file.string() + ": no such file; expected what joins the processes of a run");
  if (const std::string why = distrusted(file); !why.empty())
    return failed(file.string() + ": it is not loaded: " + why);
  void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) return failed(file.string() + ": cannot load it: " + ::dlerror());
  const auto query = reinterpret_cast<hadal_world_query_fn>(::dlsym(library, "hadal_world_query"));
  if (!query)
    return failed(file.string() + ": exports no hadal_world_query, so it joins no processes");
  return query;
}

}  // namespace hadal
