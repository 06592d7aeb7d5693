// hadal-conformance: is this a chip that Hadal can use? `hadal chip test` and `hadal chip compare`
// run this program.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <sstream>

#include "contract/operators.h"
#include "describe.h"
#include "families.h"
#include "result.h"
#include "speed.h"
#include "worker.h"

namespace hadal::conformance {
namespace {

struct Command {
  Options options;
  Isolation isolation;
  std::string json, html, expect_failure;
  CLI::Option* json_given = nullptr;
  bool list = false, list_cases = false;
  Unit worker;
  int64_t worker_first = 0;
  std::string compare[2];
};

const std::vector<std::string> kLevels = {"loads",  "operators", "errors", "queues",
                                          "models", "real",      "speed"};
constexpr const char* kProgram = "hadal-conformance";
constexpr const char* kJsonToOutput = "-";

std::vector<std::string> family_names() {
  std::vector<std::string> names = {"all"};
  for (const Family& f : families()) names.emplace_back(f.name);
  return names;
}

/// The levels' names of old are kept.
std::string level_name(const std::string& given) {
  return given == "dense" ? "operators" : given == "tapes" ? "models" : given;
}

void add_options(CLI::App& app, Command& c) {
  Options& o = c.options;
  std::vector<std::string> levels = {"all", "dense", "tapes"};
  levels.insert(levels.end(), kLevels.begin(), kLevels.end());
  app.add_option("--level", o.level,
                 "loads, operators, errors (in the data), queues, models (tiny ones), real (with "
                 "--model), speed, or all")
      ->check(CLI::IsMember(levels))
      ->capture_default_str();
  app.add_option("--for", o.family,
                 "only what this family of models needs, and it must pass; all: every family must")
      ->check(CLI::IsMember(family_names()));
  app.add_option("--kernels", o.kernels,
                 "a kernel table of the chip, by name; \"all\": one after the other");
  app.add_option("--numerics", o.numerics,
                 "exact: the chip is asked for the exact form of what it otherwise rounds")
      ->check(CLI::IsMember({"exact"}));
  app.add_option("--chip-option", o.chip_options,
                 "NAME=VALUE, an option of the chip's own; may be given again")
      ->allow_extra_args(false);
  app.add_option("--op", o.op, "only this operator of the levels that go by operators");
  app.add_option("--seed", o.seed, "another seed makes other cases")->capture_default_str();
  app.add_flag("--quick", o.quick, "fewer cases, and an end at the first failure");
  app.add_flag("--light", o.light, "of operators, only cases of little work: for a simulated chip");
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
      ->group(kGroup);
  const auto pass_on = [&app, &real](const std::string& name, const char* what) {
    app.add_option_function<std::string>(
           name,
           [&real, name](const std::string& value) {
             real.words.insert(real.words.end(), {name, value});
           },
           what)
        ->group(kGroup);
  };
  pass_on("--positions", "of that model: tokens that are run");
  pass_on("--place", "of that model: what runs on other devices, as by hadal run");
  pass_on("--fallback", "of that model: allow, so that the cpu computes what the chip declines");
  pass_on("--ranks", "of that model: divided over so many devices");
  app.add_option("--hadal", real.hadal)->group("");
}

void add_commands(CLI::App& app, Command& c, Command& test) {
  add_options(app, c);
  app.add_option("--chip", c.options.chip, "cpu, ref, or the path of a plug-in: ./libfoo.so")
      ->capture_default_str();
  app.add_flag("--list", c.list, "list the operators and the number of their cases");
  app.add_flag("--list-cases", c.list_cases,
               "list every case with its shapes; with --op those of one operator");
  app.add_option("--worker", c.worker.level)->group("");
  app.add_option("--worker-part", c.worker.part)->group("");
  app.add_option("--worker-first", c.worker_first)->group("");
  CLI::App* t = app.add_subcommand("test", "test a chip");
  t->add_option("CHIP", test.options.chip, "cpu, ref, or the path of a plug-in: ./libfoo.so")
      ->required();
  add_options(*t, test);
  add_real_options(*t, test);
  CLI::App* compare = app.add_subcommand(
      "compare", "what changed between two results; exit status 1 if the second passes less");
  compare->add_option("A", c.compare[0], "a file of test --json")->required();
  compare->add_option("B", c.compare[1], "another, later one")->required();
}

int list_every_case(const Options& options) {
  for (uint32_t id = 1; id < 64; ++id)
    if (contract::operand_count(id) != 0 &&
        (options.op.empty() || options.op == contract::op_name(id)))
      for (const Case& c : make_cases(id, options.seed, options.quick, options.light))
        fmt::print("{}: {}\n", contract::op_name(id), describe(c));
  return 0;
}

int list_cases(const Options& options) {
  for (uint32_t id = 1; id < 64; ++id)
    if (contract::operand_count(id) != 0)
      fmt::print("{:<16} {:>5} cases\n", contract::op_name(id),
                 make_cases(id, options.seed, options.quick, options.light).size());
  return 0;
}

int usage(const std::string& why) {
  fmt::print(stderr, "{}: {}\n", kProgram, why);
  return 2;
}

bool needs(const Options& o, uint32_t id) {
  const Family* family = find_family(o.family);
  return !family ||
         std::find(family->needs.begin(), family->needs.end(), id) != family->needs.end();
}

bool wanted(const Options& o, const std::string& level) {
  if (o.level != "all") return level_name(o.level) == level;
  if (!o.op.empty()) return level == "operators";
  if (level == "real") return !o.real.files.empty();
  // Speed is measured where somebody asks, and after accuracy.
  return level != "speed";
}

std::vector<Unit> units_of(const Options& o, const std::string& level) {
  std::vector<Unit> units;
  if (level == "loads" || level == "queues") units.push_back({level, ""});
  if (level == "operators" || level == "errors")
    for (uint32_t id = 1; id < 64; ++id)
      if (contract::operand_count(id) != 0 && needs(o, id) &&
          (o.op.empty() || o.op == contract::op_name(id)))
        units.push_back({level, contract::op_name(id)});
  if (level == "models")
    for (const Family& f : families())
      if (o.family.empty() || o.family == "all" || o.family == f.name)
        units.push_back({level, f.name});
  if (level == "real")
    for (const std::string& file : o.real.files) units.push_back({level, file});
  if (level == "speed")
    for (const std::string& part : speed_parts())
      if (part == "peaks" || o.op.empty() || o.op == part) units.push_back({level, part});
  return units;
}

/// A chip need not check indices; but one that refuses some must refuse all, or nobody can rely on
/// it.
void judge_errors(Report& report) {
  const Line* found = report.find("errors");
  if (!found || found->cases == 0) return;
  Line& line = report.line("errors");
  std::vector<std::string> taken;
  if (line.declined == 0) {
    line.notes = {"indices that do not exist are not checked, which is allowed"};
    return;
  }
  taken.swap(line.notes);
  for (const std::string& text : taken)
    report.fail("errors", text + ", though the chip refuses others");
  // Refusals are what was wanted.
  line.declined = 0;
}

/// Did what was expected to be found appear in a check or a level of that name?
bool found_in(const Report& report, const std::string& name) {
  for (const std::string& each : report.names()) {
    const Line& line = *report.find(each);
    const bool meant = each == name || line.level == name;
    const std::vector<std::string>& found =
        each == "texts" && each == name ? line.notes : line.failures;
    if (!meant || found.empty()) continue;
    fmt::print("caught by {}: {}\n", each, found.front());
    return true;
  }
  return false;
}

int exit_status(const Command& c, const Report& report, const Json& result) {
  if (!c.expect_failure.empty()) return found_in(report, level_name(c.expect_failure)) ? 0 : 1;
  if (report.failed() != 0) return 1;
  // A level on which no verdict rests fails none.
  if (c.options.family.empty() || c.options.level != "all") return 0;
  const auto passed = [](const Json& v) { return v["verdict"] == "pass"; };
  const Json& verdicts = result["verdicts"];
  return std::all_of(verdicts.begin(), verdicts.end(), passed) ? 0 : 1;
}

/// Runs the wanted levels with one kernel table and prints the report.
int run_table(const Command& c, const std::string& kernels) {
  Options options = c.options;
  options.kernels = kernels;
  Json chip;
  if (const std::string why = ask_chip(options, c.isolation, chip); !why.empty()) return usage(why);
  Report report("", options.quick);
  std::vector<std::string> run;
  for (const std::string& level : kLevels) {
    if (!wanted(options, level) || report.enough()) continue;
    run.push_back(level);
    for (const Unit& unit : units_of(options, level))
      if (!report.enough()) run_unit(unit, options, c.isolation, report);
    if (level == "errors") judge_errors(report);
  }
  const Json result = make_result(report, options, chip, run);
  const bool to_output = c.json == kJsonToOutput;
  if (!to_output) print_result(result);
  for (const auto& [path, text] : {std::pair{c.json, c.json.empty() ? "" : dump(result)},
                                   std::pair{c.html, c.html.empty() ? "" : make_page(result)}})
    if (const std::string why = path.empty() ? "" : write_file(path, text); !why.empty())
      return usage(why);
  return exit_status(c, report, result);
}

bool known_operator(const std::string& name) {
  for (uint32_t id = 1; id < 64; ++id)
    if (contract::operand_count(id) != 0 && name == contract::op_name(id)) return true;
  return false;
}

int run(Command& c) {
  const Options& o = c.options;
  if (c.json_given && c.json_given->count() != 0 && c.json.empty()) c.json = kJsonToOutput;
  if (!o.op.empty() && !known_operator(o.op))
    return usage("no operator is called \"" + o.op + "\"; see --list");
  if (!o.real.files.empty() && o.real.hadal.empty())
    return usage("--model: models are read by hadal: hadal chip test " + o.chip + " --model …");
  if (o.level == "real" && o.real.files.empty())
    return usage("--level real: no model is given; expected --model FILE");
  if (c.list) return list_cases(o);
  if (c.list_cases) return list_every_case(o);
  if (o.kernels != "all") return run_table(c, o.kernels);
  if (!c.html.empty() || (!c.json.empty() && c.json != kJsonToOutput))
    return usage("--kernels all makes a result a table; --json FILE and --html want one table");
  Json chip;
  Options any = o;
  any.kernels.clear();
  if (const std::string why = ask_chip(any, c.isolation, chip); !why.empty()) return usage(why);
  int worst = 0;
  std::istringstream names(chip.value("all_kernels", ""));
  for (std::string name; names >> name;) worst = std::max(worst, run_table(c, name));
  return worst;
}

int compare(const Command& c) {
  Json a, b;
  if (const std::string why = read_result(c.compare[0], a); !why.empty()) return usage(why);
  if (const std::string why = read_result(c.compare[1], b); !why.empty()) return usage(why);
  bool worse = false;
  std::vector<std::string> lines;
  try {
    lines = compare_results(a, b, worse);
  } catch (const Json::exception& e) {
    return usage(fmt::format("{} or {} was edited: {}", c.compare[0], c.compare[1], e.what()));
  }
  for (const std::string& line : lines) fmt::print("{}\n", line);
  return worse ? 1 : 0;
}

int main_guarded(int argc, char** argv) {
  CLI::App app{
      "Compares a chip with the reference over all operators: odd shapes, no rows, poisoned "
      "outputs, guard bands; and, for a "
      "chip that declares row_invariant, rows together with rows alone, bit for bit.\n"
      "Exit status: 0 all passed, 1 something failed, 2 wrong usage or a chip that does not open."};
  Command command, test;
  add_commands(app, command, test);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const bool good = e.get_exit_code() == 0;
    app.exit(e);
    return good ? 0 : 2;
  }
  if (!command.worker.level.empty())
    return work(command.worker, command.options, command.worker_first, 3);
  if (app.got_subcommand("compare")) return compare(command);
  return run(app.got_subcommand("test") ? test : command);
}

}  // namespace
}  // namespace hadal::conformance

int main(int argc, char** argv) {
  try {
    return hadal::conformance::main_guarded(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "hadal-conformance: %s\n", e.what());
    return 1;
  }
}
