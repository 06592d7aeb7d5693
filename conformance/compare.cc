// What changed between two results, and whether the second passes less: a verdict that is lost, a
// new failure, or cases that it does not compute any more, since it declines them or was cut.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "result.h"

namespace hadal::conformance {
namespace {

using ByName = std::map<std::string, Json>;

std::string text_of(const Json& j, const char* key) { return j.value(key, std::string()); }

ByName by(const Json& list, const char* key) {
  ByName found;
  for (const Json& each : list)
    if (each.is_object()) found[text_of(each, key)] = each;
  return found;
}

std::vector<std::string> texts(const Json& check) {
  std::vector<std::string> found;
  if (check.is_object() && check.contains("failures"))
    for (const Json& f : check["failures"]) found.push_back(f.get<std::string>());
  return found;
}

std::string class_names(const Json& check) {
  std::string names;
  if (check.contains("classes"))
    for (const auto& [kind, worst] : check["classes"].items()) names += kind + " ";
  return names;
}

int64_t declined(const Json& check) { return check.value("declined", int64_t{0}); }
int64_t computed(const Json& check) { return check.value("cases", int64_t{0}) - declined(check); }

/// The measurements of an operator, or an empty list.
Json speeds_of(const Json& result, const std::string& name) {
  const Json none = Json::object();
  return result.value("speed", none).value("operators", none).value(name, Json::array());
}

class Comparison {
 public:
  Comparison(const Json& a, const Json& b) : a_(a), b_(b) {}

  void run() {
    headers();
    verdicts();
    checks();
    coverage();
    accuracy();
    speed();
    if (lines.empty()) lines.emplace_back("nothing changed");
  }

  std::vector<std::string> lines;
  bool worse = false;

 private:
  template <typename... T>
  void say(fmt::format_string<T...> format, T&&... args) {
    lines.push_back(fmt::format(format, std::forward<T>(args)...));
  }

  void headers() {
    const auto tell = [&](const char* what, const std::string& x, const std::string& y) {
      if (x != y) say("{}: {} -> {}", what, x, y);
    };
    for (const char* key : {"hadal", "contract", "numerics"})
      tell(key, text_of(a_, key), text_of(b_, key));
    if (a_.contains("chip") && b_.contains("chip"))
      for (const char* key : {"name", "device", "kernels", "contract"})
        tell(key, text_of(a_["chip"], key), text_of(b_["chip"], key));
    for (const char* key : {"seed", "quick", "light", "levels"})
      if (a_.contains(key) && b_.contains(key) && a_[key] != b_[key])
        say("{}: {} -> {}: not the same cases", key, a_[key].dump(), b_[key].dump());
    for (const char* key : {"hadal", "contract", "seed", "quick", "light"})
      same_cases_ = same_cases_ && a_.value(key, Json()) == b_.value(key, Json());
  }

  void verdicts() {
    ByName was = by(a_["verdicts"], "family");
    for (const auto& [family, v] : by(b_["verdicts"], "family")) {
      const std::string now = text_of(v, "verdict");
      const std::string before = was.contains(family) ? text_of(was[family], "verdict") : "absent";
      was.erase(family);
      if (now == before) continue;
      const bool loss = before == "pass" || now == "FAILED";
      worse = worse || loss;
      say("{}: {} -> {}{}", family, before, now, loss ? "  WORSE" : "");
    }
    for (const auto& [family, v] : was) {
      const bool loss = text_of(v, "verdict") == "pass";
      worse = worse || loss;
      say("{}: {} -> absent{}", family, text_of(v, "verdict"), loss ? "  WORSE" : "");
    }
  }

  void checks() {
    ByName was = by(a_["checks"], "name");
    for (const auto& [name, now] : by(b_["checks"], "name")) {
      const std::vector<std::string> old = texts(was.contains(name) ? was[name] : Json());
      size_t fresh = 0;
      for (const std::string& failure : texts(now))
        if (std::find(old.begin(), old.end(), failure) == old.end() && ++fresh <= 3)
          say("new failure of {}: {}  WORSE", name, failure);
      if (fresh > 3) say("new failures of {}: {} more", name, fresh - 3);
      worse = worse || fresh != 0;
      const size_t left = texts(now).size();
      if (left < old.size()) say("{}: {} failures -> {}", name, old.size(), left);
    }
  }

  /// Cases that the second does not compute any more. Of other cases only that there are none.
  void coverage() {
    const ByName now = by(b_["checks"], "name");
    std::string gone;
    for (const auto& [name, before] : by(a_["checks"], "name")) {
      const int64_t x = computed(before);
      // Speed passes nothing.
      if (x == 0 || text_of(before, "level") == "speed") continue;
      const auto found = now.find(name);
      const int64_t y = found == now.end() ? 0 : computed(found->second);
      if (y == 0) gone += (gone.empty() ? "" : ", ") + name;
      if (y == 0 || (y < x && same_cases_)) worse = true;
      if (y > 0 && y < x && same_cases_) say("{}: {} cases computed -> {}  WORSE", name, x, y);
    }
    if (!gone.empty()) say("no case computed any more: {}  WORSE", gone);
  }

  /// Another class is another promise; a larger part of the bound is told where it doubled.
  void accuracy() {
    ByName was = by(a_["checks"], "name");
    for (const auto& [name, now] : by(b_["checks"], "name")) {
      if (!was.contains(name)) continue;
      const std::string before = class_names(was[name]), after = class_names(now);
      if (before != after && !before.empty() && !after.empty())
        say("{}: classes {}-> {}", name, before, after);
      const double x = was[name].value("worst", 0.0), y = now.value("worst", 0.0);
      if (y > 2 * x && y > 0.25) say("{}: worst error {:.3f} -> {:.3f} of its bound", name, x, y);
      if (declined(was[name]) != declined(now))
        say("{}: {} declined -> {}", name, declined(was[name]), declined(now));
    }
  }

  void speed() {
    const Json none = Json::object();
    const Json measured = b_.value("speed", none).value("operators", none);
    for (const auto& [name, all] : measured.items()) {
      const Json old_ones = speeds_of(a_, name);
      for (const Json& now : all)
        for (const Json& before : old_ones) {
          if (text_of(before, "shape") != text_of(now, "shape")) continue;
          const double old = before.value("warm_us", 0.0), fresh = now.value("warm_us", 0.0);
          if (old > 0 && fresh > 0 && (fresh > 1.1 * old || fresh < old / 1.1))
            say("{} {}: {:.2f} times as fast", name, text_of(now, "shape"), old / fresh);
        }
    }
  }

  const Json &a_, &b_;
  bool same_cases_ = true;
};

}  // namespace

std::vector<std::string> compare_results(const Json& a, const Json& b, bool& worse) {
  Comparison comparison(a, b);
  comparison.run();
  worse = comparison.worse;
  return std::move(comparison.lines);
}

}  // namespace hadal::conformance
