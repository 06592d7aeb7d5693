// hadal-conformance: is this a chip that Hadal can use? `hadal chip test` and `hadal chip compare`
// run this program.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <sstream>

#include "command.h"
#include "contract/operators.h"
#include "describe.h"
#include "families.h"
#include "result.h"
#include "speed.h"
#include "worker.h"

namespace hadal::conformance {
namespace {

constexpr const char* kProgram = "hadal-conformance";

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

/// Whether --op and --for leave an operator in.
bool asks_for(const Options& o, uint32_t id) {
  const Family* family = find_family(o.family);
  const bool needed =
      !family || std::find(family->needs.begin(), family->needs.end(), id) != family->needs.end();
  return contract::operand_count(id) != 0 && needed &&
         (o.op.empty() || o.op == contract::op_name(id));
}

bool wanted(const Options& o, const std::string& level) {
  if (named(o, level)) return true;
  if (!o.levels.empty() && !named(o, "all")) return false;
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
      if (asks_for(o, id)) units.push_back({level, contract::op_name(id)});
  if (level == "models")
    for (const Family& f : families())
      if (o.family.empty() || o.family == "all" || o.family == f.name)
        units.push_back({level, f.name});
  if (level == "real")
    for (const std::string& file : o.real.files) units.push_back({level, file});
  if (level == "speed") {
    units.push_back({level, kPeaks});
    for (uint32_t id = 1; id < 64; ++id)
      if (asks_for(o, id) && has_speed_cases(id)) units.push_back({level, contract::op_name(id)});
  }
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
  if (c.options.family.empty()) return 0;
  const auto passed = [](const Json& v) { return v["verdict"] == "pass"; };
  const Json& verdicts = result["verdicts"];
  return std::all_of(verdicts.begin(), verdicts.end(), passed) ? 0 : 1;
}

/// Nobody is praised for the speed of wrong numbers.
bool worth_measuring(const std::string& level, Report& report) {
  if (level != "speed" || report.failed() == 0) return true;
  report.enter(level);
  report.note(level, "not measured, since checks before it failed");
  return false;
}

/// Runs the wanted levels with one kernel table and prints the report.
int run_table(const Command& c, const std::string& kernels) {
  Options options = c.options;
  options.kernels = kernels;
  Json chip;
  if (const std::string why = ask_chip(options, c.isolation, chip); !why.empty()) return usage(why);
  Report report("", options.quick);
  std::vector<std::string> run, refused;
  for (const std::string& level : all_levels()) {
    if (!wanted(options, level) || report.enough() || !worth_measuring(level, report)) continue;
    run.push_back(level);
    for (const Unit& unit : units_of(options, level))
      if (!report.enough())
        if (std::string why = run_unit(unit, options, c.isolation, report); !why.empty())
          refused.push_back(unit.part + ": " + why);
    if (level == "errors") judge_errors(report);
  }
  const Json result = make_result(report, options, chip, run);
  if (c.json != kToOutput) print_result(result);
  for (const auto& [path, text] : {std::pair{c.json, c.json.empty() ? "" : dump(result)},
                                   std::pair{c.html, c.html.empty() ? "" : make_page(result)}})
    if (const std::string why = path.empty() ? "" : write_file(path, text); !why.empty())
      return usage(why);
  if (!refused.empty()) return usage(refused[0]);
  return exit_status(c, report, result);
}

int run(Command& c) {
  const Options& o = c.options;
  if (const std::string why = check_command(c); !why.empty()) return usage(why);
  if (c.list) return list_cases(o);
  if (c.list_cases) return list_every_case(o);
  if (o.kernels != "all") return run_table(c, o.kernels);
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
