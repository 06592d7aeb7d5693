#include "settings.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <sstream>

#include "base/file.h"
#include "checkpoint/printable.h"

namespace hadal::app {
namespace {

using Values = std::vector<std::string>;

std::string environment_name(const std::string& setting) {
  std::string name = "HADAL_";
  for (const char c : setting)
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

/// The option's name as a setting: its first long name; MODEL is "model".
std::string setting_name(const CLI::Option& option) {
  if (!option.get_lnames().empty()) return option.get_lnames().front();
  std::string name = option.get_name(true);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

bool among(const CLI::Option& option, std::span<const std::string> arguments) {
  if (option.get_positional()) return option.count() > 0;
  for (const std::string& name : option.get_lnames())
    for (const std::string& argument : arguments)
      if (argument == "--" + name || argument.starts_with("--" + name + "=")) return true;
  return false;
}

Result<std::map<std::string, Values>> read_settings_file(const std::string& file) {
  std::map<std::string, Values> settings;
  if (file.empty()) return settings;
  HADAL_TRY(const std::string text, read_text_file(file, 1 << 20));
  try {
    std::istringstream in(text);
    for (const CLI::ConfigItem& item : CLI::ConfigTOML().from_config(in)) {
      if (item.name == "++" || item.name == "--") continue;
      if (!item.parents.empty())
        return usage_error(file + ": [" + printable(item.parents.front(), 60) +
                           "]: sections mean nothing here; write NAME = VALUE alone");
      for (const std::string& value : item.inputs)
        if (!value.empty() && (value.front() == '"' || value.front() == '\''))
          return usage_error(file + ": " + printable(item.name, 60) + ": a quote is not closed");
      if (!settings.emplace(item.name, item.inputs).second)
        return usage_error(file + ": " + printable(item.name, 60) + ": occurs twice");
    }
  } catch (const std::exception& e) {
    return usage_error(file + ": is no TOML: " + e.what());
  }
  return settings;
}

/// The variable's text; of an option that may be repeated, each part between commas.
Values values_of(const CLI::Option& option, std::string_view text) {
  if (option.get_expected_max() <= 1) return {std::string(text)};
  Values values;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    if (end > at) values.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return values;
}

Status give(CLI::Option& option, const Values& values, const std::string& from) {
  try {
    option.clear();
    for (const std::string& value : values) option.add_result(value);
    option.run_callback();
  } catch (const CLI::Error& e) {
    return usage_error(from + ": " + setting_name(option) + ": " + e.what());
  }
  return {};
}

std::string shown(const Values& values) {
  std::string text;
  for (const std::string& value : values)
    text += (text.empty() ? "" : ", ") + printable(value, 200);
  return text;
}

}  // namespace

Result<std::vector<SettingOrigin>> apply_settings(CLI::App& command,
                                                  std::span<const std::string> arguments,
                                                  const std::string& file,
                                                  std::span<const std::string> secrets) {
  auto settings = read_settings_file(file);
  if (!settings) return std::move(settings).error();
  std::vector<SettingOrigin> origins;
  for (CLI::Option* option : command.get_options()) {
    const std::string name = setting_name(*option);
    if (name == "help" || name == "config") continue;
    const auto in_file = settings->find(name);
    std::optional<Values> from_file;
    if (in_file != settings->end()) {
      from_file = std::move(in_file->second);
      settings->erase(in_file);
    }
    const std::string variable = environment_name(name);
    std::string from;
    if (among(*option, arguments)) {
      from = "flag";
    } else if (const char* value = std::getenv(variable.c_str()); value && *value) {
      from = variable;
      HADAL_TRY(give(*option, values_of(*option, value), variable));
    } else if (from_file) {
      from = file;
      HADAL_TRY(give(*option, *from_file, file));
    }
    if (from.empty()) continue;
    const bool secret = std::find(secrets.begin(), secrets.end(), name) != secrets.end();
    origins.push_back({name, secret ? "(hidden)" : shown(option->results()), from});
  }
  if (!settings->empty())
    return usage_error(file + ": " + printable(settings->begin()->first, 60) +
                       ": is no setting of this command; hadal serve --help lists them");
  return origins;
}

}  // namespace hadal::app
