// How far the logits of a chip may be from ref's: the two rules of whole models.
//
// Three runs over the same tokens are compared: ref, computing exactly; ref, operator by operator
// in the classes of numerics that the chip answered; and the chip. The chip's mean Kullback-Leibler
// divergence from the first may be twice that of the second, and no greedy token may be another one
// where exact ref's margin exceeds six standard deviations of what the classes move logits by: of
// all logits, of these two, or of this row, whichever is largest, since the rows of a quantised
// head and what a norm stretches differ in size. Where the classes round nothing, logits must stay
// within kExactPart of the largest.
//
// Knows no device: the conformance kit uses it on tiny models, the engine on real ones.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hadal::contract {

/// A row of logits for each position, in order.
using LogitRows = std::vector<std::vector<float>>;

/// An exact chip that is not row_invariant rounds its sums in another order, which may change how a
/// number of the cache is rounded: by 2^-10 of itself in F16. Were every key and value of a model
/// of two layers off by so much, and nothing cancelled, logits would move by four times that.
constexpr double kExactPart = 0x1p-8;

struct Distance {
  int64_t positions = 0, logits = 0;
  double kl = 0, class_kl = 0;  ///< mean divergences from exact ref, in nats
  double part = 0;              ///< of what is allowed, by the first rule
  double sigma = 0;             ///< of what the classes move a logit by
  int64_t beyond = 0;           ///< logits that moved by more than six of them
  int64_t sure = 0;             ///< positions where exact ref's margin is larger than six of them
  int64_t flips = 0;            ///< positions with another greedy token
  std::string mean;             ///< how the first rule is broken; empty: it holds
  /// How the second is, or what is too far from ref where nothing is rounded, or why rows cannot be
  /// compared; empty: none of them.
  std::string rows;

  [[nodiscard]] const std::string& why() const { return rows.empty() ? mean : rows; }
  /// Adds the rows of another model. Means are then of all rows; the second rule stays that of each
  /// model by itself, since a token's logits, and what moves them, are other ones in each.
  void join(const Distance& other);
};

/// All three have the same number of rows and columns, and only finite numbers; else `rows` says
/// so.
Distance measure_distance(const LogitRows& exact, const LogitRows& classed, const LogitRows& found);

}  // namespace hadal::contract
