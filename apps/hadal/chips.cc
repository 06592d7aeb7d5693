// hadal chips, hadal version: what runs here.
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <span>

#include "chip_facts.h"
#include "command.h"
#include "device/device.h"
#include "device/plugins.h"
#include "doctor.h"
#include "hadal/chip.h"
#include "hadal/version.h"
#include "messages.h"
#include "models/model.h"

namespace hadal::app {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::vector<std::string> chips;
  std::string language;
  bool json = false, measure = false;
};

/// A chip to be shown: one that is built in, or a plug-in.
struct Shown {
  std::string name, path;
  std::string command = {};           ///< that mends its file, where one does
  std::optional<Error> unknown = {};  ///< there is no such chip
};

/// Prints chips for people.
class Printer {
 public:
  Printer(Output& out, Language language) : out_(out), language_(language) {}

  void chip(const Json& j) {
    const std::string origin =
        j["path"].is_null() ? say(Message::kBuiltIn) : say(Message::kPlugin, {text(j, "path")});
    line(
        say(Message::kChipHead, {text(j, "chip"), text(j, "device"), origin, text(j, "contract")}));
    const Json& devices = j["devices"];
    for (const Json& device : devices) {
      if (devices.size() > 1)
        line("  " + say(Message::kDeviceHead, {device["index"].dump(), text(device, "device")}));
      this->device(device);
    }
    weights(j);
    std::vector<std::string> tables;
    for (const char* table : {"program", "events", "comm", "profile"})
      if (j[table].get<bool>()) tables.emplace_back(table);
    field(Message::kTables,
          tables.empty() ? say(Message::kNone) : fmt::format("{}", fmt::join(tables, ", ")));
    if (j.contains("read_bytes_per_second"))
      field(Message::kMeasured,
            say(Message::kMeasuredText,
                {fmt::format("{:.1f}", j["read_bytes_per_second"].get<double>() / 1e9),
                 fmt::format("{:.0f}", j["int8_ops_per_second"].get<double>() / 1e9),
                 fmt::format("{:.0f}", j["fp32_flops_per_second"].get<double>() / 1e9)}));
  }

  void refused(const Shown& shown, const std::string& why) {
    const std::string name = shown.name.empty() ? "\"\"" : shown.name;
    line(say(shown.unknown ? Message::kNotFound : Message::kDoesNotRun, {name, why}));
    if (!shown.command.empty()) line("  " + say(Message::kMend) + shown.command);
  }

  /// Where plug-ins were looked for, and what was there.
  void searched(const std::vector<PluginFolder>& places) {
    line(say(Message::kFolders));
    bool listed = false;
    for (const PluginFolder& place : places) {
      listed = listed || place.listed;
      line("  " + (place.state == PluginFolder::State::kThere
                       ? there(place.path)
                       : say(message_of(place.state), {place.path.string()})));
    }
    if (!listed) line("  " + say(Message::kChipsUnset));
    line(say(Message::kSeeDoctor));
  }

 private:
  static std::string text(const Json& j, const char* key) { return j[key].get<std::string>(); }
  [[nodiscard]] std::string say(Message message,
                                const std::vector<std::string>& arguments = {}) const {
    return app::say(message, language_, arguments);
  }
  void line(const std::string& text) { out_.print("{}\n", one_line(text)); }
  [[nodiscard]] std::string there(const std::filesystem::path& folder) const {
    const std::vector<std::string> names = plugin_names({&folder, 1});
    if (names.empty()) return say(Message::kFolderEmpty, {folder.string()});
    return say(Message::kFolderHas, {folder.string(), fmt::format("{}", fmt::join(names, ", "))});
  }
  void field(Message label, const std::string& value) {
    line("  " + padded(say(label), 18) + value);
  }

  void device(const Json& j) {
    const auto gib = [&j](const char* key) {
      return fmt::format("{:.1f}", j[key].get<double>() / (1024.0 * 1024 * 1024));
    };
    field(Message::kThreads, j["threads"].dump());
    if (!text(j, "instruction_sets").empty())
      field(Message::kInstructionSets, text(j, "instruction_sets"));
    field(Message::kKernelTable,
          say(Message::kKernelTableText, {text(j, "kernels"), text(j, "all_kernels")}));
    field(Message::kMemory,
          say(j["host_memory"].get<bool>() ? Message::kMemoryText : Message::kMemoryOwn,
              {gib("memory_total"), gib("memory_free")}));
    const bool same = j["row_invariant"].get<bool>();
    line("  " + say(Message::kRowInvariant, {say(same ? Message::kYes : Message::kNo)}));
  }

  void weights(const Json& j) {
    std::map<std::string, std::vector<std::string>> by_class;
    for (const auto& [type, numerics] : j["matmul_types"].items())
      by_class[numerics.get<std::string>()].push_back(type);
    for (const auto& [numerics, types] : by_class)
      field(Message::kWeightsTaken, fmt::format("{}: {}", numerics, fmt::join(types, " ")));
    std::vector<std::string> forms;
    for (const Json& form : j["matmul_forms"])
      forms.push_back(text(form, "numerics") == "not said"
                          ? text(form, "type")
                          : fmt::format("{} ({})", text(form, "type"), text(form, "numerics")));
    field(Message::kWeightForms, fmt::format("{}", fmt::join(forms, ", ")));
  }

  Output& out_;
  Language language_;
};

/// Prints one chip, or why it does not run.
Status show(const Shown& shown, const Options& o, Printer& printer, Output& out) {
  const Result<Json> j = shown.unknown ? Result<Json>(*shown.unknown)
                                       : chip_facts({.name = shown.name,
                                                     .path = shown.path,
                                                     .measure = o.measure,
                                                     .log = print_chip_line});
  if (j) {
    if (o.json)
      out.print("{}\n", j->dump(-1, ' ', false, Json::error_handler_t::replace));
    else
      printer.chip(*j);
    return {};
  }
  if (o.json) {
    Json refused = {{"chip", shown.name}, {"runs", false}, {"error", j.error().message}};
    refused["path"] = shown.path.empty() ? Json() : Json(shown.path);
    if (!shown.command.empty()) refused["command"] = shown.command;
    out.print("{}\n", refused.dump(-1, ' ', false, Json::error_handler_t::replace));
  } else {
    printer.refused(shown, j.error().message);
  }
  return j.error();
}

/// The chips that were asked for, or all.
std::vector<Shown> chosen_chips(const std::vector<std::string>& asked) {
  const std::vector<std::filesystem::path> folders = chip_folders();
  const std::span<const std::string_view> builtin = builtin_chips();
  std::vector<std::string> names = asked;
  if (asked.empty()) {
    names.assign(builtin.begin(), builtin.end());
    for (std::string& name : plugin_names(folders)) names.push_back(std::move(name));
  }
  std::vector<Shown> chips;
  for (const std::string& name : names) {
    Shown shown{.name = name};
    if (std::find(builtin.begin(), builtin.end(), name) == builtin.end()) {
      if (const auto file = find_plugin(name, folders); !file) {
        shown.unknown = file.error();
      } else {
        shown.path = file->string();
        shown.command = plugin_fault(*file).command;
      }
    }
    chips.push_back(std::move(shown));
  }
  return chips;
}

Status run_chips(const Options& o, Output& out) {
  Printer printer(out,
                  choose_language(o.language, [](const char* name) { return std::getenv(name); }));
  Status status;
  for (const Shown& shown : chosen_chips(o.chips)) {
    Status one = show(shown, o, printer, out);  // the others are shown nevertheless
    if (status && !one) status = std::move(one);
    HADAL_TRY(out.flush());
  }
  if (o.chips.empty() && !o.json)
    printer.searched(plugin_places([](const char* name) { return std::getenv(name); }));
  return status;
}

Status run_version(bool json, Output& out) {
  if (json) {
    out.print("{}\n",
              Json({{"version", HADAL_VERSION},
                    {"chip_contract", fmt::format("{}.{}", HADAL_ABI_MAJOR, HADAL_ABI_MINOR)},
                    {"families", known_families()}})
                  .dump());
    return {};
  }
  std::string families;
  for (const std::string& f : known_families()) families += (families.empty() ? "" : ", ") + f;
  out.print("hadal {}\nchip contract {}.{}\narchitectures: {}\n", HADAL_VERSION, HADAL_ABI_MAJOR,
            HADAL_ABI_MINOR, families);
  return {};
}

}  // namespace

void add_chips(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "chips", "the chips of this machine: devices, kernel tables, weights that they take");
  c->add_option("CHIP", o->chips, "only these; a plug-in by its path");
  c->add_flag("--measure", o->measure,
              "measure memory bandwidth and arithmetic peaks (a second or two)");
  declare_language(*c, o->language);
  c->add_flag("--json", o->json, "a JSON object a chip, always in English");
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run_chips(*o, out); }; });
}

void add_version(CLI::App& app, Run& chosen) {
  auto json = std::make_shared<bool>(false);
  CLI::App* c = app.add_subcommand("version", "version, chip contract, known architectures");
  c->add_flag("--json", *json, "one JSON object");
  c->callback(
      [json, &chosen] { chosen = [json](Output& out) { return run_version(*json, out); }; });
}

}  // namespace hadal::app
