#include "engine/block_manager.h"

#include <algorithm>

#include "base/result.h"

namespace hadal {

/// One unit of reuse in the prefix tree: its tokens lead here from the parent, its blocks are held
/// by one reference each.
struct BlockManager::Node {
  Node* parent = nullptr;
  std::vector<std::vector<int32_t>> blocks;  // a group
  std::map<std::vector<TokenId>, std::unique_ptr<Node>> children;
  uint64_t used = 0;
};

BlockManager::BlockManager(const ModelSpec& spec, std::vector<int64_t> capacity)
    : reuse_unit_(spec.reuse_unit), root_(new Node) {
  for (size_t g = 0; g < spec.groups.size(); ++g) {
    Pool pool;
    pool.block_tokens = spec.groups[g].block_slots * spec.groups[g].ratio;
    HADAL_CHECK(reuse_unit_ % pool.block_tokens == 0 || pool.block_tokens % reuse_unit_ == 0);
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
    if (!evict_one()) return -1;
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

bool BlockManager::evict_one() {
  // The oldest leaf whose blocks nobody but the tree holds.
  Node* oldest = nullptr;
  std::vector<Node*> pending = {root_.get()};
  while (!pending.empty()) {
    Node* node = pending.back();
    pending.pop_back();
    for (auto& [tokens, child] : node->children) pending.push_back(child.get());
    if (node == root_.get() || !node->children.empty()) continue;
    bool held = false;
    for (size_t g = 0; g < pools_.size(); ++g)
      for (const int32_t b : node->blocks[g])
        held = held || pools_[g].references[static_cast<size_t>(b)] > 1;
    if (!held && (!oldest || node->used < oldest->used)) oldest = node;
  }
  if (!oldest) return false;
  for (size_t g = 0; g < pools_.size(); ++g)
    for (const int32_t b : oldest->blocks[g]) drop(g, b);
  auto& siblings = oldest->parent->children;
  siblings.erase(std::find_if(siblings.begin(), siblings.end(),
                              [&](const auto& entry) { return entry.second.get() == oldest; }));
  return true;
}

void BlockManager::attach_prefix(Sequence& seq) {
  seq.blocks.assign(pools_.size(), {});
  if (!seq.request.reuse_prefix) return;
  Node* node = root_.get();
  while (seq.shared_tokens + reuse_unit_ < seq.prompt_size()) {
    const auto begin = seq.tokens.begin() + seq.shared_tokens;
    const auto found = node->children.find(std::vector<TokenId>(begin, begin + reuse_unit_));
    if (found == node->children.end()) break;
    node = found->second.get();
    node->used = ++clock_;
    for (size_t g = 0; g < pools_.size(); ++g)
      for (const int32_t b : node->blocks[g]) {
        ++pools_[g].references[static_cast<size_t>(b)];
        seq.blocks[g].push_back(b);
      }
    seq.shared_tokens += reuse_unit_;
  }
  seq.computed = seq.shared_tokens;
}

bool BlockManager::reserve(Sequence& seq, int64_t end) {
  for (size_t g = 0; g < pools_.size(); ++g) {
    const auto wanted = static_cast<size_t>(blocks_for(g, end));
    while (seq.blocks[g].size() < wanted) {
      const int32_t block = take(g);
      if (block < 0)
        return false;  // what was taken stays with the sequence and is released with it
      seq.blocks[g].push_back(block);
    }
  }
  return true;
}

void BlockManager::remember(const Sequence& seq) {
  if (!seq.request.reuse_prefix) return;
  Node* node = root_.get();
  for (int64_t at = 0; at + reuse_unit_ <= seq.computed; at += reuse_unit_) {
    const auto begin = seq.tokens.begin() + at;
    std::vector<TokenId> unit(begin, begin + reuse_unit_);
    auto found = node->children.find(unit);
    if (found == node->children.end()) {
      auto child = std::make_unique<Node>();
      child->parent = node;
      child->blocks.resize(pools_.size());
      for (size_t g = 0; g < pools_.size(); ++g) {
        const int64_t per_unit = reuse_unit_ / pools_[g].block_tokens;
        for (int64_t i = 0; i < per_unit; ++i) {
          const int32_t b = seq.blocks[g][static_cast<size_t>(at / pools_[g].block_tokens + i)];
          ++pools_[g].references[static_cast<size_t>(b)];
          child->blocks[g].push_back(b);
        }
      }
      found = node->children.emplace(std::move(unit), std::move(child)).first;
    }
    node = found->second.get();
    node->used = ++clock_;
  }
}

void BlockManager::release(Sequence& seq) {
  for (size_t g = 0; g < seq.blocks.size(); ++g)
    for (const int32_t b : seq.blocks[g]) drop(g, b);
  seq.blocks.clear();
}

}  // namespace hadal
