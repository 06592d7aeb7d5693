// PromptLookup: guesses what follows from what followed the same tokens earlier in a sequence.
//
// Where the last tokens have stood before, what came behind them then is likely to come again:
// in code that is edited, text that is quoted, tables. Costs a few look-ups a token and needs no
// model. (The method is known as prompt lookup or n-gram speculation.)
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/token_id.h"

namespace hadal {

class PromptLookup {
 public:
  /// Tokens that must have stood before for a guess.
  static constexpr int64_t kLeastMatch = 3;

  struct Guess {
    std::vector<TokenId> tokens;
    int64_t match =
        0;  ///< so many of the last tokens stood before the guess, counted to kMostMatch
  };
  static constexpr int64_t kMostMatch = 32;

  /// At most `most` tokens that may follow. `tokens`: those of the call before, and further ones.
  Guess guess(std::span<const TokenId> tokens, int64_t most);

 private:
  /// Places looked at, the latest first.
  static constexpr int kPlaces = 8;

  std::unordered_map<uint64_t, int64_t> latest_;  ///< of a run of kLeastMatch tokens: its end
  std::vector<int64_t> before_;  ///< a position: where its run ended the time before; -1: nowhere
};

}  // namespace hadal
