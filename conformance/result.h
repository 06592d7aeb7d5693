// The result of a run as one JSON document: what `--json` writes, what the page is made of and what
// `compare` reads. docs/conformance.md describes it.
#pragma once

#include "report.h"

namespace hadal::conformance {

constexpr const char* kResultFormat = "hadal-conformance";
constexpr int kResultVersion = 1;

/// `levels`: those that were run, in order.
Json make_result(const Report& report, const Options& options, const Json& chip,
                 const std::vector<std::string>& levels);
/// A table for a terminal.
void print_result(const Json& result);
/// How many families pass, and what became of the others.
std::string summary(const Json& result);
/// Reads a result; an error text if the file holds none.
std::string read_result(const std::string& path, Json& out);
/// Why a file cannot be written, or nothing; before the run that would be lost. "-" can.
std::string check_file(const std::string& path);
/// Writes text to a file, or to standard output for "-". Returns why not, or nothing.
std::string write_file(const std::string& path, const std::string& text);
std::string dump(const Json& json);

/// One self-contained HTML page, without scripts.
std::string make_page(const Json& result);
/// What changed from A to B, as lines of text; true in `worse` if B passes less.
std::vector<std::string> compare_results(const Json& a, const Json& b, bool& worse);

}  // namespace hadal::conformance
