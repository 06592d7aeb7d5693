#include "engine/block_manager.h"

#include <gtest/gtest.h>

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
  blocks.remember(seq);
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
    blocks.remember(seq);
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

TEST(BlockManager, GrowsWithoutDisturbingWhatIsHeld) {
  BlockManager blocks(spec_of(64), {1});
  Sequence seq = sequence(130);
  blocks.attach_prefix(seq);
  EXPECT_FALSE(blocks.reserve(seq, 130));
  const std::vector<int32_t> held = seq.blocks[0];
  blocks.grow(0, 4);
  EXPECT_TRUE(blocks.reserve(seq, 130));
  EXPECT_EQ(seq.blocks[0].front(), held.front());
  EXPECT_EQ(seq.blocks[0].size(), 3U);
}

}  // namespace
}  // namespace hadal
