// Where conversations are saved.
#pragma once

#include <filesystem>
#include <string>

namespace hadal::app {

/// The folder of those that have a name: $XDG_DATA_HOME/hadal/conversations, by default in
/// ~/.local/share.
std::filesystem::path conversation_folder();

/// A path where `name` is one (it has a slash, or ends with .json), else a file of that folder. An
/// empty name is "unnamed".
std::filesystem::path conversation_path(const std::string& name);

}  // namespace hadal::app
