#include "result.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <sstream>

#include "families.h"
#include "hadal/version.h"
#include "roofline.h"
#include "speed.h"

namespace hadal::conformance {
namespace {

constexpr size_t kShown = 8;  // failures of a line in a terminal

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[32];
  return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%d", &utc));
}

Json check_of(const std::string& name, const Line& l) {
  Json j = {{"name", name}};
  j.update(to_json(l));
  j.erase("extra");
  j["failed"] = l.failed();
  j["failures"] = l.failures;
  j["notes"] = l.notes;
  return j;
}

std::string text_of(const Json& j, const char* key) { return j.value(key, std::string()); }

void print_checks(const Json& result) {
  fmt::print("{:<18} {:>6} {:>9} {:>7} {:>12} {:>9}  {}\n", "", "cases", "declined", "failed",
             "worst error", "seconds", "class");
  for (const Json& c : result["checks"]) {
    if (text_of(c, "level") == "speed") continue;
    std::string classes;
    for (const auto& [name, worst] : c["classes"].items())
      classes += (classes.empty() ? "" : ", ") + name;
    const double worst = c["worst"].get<double>();
    const bool compared = text_of(c, "level") == "operators" && c["cases"] > c["declined"];
    fmt::print("{:<18} {:>6} {:>9} {:>7} {:>12} {:>9.3f}  {}\n", text_of(c, "name"),
               c["cases"].get<int64_t>(), c["declined"].get<int64_t>(), c["failed"].get<int64_t>(),
               worst > 0  ? fmt::format("{:.3f}", worst)
               : compared ? "0"
                          : "",
               c["seconds"].get<double>(), classes);
  }
  fmt::print(
      "\nworst error: the largest difference from ref, as a part of what is allowed there\n"
      "seconds: in operators alone; class: of numerics, as the chip answers\n");
}

void print_findings(const Json& result) {
  for (const Json& c : result["checks"])
    if (c["declined"].get<int64_t>() != 0 && !text_of(c, "reason").empty())
      fmt::print("{}: {} declined, the first: {}\n", text_of(c, "name"),
                 c["declined"].get<int64_t>(), text_of(c, "reason"));
  const auto list = [&](const char* key, const char* word) {
    for (const Json& c : result["checks"]) {
      const Json& texts = c[key];
      for (size_t i = 0; i < texts.size() && i < kShown; ++i)
        fmt::print("{} {}: {}\n", word, text_of(c, "name"), texts[i].get<std::string>());
      if (texts.size() > kShown)
        fmt::print("{} {}: and {} more\n", word, text_of(c, "name"), texts.size() - kShown);
    }
  };
  list("notes", "note");
  list("failures", "FAILED");
}

void print_models(const Json& result) {
  for (const auto& [name, m] : result["models"].items()) {
    fmt::print(
        "{}: mean divergence {:.3g}, of ref in the same classes {:.3g}, {:.2f} of what is allowed; "
        "{:.2g} % of the logits beyond 6 sigma; {} of {} tokens are others, {} have a margin above "
        "that",
        name, m.value("kl", 0.0), m.value("class_kl", 0.0), m.value("part", 0.0),
        100.0 * static_cast<double>(m.value("beyond", int64_t{0})) /
            static_cast<double>(std::max<int64_t>(1, m.value("logits", int64_t{0}))),
        m.value("flips", int64_t{0}), m.value("positions", int64_t{0}),
        m.value("sure", int64_t{0}));
    if (m.value("choices", int64_t{0}) > 0)
      fmt::print("; {} of {} choices are others", m.value("differ", int64_t{0}),
                 m.value("choices", int64_t{0}));
    fmt::print("\n");
  }
}

void print_speed(const Json& result) {
  const Json& speed = result["speed"];
  if (!speed.contains("operators") || speed["operators"].empty()) return;
  const Json& peaks = speed["peaks"];
  fmt::print("\nspeed: copies {:.1f} GB/s, products {:.1f} GFLOP/s ({})\n",
             peaks.value("bytes_per_second", 0.0) / 1e9, peaks.value("flops_per_second", 0.0) / 1e9,
             text_of(peaks, "from"));
  fmt::print("{:<18} {:<34} {:<8} {:>10} {:>10} {:>10} {:>9}\n", "", "shape", "weights", "first us",
             "warm us", "launch us", "% of roof");
  for (const auto& [name, all] : speed["operators"].items())
    for (const Json& m : all)
      fmt::print("{:<18} {:<34} {:<8} {:>10.1f} {:>10.1f} {:>10.1f} {:>9.0f}\n", name,
                 text_of(m, "shape"), text_of(m, "weights"), m.value("first_us", 0.0),
                 m.value("warm_us", 0.0), m.value("launch_us", 0.0), m.value("percent", 0.0));
  if (const std::string why = beyond_roof(speed); !why.empty()) fmt::print("{}\n", why);
}

}  // namespace

Json make_result(const Report& report, const Options& options, const Json& chip,
                 const std::vector<std::string>& levels) {
  Json r = {{"format", kResultFormat},
            {"version", kResultVersion},
            {"hadal", HADAL_VERSION},
            {"contract", fmt::format("{}.{}", HADAL_ABI_MAJOR, HADAL_ABI_MINOR)},
            {"date", today()},
            {"seed", options.seed},
            {"quick", options.quick},
            {"light", options.light},
            {"numerics", options.numerics.empty() ? "as the chip chooses" : options.numerics},
            {"chip_options", options.chip_options},
            {"levels", levels},
            {"file", options.chip},
            {"device_number", options.device},
            {"chip", chip}};
  Json verdicts = Json::array(), checks = Json::array();
  for (const Family& f : families())
    if (options.family.empty() || options.family == "all" || options.family == f.name)
      verdicts.push_back(verdict(f, report));
  Json models = Json::object(), operators = Json::object(), peaks = Json::object();
  for (const std::string& name : report.names()) {
    const Line& l = *report.find(name);
    checks.push_back(check_of(name, l));
    if (!l.extra.is_object()) continue;
    for (const auto& [key, value] : l.extra.items()) {
      if (key == kPeaks)
        peaks = value;
      else
        (l.level == "models" || l.level == "real" ? models : operators)[key] = value;
    }
  }
  rate_speed(peaks, operators);
  r["passed"] = report.failed() == 0;
  r["failed"] = report.failed();
  r["verdicts"] = verdicts;
  r["checks"] = checks;
  r["models"] = models;
  r["speed"] = Json({{"peaks", peaks}, {"operators", operators}});
  return r;
}

void print_result(const Json& r) {
  const Json& chip = r["chip"];
  fmt::print("chip {}, device {}, kernels {}{}\n\n", text_of(chip, "name"), text_of(chip, "device"),
             text_of(chip, "kernels"), chip.value("row_invariant", false) ? ", row_invariant" : "");
  print_checks(r);
  print_findings(r);
  print_models(r);
  print_speed(r);
  fmt::print("\n");
  for (const Json& v : r["verdicts"]) {
    std::string why;
    for (const Json& w : v["why"]) why += (why.empty() ? "  " : "; ") + w.get<std::string>();
    constexpr size_t kWidth = 240;
    if (why.size() > kWidth) why = why.substr(0, kWidth) + "…";
    fmt::print("{:<6} {:<12}{}\n", text_of(v, "family"), text_of(v, "verdict"), why);
  }
  const auto failed = r["failed"].get<int64_t>();
  fmt::print("{}; {}\n", summary(r),
             failed == 0 ? "no check failed" : fmt::format("FAILED: {} of the checks", failed));
}

std::string summary(const Json& r) {
  std::map<std::string, size_t> with;
  for (const Json& v : r["verdicts"]) ++with[text_of(v, "verdict")];
  std::string text =
      fmt::format("{} of {} model families pass", with["pass"], r["verdicts"].size());
  for (const char* verdict : {"FAILED", "not offered", "not tested"})
    if (with[verdict] != 0) text += fmt::format(", {} {}", with[verdict], verdict);
  return text;
}

std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string check_file(const std::string& path) {
  if (path == "-") return {};
  const bool there = ::access(path.c_str(), F_OK) == 0;
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) return path + " cannot be written: " + std::strerror(errno);
  ::close(file);
  if (!there) ::unlink(path.c_str());
  return {};
}

std::string write_file(const std::string& path, const std::string& text) {
  if (path == "-") {
    std::fwrite(text.data(), 1, text.size(), stdout);
    return std::fflush(stdout) == 0 ? "" : "standard output cannot be written";
  }
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  return file ? "" : path + " cannot be written: " + std::strerror(errno);
}

std::string read_result(const std::string& path, Json& out) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return path + " cannot be read: " + std::strerror(errno);
  std::stringstream text;
  text << file.rdbuf();
  out = Json::parse(text.str(), nullptr, false);
  const bool known = out.is_object() && out.contains("format") && out["format"] == kResultFormat;
  if (!known) return path + " is no result of hadal chip test --json";
  if (!out.contains("version") || out["version"] != kResultVersion)
    return fmt::format("{} is of another version of the format; expected {}", path, kResultVersion);
  for (const char* key : {"verdicts", "checks"})
    if (!out.contains(key) || !out[key].is_array())
      return fmt::format("{} has no list \"{}\": it was cut or edited", path, key);
  return {};
}

}  // namespace hadal::conformance
