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

/// Names of the chips' plug-ins in these folders: libhadal_NAME.so. A name that is found twice
/// counts once.
std::vector<std::string> plugin_names(std::span<const std::filesystem::path> folders);

/// A plug-in where it was found. One that is not trusted says why, and which command would mend
/// that.
struct PluginFile {
  std::string name;
  std::filesystem::path file;
  std::string fault, command;
};

/// The plug-ins of plugin_names, each with its file: that of the first folder which has one.
std::vector<PluginFile> plugin_files(std::span<const std::filesystem::path> folders);

/// The file of a plug-in that is given by path or by name; an error lists what there is.
Result<std::filesystem::path> find_plugin(const std::string& name,
                                          std::span<const std::filesystem::path> folders);

/// Loads the plug-in `name`: a path (with a '/'), or the name of one in `folders`. Refuses a
/// file that others may write, a file without the symbol, and one whose query crashes: a child
/// process asks first. The library stays loaded until the process ends, since a chip may have
/// threads.
Result<hadal_chip_query_fn> load_plugin(const std::string& name,
                                        std::span<const std::filesystem::path> folders);

/// Loads what joins the processes of a run: libhadal_comm_NAME.so, found and trusted like a chip's
/// plug-in, or a path. It is not asked in a child process, since a process joins once.
Result<hadal_world_query_fn> load_world_plugin(const std::string& name,
                                               std::span<const std::filesystem::path> folders);

}  // namespace hadal
