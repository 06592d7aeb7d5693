#include "engine/block_manager.h"

#include <algorithm>
#include <limits>

#include "base/result.h"

namespace hadal {
namespace {

std::vector<BlockPool> pools_of(const ModelSpec& spec, const std::vector<int64_t>& capacity) {
  std::vector<BlockPool> pools;
  for (size_t g = 0; g < spec.groups.size(); ++g) {
    const PlaneGroup& group = spec.groups[g];
    pools.emplace_back(group, capacity[g]);
    HADAL_CHECK(spec.reuse_unit % pools.back().block_tokens == 0);
    // Else a unit of a tail could hold rows that never ran and serve a boundary that needs them.
    HADAL_CHECK(!group.tail || group.keep_at_boundary <= spec.reuse_unit);
  }
  return pools;
}

/// What a prefix depends on beside its tokens.
const std::string& key_of(const Sequence& seq) { return seq.prefix_key; }

}  // namespace

std::vector<int64_t> blocks_of_groups(const ModelSpec& spec, int64_t context, int64_t sequences,
                                      int64_t rows, int64_t cache_tokens) {
  std::vector<int64_t> out;
  for (const PlaneGroup& group : spec.groups) {
    const int64_t block_tokens = group.block_slots * group.ratio;
    const auto blocks = [&](int64_t tokens) { return (tokens + block_tokens - 1) / block_tokens; };
    const int64_t all = blocks(context) * sequences;
    const int64_t tokens = cache_tokens > 0 ? cache_tokens : all * block_tokens;
    if (group.keep == 0) {
      out.push_back(std::min(all, blocks(tokens)));
      continue;
    }
    // What the last unit needs as a boundary stays, too.
    const int64_t kept = std::max(
        group.keep, group.keep_at_boundary > 0 ? spec.reuse_unit - 1 + group.keep_at_boundary : 0);
    // Two more: a sequence's first and last block are in use in part.
    const int64_t running = sequences * (blocks(kept + rows) + 2);
    const int64_t boundaries = tokens / kCacheBoundary + 2 * sequences;
    out.push_back(std::min(
        {all, blocks(tokens) + sequences, running + boundaries * blocks(group.keep_at_boundary)}));
  }
  return out;
}

BlockManager::BlockManager(const ModelSpec& spec, const std::vector<int64_t>& capacity)
    : reuse_unit_(spec.reuse_unit),
      tail_halo_(spec.tail_halo),
      tail_exact_(spec.tail_exact),
      trims_(std::any_of(spec.groups.begin(), spec.groups.end(),
                         [](const PlaneGroup& g) { return g.keep > 0; })),
      tree_(pools_of(spec, capacity)) {}

bool BlockManager::has_room(int64_t tokens) const {
  for (size_t g = 0; g < tree_.pools().size(); ++g) {
    const BlockPool& pool = tree_.pools()[g];
    if (pool.keep == 0 && tree_.available(g) < pool.blocks_for(tokens)) return false;
  }
  return true;
}

int64_t BlockManager::longest() const {
  int64_t tokens = std::numeric_limits<int64_t>::max();
  for (const BlockPool& pool : tree_.pools())
    if (pool.keep == 0) tokens = std::min(tokens, pool.capacity() * pool.block_tokens);
  return tokens;
}

// The first wanted row must be right, and those before b, the last multiple of the unit in the
// prompt, so that the tail can be reused there. A shorter halo than exactness needs counts from the
// first wanted row alone. A preempted sequence starts where it did, so that its bits are the same.
int64_t BlockManager::tail_start(const Sequence& seq) const {
  const int64_t unit = seq.prompt_size() / reuse_unit_ * reuse_unit_, row = seq.logits_from() + 1;
  return std::max<int64_t>(0, (tail_exact_ ? std::min(unit, row) : row) - tail_halo_);
}

/// Whether all groups have what they need to go on behind so many units; tail: those of the tail.
bool BlockManager::usable(const Path& path, size_t units, bool tail) const {
  for (size_t g = 0; g < tree_.pools().size(); ++g) {
    const BlockPool& pool = tree_.pools()[g];
    if (pool.tail != tail) continue;
    const int64_t needed =
        pool.keep > 0 ? pool.keep_at_boundary : static_cast<int64_t>(units) * reuse_unit_;
    for (size_t u = units; u > 0 && static_cast<int64_t>(units - u) * reuse_unit_ < needed; --u)
      if (path[u - 1]->blocks[g].empty()) return false;
  }
  return true;
}

void BlockManager::use_store(PageStore& store) {
  store_ = &store;
  tree_.before_eviction = [this](CachedUnit& unit) {
    store_->save(PrefixTree::digest_of(unit), unit.blocks);
  };
}

void BlockManager::save_all() {
  if (!store_) return;
  tree_.each_unit(
      [&](CachedUnit& unit) { store_->save(PrefixTree::digest_of(unit), unit.blocks); });
}

/// The unit of these tokens with what the store has of it; null if neither tree nor store know it,
/// or memory is short. What the tree holds of it is held once more and noted in `held`.
CachedUnit* BlockManager::restore_unit(CachedUnit* parent, const std::string& key,
                                       const Digest& digest, std::span<const TokenId> tokens,
                                       std::vector<std::pair<size_t, int32_t>>& held) {
  CachedUnit* unit = parent ? tree_.find(*parent, tokens) : nullptr;
  const size_t groups = tree_.pools().size(), before = held.size();
  for (size_t g = 0; unit && g < groups; ++g)
    for (const int32_t block : unit->blocks[g]) {
      tree_.hold(g, block);
      held.emplace_back(g, block);
    }
  const uint64_t stored = store_->groups(digest);
  UnitBlocks fresh(groups);
  bool wanted = false, room = true;
  for (size_t g = 0; g < groups; ++g) {
    if ((stored >> g & 1) == 0 || (unit && !unit->blocks[g].empty())) continue;
    wanted = true;
    for (int64_t i = 0; room && i < blocks_of_unit(tree_.pools()[g]); ++i) {
      const int32_t block = tree_.take(g);
      room = block >= 0;
      if (room) fresh[g].push_back(block);
    }
  }
  if (wanted && room && store_->load(digest, fresh)) {
    if (!unit) unit = &tree_.find_or_add(parent ? *parent : tree_.root(key), tokens);
    for (size_t g = 0; g < groups; ++g) {
      if (!fresh[g].empty()) tree_.store(*unit, g, fresh[g]);
      for (const int32_t block : fresh[g]) held.emplace_back(g, block);
    }
  } else {
    for (size_t g = 0; g < groups; ++g)
      for (const int32_t block : fresh[g]) tree_.drop(g, block);
  }
  // A unit that nobody holds could be given up while the next one is looked for.
  return held.size() > before ? unit : nullptr;
}

/// Brings what the store has of the sequence's prefix into the tree.
void BlockManager::restore(const Sequence& seq) {
  if (!store_ || !seq.request.reuse_prefix) return;
  const std::string& key = key_of(seq);
  CachedUnit* unit = tree_.find_root(key);
  Digest digest = PrefixTree::digest_of_root(key);
  std::vector<std::pair<size_t, int32_t>> held;
  for (int64_t at = 0; at + reuse_unit_ < seq.size(); at += reuse_unit_) {
    const auto tokens =
        std::span(seq.tokens).subspan(static_cast<size_t>(at), static_cast<size_t>(reuse_unit_));
    digest = PrefixTree::digest_behind(digest, tokens);
    unit = restore_unit(unit, key, digest, tokens, held);
    if (!unit) break;
  }
  for (; !held.empty(); held.pop_back()) tree_.drop(held.back().first, held.back().second);
}

void BlockManager::attach_prefix(Sequence& seq) {
  restore(seq);
  seq.blocks.assign(tree_.pools().size(), {});
  Path path;
  CachedUnit* unit = tree_.find_root(key_of(seq));
  while (unit && seq.request.reuse_prefix &&
         static_cast<int64_t>(path.size() + 1) * reuse_unit_ < seq.size()) {
    unit = tree_.find(*unit, std::span(seq.tokens)
                                 .subspan(path.size() * static_cast<size_t>(reuse_unit_),
                                          static_cast<size_t>(reuse_unit_)));
    if (!unit) break;
    path.push_back(unit);
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
  seq.tail_right_from =
      goes_on || seq.tail_start == 0 ? seq.shared_tokens : seq.tail_start + tail_halo_;
  for (size_t u = 0; u < units; ++u) {
    const int64_t behind = static_cast<int64_t>(units - u - 1) * reuse_unit_;
    for (size_t g = 0; g < tree_.pools().size(); ++g) {
      const BlockPool& pool = tree_.pools()[g];
      const auto& blocks = path[u]->blocks[g];
      const bool wanted = !blocks.empty() && (pool.keep == 0 || behind < pool.keep_at_boundary) &&
                          (!pool.tail || goes_on);
      for (size_t i = 0; i < static_cast<size_t>(blocks_of_unit(pool)); ++i) {
        if (wanted) tree_.hold(g, blocks[i]);
        seq.blocks[g].push_back(wanted ? blocks[i] : -1);
      }
    }
  }
}

bool BlockManager::fork(const Sequence& from, Sequence& to, std::vector<BlockCopy>& copies) {
  const int64_t end = from.prompt_size() - 1;  // `to` runs the last token of the prompt itself
  // A unit under way will be another one in each: nothing of it may be shared.
  const int64_t shared = end / reuse_unit_ * reuse_unit_;
  to.blocks.assign(tree_.pools().size(), {});
  for (size_t g = 0; g < tree_.pools().size(); ++g) {
    const BlockPool& pool = tree_.pools()[g];
    for (int64_t i = 0; i < pool.blocks_for(end); ++i) {
      const int32_t theirs = from.blocks[g][static_cast<size_t>(i)];
      int32_t block = theirs;
      if (theirs >= 0 && (i + 1) * pool.block_tokens > shared) {
        block = tree_.take(g);
        if (block < 0) {
          release(to);
          copies.clear();
          return false;
        }
        copies.push_back({.group = g, .from = theirs, .to = block});
      } else if (theirs >= 0) {
        tree_.hold(g, theirs);
      }
      to.blocks[g].push_back(block);
    }
  }
  to.computed = to.shared_tokens = end;
  to.tail_start = from.tail_start;
  to.tail_first = from.tail_first;
  to.tail_right_from = from.tail_right_from;
  return true;
}

bool BlockManager::reserve(Sequence& seq, int64_t end) {
  std::vector<size_t> had;
  for (const auto& blocks : seq.blocks) had.push_back(blocks.size());
  for (size_t g = 0; g < seq.blocks.size(); ++g) {
    const BlockPool& pool = tree_.pools()[g];
    auto& blocks = seq.blocks[g];
    while (static_cast<int64_t>(blocks.size()) < pool.blocks_for(end)) {
      const auto covered = static_cast<int64_t>(blocks.size() + 1) * pool.block_tokens;
      const bool skipped = pool.tail && covered <= seq.tail_start;
      const int32_t block = skipped ? -1 : tree_.take(g);
      if (block >= 0 || skipped) {
        blocks.push_back(block);
        continue;
      }
      for (size_t r = 0; r <= g; ++r)
        for (; seq.blocks[r].size() > had[r]; seq.blocks[r].pop_back())
          if (seq.blocks[r].back() >= 0) tree_.drop(r, seq.blocks[r].back());
      return false;
    }
  }
  return true;
}

/// Whether the unit that begins at `at` stays in the tree for a group.
bool BlockManager::is_kept(const Sequence& seq, const BlockPool& pool, int64_t at, int64_t last,
                           bool finished) const {
  if (pool.keep == 0) return true;
  const int64_t end = at + reuse_unit_;
  const auto serves = [&](int64_t boundary) {
    return boundary >= end && boundary - end < pool.keep_at_boundary && boundary <= last &&
           (!pool.tail || (tail_exact_ && boundary >= seq.tail_right_from));
  };
  const int64_t prompt = seq.prompt_size() / reuse_unit_ * reuse_unit_;
  // The last multiple of the unit up to each multiple of kCacheBoundary: a prefix ends nowhere
  // else, and a unit that is kept for a later place may hold rows of a tail that never ran.
  const auto boundary = [&](int64_t i) { return i * kCacheBoundary / reuse_unit_ * reuse_unit_; };
  const int64_t i = (end + kCacheBoundary - 1) / kCacheBoundary;
  const int64_t next = boundary(i) >= end ? boundary(i) : boundary(i + 1);
  return serves(next) || serves(prompt) || (finished && serves(last));
}

void BlockManager::remember_unit(Sequence& seq, CachedUnit& unit, int64_t at, int64_t last,
                                 bool finished) {
  for (size_t g = 0; g < tree_.pools().size(); ++g) {
    const BlockPool& pool = tree_.pools()[g];
    const std::span<int32_t> own = std::span(seq.blocks[g])
                                       .subspan(static_cast<size_t>(at / pool.block_tokens),
                                                static_cast<size_t>(blocks_of_unit(pool)));
    if (std::find(own.begin(), own.end(), -1) != own.end()) continue;
    if (unit.blocks[g].empty()) {
      if (is_kept(seq, pool, at, last, finished)) tree_.store(unit, g, own);
      continue;
    }
    if (pool.keep > 0) continue;
    // Another one's, of the same tokens and so of the same bits: one copy is enough, and what a
    // running sequence's leaf keeps in the tree is what it holds itself.
    for (size_t i = 0; i < own.size(); ++i) {
      const int32_t theirs = unit.blocks[g][i];
      if (own[i] == theirs) continue;
      tree_.hold(g, theirs);
      tree_.drop(g, std::exchange(own[i], theirs));
    }
  }
}

void BlockManager::remember(Sequence& seq, bool finished) {
  if (!seq.request.reuse_prefix) return;
  const int64_t last = seq.computed / reuse_unit_ * reuse_unit_;
  if (last == 0) return;
  CachedUnit* unit = &tree_.root(key_of(seq));
  for (int64_t at = 0; at < last; at += reuse_unit_) {
    unit = &tree_.find_or_add(
        *unit,
        std::span(seq.tokens).subspan(static_cast<size_t>(at), static_cast<size_t>(reuse_unit_)));
    remember_unit(seq, *unit, at, last, finished);
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
  for (size_t g = 0; g < tree_.pools().size(); ++g) {
    const BlockPool& pool = tree_.pools()[g];
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
      tree_.drop(g, block);
      block = -1;
    }
  }
}

void BlockManager::release(Sequence& seq) {
  // Unit by unit from the end: the prefix tree gives up first what was released first.
  int64_t units = 0;
  for (size_t g = 0; g < seq.blocks.size(); ++g) {
    const int64_t per_unit = blocks_of_unit(tree_.pools()[g]);
    units = std::max(units, (static_cast<int64_t>(seq.blocks[g].size()) + per_unit - 1) / per_unit);
  }
  for (int64_t u = units - 1; u >= 0; --u)
    for (size_t g = 0; g < seq.blocks.size(); ++g) {
      auto& blocks = seq.blocks[g];
      const auto first = static_cast<size_t>(u * blocks_of_unit(tree_.pools()[g]));
      for (; blocks.size() > first; blocks.pop_back())
        if (blocks.back() >= 0) tree_.drop(g, blocks.back());
    }
  seq.blocks.clear();
}

}  // namespace hadal
