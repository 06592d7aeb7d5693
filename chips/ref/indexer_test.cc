// index_topk and index_blocks, with numbers computed by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "test_rig.h"

namespace hadal::ref {
namespace {

/// Two heads, four entries of one number in two blocks: scores 1, 6, 5 and 7.
struct IndexRig : Rig {
  IndexRig() : Rig(HADAL_OP_INDEX_TOPK) {
    f32(HADAL_INDEX_TOPK_Q, {1, 2, 1}, {1, -1});
    f32(HADAL_INDEX_TOPK_WEIGHT, {1, 2}, {1, 3});
    i32(HADAL_INDEX_TOPK_POSITION, {1}, {7});
    i32(HADAL_INDEX_TOPK_ROW_SEQ, {1}, {0});
    f32(HADAL_INDEX_TOPK_PLANE, {2, 2, 1}, {5, 7, 1, -2});
    i32(HADAL_INDEX_TOPK_BLOCK_TABLE, {1, 2}, {1, 0});
    i32(HADAL_INDEX_TOPK_FIRST, {1}, {0});
    i32(HADAL_INDEX_TOPK_LIST, {1, 2}, {});
    op.attr.index.ratio = 2;
  }
  void expect(const std::vector<int32_t>& list) {
    ASSERT_EQ(run(), HADAL_OK) << error.text;
    EXPECT_EQ(get<int32_t>(HADAL_INDEX_TOPK_LIST), list);
  }
};

TEST(RefIndexTopk, TheBestAscending) {
  IndexRig rig;
  rig.expect({1, 3});
  rig.i32(HADAL_INDEX_TOPK_POSITION, {1}, {6});  // entry 3 is not there yet
  rig.expect({1, 2});
  rig.i32(HADAL_INDEX_TOPK_FIRST, {1}, {3});  // inside entry 1
  rig.expect({2, -1});
  rig.i32(HADAL_INDEX_TOPK_POSITION, {1}, {0});
  rig.expect({-1, -1});
}

TEST(RefIndexTopk, TiesTakeTheLowerEntry) {
  IndexRig rig;
  rig.f32(HADAL_INDEX_TOPK_PLANE, {2, 2, 1}, {5, 4, 5, -2});
  rig.expect({0, 1});
}

TEST(RefIndexTopk, ABlockThatIsNotMapped) {
  IndexRig rig;
  rig.i32(HADAL_INDEX_TOPK_BLOCK_TABLE, {1, 2}, {1, -1});
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_STREQ(rig.error.text, "index_topk: block_table[1] = -1 is outside [0, 2)");
  rig.i32(HADAL_INDEX_TOPK_POSITION, {1}, {3});  // it is not needed
  rig.expect({0, 1});
}

TEST(RefIndexTopk, OnlyCandidatesAreSearched) {
  IndexRig rig;
  rig.op.attr.index.block_size = 2;
  rig.i32(HADAL_INDEX_TOPK_CANDIDATES, {1, 2}, {0, 1});
  rig.expect({1, 3});
  rig.i32(HADAL_INDEX_TOPK_CANDIDATES, {1, 2}, {1, -1});
  rig.expect({2, 3});
  rig.i32(HADAL_INDEX_TOPK_BLOCK_TABLE, {1, 2}, {-1, 0});  // its first block is not needed
  rig.expect({2, 3});
  rig.i32(HADAL_INDEX_TOPK_CANDIDATES, {1, 2}, {-1, 0});
  rig.expect({-1, -1});
  rig.op.attr.index.block_size = 3;
  rig.i32(HADAL_INDEX_TOPK_CANDIDATES, {1, 1}, {1});
  rig.expect({3, -1});
  for (const auto& [wrong, text] : {std::pair{std::vector<int32_t>{1, 2}, "candidates[1] = 2"},
                                    std::pair{std::vector<int32_t>{1, 1}, "candidates[1] = 1"},
                                    std::pair{std::vector<int32_t>{1, 0}, "candidates[1] = 0"}}) {
    rig.i32(HADAL_INDEX_TOPK_CANDIDATES, {1, 2}, wrong);
    EXPECT_EQ(rig.run(), HADAL_INVALID);
    EXPECT_EQ(std::string(rig.error.text),
              "index_topk: " + std::string(text) + " is outside [0, 2)");
  }
}

/// Two heads, seven entries of one number in two blocks, the scores being those given.
struct BlocksRig : Rig {
  explicit BlocksRig(const std::vector<float>& scores) : Rig(HADAL_OP_INDEX_BLOCKS) {
    std::vector<float> plane(8);
    for (size_t e = 0; e < 7; ++e) plane[(e + 4) % 8] = scores[e];
    f32(HADAL_INDEX_BLOCKS_Q, {1, 2, 1}, {1, -1});
    f32(HADAL_INDEX_BLOCKS_WEIGHT, {1, 2}, {1, -1});
    i32(HADAL_INDEX_BLOCKS_POSITION, {1}, {6});
    i32(HADAL_INDEX_BLOCKS_ROW_SEQ, {1}, {0});
    f32(HADAL_INDEX_BLOCKS_PLANE, {2, 4, 1}, plane);
    i32(HADAL_INDEX_BLOCKS_BLOCK_TABLE, {1, 2}, {1, 0});
    i32(HADAL_INDEX_BLOCKS_FIRST, {1}, {0});
    op.attr.index = {.ratio = 1, .block_size = 2};
  }
  void expect(int64_t k, const std::vector<int32_t>& list) {
    i32(HADAL_INDEX_BLOCKS_LIST, {1, k}, {});
    ASSERT_EQ(run(), HADAL_OK) << error.text;
    EXPECT_EQ(get<int32_t>(HADAL_INDEX_BLOCKS_LIST), list);
  }
};

TEST(RefIndexBlocks, TheLastBlockAndThoseOfTheLargestEntries) {
  BlocksRig rig({1, 9, 6, 7, -8, 8, -9});
  rig.expect(1, {3});
  rig.expect(2, {0, 3});
  rig.expect(3, {0, 2, 3});
  rig.expect(5, {0, 1, 2, 3, -1});
  rig.i32(HADAL_INDEX_BLOCKS_FIRST, {1}, {2});
  rig.expect(3, {1, 2, 3});
  rig.i32(HADAL_INDEX_BLOCKS_POSITION, {1}, {4});  // entry 5 is not there yet
  rig.expect(1, {2});
  rig.expect(2, {1, 2});
  rig.i32(HADAL_INDEX_BLOCKS_POSITION, {1}, {1});
  rig.expect(2, {-1, -1});
  rig.i32(HADAL_INDEX_BLOCKS_POSITION, {1}, {6});
  rig.i32(HADAL_INDEX_BLOCKS_BLOCK_TABLE, {1, 2}, {-1, 0});
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_STREQ(rig.error.text, "index_blocks: block_table[0] = -1 is outside [0, 2)");
}

TEST(RefIndexBlocks, TiesTakeTheLowerBlock) {
  BlocksRig rig({5, 1, 1, 5, 5, 2, 0});
  rig.expect(2, {0, 3});
  rig.expect(3, {0, 1, 3});
}

}  // namespace
}  // namespace hadal::ref
