// BlockPool: the blocks of one plane group, counted.
#pragma once

#include <cstdint>
#include <vector>

#include "models/planes.h"

namespace hadal {

struct CachedUnit;

struct BlockPool {
  BlockPool(const PlaneGroup& group, int64_t capacity)
      : block_tokens(group.block_slots * group.ratio),
        keep(group.keep),
        keep_at_boundary(group.keep_at_boundary),
        tail(group.tail),
        references(static_cast<size_t>(capacity), 0),
        owner(static_cast<size_t>(capacity), nullptr) {
    // Lowest numbers are handed out first.
    for (int64_t b = capacity - 1; b >= 0; --b) free.push_back(static_cast<int32_t>(b));
  }
  [[nodiscard]] int64_t capacity() const { return static_cast<int64_t>(references.size()); }
  [[nodiscard]] int64_t blocks_for(int64_t tokens) const {
    return (tokens + block_tokens - 1) / block_tokens;
  }

  int64_t block_tokens = 0;
  int64_t keep = 0, keep_at_boundary = 0;  ///< of PlaneGroup
  bool tail = false;
  std::vector<int32_t> free;
  std::vector<int32_t> references;  ///< a block: sequences that hold it, and the prefix tree
  std::vector<CachedUnit*> owner;   ///< a block: where the prefix tree has it
};

}  // namespace hadal
