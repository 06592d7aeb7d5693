// Sequence: one request on its way through the engine.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "engine/request.h"

namespace hadal {

struct Sequence {
  SeqId id;
  Request request;
  std::vector<TokenId> tokens;  ///< prompt, then what was generated
  bool waiting = false;         ///< it has no place in the steps yet, and no blocks
  int64_t computed = 0;         ///< tokens whose rows are in the planes
  int64_t chunk_index = 0;      ///< which of request.chunks comes next
  int64_t chunk_left = 0;       ///< rows left of the chunk under way
  /// A plane group: block numbers by index; -1: given back, or never needed.
  std::vector<std::vector<int32_t>> blocks;
  int64_t shared_tokens =
      0;  ///< tokens that came from the prefix cache: their slots are not written
  // Of a model with a tail:
  int64_t tail_start = 0;  ///< rows from here on go through it
  int64_t tail_first = 0;  ///< positions below are not seen by it
  int64_t tail_exact = 0;  ///< a prefix up to here or further has all its rows right in it
  std::map<TokenId, std::pair<int32_t, int32_t>>
      counts;  ///< (times in prompt, in output), kept only if penalties need it

  [[nodiscard]] int64_t prompt_size() const { return static_cast<int64_t>(request.prompt.size()); }
  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  [[nodiscard]] int64_t generated() const { return size() - prompt_size(); }
  /// The first position whose logits are wanted.
  [[nodiscard]] int64_t logits_from() const {
    return request.on_logits         ? request.logits_from
           : request.on_draft_logits ? 0
                                     : prompt_size() - 1;
  }
  [[nodiscard]] bool prefilling() const { return computed < prompt_size(); }
};

}  // namespace hadal
