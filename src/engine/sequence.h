// Sequence: one request on its way through the engine.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "engine/prompt_lookup.h"
#include "engine/request.h"

namespace hadal {

/// What `sample` must know of a token beside its logit.
struct SamplingEntry {
  int32_t in_prompt = 0, in_output = 0;  ///< times, kept only if penalties need them
  float bias = 0;
};

struct Sequence {
  SeqId id;
  Request request;
  std::unique_ptr<Constraint> constraint;
  double arrival = 0;      ///< by the engine's clock
  std::string prefix_key;  ///< prefixes are shared among sequences of one key: adapter, cache_key
  SeqId leader;            ///< of several samples: the one whose prompt this one waits for
  RequestStats stats;
  std::vector<TokenId> tokens;         ///< prompt, then what was generated
  std::vector<TokenId> drafts;         ///< guesses at what follows, verified by the next step
  std::optional<PromptLookup> lookup;  ///< of Request::prompt_lookup
  /// Of each draft, how likely it is right if those before it are; empty: Request::propose made
  /// them.
  std::vector<double> draft_odds;
  int64_t draft_match = 0;   ///< of PromptLookup::Guess; 0: a draft model made the drafts
  int64_t slot = -1;         ///< its row in the block tables of a step; -1: it waits
  int64_t computed = 0;      ///< tokens whose rows are in the planes
  int64_t delivered = 0;     ///< positions below had their logits handed out
  bool draft_shown = false;  ///< request.on_draft was called
  int64_t chunk_index = 0;   ///< which of request.chunks comes next
  int64_t chunk_left = 0;    ///< rows left of the chunk under way
  /// A plane group: block numbers by index; -1: given back, or never needed.
  std::vector<std::vector<int32_t>> blocks;
  int64_t shared_tokens =
      0;  ///< tokens that came from the prefix cache: their slots are not written
  // Of a model with a tail (docs/tail.md):
  int64_t tail_start = 0;  ///< rows from here on go through it
  int64_t tail_first = 0;  ///< positions below are not seen by it
  int64_t tail_right_from =
      0;  ///< at positions from here on, the rows before are those of a whole run
  std::map<TokenId, SamplingEntry> entries;

  [[nodiscard]] int64_t prompt_size() const { return static_cast<int64_t>(request.prompt.size()); }
  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  [[nodiscard]] int64_t generated() const { return size() - prompt_size(); }
  /// Rows that the next steps must run before a token can be sampled, drafts not counted.
  [[nodiscard]] int64_t pending() const { return size() - computed; }
  /// A prompt, or what a preempted sequence lost, is under way.
  [[nodiscard]] bool prefilling() const { return pending() > 1; }
  /// Entries of a row that samples behind so many drafts, at most.
  [[nodiscard]] int64_t entries_behind(int64_t draft_count) const {
    const auto count = static_cast<int64_t>(entries.size());
    const int64_t drafted = request.sampling.has_penalties() ? draft_count : 0;
    return count + drafted + static_cast<int64_t>(request.bad_words.size());
  }
  /// The first position whose logits were asked for.
  [[nodiscard]] int64_t logits_from() const {
    return request.on_logits                             ? request.logits_from
           : request.on_draft_logits || request.on_draft ? 0
                                                         : prompt_size() - 1;
  }
  /// The first position whose logits are still wanted.
  [[nodiscard]] int64_t next_logits() const { return std::max(logits_from(), delivered); }
  /// The token at a position, a draft behind the last one that is known.
  [[nodiscard]] TokenId token_at(int64_t position) const {
    return position < size() ? tokens[static_cast<size_t>(position)]
                             : drafts[static_cast<size_t>(position - size())];
  }
};

}  // namespace hadal
