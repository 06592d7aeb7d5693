// Planes: what the caches of a model are, as the engine sees them. Block manager, prefix cache and
// the memory estimate work on this list and never learn what attention does with it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace hadal {

/// Planes that are paged alike: one block table a sequence. All paging is by absolute position.
struct PlaneGroup {
  std::string name;
  int64_t ratio = 1;             ///< positions a slot
  int64_t block_slots = 64;      ///< slots a block
  int64_t keep = 0;              ///< rows kept before a step's first; 0: all
  int64_t keep_at_boundary = 0;  ///< rows before a position that a prefix needs to be reused there
  bool tail = false;             ///< written by the model's tail alone
};

/// One cache: [blocks, slots, width] for each of its layers.
struct Plane {
  std::string name;
  size_t group = 0;
  int64_t layers = 0;
  int64_t width = 0;           ///< numbers a slot and layer
  bool follows_option = true;  ///< dtype is the user's --kv-cache-dtype; else fp32
};

}  // namespace hadal
