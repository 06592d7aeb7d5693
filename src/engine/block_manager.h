// Block manager and prefix cache: who holds which block of which plane group.
//
// Blocks are counted references. A full block of a finished or running prompt may stay in the
// prefix tree; its tokens are compared one by one on a hit, so that no collision of hashes can hand
// out somebody else's cache. When blocks run out, the least recently used leaf of the tree that
// nobody holds is given up. Knows nothing of what a plane contains.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "engine/sequence.h"
#include "models/spec.h"

namespace hadal {

class BlockManager {
 public:
  /// capacity[g]: blocks of group g that exist now.
  BlockManager(const ModelSpec& spec, std::vector<int64_t> capacity);
  ~BlockManager();

  /// Gives the sequence the longest cached prefix that leaves at least one token to run, in whole
  /// units of reuse.
  void attach_prefix(Sequence& seq);
  /// Makes sure that positions [0, end) of the sequence have blocks; false if there are too few
  /// even after giving up cached ones.
  bool reserve(Sequence& seq, int64_t end);
  /// Leaves the sequence's full, computed blocks in the prefix tree.
  void remember(const Sequence& seq);
  /// Gives back everything that the sequence holds.
  void release(Sequence& seq);

  /// More blocks exist now.
  void grow(size_t group, int64_t capacity);
  [[nodiscard]] int64_t capacity(size_t group) const { return pools_[group].capacity; }
  /// Blocks of group g that n tokens of one sequence need.
  [[nodiscard]] int64_t blocks_for(size_t group, int64_t tokens) const;

 private:
  struct Node;
  struct Pool {
    int64_t capacity = 0;
    int64_t block_tokens = 0;
    std::vector<int32_t> free;
    std::vector<int32_t> references;
  };
  int32_t take(size_t group);
  void drop(size_t group, int32_t block);
  bool evict_one();

  int64_t reuse_unit_;
  std::vector<Pool> pools_;
  std::unique_ptr<Node> root_;
  uint64_t clock_ = 0;
};

}  // namespace hadal
