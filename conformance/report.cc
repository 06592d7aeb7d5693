#include "report.h"

#include <algorithm>

#include "contract/operators.h"

namespace hadal::conformance {

void Line::add_class(const Numerics& n, double part) {
  const std::string text =
      n.kind == HADAL_NUMERICS_UNSAID ? "not said" : contract::numerics_name(n.kind, n.block);
  double& known = worst_of[text];
  known = std::max(known, part);
  worst = std::max(worst, part);
}

Json to_json(const Line& l) {
  Json classes = Json::object();
  for (const auto& [name, worst] : l.worst_of) classes[name] = worst;
  Json j = {{"level", l.level},  {"cases", l.cases},     {"declined", l.declined},
            {"worst", l.worst},  {"seconds", l.seconds}, {"reason", l.reason},
            {"classes", classes}};
  if (!l.extra.is_null()) j["extra"] = l.extra;
  return j;
}

Line line_from_json(const Json& j) {
  Line l;
  l.level = j.value("level", "");
  l.cases = j.value("cases", int64_t{0});
  l.declined = j.value("declined", int64_t{0});
  l.worst = j.value("worst", 0.0);
  l.seconds = j.value("seconds", 0.0);
  l.reason = j.value("reason", "");
  if (j.contains("classes"))
    for (const auto& [name, worst] : j["classes"].items()) l.worst_of[name] = worst.get<double>();
  if (j.contains("extra")) l.extra = j["extra"];
  return l;
}

bool Report::begin(const std::string& name, const std::string& text) {
  line(name);
  if (at_++ < first_ || enough()) return false;
  flush();
  if (sink_) sink_({{"begin", name}, {"text", text}, {"at", at_ - 1}});
  return true;
}

Line& Report::line(const std::string& name) {
  if (!lines_.contains(name)) {
    order_.push_back(name);
    lines_[name].level = level_;
  }
  return lines_[name];
}

const Line* Report::find(const std::string& name) const {
  const auto found = lines_.find(name);
  return found == lines_.end() ? nullptr : &found->second;
}

void Report::fail(const std::string& name, const std::string& text) {
  line(name).failures.push_back(text);
  if (sink_) sink_({{"fail", name}, {"text", text}});
}

void Report::note(const std::string& name, const std::string& text) {
  line(name).notes.push_back(text);
  if (sink_) sink_({{"note", name}, {"text", text}});
}

bool Report::check(const std::string& name, bool good, const std::string& text) {
  ++line(name).cases;
  if (!good) fail(name, text);
  return good;
}

int64_t Report::failed() const {
  int64_t sum = 0;
  for (const auto& [name, l] : lines_) sum += l.failed();
  return sum;
}

void Report::add(const std::string& name, const Line& counted) {
  Line& l = line(name);
  l.cases += counted.cases;
  l.declined += counted.declined;
  l.seconds += counted.seconds;
  l.worst = std::max(l.worst, counted.worst);
  if (l.reason.empty()) l.reason = counted.reason;
  for (const auto& [kind, worst] : counted.worst_of) {
    double& known = l.worst_of[kind];
    known = std::max(known, worst);
  }
  if (counted.extra.is_object()) l.extra.update(counted.extra);
}

void Report::flush() {
  if (!sink_) return;
  for (const std::string& name : order_)
    sink_({{"line", name}, {"counts", to_json(lines_.at(name))}});
}

void Report::phase(const std::string& name, const std::string& text) {
  flush();
  if (sink_) sink_({{"begin", name}, {"text", text}, {"at", -1}});
}

}  // namespace hadal::conformance
