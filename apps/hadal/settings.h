// Settings of a command from three places: flags, the environment, a file; the first that says
// something is obeyed.
//
// A setting is a flag without its dashes; in the environment "--step-ms" is HADAL_STEP_MS, in a
// file of TOML `step-ms = 50`. A file that names what is no setting is refused.
#pragma once

#include <CLI/CLI.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace hadal::app {

/// What a setting was taken from.
struct SettingOrigin {
  std::string name;   ///< "port"
  std::string value;  ///< "(hidden)" of a secret
  std::string from;   ///< "flag", "HADAL_PORT", or the file's name
};

/// Gives each option of `command` that no flag set its value from the environment or the file
/// (`file` may be ""). `arguments`: those of the command line. To be called after parsing. Options
/// named in `secrets` are not shown. Errors: kUsage with the setting and where it came from.
Result<std::vector<SettingOrigin>> apply_settings(CLI::App& command,
                                                  std::span<const std::string> arguments,
                                                  const std::string& file,
                                                  std::span<const std::string> secrets);

}  // namespace hadal::app
