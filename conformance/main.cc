// hadal-conformance: is this a chip that Hadal can use?
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <sstream>

#include "contract/operators.h"
#include "kit.h"

namespace hadal::conformance {
namespace {

void add_options(CLI::App& app, Options& options) {
  app.add_option("--chip", options.chip, "cpu, ref, or the path of a plug-in: ./libfoo.so")
      ->capture_default_str();
  app.add_option("--level", options.level, "loads, dense, queues, tapes, or all")
      ->check(CLI::IsMember({"all", "loads", "dense", "queues", "tapes"}))
      ->capture_default_str();
  app.add_option("--kernels", options.kernels,
                 "a kernel table of the chip, by name; \"all\": one after the other");
  app.add_option("--numerics", options.numerics,
                 "exact: the chip is asked for the exact form of what it otherwise rounds")
      ->check(CLI::IsMember({"exact"}));
  app.add_option("--op", options.op, "only this operator of the level dense (see --list)");
  app.add_option("--seed", options.seed, "another seed makes other cases")->capture_default_str();
  app.add_flag("--quick", options.quick, "fewer cases, and an end at the first failure");
  app.add_flag("--json", options.json, "print JSON");
  app.add_flag("--list", options.list, "list the operators and the number of their cases");
  app.add_option("--expect-failure", options.expect_failure,
                 "for testing the kit: succeed if and only if a check of this name fails (loads, "
                 "queues, tapes, or an operator)");
}

bool known_operator(const std::string& name) {
  for (uint32_t id = 1; id < 64; ++id)
    if (contract::operand_count(id) != 0 && name == contract::op_name(id)) return true;
  return false;
}

int list_cases(const Options& options) {
  for (uint32_t id = 1; id < 64; ++id)
    if (contract::operand_count(id) != 0)
      fmt::print("{:<16} {:>5} cases\n", contract::op_name(id),
                 make_cases(id, options.seed, options.quick).size());
  return 0;
}

int usage(const std::string& why) {
  fmt::print(stderr, "hadal-conformance: {}\n", why);
  return 2;
}

/// Runs the wanted levels with one kernel table and prints the report.
int run_table(const Options& options, const std::string& kernels) {
  Chip ref, chip;
  if (const std::string why = ref.open("ref", ""); !why.empty()) return usage(why);
  const uint32_t numerics =
      options.numerics == "exact" ? HADAL_NUMERICS_EXACT : HADAL_NUMERICS_UNSAID;
  if (const std::string why = chip.open(options.chip, kernels, numerics); !why.empty())
    return usage(why);
  // The oracle's planes are rows side by side, whatever a chip under test makes of them.
  ref.table.plane_bytes = nullptr;
  Report report(options);
  const auto wanted = [&](const char* level) {
    if (report.enough()) return false;
    if (options.level != "all") return options.level == level;
    return options.op.empty() || std::string(level) == "dense";
  };
  if (wanted("loads")) level_loads(chip, report);
  if (wanted("dense")) level_dense(chip, ref, options, report);
  if (wanted("queues")) level_queues(chip, report);
  if (wanted("tapes")) check_tapes(chip, ref, options, report);
  if (options.json)
    report.print_json(chip);
  else
    report.print(chip);
  if (!options.expect_failure.empty())
    return report.line(options.expect_failure).failed != 0 ? 0 : 1;
  return report.failed() == 0 ? 0 : 1;
}

int run(const Options& options) {
  if (!options.op.empty() && !known_operator(options.op))
    return usage("no operator is called \"" + options.op + "\"; see --list");
  if (options.list) return list_cases(options);
  if (options.kernels != "all") return run_table(options, options.kernels);
  Chip chip;
  if (const std::string why = chip.open(options.chip, ""); !why.empty()) return usage(why);
  int worst = 0;
  std::istringstream names(chip.info.all_kernels);
  for (std::string name; names >> name;) worst = std::max(worst, run_table(options, name));
  return worst;
}

}  // namespace
}  // namespace hadal::conformance

int main(int argc, char** argv) {
  CLI::App app{
      "Compares a chip with the reference over all operators: odd shapes, no rows, poisoned "
      "outputs, guard bands; and, for a "
      "chip that declares row_invariant, rows together with rows alone, bit for bit.\n"
      "Exit status: 0 all passed, 1 something failed, 2 wrong usage or a chip that does not open."};
  hadal::conformance::Options options;
  hadal::conformance::add_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const bool good = e.get_exit_code() == 0;
    app.exit(e);
    return good ? 0 : 2;
  }
  try {
    return hadal::conformance::run(options);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "hadal-conformance: %s\n", e.what());
    return 1;
  }
}
