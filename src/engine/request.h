// What a caller asks of the engine, and what it gets back token by token.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/result.h"
#include "base/token_id.h"

namespace hadal {

/// The most tokens with their log-probabilities that a request may ask for beside the sampled one.
constexpr int64_t kMaxTopLogprobs = limit("top_logprobs").most;
/// Runs of tokens that a request may forbid: a word has one with a blank before it and one without.
constexpr int64_t kMostBadWords = 2 * limit("bad_words").most;

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

/// What may come next in one answer, such as a grammar's state. Used by the engine's thread alone.
class Constraint {
 public:
  virtual ~Constraint() = default;
  /// The answer goes on with this token.
  virtual void accept(TokenId token) = 0;
  /// Clears the bits of the tokens that may not follow all accepted ones and then `drafts`: token t
  /// is bit t mod 32 of word t div 32, all are set before. false: anything may follow, and no bit
  /// was touched.
  virtual bool restrict(std::span<const TokenId> drafts, std::span<uint32_t> allowed) = 0;
};

/// A drafted token, as it was chosen.
struct DraftRow {
  std::span<const float> logits;
  std::span<const float> base;  ///< of DSpark: without what the token before adds
  float confidence = 1;         ///< of DSpark: that it is right if those before it are
};

struct Request {
  std::vector<TokenId> prompt;  ///< at least one id, each inside the vocabulary
  SamplingParams sampling;
  int32_t adapter = -1;         ///< of ModelRunner::adapters, -1: none
  int64_t max_new_tokens = 0;   ///< 0: only the prompt is run
  std::vector<TokenId> ending;  ///< generation stops after one of these
  int64_t top_logprobs = 0;     ///< so many of the most likely tokens come with each event
  std::vector<std::pair<TokenId, float>> logit_bias;  ///< added to logits before anything else
  std::vector<std::vector<TokenId>> bad_words;        ///< runs of tokens that never come
  /// Makes the state of what may come next, one for each sample; none: anything.
  std::function<std::unique_ptr<Constraint>()> constraint;

  int32_t priority = 0;            ///< smaller ones run first and may take the place of larger ones
  std::optional<double> deadline;  ///< by the engine's clock, in seconds; then the request ends
  bool reuse_prefix =
      true;  ///< look for the prompt's beginning in the prefix cache, and leave it there
  /// Prefixes are shared among requests of one key: an API key, a salt.
  std::string cache_key;
  /// Guesses what follows from what followed the same tokens earlier in the sequence, where that
  /// pays. The answer is the same without it.
  bool prompt_lookup = false;

  std::vector<int64_t>
      chunks;  ///< cuts the prompt so (the last number repeats); empty: the engine chooses
  /// Called for every prompt position from logits_from on (and every generated one) with the head's
  /// fp32 logits, in order of position. Positions of a prefix that the cache has are left out.
  std::function<void(int64_t position, std::span<const float> logits)> on_logits;
  int64_t logits_from = 0;  ///< a position of the prompt
  /// With RunnerOptions::draft: the draft's logits at a position, which predict the token two on.
  /// Every position with a known next token, in order.
  std::function<void(int64_t position, std::span<const float> logits)> on_draft_logits;
  /// With RunnerOptions::draft: called for each of draft_tokens drafts behind the prompt, in order.
  std::function<void(const DraftRow& row)> on_draft;
  int64_t draft_tokens = 0;
  /// Guesses what follows `tokens`, at most `most` tokens. They are verified in one step whether it
  /// pays or not; those up to the first wrong one are kept. The answer is the same without them.
  std::function<std::vector<TokenId>(std::span<const TokenId> tokens, int64_t most)> propose;
};

enum class FinishReason {
  kNone,      ///< goes on
  kEnding,    ///< an ending token was generated
  kLength,    ///< max_new_tokens reached
  kContext,   ///< the context, or the cache, is full
  kDeadline,  ///< Request::deadline has passed
  kError,     ///< TokenEvent::error says why
};

struct TokenLogprob {
  TokenId token = -1;
  float logprob = 0;
};

/// How a request was served.
struct RequestStats {
  int64_t cached_tokens = 0;    ///< of the prompt: taken from the prefix cache
  int64_t drafted_tokens = 0;   ///< guesses that were verified
  int64_t accepted_tokens = 0;  ///< of those: right
  int64_t preemptions = 0;      ///< how often it lost its place
};

/// One generated token, or the end of a request.
struct TokenEvent {
  SeqId seq;
  TokenId token = -1;  ///< -1: only the finish is told
  float logprob = 0;
  std::vector<TokenLogprob> top;  ///< Request::top_logprobs of them, most likely first
  FinishReason finish = FinishReason::kNone;
  RequestStats stats;  ///< so far
  std::optional<Error> error;
  /// A device failed or is away, not what was asked: asked again, it may succeed.
  bool machine = false;
};

}  // namespace hadal
