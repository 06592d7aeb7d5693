// The report: a table for people, JSON for machines.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include <nlohmann/json.hpp>

#include "contract/operators.h"
#include "kit.h"

namespace hadal::conformance {

void Line::add_class(const Numerics& n) {
  const std::string text =
      n.kind == HADAL_NUMERICS_UNSAID ? "-" : contract::numerics_name(n.kind, n.block);
  if (std::find(classes.begin(), classes.end(), text) == classes.end()) classes.push_back(text);
}

Line& Report::line(const std::string& name) {
  if (!lines_.contains(name)) order_.push_back(name);
  return lines_[name];
}

void Report::fail(const std::string& name, const std::string& text) {
  Line& l = line(name);
  ++l.failed;
  l.failures.push_back(text);
}

bool Report::check(const std::string& name, bool good, const std::string& text) {
  ++line(name).cases;
  if (!good) fail(name, text);
  return good;
}

int64_t Report::failed() const {
  int64_t sum = 0;
  for (const auto& [name, l] : lines_) sum += l.failed;
  return sum;
}

void Report::print(const Chip& chip) const {
  fmt::print("chip {}, device {}, kernels {}{}\n\n", chip.table.name, chip.info.name,
             chip.info.kernels, chip.info.row_invariant ? ", row_invariant" : "");
  fmt::print("{:<16} {:>6} {:>9} {:>7} {:>12} {:>9}  {}\n", "", "cases", "declined", "failed",
             "worst error", "seconds", "class");
  for (const std::string& name : order_) {
    const Line& l = lines_.at(name);
    const std::string worst = l.worst > 0 ? fmt::format("{:.3f}", l.worst) : "-";
    fmt::print("{:<16} {:>6} {:>9} {:>7} {:>12} {:>9.3f}  {}\n", name, l.cases, l.declined,
               l.failed, worst, l.seconds, fmt::join(l.classes, " "));
  }
  fmt::print(
      "\nworst error: the largest difference from ref, as a part of what is allowed there; -: "
      "every bit is equal\nclass: of numerics, as the chip answers; -: it says nothing\n");
  for (const std::string& name : order_)
    if (const Line& l = lines_.at(name); l.declined != 0)
      fmt::print("{}: {} declined, the first: {}\n", name, l.declined, l.reason);
  for (const std::string& name : order_) {
    const Line& l = lines_.at(name);
    constexpr size_t kShown = 8;
    for (size_t i = 0; i < l.failures.size() && i < kShown; ++i)
      fmt::print("FAILED {}: {}\n", name, l.failures[i]);
    if (l.failures.size() > kShown)
      fmt::print("FAILED {}: and {} more\n", name, l.failures.size() - kShown);
  }
  fmt::print("{}\n", failed() == 0 ? "passed" : fmt::format("FAILED: {} of the checks", failed()));
}

void Report::print_json(const Chip& chip) const {
  nlohmann::ordered_json root;
  root["chip"] = chip.table.name;
  root["device"] = chip.info.name;
  root["kernels"] = chip.info.kernels;
  root["row_invariant"] = chip.info.row_invariant != 0;
  root["seed"] = options_.seed;
  root["quick"] = options_.quick;
  root["failed"] = failed();
  for (const std::string& name : order_) {
    const Line& l = lines_.at(name);
    nlohmann::ordered_json entry = {
        {"name", name},       {"cases", l.cases},       {"declined", l.declined},
        {"failed", l.failed}, {"worst", l.worst},       {"seconds", l.seconds},
        {"reason", l.reason}, {"failures", l.failures}, {"classes", l.classes}};
    root["operators"].push_back(std::move(entry));
  }
  fmt::print("{}\n", root.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

}  // namespace hadal::conformance
