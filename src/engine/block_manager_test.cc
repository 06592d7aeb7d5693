#include "engine/block_manager.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>

namespace hadal {
namespace {

ModelSpec spec_of(int64_t block_slots) {
  ModelSpec spec;
  spec.groups = {PlaneGroup{.name = "kv", .block_slots = block_slots}};
  spec.reuse_unit = 64;
  return spec;
}

Sequence sequence(int64_t tokens, TokenId first = 0) {
  Sequence seq;
  seq.request.prompt.resize(static_cast<size_t>(tokens));
  std::iota(seq.request.prompt.begin(), seq.request.prompt.end(), first);
  seq.tokens = seq.request.prompt;
  return seq;
}

TEST(BlockManager, ReservesWhatTokensNeedAndGivesItBack) {
  BlockManager blocks(spec_of(64), {3});
  Sequence seq = sequence(129);
  blocks.attach_prefix(seq);
  EXPECT_TRUE(blocks.reserve(seq, 64));
  EXPECT_EQ(seq.blocks[0].size(), 1U);
  EXPECT_TRUE(blocks.reserve(seq, 129));
  EXPECT_EQ(seq.blocks[0].size(), 3U);
  Sequence other = sequence(1);
  blocks.attach_prefix(other);
  EXPECT_FALSE(blocks.reserve(other, 1));
  blocks.release(seq);
  EXPECT_TRUE(blocks.reserve(other, 1));
}

TEST(BlockManager, ReusesWholeUnitsAndLeavesATokenToRun) {
  BlockManager blocks(spec_of(64), {8});
  Sequence seq = sequence(128);
  blocks.attach_prefix(seq);
  ASSERT_TRUE(blocks.reserve(seq, 128));
  seq.computed = 128;
  blocks.remember(seq, true);
  const std::vector<int32_t> held = seq.blocks[0];
  blocks.release(seq);

  Sequence same = sequence(128);
  blocks.attach_prefix(same);
  EXPECT_EQ(same.shared_tokens, 64);  // the second unit would leave nothing to run
  EXPECT_EQ(same.computed, 64);
  EXPECT_EQ(same.blocks[0], std::vector<int32_t>{held[0]});

  Sequence longer = sequence(200);
  blocks.attach_prefix(longer);
  EXPECT_EQ(longer.shared_tokens, 128);
  Sequence different = sequence(200, 1);
  blocks.attach_prefix(different);
  EXPECT_EQ(different.shared_tokens, 0);
}

TEST(BlockManager, GivesUpTheOldestCachedLeafThatNobodyHolds) {
  BlockManager blocks(spec_of(64), {2});
  for (const TokenId first : {0, 1000}) {
    Sequence seq = sequence(65, first);
    blocks.attach_prefix(seq);
    ASSERT_TRUE(blocks.reserve(seq, 64));
    seq.computed = 64;
    blocks.remember(seq, true);
    blocks.release(seq);
  }
  Sequence recent = sequence(65, 1000);
  blocks.attach_prefix(recent);  // holds the second
  EXPECT_EQ(recent.shared_tokens, 64);
  Sequence fresh = sequence(10, 5000);
  blocks.attach_prefix(fresh);
  EXPECT_TRUE(blocks.reserve(fresh, 10));  // takes the first's block
  Sequence more = sequence(10, 6000);
  blocks.attach_prefix(more);
  EXPECT_FALSE(blocks.reserve(more, 10));  // the second is held
  Sequence gone = sequence(65, 0);
  blocks.attach_prefix(gone);
  EXPECT_EQ(gone.shared_tokens, 0);
}

TEST(BlockManager, AFailedReservationTakesNothing) {
  BlockManager blocks(spec_of(64), {3});
  Sequence seq = sequence(130), other = sequence(65, 1000);
  blocks.attach_prefix(seq);
  blocks.attach_prefix(other);
  ASSERT_TRUE(blocks.reserve(other, 65));
  EXPECT_FALSE(blocks.reserve(seq, 130));
  EXPECT_TRUE(seq.blocks[0].empty());
  EXPECT_TRUE(blocks.reserve(seq, 64));
}

TEST(BlockManager, KnowsWhatItCouldHandOut) {
  BlockManager blocks(spec_of(64), {4});
  EXPECT_EQ(blocks.longest(), 256);
  Sequence seq = sequence(128);
  blocks.attach_prefix(seq);
  ASSERT_TRUE(blocks.reserve(seq, 128));
  seq.computed = 128;
  blocks.remember(seq, true);
  EXPECT_TRUE(blocks.has_room(128));
  EXPECT_FALSE(blocks.has_room(129));
  blocks.release(seq);  // cached blocks are given up where somebody needs them
  EXPECT_EQ(blocks.tree().units(), 2);
  EXPECT_TRUE(blocks.has_room(256));
}

TEST(BlockManager, GivesUpABlockInTheSameTimeWhateverTheTreesSize) {
  const auto microseconds = [](int64_t cached) {
    BlockManager blocks(spec_of(64), {cached});
    for (int64_t done = 0; done < cached; done += 1000) {
      Sequence seq = sequence(64 * 1000, static_cast<TokenId>(done * 100));
      blocks.attach_prefix(seq);
      EXPECT_TRUE(blocks.reserve(seq, 64 * 1000));
      seq.computed = 64 * 1000;
      blocks.remember(seq, true);
      blocks.release(seq);
    }
    EXPECT_EQ(blocks.tree().units(), cached);
    const auto start = std::chrono::steady_clock::now();
    constexpr int64_t kTaken = 5000;
    Sequence taker = sequence(64 * kTaken, 1 << 30);
    taker.request.reuse_prefix = false;
    blocks.attach_prefix(taker);
    EXPECT_TRUE(blocks.reserve(taker, 64 * kTaken));
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    EXPECT_EQ(blocks.tree().units(), cached - kTaken);
    return time.count() / kTaken;
  };
  const double small = microseconds(10000), large = microseconds(100000);
  std::printf("eviction: %.2f us a block of 10,000 cached, %.2f us of 100,000\n", small, large);
  EXPECT_LT(large, 20);  // a walk over the tree took milliseconds
}

/// Entries of all positions, a window of the last 100 rows, and with a halo a tail's window of 60.
ModelSpec spec_with_window(int64_t halo = 0) {
  ModelSpec spec;
  spec.groups = {{.name = "entries", .ratio = 4, .block_slots = 16},
                 {.name = "window", .block_slots = 64, .keep = 100, .keep_at_boundary = 100}};
  if (halo > 0) {
    spec.groups.push_back({.name = "tail window",
                           .block_slots = 64,
                           .keep = 60,
                           .keep_at_boundary = 60,
                           .tail = true});
  }
  spec.reuse_unit = 64;
  spec.tail_halo = halo;
  return spec;
}

/// Runs the sequence to `end` in steps of `rows`.
void run_to(BlockManager& blocks, Sequence& seq, int64_t end, int64_t rows) {
  while (seq.computed < end) {
    const int64_t n = std::min(rows, end - seq.computed);
    ASSERT_TRUE(blocks.reserve(seq, seq.computed + n));
    seq.computed += n;
    blocks.advance(seq, n);
  }
}

int64_t held(const Sequence& seq, size_t group) {
  return std::count_if(seq.blocks[group].begin(), seq.blocks[group].end(),
                       [](int32_t b) { return b >= 0; });
}

TEST(BlockManager, GivesBackTheRowsThatAGroupDoesNotKeep) {
  BlockManager blocks(spec_with_window(), {100, 5});
  Sequence seq = sequence(5000);
  seq.request.reuse_prefix = false;
  blocks.attach_prefix(seq);
  run_to(blocks, seq, 5000, 64);
  EXPECT_EQ(seq.blocks[0].size(), 79U);
  EXPECT_EQ(held(seq, 0), 79);
  EXPECT_EQ(held(seq, 1), 3);        // 4900 … 4999
  EXPECT_EQ(seq.blocks[1][75], -1);  // up to 4863
  EXPECT_GE(seq.blocks[1][76], 0);
  blocks.release(seq);
  Sequence other = sequence(300, 7);
  blocks.attach_prefix(other);
  EXPECT_TRUE(blocks.reserve(other, 300));  // all five are free again
}

TEST(BlockManager, ReusesAPrefixOnlyWhereEveryGroupHasItsRows) {
  BlockManager blocks(spec_with_window(), {200, 40});
  Sequence seq = sequence(2500);
  blocks.attach_prefix(seq);
  run_to(blocks, seq, 2500, 200);
  blocks.release(seq);

  Sequence longer = sequence(3000);  // goes on behind the prompt's last unit
  blocks.attach_prefix(longer);
  EXPECT_EQ(longer.shared_tokens, 2496);
  EXPECT_EQ(held(longer, 0), 39);
  EXPECT_EQ(held(longer, 1), 2);  // the 100 rows before 2496
  EXPECT_EQ(longer.blocks[1][36], -1);

  Sequence branch = sequence(3000);  // differs at 2200: the boundary before is 2048
  branch.tokens[2200] = branch.request.prompt[2200] = 9;
  blocks.attach_prefix(branch);
  EXPECT_EQ(branch.shared_tokens, 2048);
  EXPECT_EQ(held(branch, 1), 2);

  Sequence early = sequence(3000);
  early.tokens[1000] = early.request.prompt[1000] = 9;
  blocks.attach_prefix(early);
  EXPECT_EQ(early.shared_tokens, 0);
  EXPECT_TRUE(early.blocks[1].empty());
}

TEST(BlockManager, GivesUpBoundariesBeforeItRefusesWindows) {
  BlockManager blocks(spec_with_window(), {200, 4});
  Sequence seq = sequence(128);
  blocks.attach_prefix(seq);
  run_to(blocks, seq, 128, 64);
  blocks.release(seq);  // two blocks stay at the boundary
  Sequence other = sequence(250, 7);
  blocks.attach_prefix(other);
  EXPECT_TRUE(blocks.reserve(other, 250));
  Sequence again = sequence(200);
  blocks.attach_prefix(again);
  EXPECT_EQ(again.shared_tokens, 0);
}

TEST(BlockManager, StartsATailSoThatItsRowsAreRightAtTheLastUnit) {
  BlockManager blocks(spec_with_window(150), {200, 40, 40});
  Sequence seq = sequence(1000);
  blocks.attach_prefix(seq);
  EXPECT_EQ(seq.tail_start, 960 - 150);
  EXPECT_EQ(seq.tail_first, 960 - 150);
  run_to(blocks, seq, 1000, 200);
  EXPECT_EQ(seq.blocks[2][11], -1);  // 704 … 767
  EXPECT_EQ(held(seq, 1), 3);
  blocks.release(seq);

  Sequence little_more = sequence(1010);  // the tail goes on at 960
  blocks.attach_prefix(little_more);
  EXPECT_EQ(little_more.shared_tokens, 960);
  EXPECT_EQ(little_more.tail_start, 960);
  EXPECT_EQ(little_more.tail_first, 0);
  EXPECT_EQ(held(little_more, 2), 1);
  EXPECT_EQ(little_more.blocks[2][13], -1);

  Sequence much_more = sequence(3000);  // the tail starts afresh
  blocks.attach_prefix(much_more);
  EXPECT_EQ(much_more.shared_tokens, 960);
  EXPECT_EQ(much_more.tail_start, 2944 - 150);
  EXPECT_EQ(much_more.tail_first, 2944 - 150);
  EXPECT_EQ(held(much_more, 2), 0);

  Sequence every = sequence(1010);
  every.request.on_logits = [](int64_t, std::span<const float>) {};
  blocks.attach_prefix(every);
  EXPECT_EQ(every.shared_tokens, 960);
  EXPECT_EQ(every.tail_start, 960);
  Sequence fresh = sequence(1010, 5);
  fresh.request.on_logits = every.request.on_logits;
  blocks.attach_prefix(fresh);
  EXPECT_EQ(fresh.tail_start, 0);
}

TEST(BlockManager, NeverReusesTheRowsOfATailThatIsShorterThanExact) {
  ModelSpec spec = spec_with_window(150);
  spec.tail_exact = false;
  BlockManager blocks(spec, {200, 40, 40});
  Sequence seq = sequence(1000);
  blocks.attach_prefix(seq);
  EXPECT_EQ(seq.tail_start, 850);
  run_to(blocks, seq, 1000, 200);
  blocks.release(seq);
  Sequence little_more = sequence(1010);  // its tail starts at 860: no prefix up to 960
  blocks.attach_prefix(little_more);
  EXPECT_EQ(little_more.shared_tokens, 0);
  EXPECT_EQ(little_more.tail_start, 860);
  Sequence much_more = sequence(3000);
  blocks.attach_prefix(much_more);
  EXPECT_EQ(much_more.shared_tokens, 960);
  EXPECT_EQ(much_more.tail_start, 2850);
}

}  // namespace
}  // namespace hadal
