// How far the logits of a chip are from ref's over a whole tiny model, and how far they may be.
//
// The measure is ref itself, run operator by operator in the classes of numerics that the chip
// answered: twice its mean Kullback-Leibler divergence from exact ref is allowed, and no greedy
// token may be another one where exact ref's margin exceeds six standard deviations of what the
// classes move a logit by: of all logits, or of these two, whichever is larger, since the rows of a
// quantised head differ in size.
//
// Experts and entries are chosen, and where two candidates are nearly equal any rounding chooses
// another one: the row's logits then jump by far more than rounding moves them. It happens to ref
// in the classes as well, though at other rows. In families that choose, such rows are set apart,
// in both traces, before means are taken, and they may be no more than twice those of ref in the
// classes, and a tenth of all, taken together. A family that chooses nothing has none.
// Used by models.cc alone.
#pragma once

#include "levels/tiny_model.h"
#include "report.h"

namespace hadal::conformance {

/// A sequence's answers in order, or why there are none.
struct Trace {
  std::string error;
  std::array<std::vector<Answer>, 2> rows;
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

class Oracle {
 public:
  /// For a model of the chip under test, with tokens forced. error(): ref cannot run it.
  Oracle(Chip& ref, RefTables& tables, const TinyModel& model, const TinySpec& spec,
         const Plan& plan);
  [[nodiscard]] const std::string& error() const { return error_; }
  /// Whether the chip rounds anything that ref in its classes rounds too.
  [[nodiscard]] bool rounds() const { return class_kl_ > 0; }
  /// Why a trace over the same tokens is too far from ref, or nothing.
  [[nodiscard]] std::string judge(const Trace& found) const;
  /// Mean divergence of a trace from exact ref, as a part of what is allowed.
  [[nodiscard]] double part(const Trace& found) const;
  /// Divergences, deviation, logits beyond six of them, greedy tokens that are other ones.
  [[nodiscard]] Json measure(const Trace& found) const;

 private:
  [[nodiscard]] std::vector<bool> jumped(const Trace& found) const;
  [[nodiscard]] std::vector<bool> set_apart(const Trace& found) const;
  /// What the classes move the difference of two tokens' logits by.
  [[nodiscard]] double sigma_of(size_t a, size_t b) const;
  [[nodiscard]] std::string judge_greedy(const Trace& found, const std::vector<bool>& apart) const;

  std::string error_;
  Trace exact_, classed_;
  bool chooses_ = false;
  double class_kl_ = 0;  // over all rows
  double sigma_ = 0;     // of the logits of rows that did not jump
  double row_ = 0;       // the median row's deviation
};

}  // namespace hadal::conformance
