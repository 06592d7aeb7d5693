// hadal doctor: what of this machine is as Hadal needs it, and the one command that mends what is
// not.
#include "doctor.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "chip_facts.h"
#include "command.h"

namespace hadal::app {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  ModelFlags model;
  std::string language;
  bool json = false;
};

/// What it logs is told by `hadal chips`: here a line would stand among the findings.
ChipFacts open_chip(const std::string& chip) {
  ChipFacts facts;
  const Result<Json> j = chip_facts({.name = chip});
  if (!j) {
    facts.fault = j.error().message;
    return facts;
  }
  facts.kernels = (*j)["kernels"].get<std::string>();
  facts.instruction_sets = (*j)["instruction_sets"].get<std::string>();
  for (const auto& [type, numerics] : (*j)["matmul_types"].items()) facts.stored_types.insert(type);
  for (const Json& device : (*j)["devices"])
    facts.devices.push_back(device["device"].get<std::string>());
  return facts;
}

const char* word(Verdict verdict) {
  return verdict == Verdict::kOk ? "ok" : verdict == Verdict::kMissing ? "missing" : "wrong";
}

/// One line, and one more with the command.
class Printer {
 public:
  Printer(Output& out, Language language)
      : out_(out), language_(language), color_(out.terminal() && !std::getenv("NO_COLOR")) {}

  void section(Message head, const Findings& findings) {
    if (findings.empty()) return;
    out_.print("{}\n", say(head, language_));
    size_t width = 0;
    for (const Finding& f : findings) width = std::max(width, columns_of(label(f)));
    for (const Finding& f : findings) line(f, width);
  }

  void verdict(size_t needed, size_t others) {
    const Message text = needed > 0   ? Message::kCannotRun
                         : others > 0 ? Message::kCanRunBut
                                      : Message::kCanRun;
    out_.print("{}\n", say(text, language_, {fmt::to_string(needed > 0 ? needed : others)}));
  }

 private:
  [[nodiscard]] std::string label(const Finding& f) const {
    return f.subject.empty() ? say(f.label, language_) : one_line(f.subject);
  }

  void line(const Finding& f, size_t width) {
    const Message mark = f.verdict == Verdict::kOk        ? Message::kOk
                         : f.verdict == Verdict::kMissing ? Message::kMissing
                                                          : Message::kWrong;
    out_.write("  ");
    if (color_)
      out_.style(f.verdict == Verdict::kOk ? "\033[32m" : f.needed ? "\033[31m" : "\033[33m");
    out_.write(padded(say(mark, language_), 9));
    if (color_) out_.style("\033[0m");
    std::string text = say(f.text, language_, f.arguments);
    if (f.verdict != Verdict::kOk && f.needed)
      text += " (" + say(Message::kNeeded, language_) + ")";
    out_.print("{}{}\n", padded(label(f), width + 2), one_line(text));
    if (f.verdict == Verdict::kOk || f.command.empty()) return;
    out_.print("{}{}{}\n", std::string(11, ' '), say(Message::kMend, language_),
               one_line(f.command));
  }

  Output& out_;
  Language language_;
  bool color_;
};

Json to_json(const Findings& findings) {
  Json list = Json::array();
  for (const Finding& f : findings) {
    Json j = {{"check", f.check},
              {"verdict", word(f.verdict)},
              {"needed", f.needed},
              {"text", say(f.text, Language::kEnglish, f.arguments)}};
    if (f.verdict != Verdict::kOk && !f.command.empty()) j["command"] = f.command;
    list.push_back(std::move(j));
  }
  return list;
}

Status run(const Options& o, Output& out) {
  const Machine machine = Machine::own();
  const Findings host = check_machine(machine, open_chip("cpu"));
  const std::vector<PluginFolder> places =
      plugin_places([](const char* name) { return std::getenv(name); });
  const Findings chips = check_chips(machine, places, open_chip);
  const Findings model =
      o.model.path.empty() ? Findings{} : check_model(o.model, open_chip(o.model.chip));
  size_t needed = 0, others = 0;
  for (const Findings* part : {&host, &chips, &model}) {
    needed += count_needed(*part);
    others += static_cast<size_t>(std::count_if(
        part->begin(), part->end(), [](const Finding& f) { return f.verdict != Verdict::kOk; }));
  }
  if (o.json) {
    Json j = {{"can_run", needed == 0}, {"machine", to_json(host)}, {"chips", to_json(chips)}};
    if (!o.model.path.empty()) j["model"] = to_json(model);
    out.print("{}\n", j.dump(-1, ' ', false, Json::error_handler_t::replace));
  } else {
    const Language language =
        choose_language(o.language, [](const char* name) { return std::getenv(name); });
    Printer printer(out, language);
    printer.section(Message::kHeadMachine, host);
    printer.section(Message::kHeadChips, chips);
    printer.section(Message::kHeadModel, model);
    printer.verdict(needed, others);
  }
  HADAL_TRY(out.flush());
  if (needed == 0) return {};
  for (const Findings* part : {&host, &chips, &model})
    for (const Finding& f : *part)
      if (f.needed && f.verdict != Verdict::kOk)
        return failed(say(f.text, Language::kEnglish, f.arguments));
  return {};
}

}  // namespace

void declare_language(CLI::App& command, std::string& language) {
  command
      .add_option("--lang", language, "en or zh; by default that of LC_ALL, LC_MESSAGES or LANG")
      ->check(CLI::IsMember({"en", "zh"}));
}

void add_doctor(CLI::App& app, Run& chosen) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "doctor", "what this machine has and lacks for Hadal, and the command that mends it");
  c->footer("Exit codes: 0: it can run, 1: something that is needed is missing or wrong.");
  c->add_option("MODEL", o->model.path,
                "checks this model too: does it open, does it fit, what is converted");
  o->model.declare_place(*c);
  declare_language(*c, o->language);
  c->add_flag("--json", o->json, "one JSON object, always in English");
  c->callback([o, &chosen] { chosen = [o](Output& out) { return run(*o, out); }; });
}

}  // namespace hadal::app
