#include "command.h"

#include <algorithm>
#include <charconv>

#include "contract/operators.h"
#include "families.h"
#include "result.h"

namespace hadal::conformance {
namespace {

std::vector<std::string> family_names() {
  std::vector<std::string> names = {"all"};
  for (const Family& f : families()) names.emplace_back(f.name);
  return names;
}

std::string check_seed(const std::string& text) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && at == end ? ""
                                           : "expected a whole number of 64 bits, found " + text;
}

void add_choice_of_cases(CLI::App& app, Options& o) {
  std::vector<std::string> levels = {"all", "dense", "tapes"};
  levels.insert(levels.end(), all_levels().begin(), all_levels().end());
  app.add_option("--level", o.levels,
                 "loads, operators, errors (in the data), queues, models (tiny ones), real (with "
                 "--model), speed, or all, which is all but speed; may be given again: --level all "
                 "--level speed")
      ->check(CLI::IsMember(levels))
      ->allow_extra_args(false);
  app.add_option("--for", o.family,
                 "only what this family of models needs, and it must pass; all: every family must")
      ->check(CLI::IsMember(family_names()));
  app.add_option("--op", o.op, "only this operator of the levels that go by operators");
  app.add_option("--seed", o.seed, "another seed makes other cases")
      ->check(check_seed)
      ->capture_default_str();
  app.add_flag("--quick", o.quick, "fewer cases, and an end at the first failure");
  app.add_flag("--light", o.light, "of operators, only cases of little work: for a simulated chip");
}

void add_options(CLI::App& app, Command& c) {
  Options& o = c.options;
  app.add_option("--device", o.device, "which of the chip's devices")
      ->check(CLI::Range(0, 9999))
      ->capture_default_str();
  add_choice_of_cases(app, o);
  app.add_option("--kernels", o.kernels,
                 "a kernel table of the chip, by name; \"all\": one after the other");
  app.add_option("--numerics", o.numerics,
                 "exact: the chip is asked for the exact form of what it otherwise rounds")
      ->check(CLI::IsMember({"exact"}));
  app.add_option("--chip-option", o.chip_options,
                 "NAME=VALUE, an option of the chip's own; may be given again")
      ->allow_extra_args(false);
  c.json_given = app.add_option("--json", c.json,
                                "write the result as JSON to this file; without a file, or for "
                                "\"-\", to standard output")
                     ->expected(0, 1);
  app.add_option("--html", c.html, "write the result as a page to this file");
  app.add_option("--timeout", c.isolation.limit_seconds,
                 "seconds without progress after which a worker is killed")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
  app.add_flag("--in-process", c.isolation.in_process,
               "for a debugger: run all in this process, so that a crash of the chip ends it");
  app.add_flag("--list", c.list, "list the operators and the number of their cases");
  app.add_flag("--list-cases", c.list_cases,
               "list every case with its shapes; with --op those of one operator");
  app.add_option("--expect-failure", c.expect_failure,
                 "for testing the kit: succeed if and only if a check of this name, or of this "
                 "level, finds something");
}

/// Of a real model, for `hadal chip distance`. The kit itself reads no files of models.
void add_real_options(CLI::App& app, Command& c) {
  RealModels& real = c.options.real;
  constexpr const char* kGroup = "Real models";
  app.add_option("--model", real.files,
                 "a .gguf file or a folder, run whole on the chip and on ref (may be repeated)")
      ->allow_extra_args(false)
      ->check(CLI::ExistingPath)
      ->group(kGroup);
  const auto pass_on = [&app, &real](const std::string& name, const char* what) {
    const auto keep = [&real, name](const std::string& value) {
      real.words.insert(real.words.end(), {name, value});
    };
    return app.add_option_function<std::string>(name, keep, what)->group(kGroup);
  };
  pass_on("--positions", "of that model: tokens that are run")->check(CLI::Range(1, 4096));
  pass_on("--place", "of that model: what runs on other devices, as by hadal run");
  pass_on("--fallback", "of that model: allow, so that the cpu computes what the chip declines")
      ->check(CLI::IsMember({"forbid", "allow"}));
  pass_on("--ranks", "of that model: divided over so many devices")->check(CLI::Range(1, 64));
  app.add_option("--hadal", real.hadal)->group("");
}

bool known_operator(const std::string& name) {
  for (uint32_t id = 1; id < 64; ++id)
    if (contract::operand_count(id) != 0 && name == contract::op_name(id)) return true;
  return false;
}

/// A level that --op would leave as it is.
std::string level_without_operators(const Options& o) {
  for (const std::string& given : o.levels) {
    const std::string level = level_name(given);
    if (level != "all" && level != "operators" && level != "errors" && level != "speed")
      return level;
  }
  return {};
}

}  // namespace

const std::vector<std::string>& all_levels() {
  static const std::vector<std::string> levels = {"loads",  "operators", "errors", "queues",
                                                  "models", "real",      "speed"};
  return levels;
}

std::string level_name(const std::string& given) {
  return given == "dense" ? "operators" : given == "tapes" ? "models" : given;
}

bool named(const Options& o, const std::string& level) {
  return std::any_of(o.levels.begin(), o.levels.end(),
                     [&](const std::string& given) { return level_name(given) == level; });
}

void add_commands(CLI::App& app, Command& c, Command& test) {
  constexpr const char* kChip = "cpu, ref, or the path of a plug-in: ./libfoo.so";
  add_options(app, c);
  app.add_option("--chip", c.options.chip, kChip)->capture_default_str();
  app.add_option("--worker", c.worker.level)->group("");
  app.add_option("--worker-part", c.worker.part)->group("");
  app.add_option("--worker-first", c.worker_first)->group("");
  CLI::App* t = app.add_subcommand("test", "test a chip");
  t->add_option("CHIP", test.options.chip, kChip)->required();
  add_options(*t, test);
  add_real_options(*t, test);
  CLI::App* compare = app.add_subcommand(
      "compare", "what changed between two results; exit status 1 if the second passes less");
  compare->add_option("A", c.compare[0], "a file of test --json")->required();
  compare->add_option("B", c.compare[1], "another, later one")->required();
}

std::string check_command(Command& c) {
  const Options& o = c.options;
  if (c.json_given && c.json_given->count() != 0 && c.json.empty()) c.json = kToOutput;
  if (!o.op.empty() && !known_operator(o.op))
    return "no operator is called \"" + o.op + "\"; see --list";
  if (const std::string level = level_without_operators(o); !o.op.empty() && !level.empty())
    return "--op: the level " + level +
           " does not go by operators; expected operators, errors or "
           "speed";
  if (!o.real.files.empty() && o.real.hadal.empty())
    return "--model: models are read by hadal: hadal chip test " + o.chip + " --model …";
  if (named(o, "real") && o.real.files.empty())
    return "--level real: no model is given; expected --model FILE";
  const bool to_files = !c.html.empty() || (!c.json.empty() && c.json != kToOutput);
  if (o.kernels == "all" && to_files)
    return "--kernels all makes a result a table; --json FILE and --html want one table";
  for (const std::string& path : {c.json, c.html})
    if (const std::string why = path.empty() ? "" : check_file(path); !why.empty()) return why;
  return {};
}

}  // namespace hadal::conformance
