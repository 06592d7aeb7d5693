// How far the logits of a chip are from ref's over a whole tiny model, and how far they may be.
//
// The measure is ref itself: exact, and operator by operator in the classes of numerics that the
// chip answered (contract/distance.h has the two rules). Both follow the chip's choices of experts
// and entries, so that the rules hold for every row of every family, and each choice that is not
// exact ref's own must be explained by rounding (choices.h).
//
// A tiny model has some thirty rows, and where a norm stretches a short vector one of them may move
// by more than all others together, in the chip as in the classes: the two means are then one
// number each. So where nothing but the mean is too far, models of other seeds join: all rows
// together have one mean; tokens and choices are judged in each model by itself, there too, since
// what the classes move a logit by is another thing in other weights. Used by models.cc alone.
#pragma once

#include <deque>
#include <memory>

#include "contract/distance.h"
#include "levels/tiny_model.h"
#include "report.h"

namespace hadal::conformance {

/// A sequence's answers in order, or why there are none.
struct Trace {
  std::string error;
  std::array<std::vector<Answer>, 2> rows;
  Choices choices;
};

using Plan = std::vector<std::vector<Chunk>>;  // steps of (sequence, rows)

Trace follow(TinyModel& model, const Plan& plan, RunMode mode);

/// ref with one of its kernel tables each; opened when they are asked for.
class RefTables {
 public:
  /// Null, and why() says so, if ref has no such table.
  const Device* device(const Numerics& numerics);
  [[nodiscard]] const std::string& why() const { return why_; }

 private:
  std::map<std::string, std::unique_ptr<Chip>> chips_;
  std::string why_;
};

/// What is said of a trace.
struct Verdict {
  contract::Distance distance;
  int64_t choices = 0, differ = 0;  ///< all, and those that are not exact ref's own
  int64_t models = 1;
  /// What is wrong whatever other models may say, or nothing: there is no trace, a choice is not
  /// explained, a token is another one.
  std::string broken;

  /// Why the trace is too far from ref, or nothing.
  [[nodiscard]] const std::string& why() const { return broken.empty() ? distance.mean : broken; }
  /// The same of another model's rows, too.
  void join(const Verdict& other);
};
Json to_json(const Verdict& verdict);

/// Models of other seeds on the chip, each with its oracle; built when they are needed.
class MoreModels {
 public:
  MoreModels(Chip& chip, Chip& ref, RefTables& tables, const TinySpec& spec, Plan plan)
      : chip_(chip), ref_(ref), tables_(tables), spec_(spec), plan_(std::move(plan)) {}
  /// If nothing but the mean is wrong: `verdict` with the others' rows, run in the same way.
  void widen(Verdict& verdict, const Plan& plan, RunMode mode, int32_t threads);

 private:
  Chip& chip_;
  Chip& ref_;
  RefTables& tables_;
  const TinySpec spec_;
  const Plan plan_;
  std::vector<std::unique_ptr<class Oracle>> oracles_;
};

class Oracle {
 public:
  /// For a model of the chip under test, with tokens forced. error(): ref cannot run it.
  Oracle(Chip& ref, RefTables& tables, const TinyModel& model, const TinySpec& spec, Plan plan);
  [[nodiscard]] const std::string& error() const { return error_; }
  /// Of a trace over the same tokens.
  Verdict judge(const Trace& found);

 private:
  /// Both runs of ref with some choices.
  struct Reference {
    Choices choices;
    Trace exact, classed;
    ByChoice<Candidates> of_exact, of_classed;
  };
  const Reference& reference(const Choices& choices);

  Plan plan_;
  std::string error_;
  Chip& ref_;
  std::unique_ptr<TinyModel> exact_, classed_;
  std::deque<Reference> known_;  // those that were asked for last
};

}  // namespace hadal::conformance
