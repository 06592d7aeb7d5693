// The command line of hadal-conformance: its options, and what of them cannot be together. A wrong
// word is found here, before a chip is opened, so that a user's typo is never a chip's failure.
#pragma once

#include <CLI/CLI.hpp>

#include "worker.h"

namespace hadal::conformance {

/// What is written to standard output instead of a file.
constexpr const char* kToOutput = "-";

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

/// All levels, in the order in which they are run.
const std::vector<std::string>& all_levels();
/// The name of today: those of old are kept.
std::string level_name(const std::string& given);
/// Whether a level was asked for by its name; "all" is one, too.
bool named(const Options& options, const std::string& level);

/// `test`: what the subcommand of that name is given.
void add_commands(CLI::App& app, Command& c, Command& test);
/// What cannot be, in words; empty: all can. Settles where --json goes.
std::string check_command(Command& c);

}  // namespace hadal::conformance
