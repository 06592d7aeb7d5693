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
  std::vector<TokenId> tokens;               ///< prompt, then what was generated
  int64_t computed = 0;                      ///< tokens whose rows are in the planes
  int64_t chunk_index = 0;                   ///< which of request.chunks comes next
  int64_t chunk_left = 0;                    ///< rows left of the chunk under way
  std::vector<std::vector<int32_t>> blocks;  ///< a plane group: block numbers by index
  int64_t shared_tokens =
      0;  ///< tokens that came from the prefix cache: their slots are not written
  std::map<TokenId, std::pair<int32_t, int32_t>>
      counts;  ///< (times in prompt, in output), kept only if penalties need it

  [[nodiscard]] int64_t prompt_size() const { return static_cast<int64_t>(request.prompt.size()); }
  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  [[nodiscard]] int64_t generated() const { return size() - prompt_size(); }
  [[nodiscard]] bool prefilling() const { return computed < prompt_size(); }
};

}  // namespace hadal
