// BlockManager: who holds which block of which plane group, and which prefix a sequence reuses.
//
// A group that keeps only the last rows gives the blocks before them back while a sequence runs;
// in the prefix tree it has blocks at boundaries alone: every 2048 tokens, the last unit of a
// prompt and that of a finished sequence. A prefix is reused up to where all groups have what they
// need, among requests of one adapter and one key. The groups of a model's tail may be missing
// there if enough of the prompt follows (docs/tail.md). Knows nothing of what a plane contains.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/page_store.h"
#include "engine/prefix_tree.h"
#include "engine/sequence.h"
#include "models/spec.h"

namespace hadal {

/// Tokens between the boundaries at which groups that keep only the last rows stay in the tree;
/// each is the last multiple of the unit of reuse up to there.
constexpr int64_t kCacheBoundary = 2048;

/// Blocks of each group that sequences of `context` tokens need, so many of them at once, in steps
/// of `rows`. cache_tokens: tokens of all of them together, 0 for the whole context of each.
std::vector<int64_t> blocks_of_groups(const ModelSpec& spec, int64_t context, int64_t sequences,
                                      int64_t rows, int64_t cache_tokens);

/// A block whose contents a sequence needs for itself.
struct BlockCopy {
  size_t group = 0;
  int32_t from = 0, to = 0;
};

class BlockManager {
 public:
  /// capacity[g]: blocks of group g.
  BlockManager(const ModelSpec& spec, const std::vector<int64_t>& capacity);

  /// Units that memory gives up go to the store, and come back from there. It must outlive the
  /// manager.
  void use_store(PageStore& store);
  /// Hands every cached unit to the store.
  void save_all();
  /// Gives the sequence the longest cached prefix that leaves at least one token to run, in whole
  /// units of reuse, and settles where its tail starts.
  void attach_prefix(Sequence& seq);
  /// Gives `to`, another sample of the same prompt, the blocks of `from`, which has computed that
  /// prompt, as far as the last token of the prompt, which `to` runs itself. Whole units of reuse
  /// are shared; of the unit under way, blocks of its own are taken and must be filled as `copies`
  /// says. false: too few blocks, and nothing has changed.
  [[nodiscard]] bool fork(const Sequence& from, Sequence& to, std::vector<BlockCopy>& copies);
  /// Makes sure that positions [0, end) of the sequence have blocks; false if a group has too few
  /// even after giving up cached ones, and then nothing has changed.
  [[nodiscard]] bool reserve(Sequence& seq, int64_t end);
  /// After a step that ran `rows` of the sequence: leaves in the prefix tree what is due, and gives
  /// back the blocks behind the rows that their groups keep.
  void advance(Sequence& seq, int64_t rows);
  /// Leaves the sequence's full, computed blocks in the prefix tree. finished: where it ends is a
  /// boundary, too.
  void remember(Sequence& seq, bool finished);
  /// Gives back everything that the sequence holds, the last blocks first.
  void release(Sequence& seq);

  /// The contents of all blocks are lost, and no sequence runs.
  void forget() { tree_.forget(); }

  /// Whether so many tokens more could have blocks now.
  [[nodiscard]] bool has_room(int64_t tokens) const;
  /// The longest sequence that the blocks hold when it is alone.
  [[nodiscard]] int64_t longest() const;
  [[nodiscard]] const PrefixTree& tree() const { return tree_; }

 private:
  using Path = std::vector<CachedUnit*>;
  void trim(Sequence& seq);
  void restore(const Sequence& seq);
  CachedUnit* restore_unit(CachedUnit* parent, const std::string& key, const Digest& digest,
                           std::span<const TokenId> tokens,
                           std::vector<std::pair<size_t, int32_t>>& held);
  void remember_unit(Sequence& seq, CachedUnit& unit, int64_t at, int64_t last, bool finished);
  [[nodiscard]] bool is_kept(const Sequence& seq, const BlockPool& pool, int64_t at, int64_t last,
                             bool finished) const;
  [[nodiscard]] bool usable(const Path& path, size_t units, bool tail) const;
  [[nodiscard]] int64_t tail_start(const Sequence& seq) const;
  [[nodiscard]] int64_t blocks_of_unit(const BlockPool& pool) const {
    return reuse_unit_ / pool.block_tokens;
  }

  int64_t reuse_unit_;
  int64_t tail_halo_;
  bool tail_exact_;
  bool trims_ = false;  ///< a group keeps only the last rows
  PageStore* store_ = nullptr;
  PrefixTree tree_;
};

}  // namespace hadal
