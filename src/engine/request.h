// What a caller asks of the engine, and what it gets back token by token.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/token_id.h"

namespace hadal {

/// The most tokens with their log-probabilities that a request may ask for beside the sampled one.
constexpr int64_t kMaxTopLogprobs = 20;

/// How the next token is chosen. The defaults are greedy decoding without penalties; what a model's
/// makers recommend is filled in by the session (text/chat/recommended.h).
struct SamplingParams {
  float temperature = 0;         ///< 0: greedy
  int32_t top_k = 0;             ///< 0: off
  float top_p = 1;               ///< 1: off
  float min_p = 0;               ///< 0: off
  float repetition_penalty = 1;  ///< 1: off
  float presence_penalty = 0, frequency_penalty = 0;
  uint64_t seed = 0;
  uint32_t sample = 0;  ///< number of this answer among several to one prompt

  [[nodiscard]] bool has_penalties() const {
    return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0;
  }
  /// The key of the noise: sample 0 draws by the seed itself, every other one by a hash of both.
  [[nodiscard]] uint64_t key() const {
    if (sample == 0) return seed;
    // SplitMix64 (Steele, Lea, Flood 2014): the sample-th number after the seed.
    uint64_t z = seed + sample * 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
};

/// Identifies a sequence within one engine.
struct SeqId {
  int64_t value = -1;
  friend bool operator==(SeqId, SeqId) = default;
};

struct Request {
  std::vector<TokenId> prompt;  ///< at least one id, each inside the vocabulary
  SamplingParams sampling;
  int64_t max_new_tokens = 0;   ///< 0: only the prompt is run
  std::vector<TokenId> ending;  ///< generation stops after one of these
  int64_t top_logprobs = 0;     ///< so many of the most likely tokens come with each event
  bool reuse_prefix =
      true;  ///< look for the prompt's beginning in the prefix cache, and leave it there
  std::vector<int64_t>
      chunks;  ///< cuts the prompt so (the last number repeats); empty: the engine chooses
  /// Called for every prompt position from logits_from on (and every generated one) with the head's
  /// fp32 logits, in order of position. Positions of a prefix that the cache has are left out.
  std::function<void(int64_t position, std::span<const float> logits)> on_logits;
  int64_t logits_from = 0;  ///< a position of the prompt
  /// With RunnerOptions::draft: the draft's logits at a position, which predict the token two on.
  /// Every position with a known next token, in order.
  std::function<void(int64_t position, std::span<const float> logits)> on_draft_logits;
  /// Guesses what follows `tokens`, at most `most` tokens. They are verified in one step; those up
  /// to the first wrong one are kept. The answer is the same without them.
  std::function<std::vector<TokenId>(std::span<const TokenId> tokens, int64_t most)> propose;
  /// Restricts the token that follows `tokens` (guesses included): clears the bits of what may not
  /// come. Token t is bit t mod 32 of word t div 32; all are set before.
  std::function<void(std::span<const TokenId> tokens, std::span<uint32_t> allowed)> mask;
};

enum class FinishReason {
  kNone,     ///< goes on
  kEnding,   ///< an ending token was generated
  kLength,   ///< max_new_tokens reached
  kContext,  ///< the context, or the cache, is full
  kError,    ///< TokenEvent::error says why
};

struct TokenLogprob {
  TokenId token = -1;
  float logprob = 0;
};

/// One generated token, or the end of a request that generates none.
struct TokenEvent {
  SeqId seq;
  TokenId token = -1;  ///< -1: only the finish is told
  float logprob = 0;
  std::vector<TokenLogprob> top;  ///< Request::top_logprobs of them, most likely first
  FinishReason finish = FinishReason::kNone;
  std::optional<Error> error;
};

}  // namespace hadal
