// What the kit finds: a line a check (an operator, a level, a tiny model), failures in words.
//
// The same class collects in the process that is asked and in the worker that runs a level: there
// it is given a sink, to which every event goes at once, so that what was found outlives a crash.
#pragma once

#include <nlohmann/json.hpp>

#include "kit.h"

namespace hadal::conformance {

using Json = nlohmann::ordered_json;

struct Line {
  std::string level;
  int64_t cases = 0;
  int64_t declined = 0;
  double worst = 0;                        ///< largest error as a part of its bound
  double seconds = 0;                      ///< inside the chip
  std::string reason;                      ///< the first decline
  std::map<std::string, double> worst_of;  ///< class of numerics, as the chip answered: worst error
  Json extra;                              ///< measurements of the level's own
  std::vector<std::string> failures;
  std::vector<std::string> notes;  ///< findings that are no failures

  [[nodiscard]] int64_t failed() const { return static_cast<int64_t>(failures.size()); }
  /// Notes the class, and an error as a part of its bound.
  void add_class(const Numerics& numerics, double part = 0);
};
Json to_json(const Line& line);
Line line_from_json(const Json& json);

class Report {
 public:
  using Sink = std::function<void(const Json& event)>;
  Report(std::string level, bool quick, Sink sink = {}, int64_t first = 0)
      : level_(std::move(level)), quick_(quick), sink_(std::move(sink)), first_(first) {}

  /// Names the case that runs next. False: it is behind us, or the first failure ends the run.
  bool begin(const std::string& name, const std::string& text);
  Line& line(const std::string& name);
  void fail(const std::string& name, const std::string& text);
  void note(const std::string& name, const std::string& text);
  /// Fails `name` with `text` unless `good`; counts a case either way. Returns good.
  bool check(const std::string& name, bool good, const std::string& text);
  /// --quick stops at the first failure.
  [[nodiscard]] bool enough() const { return quick_ && failed() != 0; }
  [[nodiscard]] int64_t failed() const;
  [[nodiscard]] const std::vector<std::string>& names() const { return order_; }
  [[nodiscard]] const Line* find(const std::string& name) const;

  // ---- of the process that is asked
  /// Lines that are made from now on are of this level.
  void enter(const std::string& level) { level_ = level; }
  /// Adds what a worker's line counts; failures and notes have come by themselves.
  void add(const std::string& name, const Line& counted);
  // ---- of a worker
  /// Sends what the lines count.
  void flush();
  /// Names what is done beside the cases, as closing the device.
  void phase(const std::string& name, const std::string& text);

 private:
  std::string level_;
  bool quick_;
  Sink sink_;
  int64_t first_ = 0, at_ = 0;
  std::vector<std::string> order_;
  std::map<std::string, Line> lines_;
};

/// Of the level `queues`: the optional table of events.
void check_events(const Device& device, const Device& other, Report& report);

}  // namespace hadal::conformance
