// The block manager against a simulation that keeps, for every slot of every block, what was
// written there: the hash of all tokens up to that position, and for a tail how many of its layers
// had all rows in view. Whatever a step would read must be there and be that of its own tokens.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>

#include "engine/block_manager.h"

namespace hadal {
namespace {

/// How a row reads a group: rows back, counted with itself.
struct Reads {
  int64_t window = 0;  ///< the last so many
  int64_t ratio = 0;   ///< or, at the end of each run of so many, `entries` runs
  int64_t entries = 0;
};

struct Slot {
  uint64_t hash = 0;
  int64_t level = 0;  ///< of a tail: layers whose row is exact; elsewhere 1
};

struct World {
  ModelSpec spec;
  std::vector<Reads> reads;
  int64_t window = 0, depth = 0;  // of the tail
  int64_t max_sequences = 3, max_rows = 96, context = 0;
};

struct Running {
  Sequence seq;
  std::vector<uint64_t> hashes;
  int64_t target = 0;  ///< tokens at which it is finished
};

World make_world(std::mt19937& random) {
  const auto pick = [&](std::initializer_list<int64_t> of) {
    return *(of.begin() + static_cast<int64_t>(random() % of.size()));
  };
  World w;
  w.window = pick({1, 5, 10, 24, 100, 128, 130, 200, 300});
  const int64_t least = pick({16, 64, 128});
  const int64_t unit = (w.window + least - 1) / least * least;  // it holds a window
  w.spec.reuse_unit = unit;
  const auto group = [&](int64_t ratio, int64_t keep, int64_t at_boundary, Reads reads) {
    const int64_t slots = unit / ratio / (random() % 3 == 0 && unit / ratio > 1 ? 2 : 1);
    w.spec.groups.push_back({.name = "g",
                             .ratio = ratio,
                             .block_slots = slots,
                             .keep = keep,
                             .keep_at_boundary = at_boundary});
    w.reads.push_back(reads);
  };
  group(pick({1, 2, 4}), 0, 0, {});
  if (random() % 4 != 0) group(1, w.window, w.window, {.window = w.window});
  if (random() % 2) group(1, 8, 4, {.ratio = 4, .entries = 2});
  if (random() % 2) group(1, unit, 0, {.ratio = unit, .entries = 1});
  if (random() % 2) {
    group(1, w.window, w.window, {.window = w.window});
    w.spec.groups.back().tail = true;
    w.depth = pick({1, 2, 4});
    w.spec.tail_halo = w.window + (w.depth - 1) * (w.window - 1);
    if (random() % 4 == 0) {
      w.spec.tail_exact = false;
      w.spec.tail_halo = 1 + static_cast<int64_t>(random() % 200);
    }
  }
  w.context = 64 + static_cast<int64_t>(random() % 6000);
  w.max_rows = pick({1, 7, 64, 96, 512});
  return w;
}

class Simulation {
 public:
  Simulation(World world, uint32_t seed) : w_(std::move(world)), random_(seed) {
    // Room for all, or for one and a part of another: then sequences lose their places.
    const int64_t cache =
        random_() % 2
            ? 0
            : w_.context + static_cast<int64_t>(random_() % static_cast<uint64_t>(w_.context));
    capacity_ = blocks_of_groups(w_.spec, w_.context, w_.max_sequences, w_.max_rows, cache);
    manager_ = std::make_unique<BlockManager>(w_.spec, capacity_);
    for (size_t g = 0; g < capacity_.size(); ++g)
      memory_.emplace_back(static_cast<size_t>(capacity_[g] * block(g)));
    for (int i = 0; i < 3; ++i) documents_.push_back(fresh_tokens(w_.context));
  }

  void go(int steps) {
    for (int i = 0; i < steps && !failed(); ++i) {
      if (static_cast<int64_t>(running_.size()) < w_.max_sequences && random_() % 3 == 0) add();
      step();
      if (!running_.empty() && random_() % 40 == 0) end(random_() % running_.size());
    }
    while (!running_.empty()) end(running_.size() - 1);
    if (!failed()) all_can_be_had();
  }
  int64_t reused = 0, tails_reused = 0, preempted = 0;

 private:
  static bool failed() { return ::testing::Test::HasFailure(); }
  [[nodiscard]] int64_t block(size_t g) const {
    return w_.spec.groups[g].block_slots * w_.spec.groups[g].ratio;
  }
  std::vector<TokenId> fresh_tokens(int64_t n) {
    std::vector<TokenId> out(static_cast<size_t>(n));
    for (TokenId& t : out) t = static_cast<TokenId>(random_() % 50);
    return out;
  }

  void add() {
    auto r = std::make_unique<Running>();
    std::vector<TokenId>& document = documents_[random_() % documents_.size()];
    std::vector<TokenId> prompt(
        document.begin(),
        document.begin() + static_cast<int64_t>(random_() % (document.size() + 1)));
    const auto room = static_cast<uint64_t>(w_.context) - prompt.size();
    const auto more = fresh_tokens(static_cast<int64_t>(std::min<uint64_t>(
        room, random_() % (random_() % 2 ? 300 : 1 + static_cast<uint64_t>(w_.context)))));
    prompt.insert(prompt.end(), more.begin(), more.end());
    if (prompt.empty()) prompt.push_back(1);
    r->seq.request.prompt = prompt;
    r->seq.tokens = prompt;
    r->seq.request.reuse_prefix = random_() % 8 != 0;
    if (random_() % 4 == 0) {
      r->seq.request.on_logits = [](int64_t, std::span<const float>) {};
      r->seq.request.logits_from = static_cast<int64_t>(random_() % prompt.size());
    }
    r->target =
        std::min<int64_t>(w_.context + 1, r->seq.size() + static_cast<int64_t>(random_() % 200));
    r->seq.id = {next_id_++};
    hash(*r);
    start(*r);
    running_.push_back(std::move(r));
  }

  void start(Running& r) {
    manager_->attach_prefix(r.seq);
    reused += r.seq.shared_tokens > 0;
    tails_reused += r.seq.shared_tokens > 0 && w_.spec.tail_halo > 0 && r.seq.tail_first == 0;
    EXPECT_LT(r.seq.computed, r.seq.size());
  }

  /// The youngest but `spared` loses its place, and later gets it back.
  bool preempt(const Running& spared) {
    Running* youngest = nullptr;
    for (const auto& r : running_)
      if (r.get() != &spared && !r->seq.blocks.empty() &&
          (!youngest || r->seq.id.value > youngest->seq.id.value))
        youngest = r.get();
    if (!youngest) return false;
    manager_->remember(youngest->seq, true);
    manager_->release(youngest->seq);
    youngest->seq.computed = 0;
    ++preempted;
    return true;
  }

  static void hash(Running& r) {
    uint64_t h = r.hashes.empty() ? 7 : r.hashes.back();
    for (size_t i = r.hashes.size(); i < r.seq.tokens.size(); ++i) {
      h = (h ^ static_cast<uint64_t>(r.seq.tokens[i] + 1)) * 0x9E3779B97F4A7C15ULL;
      h ^= h >> 29;
      r.hashes.push_back(h);
    }
  }

  Slot* slot(const Sequence& seq, size_t g, int64_t position) {
    const auto index = static_cast<size_t>(position / block(g));
    if (index >= seq.blocks[g].size() || seq.blocks[g][index] < 0) return nullptr;
    return &memory_[g][static_cast<size_t>(seq.blocks[g][index] * block(g) + position % block(g))];
  }

  /// The row of that position as the group has it, which must be that of this sequence.
  Slot read(const Running& r, size_t g, int64_t position) {
    const Slot* s = slot(r.seq, g, position);
    EXPECT_TRUE(s) << "group " << g << " has no row " << position << ", computed " << r.seq.computed
                   << ", shared " << r.seq.shared_tokens;
    if (!s) return {};
    EXPECT_EQ(s->hash, r.hashes[static_cast<size_t>(position)])
        << "group " << g << ", row " << position << " is somebody else's; computed "
        << r.seq.computed << ", shared " << r.seq.shared_tokens;
    return *s;
  }

  void run_row(Running& r, int64_t position) {
    const Sequence& seq = r.seq;
    for (size_t g = 0; g < capacity_.size() && !failed(); ++g) {
      const bool tail = w_.spec.groups[g].tail;
      if (tail && position < seq.tail_start) continue;
      Slot own{r.hashes[static_cast<size_t>(position)], 1};
      const Reads& reads = w_.reads[g];
      const int64_t first = tail ? seq.tail_first : 0;
      int64_t from = position;
      if (reads.window > 0) from = std::max(first, position - reads.window + 1);
      if (reads.ratio > 0 && (position + 1) % reads.ratio == 0)
        from = std::max<int64_t>(0, position + 1 - reads.entries * reads.ratio);
      if (reads.window == 0 && reads.ratio == 0 && position % 61 == 0) from = 0;
      int64_t level = w_.depth;
      for (int64_t p = from; p < position && !failed(); ++p)
        level = std::min(level, read(r, g, p).level);
      if (tail) {
        const bool whole = from <= std::max<int64_t>(0, position - reads.window + 1);
        own.level = whole ? level + 1 : 1;
        if (w_.spec.tail_exact && position >= std::max(seq.logits_from(), seq.shared_tokens)) {
          EXPECT_EQ(own.level, w_.depth + 1) << "the logits of " << position << " are not exact";
        }
      }
      Slot* to = slot(seq, g, position);
      ASSERT_TRUE(to) << "group " << g << " has no block for row " << position;
      if (position >= seq.shared_tokens) *to = own;
    }
  }

  void step() {
    int64_t left = w_.max_rows;
    std::shuffle(running_.begin(), running_.end(), random_);
    std::vector<std::pair<Running*, int64_t>> rows;
    for (const auto& r : running_) {
      if (left == 0 || random_() % 5 == 0) continue;
      if (r->seq.blocks.empty()) start(*r);  // it had lost its place
      const int64_t n = std::min(
          r->seq.size() - r->seq.computed,
          random_() % 3 ? left : 1 + static_cast<int64_t>(random_() % static_cast<uint64_t>(left)));
      const int64_t end = r->seq.computed + n;
      bool room = manager_->reserve(r->seq, end);
      while (!room && preempt(*r)) room = manager_->reserve(r->seq, end);
      std::string held;
      for (size_t g = 0; g < capacity_.size(); ++g) {
        held += "\n group " + std::to_string(g) + " capacity " + std::to_string(capacity_[g]) + ":";
        for (const auto& x : running_)
          if (!x->seq.blocks.empty())
            held += " " + std::to_string(x->seq.blocks[g].size()) + "(" +
                    std::to_string(std::count_if(x->seq.blocks[g].begin(), x->seq.blocks[g].end(),
                                                 [](int32_t b) { return b >= 0; })) +
                    ")";
      }
      for (const auto& x : running_)
        held += "\n sequence of " + std::to_string(x->seq.size()) + " computed " +
                std::to_string(x->seq.computed) + " shared " +
                std::to_string(x->seq.shared_tokens) + " tail from " +
                std::to_string(x->seq.tail_start);
      ASSERT_TRUE(room) << "no room at the limits to " << end << ", context " << w_.context
                        << ", rows a step " << w_.max_rows << held;
      rows.emplace_back(r.get(), n);
      left -= n;
    }
    std::erase_if(rows, [](const auto& part) { return part.first->seq.blocks.empty(); });
    for (const auto& [r, n] : rows)
      for (int64_t i = 0; i < n && !failed(); ++i) run_row(*r, r->seq.computed + i);
    std::vector<Running*> done;
    for (const auto& [r, n] : rows) {
      Sequence& seq = r->seq;
      seq.computed += n;
      manager_->advance(seq, n);
      if (seq.computed < seq.size()) continue;
      seq.tokens.push_back(static_cast<TokenId>(random_() % 50));
      hash(*r);
      if (seq.size() >= r->target) done.push_back(r);
    }
    for (const Running* r : done)
      end(static_cast<size_t>(std::find_if(running_.begin(), running_.end(),
                                           [&](const auto& x) { return x.get() == r; }) -
                              running_.begin()));
  }

  void end(size_t i) {
    Sequence& seq = running_[i]->seq;
    if (!seq.blocks.empty()) {
      manager_->remember(seq, true);
      manager_->release(seq);
    }
    if (random_() % 2) {  // others go on from here, as a chat does
      std::vector<TokenId>& document = documents_[random_() % documents_.size()];
      document = seq.tokens;
      document.resize(std::min(document.size(), static_cast<size_t>(w_.context)));
    }
    running_.erase(running_.begin() + static_cast<int64_t>(i));
  }

  /// No reference was lost: one that takes everything gets it.
  void all_can_be_had() {
    int64_t tokens = INT64_MAX;
    for (size_t g = 0; g < capacity_.size(); ++g)
      tokens = std::min(tokens, capacity_[g] * block(g));
    for (size_t g = 0; g < capacity_.size(); ++g) {
      Sequence all;
      all.request.reuse_prefix = false;
      all.request.prompt = all.tokens = {1};
      manager_->attach_prefix(all);
      EXPECT_TRUE(manager_->reserve(all, tokens));
      manager_->release(all);
    }
  }

  World w_;
  std::mt19937 random_;
  std::vector<int64_t> capacity_;
  int64_t next_id_ = 0;
  std::unique_ptr<BlockManager> manager_;
  std::vector<std::vector<Slot>> memory_;
  std::vector<std::vector<TokenId>> documents_;
  std::vector<std::unique_ptr<Running>> running_;
};

TEST(BlockManagerRandom, EveryRowThatAStepReadsIsThereAndItsOwn) {
  int64_t reused = 0, tails = 0, preempted = 0;
  for (uint32_t seed = 0; seed < 160; ++seed) {
    std::mt19937 random(seed);
    World world = make_world(random);
    std::string text;
    for (const PlaneGroup& g : world.spec.groups)
      text += " [ratio " + std::to_string(g.ratio) + " slots " + std::to_string(g.block_slots) +
              " keep " + std::to_string(g.keep) + "/" + std::to_string(g.keep_at_boundary) +
              (g.tail ? " tail]" : "]");
    SCOPED_TRACE("seed " + std::to_string(seed) + " unit " + std::to_string(world.spec.reuse_unit) +
                 " halo " + std::to_string(world.spec.tail_halo) + " exact " +
                 std::to_string(world.spec.tail_exact) + text);
    Simulation simulation(std::move(world), seed);
    simulation.go(300);
    reused += simulation.reused;
    tails += simulation.tails_reused;
    preempted += simulation.preempted;
    if (::testing::Test::HasFailure()) break;
  }
  EXPECT_GT(reused, 100);  // else nothing is tested
  EXPECT_GT(tails, 5);
  EXPECT_GT(preempted, 100);
}

}  // namespace
}  // namespace hadal
