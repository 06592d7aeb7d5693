// How far the logits of a chip are from ref's over a whole tiny model, and how far they may be.
//
// The measure is ref itself, run operator by operator in the classes of numerics that the chip
// answered: twice its mean Kullback-Leibler divergence from exact ref is allowed, and no greedy
// token may be another one where exact ref's margin exceeds six standard deviations of what the
// classes move a logit by. Used by tapes.cc alone.
#pragma once

#include "levels/tiny_model.h"

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
  Oracle(Chip& ref, RefTables& tables, const TinyModel& model, uint32_t dtype, uint64_t seed,
         const Plan& plan);
  [[nodiscard]] const std::string& error() const { return error_; }
  /// Whether the chip rounds anything that ref in its classes rounds too.
  [[nodiscard]] bool rounds() const { return class_kl_ > 0; }
  /// Why a trace over the same tokens is too far from ref, or nothing.
  [[nodiscard]] std::string judge(const Trace& found) const;
  /// Mean divergence of a trace from exact ref, as a part of what is allowed.
  [[nodiscard]] double part(const Trace& found) const;

 private:
  std::string error_;
  Trace exact_;
  double class_kl_ = 0, sigma_ = 0;
};

}  // namespace hadal::conformance
