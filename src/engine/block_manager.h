// Block manager and prefix cache: who holds which block of which plane group.
//
// A group that keeps only the last rows gives the blocks before them back while a sequence runs;
// in the prefix tree it has blocks at boundaries alone: every 2048 tokens, the last unit of a
// prompt and that of a finished sequence. A prefix is reused up to where all groups have what they
// need. The groups of a model's tail may be missing there if enough of the prompt follows.
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

/// Tokens between the boundaries at which groups that keep only the last rows stay in the tree.
constexpr int64_t kCacheBoundary = 2048;

class BlockManager {
 public:
  /// capacity[g]: blocks of group g that exist now.
  BlockManager(const ModelSpec& spec, std::vector<int64_t> capacity);
  ~BlockManager();

  /// Gives the sequence the longest cached prefix that leaves at least one token to run, in whole
  /// units of reuse, and settles where its tail starts.
  void attach_prefix(Sequence& seq);
  /// Makes sure that positions [0, end) of the sequence have blocks; false if a group, `short_of`,
  /// has too few even after giving up cached ones.
  bool reserve(Sequence& seq, int64_t end, size_t* short_of = nullptr);
  /// After a step that ran `rows` of the sequence: leaves in the prefix tree what is due, and gives
  /// back the blocks behind the rows that their groups keep.
  void advance(Sequence& seq, int64_t rows);
  /// Leaves the sequence's full, computed blocks in the prefix tree. finished: where it ends is a
  /// boundary, too.
  void remember(Sequence& seq, bool finished);
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
    int64_t keep = 0, keep_at_boundary = 0;  // of PlaneGroup
    bool tail = false;
    std::vector<int32_t> free;
    std::vector<int32_t> references;
  };
  int32_t take(size_t group);
  void drop(size_t group, int32_t block);
  bool evict_one();
  bool evict_boundary(size_t group);
  void trim(Sequence& seq);
  [[nodiscard]] bool usable(const std::vector<Node*>& path, size_t units, bool tail) const;
  [[nodiscard]] int64_t tail_start(const Sequence& seq) const;
  template <typename Body>
  void each_node(Body&& body) const;

  int64_t reuse_unit_;
  int64_t tail_halo_;
  bool tail_exact_;
  bool trims_ = false;  ///< a group keeps only the last rows
  std::vector<Pool> pools_;
  std::unique_ptr<Node> root_;
  uint64_t clock_ = 0;
};

}  // namespace hadal
