#include "engine/prefix_tree.h"

#include <algorithm>

#include "base/result.h"

namespace hadal {

PrefixTree::PrefixTree(std::vector<BlockPool> pools)
    : pools_(std::move(pools)), idle_blocks_(pools_.size()), idle_count_(pools_.size(), 0) {}

PrefixTree::~PrefixTree() {
  // Chains are as long as contexts: take the tree apart without recursion.
  std::vector<std::unique_ptr<CachedUnit>> pending;
  for (auto& [key, root] : roots_) pending.push_back(std::move(root));
  while (!pending.empty()) {
    const std::unique_ptr<CachedUnit> unit = std::move(pending.back());
    pending.pop_back();
    for (auto& [tokens, child] : unit->children) pending.push_back(std::move(child));
  }
}

CachedUnit* PrefixTree::find_root(const std::string& key) {
  const auto found = roots_.find(key);
  return found == roots_.end() ? nullptr : found->second.get();
}

CachedUnit& PrefixTree::root(const std::string& key) {
  const auto [place, fresh] = roots_.try_emplace(key);
  if (fresh) {
    place->second = std::make_unique<CachedUnit>();
    place->second->key = &place->first;
  }
  return *place->second;
}

CachedUnit* PrefixTree::find(CachedUnit& parent, std::span<const TokenId> tokens) {
  const auto found = parent.children.find(tokens);
  return found == parent.children.end() ? nullptr : found->second.get();
}

CachedUnit& PrefixTree::find_or_add(CachedUnit& parent, std::span<const TokenId> tokens) {
  if (CachedUnit* unit = find(parent, tokens)) return *unit;
  auto fresh = std::make_unique<CachedUnit>();
  CachedUnit& unit = *fresh;
  unit.parent = &parent;
  unit.blocks.resize(pools_.size());
  unit.held.resize(pools_.size(), 0);
  unit.idle_blocks.resize(pools_.size());
  unit.self =
      parent.children.emplace(std::vector<TokenId>(tokens.begin(), tokens.end()), std::move(fresh))
          .first;
  list_unit(unit);
  ++units_;
  return unit;
}

void PrefixTree::list_unit(CachedUnit& unit) {
  unit.idle = idle_.insert(idle_.end(), &unit);
  for (size_t g = 0; g < pools_.size(); ++g)
    if (!by_itself(g)) idle_count_[g] += static_cast<int64_t>(unit.blocks[g].size());
}

void PrefixTree::unlist_unit(CachedUnit& unit) {
  idle_.erase(unit.idle);
  for (size_t g = 0; g < pools_.size(); ++g)
    if (!by_itself(g)) idle_count_[g] -= static_cast<int64_t>(unit.blocks[g].size());
}

void PrefixTree::mark_held(size_t group, CachedUnit& unit) {
  if (unit.held_together++ == 0) unlist_unit(unit);
  if (unit.held[group]++ == 0 && by_itself(group) && !unit.blocks[group].empty()) {
    idle_blocks_[group].erase(unit.idle_blocks[group]);
    idle_count_[group] -= static_cast<int64_t>(unit.blocks[group].size());
  }
}

void PrefixTree::mark_released(size_t group, CachedUnit& unit) {
  if (--unit.held[group] == 0 && by_itself(group)) {
    unit.idle_blocks[group] = idle_blocks_[group].insert(idle_blocks_[group].end(), &unit);
    idle_count_[group] += static_cast<int64_t>(unit.blocks[group].size());
  }
  if (--unit.held_together == 0) list_unit(unit);
}

void PrefixTree::store(CachedUnit& unit, size_t group, std::span<const int32_t> blocks) {
  HADAL_CHECK(unit.blocks[group].empty());
  BlockPool& pool = pools_[group];
  for (const int32_t block : blocks) {
    const auto b = static_cast<size_t>(block);
    HADAL_CHECK(pool.references[b] > 0 && !pool.owner[b]);
    ++pool.references[b];
    pool.owner[b] = &unit;
    mark_held(group, unit);
  }
  unit.blocks[group].assign(blocks.begin(), blocks.end());
}

void PrefixTree::hold(size_t group, int32_t block) {
  BlockPool& pool = pools_[group];
  const auto b = static_cast<size_t>(block);
  if (++pool.references[b] == 2 && pool.owner[b]) mark_held(group, *pool.owner[b]);
}

void PrefixTree::drop(size_t group, int32_t block) {
  BlockPool& pool = pools_[group];
  const auto b = static_cast<size_t>(block);
  HADAL_CHECK(pool.references[b] > 0);
  if (--pool.references[b] == 0) {
    pool.owner[b] = nullptr;
    pool.free.push_back(block);
  } else if (pool.references[b] == 1 && pool.owner[b]) {
    mark_released(group, *pool.owner[b]);
  }
}

int32_t PrefixTree::take(size_t group) {
  BlockPool& pool = pools_[group];
  while (pool.free.empty())
    if (!(by_itself(group) ? evict_blocks(group) : evict_unit())) return -1;
  const int32_t block = pool.free.back();
  pool.free.pop_back();
  pool.references[static_cast<size_t>(block)] = 1;
  return block;
}

int64_t PrefixTree::available(size_t group) const {
  return static_cast<int64_t>(pools_[group].free.size()) + idle_count_[group];
}

void PrefixTree::free_blocks(size_t group, CachedUnit& unit) {
  for (const int32_t block : unit.blocks[group]) drop(group, block);
  unit.blocks[group].clear();
}

Digest PrefixTree::digest_of_root(const std::string& key) { return Sha256().add(key).finish(); }

Digest PrefixTree::digest_behind(const Digest& parent, std::span<const TokenId> tokens) {
  return Sha256().add(parent).add(std::as_bytes(tokens)).finish();
}

const Digest& PrefixTree::digest_of(CachedUnit& unit) {
  // Chains are as long as contexts: no recursion.
  std::vector<CachedUnit*> chain;
  for (CachedUnit* at = &unit; !at->digest; at = at->parent) {
    chain.push_back(at);
    if (!at->parent) break;
  }
  for (; !chain.empty(); chain.pop_back()) {
    CachedUnit& at = *chain.back();
    at.digest =
        at.key ? digest_of_root(*at.key) : digest_behind(*at.parent->digest, at.self->first);
  }
  return *unit.digest;
}

void PrefixTree::each_unit(const std::function<void(CachedUnit& unit)>& body) {
  std::vector<CachedUnit*> pending;
  for (auto& [key, root] : roots_) pending.push_back(root.get());
  while (!pending.empty()) {
    CachedUnit* unit = pending.back();
    pending.pop_back();
    for (auto& [tokens, child] : unit->children) pending.push_back(child.get());
    if (!unit->key) body(*unit);
  }
}

void PrefixTree::forget() {
  const auto told = std::exchange(before_eviction, nullptr);
  while (evict_unit()) {
  }
  before_eviction = told;
  HADAL_CHECK(units_ == 0);
}

bool PrefixTree::evict_unit() {
  if (idle_.empty()) return false;
  CachedUnit& oldest = *idle_.front();
  if (before_eviction) before_eviction(oldest);
  HADAL_CHECK(oldest.children.empty());
  unlist_unit(oldest);
  for (size_t g = 0; g < pools_.size(); ++g) {
    if (by_itself(g) && !oldest.blocks[g].empty()) {
      idle_blocks_[g].erase(oldest.idle_blocks[g]);
      idle_count_[g] -= static_cast<int64_t>(oldest.blocks[g].size());
    }
    free_blocks(g, oldest);
  }
  --units_;
  CachedUnit& parent = *oldest.parent;
  parent.children.erase(oldest.self);
  if (parent.key && parent.children.empty()) roots_.erase(roots_.find(*parent.key));
  return true;
}

bool PrefixTree::evict_blocks(size_t group) {
  if (idle_blocks_[group].empty()) return false;
  CachedUnit& oldest = *idle_blocks_[group].front();
  if (before_eviction) before_eviction(oldest);
  idle_blocks_[group].pop_front();
  idle_count_[group] -= static_cast<int64_t>(oldest.blocks[group].size());
  free_blocks(group, oldest);
  return true;
}

}  // namespace hadal
