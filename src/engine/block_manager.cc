#include "engine/block_manager.h"

#include <algorithm>

#include "base/result.h"

namespace hadal {

/// One unit of reuse in the prefix tree: its tokens lead here from the parent, its blocks are held
/// by one reference each. A group that has none here holds no block.
struct BlockManager::Node {
  Node* parent = nullptr;
  std::vector<std::vector<int32_t>> blocks;  // a group
  std::map<std::vector<TokenId>, std::unique_ptr<Node>> children;
  uint64_t used = 0;
};

BlockManager::BlockManager(const ModelSpec& spec, std::vector<int64_t> capacity)
    : reuse_unit_(spec.reuse_unit),
      tail_halo_(spec.tail_halo),
      tail_exact_(spec.tail_exact),
      root_(new Node) {
  for (size_t g = 0; g < spec.groups.size(); ++g) {
    const PlaneGroup& group = spec.groups[g];
    Pool pool;
    pool.block_tokens = group.block_slots * group.ratio;
    pool.keep = group.keep;
    pool.keep_at_boundary = group.keep_at_boundary;
    pool.tail = group.tail;
    trims_ = trims_ || group.keep > 0;
    HADAL_CHECK(reuse_unit_ % pool.block_tokens == 0);
    // Else a unit of a tail could hold rows that never ran and serve a boundary that needs them.
    HADAL_CHECK(!group.tail || group.keep_at_boundary <= reuse_unit_);
    pools_.push_back(std::move(pool));
    grow(g, capacity[g]);
  }
}

BlockManager::~BlockManager() {
  // Chains are as long as contexts: take the tree apart without recursion.
  std::vector<std::unique_ptr<Node>> pending;
  pending.push_back(std::move(root_));
  while (!pending.empty()) {
    std::unique_ptr<Node> node = std::move(pending.back());
    pending.pop_back();
    for (auto& [tokens, child] : node->children) pending.push_back(std::move(child));
  }
}

void BlockManager::grow(size_t group, int64_t capacity) {
  Pool& pool = pools_[group];
  pool.references.resize(static_cast<size_t>(capacity), 0);
  // Lowest numbers are handed out first.
  std::vector<int32_t> fresh;
  for (int64_t b = capacity - 1; b >= pool.capacity; --b) fresh.push_back(static_cast<int32_t>(b));
  pool.free.insert(pool.free.begin(), fresh.begin(), fresh.end());
  pool.capacity = capacity;
}

int64_t BlockManager::blocks_for(size_t group, int64_t tokens) const {
  const int64_t unit = pools_[group].block_tokens;
  return (tokens + unit - 1) / unit;
}

int32_t BlockManager::take(size_t group) {
  Pool& pool = pools_[group];
  while (pool.free.empty())
    if (!(pool.keep > 0 ? evict_boundary(group) : evict_one())) return -1;
  const int32_t block = pool.free.back();
  pool.free.pop_back();
  pool.references[static_cast<size_t>(block)] = 1;
  return block;
}

void BlockManager::drop(size_t group, int32_t block) {
  Pool& pool = pools_[group];
  int32_t& references = pool.references[static_cast<size_t>(block)];
  HADAL_CHECK(references > 0);
  if (--references == 0) pool.free.push_back(block);
}

template <typename Body>
void BlockManager::each_node(Body&& body) const {
  std::vector<Node*> pending = {root_.get()};
  while (!pending.empty()) {
    Node* node = pending.back();
    pending.pop_back();
    for (auto& [tokens, child] : node->children) pending.push_back(child.get());
    if (node != root_.get()) body(*node);
  }
}

bool BlockManager::evict_one() {
  // The oldest leaf whose blocks nobody but the tree holds.
  Node* oldest = nullptr;
  each_node([&](Node& node) {
    if (!node.children.empty()) return;
    bool held = false;
    for (size_t g = 0; g < pools_.size(); ++g)
      for (const int32_t b : node.blocks[g])
        held = held || pools_[g].references[static_cast<size_t>(b)] > 1;
    if (!held && (!oldest || node.used < oldest->used)) oldest = &node;
  });
  if (!oldest) return false;
  for (size_t g = 0; g < pools_.size(); ++g)
    for (const int32_t b : oldest->blocks[g]) drop(g, b);
  auto& siblings = oldest->parent->children;
  siblings.erase(std::find_if(siblings.begin(), siblings.end(),
                              [&](const auto& entry) { return entry.second.get() == oldest; }));
  return true;
}

bool BlockManager::evict_boundary(size_t group) {
  // What the group has at the oldest boundary that nobody but the tree holds.
  Node* oldest = nullptr;
  each_node([&](Node& node) {
    const auto& blocks = node.blocks[group];
    const bool held = std::any_of(blocks.begin(), blocks.end(), [&](int32_t b) {
      return pools_[group].references[static_cast<size_t>(b)] > 1;
    });
    if (!blocks.empty() && !held && (!oldest || node.used < oldest->used)) oldest = &node;
  });
  if (!oldest) return false;
  for (const int32_t b : oldest->blocks[group]) drop(group, b);
  oldest->blocks[group].clear();
  return true;
}

// The first wanted row must be right, and those before b, the last multiple of the unit in the
// prompt, so that the tail can be reused there. A shorter halo than exactness needs counts from the
// first wanted row alone.
int64_t BlockManager::tail_start(const Sequence& seq) const {
  const int64_t unit = seq.prompt_size() / reuse_unit_ * reuse_unit_, row = seq.logits_from() + 1;
  return std::max<int64_t>(0, (tail_exact_ ? std::min(unit, row) : row) - tail_halo_);
}

/// Whether all groups have what they need to go on behind so many units; tail: those of the tail.
bool BlockManager::usable(const std::vector<Node*>& path, size_t units, bool tail) const {
  for (size_t g = 0; g < pools_.size(); ++g) {
    const Pool& pool = pools_[g];
    if (pool.tail != tail) continue;
    const int64_t needed =
        pool.keep > 0 ? pool.keep_at_boundary : static_cast<int64_t>(units) * reuse_unit_;
    for (size_t u = units; u > 0 && static_cast<int64_t>(units - u) * reuse_unit_ < needed; --u)
      if (path[u - 1]->blocks[g].empty()) return false;
  }
  return true;
}

void BlockManager::attach_prefix(Sequence& seq) {
  seq.blocks.assign(pools_.size(), {});
  std::vector<Node*> path;
  Node* node = root_.get();
  while (seq.request.reuse_prefix &&
         static_cast<int64_t>(path.size() + 1) * reuse_unit_ < seq.prompt_size()) {
    const auto begin = seq.tokens.begin() + static_cast<int64_t>(path.size()) * reuse_unit_;
    const auto found = node->children.find(std::vector<TokenId>(begin, begin + reuse_unit_));
    if (found == node->children.end()) break;
    path.push_back(node = found->second.get());
  }
  const int64_t start = tail_start(seq);
  size_t units = path.size();
  bool goes_on = false;  // the tail, from rows that are cached
  for (; units > 0; --units) {
    const int64_t at = static_cast<int64_t>(units) * reuse_unit_;
    if (!usable(path, units, false)) continue;
    goes_on = tail_exact_ && start < at && usable(path, units, true);
    if (goes_on || tail_halo_ == 0 || start >= at) break;
  }
  seq.shared_tokens = static_cast<int64_t>(units) * reuse_unit_;
  seq.computed = seq.shared_tokens;
  seq.tail_start = goes_on ? seq.shared_tokens : std::max(start, seq.shared_tokens);
  seq.tail_first = goes_on ? 0 : seq.tail_start;
  seq.tail_exact = goes_on || seq.tail_start == 0 ? seq.shared_tokens : seq.tail_start + tail_halo_;
  for (size_t u = 0; u < units; ++u) {
    path[u]->used = ++clock_;
    for (size_t g = 0; g < pools_.size(); ++g) {
      const Pool& pool = pools_[g];
      const auto& blocks = path[u]->blocks[g];
      const int64_t behind = static_cast<int64_t>(units - u - 1) * reuse_unit_;
      const bool wanted = !blocks.empty() && (pool.keep == 0 || behind < pool.keep_at_boundary) &&
                          (!pool.tail || goes_on);
      for (size_t i = 0; i < static_cast<size_t>(reuse_unit_ / pool.block_tokens); ++i) {
        if (wanted) ++pools_[g].references[static_cast<size_t>(blocks[i])];
        seq.blocks[g].push_back(wanted ? blocks[i] : -1);
      }
    }
  }
}

bool BlockManager::reserve(Sequence& seq, int64_t end, size_t* short_of) {
  for (size_t g = 0; g < pools_.size(); ++g) {
    const auto wanted = static_cast<size_t>(blocks_for(g, end));
    while (seq.blocks[g].size() < wanted) {
      const auto covered = static_cast<int64_t>(seq.blocks[g].size() + 1) * pools_[g].block_tokens;
      const bool skipped = pools_[g].tail && covered <= seq.tail_start;
      const int32_t block = skipped ? -1 : take(g);
      if (block < 0 && !skipped) {
        if (short_of) *short_of = g;
        return false;  // what was taken stays with the sequence and is released with it
      }
      seq.blocks[g].push_back(block);
    }
  }
  return true;
}

void BlockManager::remember(Sequence& seq, bool finished) {
  if (!seq.request.reuse_prefix) return;
  const int64_t last = seq.computed / reuse_unit_ * reuse_unit_,
                prompt = seq.prompt_size() / reuse_unit_ * reuse_unit_;
  Node* node = root_.get();
  for (int64_t at = 0; at < last; at += reuse_unit_) {
    const auto begin = seq.tokens.begin() + at;
    std::vector<TokenId> unit(begin, begin + reuse_unit_);
    auto found = node->children.find(unit);
    if (found == node->children.end()) {
      auto child = std::make_unique<Node>();
      child->parent = node;
      child->blocks.resize(pools_.size());
      found = node->children.emplace(std::move(unit), std::move(child)).first;
    }
    node = found->second.get();
    node->used = ++clock_;
    for (size_t g = 0; g < pools_.size(); ++g) {
      const Pool& pool = pools_[g];
      // The boundary that this unit would serve: the first at or behind its end.
      const auto serves = [&](int64_t boundary) {
        return boundary >= at + reuse_unit_ &&
               boundary - at - reuse_unit_ < pool.keep_at_boundary && boundary <= last &&
               (!pool.tail || (tail_exact_ && boundary >= seq.tail_exact));
      };
      const int64_t next =
          (at + reuse_unit_ + kCacheBoundary - 1) / kCacheBoundary * kCacheBoundary;
      const bool kept =
          pool.keep == 0 || serves(next) || serves(prompt) || (finished && serves(last));
      const auto first = static_cast<size_t>(at / pool.block_tokens),
                 count = static_cast<size_t>(reuse_unit_ / pool.block_tokens);
      const auto from = seq.blocks[g].begin() + static_cast<int64_t>(first);
      const bool there = std::find(from, from + static_cast<int64_t>(count), -1) ==
                         from + static_cast<int64_t>(count);
      if (pool.keep == 0 && there && !node->blocks[g].empty()) {
        // Another one's, of the same tokens and so of the same bits: one copy is enough, and what a
        // running sequence's leaf keeps in the tree is what it holds itself.
        for (size_t i = 0; i < count; ++i) {
          int32_t& own = seq.blocks[g][first + i];
          const int32_t theirs = node->blocks[g][i];
          if (own == theirs) continue;
          ++pools_[g].references[static_cast<size_t>(theirs)];
          drop(g, own);
          own = theirs;
        }
        continue;
      }
      if (!kept || !there || !node->blocks[g].empty()) continue;
      for (size_t i = first; i < first + count; ++i) {
        const int32_t b = seq.blocks[g][i];
        ++pools_[g].references[static_cast<size_t>(b)];
        node->blocks[g].push_back(b);
      }
    }
  }
}

void BlockManager::advance(Sequence& seq, int64_t rows) {
  // The prompt is there for others while this one goes on; groups that give back rows must leave
  // those of a boundary when it is passed.
  const int64_t before = seq.computed - rows;
  const bool prompt_done = before < seq.prompt_size() && seq.computed >= seq.prompt_size();
  if (prompt_done || (trims_ && before / kCacheBoundary != seq.computed / kCacheBoundary))
    remember(seq, false);
  if (trims_) trim(seq);
}

void BlockManager::trim(Sequence& seq) {
  for (size_t g = 0; g < pools_.size(); ++g) {
    const Pool& pool = pools_[g];
    if (pool.keep == 0) continue;
    // Where the sequence ends, or its prompt does, its last unit is a boundary.
    int64_t needed = seq.computed - pool.keep;
    if (seq.request.reuse_prefix && pool.keep_at_boundary > 0)
      needed = std::min(needed, seq.computed / reuse_unit_ * reuse_unit_ - pool.keep_at_boundary);
    const int64_t behind = std::max<int64_t>(0, needed) / pool.block_tokens;
    for (int64_t i = std::min(behind, static_cast<int64_t>(seq.blocks[g].size())) - 1; i >= 0;
         --i) {
      int32_t& block = seq.blocks[g][static_cast<size_t>(i)];
      if (block < 0) break;  // those before it were given back already
      drop(g, block);
      block = -1;
    }
  }
}

void BlockManager::release(Sequence& seq) {
  for (size_t g = 0; g < seq.blocks.size(); ++g)
    for (const int32_t b : seq.blocks[g])
      if (b >= 0) drop(g, b);
  seq.blocks.clear();
}

}  // namespace hadal
