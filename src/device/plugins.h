// Plug-ins: chips in shared objects of their own, where they are found, and what is checked before
// one is trusted.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "hadal/chip.h"
#include "hadal/comm.h"

namespace hadal {

/// The folders that are searched, in this order: those of HADAL_CHIPS (colons between), the user's
/// own (hadal/chips in the data home), and lib/hadal/chips beside the program's folder. Never the
/// working folder, nor a model's. `environment` is std::getenv in a program; a library that others
/// embed reads none.
std::vector<std::filesystem::path> plugin_folders(
    const std::function<const char*(const char* name)>& environment);

/// An entry of HADAL_CHIPS, or another folder of plugin_folders, as it was found.
struct PluginFolder {
  enum class State : uint8_t {
    kThere,
    kAbsent,
    kNoFolder,
    kLocked,   ///< this user may not read it
    kRelative  ///< so it is not searched
  };
  std::filesystem::path path;
  bool listed = false;  ///< by HADAL_CHIPS
  State state = State::kThere;
};

/// The folders of plugin_folders in their order, and what of HADAL_CHIPS is none of them.
std::vector<PluginFolder> plugin_places(
    const std::function<const char*(const char* name)>& environment);

/// Those of them that are searched: plugin_folders.
std::vector<std::filesystem::path> searched_folders(std::span<const PluginFolder> places);

/// Names of the chips' plug-ins in these folders: libhadal_NAME.so. A name that is found twice
/// counts once.
std::vector<std::string> plugin_names(std::span<const std::filesystem::path> folders);

/// Why a plug-in cannot be loaded, as its file shows: it leads nowhere, others may write it, it is
/// built for another machine, and so on; and the command that mends it, where one does. Both empty
/// if it can be.
struct PluginFault {
  std::string why, command;
};
PluginFault plugin_fault(const std::filesystem::path& file);

/// A plug-in where it was found.
struct PluginFile {
  std::string name;
  std::filesystem::path file;
  PluginFault fault;
};

/// The plug-ins of plugin_names, each with its file: that of the first folder which has one.
std::vector<PluginFile> plugin_files(std::span<const std::filesystem::path> folders);

/// The file of a plug-in that is given by path or by name; an error lists what there is.
Result<std::filesystem::path> find_plugin(const std::string& name,
                                          std::span<const std::filesystem::path> folders);

/// plugin_fault as an error: whoever has a plug-in loaded by another program asks this first.
Status check_plugin(const std::filesystem::path& file);

/// Loads the plug-in `name`: a path (with a '/'), or the name of one in `folders`. Refuses what
/// check_plugin refuses, a file without the symbol, and one whose query crashes: a child process
/// asks first. The library stays loaded until the process ends, since a chip may have threads.
Result<hadal_chip_query_fn> load_plugin(const std::string& name,
                                        std::span<const std::filesystem::path> folders);

/// Loads what joins the processes of a run: libhadal_comm_NAME.so, found and trusted like a chip's
/// plug-in, or a path. It is not asked in a child process, since a process joins once.
Result<hadal_world_query_fn> load_world_plugin(const std::string& name,
                                               std::span<const std::filesystem::path> folders);

}  // namespace hadal
