// Shard and Share: which part of a model one of several devices has, and how things are divided.
//
// Each rank holds a whole runner over its own part of the weights; what the parts make is summed
// by Ops::all_reduce. Specifications and binders compute shares, nothing else does.
#pragma once

#include <algorithm>
#include <cstdint>

namespace hadal {

/// The part of a model that one rank runs.
struct Shard {
  int64_t rank = 0;
  int64_t ranks = 1;
};

/// Of `of` things side by side, [first, first + count).
struct Share {
  int64_t first = 0, count = 0, of = 0;

  Share() = default;
  Share(int64_t all) : count(all), of(all) {}  // NOLINT: a number of things is all of them
  Share(int64_t from, int64_t things, int64_t all) : first(from), count(things), of(all) {}
  /// A rank's part, in whole units, as even as they are; the last one may be smaller. Every rank
  /// has something where there are at least as many units as ranks.
  static Share of_rank(int64_t all, const Shard& shard, int64_t unit = 1) {
    const int64_t units = (all + unit - 1) / unit;
    const auto border = [&](int64_t rank) {
      return std::min(all, units * rank / shard.ranks * unit);
    };
    return {border(shard.rank), border(shard.rank + 1) - border(shard.rank), all};
  }

  [[nodiscard]] bool whole() const { return count == of; }
  [[nodiscard]] int64_t end() const { return first + count; }
  /// Of things of which each is `n` others.
  [[nodiscard]] Share times(int64_t n) const { return {first * n, count * n, of * n}; }
};

}  // namespace hadal
