#include "engine/prompt_lookup.h"

#include <algorithm>

namespace hadal {
namespace {

/// A hash of the run of tokens that ends before `end`. Equal hashes of different runs do no harm:
/// matches are compared token by token.
uint64_t hash_of_run(std::span<const TokenId> tokens, int64_t end) {
  uint64_t hash = 0x9E3779B97F4A7C15ULL;
  for (int64_t i = end - PromptLookup::kLeastMatch; i < end; ++i) {
    hash ^= static_cast<uint32_t>(tokens[static_cast<size_t>(i)]);
    hash *= 0xBF58476D1CE4E5B9ULL;
    hash ^= hash >> 29;
  }
  return hash;
}

}  // namespace

PromptLookup::Guess PromptLookup::guess(std::span<const TokenId> tokens, int64_t most) {
  const auto size = static_cast<int64_t>(tokens.size());
  for (auto end = static_cast<int64_t>(before_.size()); end <= size; ++end) {
    if (end < kLeastMatch) {
      before_.push_back(-1);
      continue;
    }
    const auto [place, fresh] = latest_.try_emplace(hash_of_run(tokens, end), end);
    before_.push_back(fresh ? -1 : place->second);
    place->second = end;
  }
  Guess best;
  if (size < kLeastMatch || most <= 0) return best;
  int64_t best_end = -1, end = before_[static_cast<size_t>(size)];
  for (int i = 0; i < kPlaces && end >= 0 && best.match < kMostMatch;
       ++i, end = before_[static_cast<size_t>(end)]) {
    int64_t match = 0;
    while (match < std::min(end, kMostMatch) && tokens[static_cast<size_t>(end - 1 - match)] ==
                                                    tokens[static_cast<size_t>(size - 1 - match)])
      ++match;
    if (match < kLeastMatch || match <= best.match) continue;
    best.match = match;
    best_end = end;
  }
  if (best_end < 0) return best;
  // What goes round in a circle goes on to do so.
  for (int64_t i = 0; i < most; ++i)
    best.tokens.push_back(tokens[static_cast<size_t>(best_end + i % (size - best_end))]);
  return best;
}

}  // namespace hadal
