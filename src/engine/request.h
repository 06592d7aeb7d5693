// What a caller asks of the engine, and what it gets back token by token.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace hadal {

using TokenId = int32_t;

/// How the next token is chosen. The defaults are greedy decoding without penalties; a model's own
/// recommendation is filled in by the program (engine/recommended.h).
struct SamplingParams {
  float temperature = 0;         ///< 0: greedy
  int32_t top_k = 0;             ///< 0: off
  float top_p = 1;               ///< 1: off
  float min_p = 0;               ///< 0: off
  float repetition_penalty = 1;  ///< 1: off
  float presence_penalty = 0, frequency_penalty = 0;
  uint64_t seed = 0;

  [[nodiscard]] bool has_penalties() const {
    return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0;
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
  bool reuse_prefix =
      true;  ///< look for the prompt's beginning in the prefix cache, and leave it there
  std::vector<int64_t>
      chunks;  ///< cuts the prompt so (the last number repeats); empty: the engine chooses
  /// Called for every prompt position from logits_from on (and every generated one) with the head's
  /// fp32 logits, in order of position.
  std::function<void(int64_t position, std::span<const float> logits)> on_logits;
  int64_t logits_from = 0;  ///< a position of the prompt
  /// With RunnerOptions::draft: the draft's logits at a position, which predict the token two on.
  /// Every position with a known next token, in order.
  std::function<void(int64_t position, std::span<const float> logits)> on_draft_logits;
};

enum class FinishReason {
  kNone,     ///< goes on
  kEnding,   ///< an ending token was generated
  kLength,   ///< max_new_tokens reached
  kContext,  ///< the context is full
};

/// One generated token, or the end of a request that generates none.
struct TokenEvent {
  SeqId seq;
  TokenId token = -1;  ///< -1: only the finish is told
  float logprob = 0;
  FinishReason finish = FinishReason::kNone;
};

}  // namespace hadal
