// PageStore: where units of the prefix cache go when memory gives them up, and come from.
//
// The block manager hands in block numbers; what lies in the blocks, and where they are kept, is
// the store's affair. Called by the engine's thread, while the device is idle.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/hash.h"

namespace hadal {

/// Blocks of one unit, a plane group; empty: none of that group.
using UnitBlocks = std::vector<std::vector<int32_t>>;

class PageStore {
 public:
  virtual ~PageStore() = default;
  /// The groups (bit g) of which the store has the blocks of this unit; 0: it does not know it.
  [[nodiscard]] virtual uint64_t groups(const Digest& key) const = 0;
  /// Keeps a unit. One that it has with these groups is kept as it is.
  virtual void save(const Digest& key, const UnitBlocks& blocks) = 0;
  /// Fills the blocks of a unit, whose groups are those of groups(). false: they hold nothing of
  /// value, and the store does not know the unit any more.
  [[nodiscard]] virtual bool load(const Digest& key, const UnitBlocks& blocks) = 0;
};

}  // namespace hadal
