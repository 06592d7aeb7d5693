// PrefixTree: computed prefixes that later requests may reuse, and what is given up when blocks run
// out.
//
// A node is one unit of reuse: its tokens lead to it from its parent and are compared one by one on
// a hit, so that no collision of hashes can hand out somebody else's cache. It holds one reference
// to each of its blocks. Units that no sequence holds (idle ones) stand in a list, the longest idle
// first, so that giving one up costs the same whatever the tree's size. The first is always a leaf:
// a sequence that holds a unit holds all above it, too, and releases the deepest first, so a unit
// never becomes idle before those below it.
//
// A group that keeps only the last rows has blocks in few units (at boundaries) and gives up those
// alone, from a list of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "engine/block_pool.h"
#include "engine/request.h"

namespace hadal {

/// Orders runs of tokens; lets a map of vectors be searched by a span.
struct TokensLess {
  using is_transparent = void;
  bool operator()(std::span<const TokenId> a, std::span<const TokenId> b) const {
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
  }
};

struct CachedUnit {
  using Children = std::map<std::vector<TokenId>, std::unique_ptr<CachedUnit>, TokensLess>;
  using Place = std::list<CachedUnit*>::iterator;

  CachedUnit* parent = nullptr;
  const std::string* key = nullptr;  ///< of a root
  std::optional<Digest> digest;      ///< of the key and all tokens up to its end, once it is asked
  Children::iterator self;           ///< its place among the parent's children
  Children children;
  std::vector<std::vector<int32_t>> blocks;  ///< a group; empty: none here
  std::vector<int64_t> held;  ///< a group: how many of its blocks a sequence holds beside the tree
  int64_t held_together = 0;  ///< of all groups
  Place idle;                 ///< in the list of idle units, while held_together is 0
  std::vector<Place> idle_blocks;  ///< a group: in its list, while held is 0 there
};

class PrefixTree {
 public:
  explicit PrefixTree(std::vector<BlockPool> pools);
  ~PrefixTree();
  PrefixTree(const PrefixTree&) = delete;
  PrefixTree& operator=(const PrefixTree&) = delete;

  [[nodiscard]] const std::vector<BlockPool>& pools() const { return pools_; }
  /// Where the prefixes of one key begin; prefixes of different keys never meet. Null while there
  /// are none.
  [[nodiscard]] CachedUnit* find_root(const std::string& key);
  /// The same, made if it is not there. It is gone with the last of its units: the caller adds one.
  CachedUnit& root(const std::string& key);
  /// The child that these tokens lead to, or null.
  [[nodiscard]] CachedUnit* find(CachedUnit& parent, std::span<const TokenId> tokens);
  CachedUnit& find_or_add(CachedUnit& parent, std::span<const TokenId> tokens);
  /// Leaves blocks that a sequence holds in a unit that has none of that group.
  void store(CachedUnit& unit, size_t group, std::span<const int32_t> blocks);

  /// A block with one reference; what nobody holds is given up for it, the oldest first. -1: every
  /// block is held.
  int32_t take(size_t group);
  /// Told before a unit gives up blocks that only the tree holds, all of them or those of a group.
  std::function<void(CachedUnit& unit)> before_eviction;
  /// Names a unit by its key and its tokens; no two have the same digest.
  static const Digest& digest_of(CachedUnit& unit);
  static Digest digest_of_root(const std::string& key);
  static Digest digest_behind(const Digest& parent, std::span<const TokenId> tokens);
  /// Gives up all units, untold: what their blocks hold is lost. Nobody may hold one.
  void forget();
  /// Every unit that has blocks.
  void each_unit(const std::function<void(CachedUnit& unit)>& body);
  /// One reference more to a block that is in use or cached.
  void hold(size_t group, int32_t block);
  void drop(size_t group, int32_t block);
  /// Blocks that take() can hand out.
  [[nodiscard]] int64_t available(size_t group) const;
  [[nodiscard]] int64_t units() const { return units_; }
  [[nodiscard]] int64_t keys() const { return static_cast<int64_t>(roots_.size()); }

 private:
  bool evict_unit();
  bool evict_blocks(size_t group);
  void mark_held(size_t group, CachedUnit& unit);
  void mark_released(size_t group, CachedUnit& unit);
  void list_unit(CachedUnit& unit);
  void unlist_unit(CachedUnit& unit);
  void free_blocks(size_t group, CachedUnit& unit);
  /// Whether the group's blocks are given up alone, not with their unit.
  [[nodiscard]] bool by_itself(size_t group) const { return pools_[group].keep > 0; }

  std::vector<BlockPool> pools_;
  std::map<std::string, std::unique_ptr<CachedUnit>, std::less<>> roots_;
  int64_t units_ = 0;
  std::list<CachedUnit*> idle_;                      // oldest first
  std::vector<std::list<CachedUnit*>> idle_blocks_;  // a group that gives up blocks by itself
  std::vector<int64_t> idle_count_;                  // a group: blocks in its list, or in idle_
};

}  // namespace hadal
