// router, moe_sort, grouped_matmul, moe_combine, latent_attention, and what chooses and makes its
// entries; the hyper-connections and engram_gate. With numbers computed by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "test_rig.h"

namespace hadal::ref {
namespace {

float ln(double x) { return static_cast<float>(std::log(x)); }

void expect_near(const std::vector<float>& found, const std::vector<double>& wanted) {
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(static_cast<double>(found[i]), wanted[i],
                2e-7 * std::max(1.0, std::fabs(wanted[i])))
        << i;
}

/// A router over one row of logits; the tests below give it what they are about.
struct RouterRig : Rig {
  RouterRig(const std::vector<float>& logits, int64_t k, hadal_router_score score)
      : Rig(HADAL_OP_ROUTER) {
    f32(HADAL_ROUTER_LOGITS, {1, static_cast<int64_t>(logits.size())}, logits);
    i32(HADAL_ROUTER_EXPERT, {1, k}, {});
    f32(HADAL_ROUTER_WEIGHT, {1, k}, {});
    op.attr.router = {.score = static_cast<uint32_t>(score),
                      .groups = 1,
                      .groups_kept = 1,
                      .group_best = 1,
                      .normalise = 0,
                      .scale = 1};
  }
  void expect(const std::vector<int32_t>& experts, const std::vector<double>& weights) {
    ASSERT_EQ(run(), HADAL_OK) << error.text;
    EXPECT_EQ(get<int32_t>(HADAL_ROUTER_EXPERT), experts);
    expect_near(floats(HADAL_ROUTER_WEIGHT), weights);
  }
};

TEST(RefRouter, SoftmaxScaledAndNormalised) {
  RouterRig rig({ln(1), ln(2), ln(3), ln(4)}, 2, HADAL_ROUTER_SOFTMAX);
  rig.op.attr.router.scale = 2;
  rig.expect({3, 2}, {0.8, 0.6});
  rig.op.attr.router.normalise = 1;
  rig.expect({3, 2}, {8.0 / 7, 6.0 / 7});
}

TEST(RefRouter, TheBiasCountsForTheChoiceAlone) {
  const std::vector<float> bias = {0, -0.5f, 0.6f};
  RouterRig rig({0, ln(3), -ln(3)}, 2, HADAL_ROUTER_SIGMOID);  // scores 0.5, 0.75, 0.25
  rig.weight(HADAL_ROUTER_BIAS, {3}, bias, HADAL_F32);
  rig.expect({2, 0}, {0.25, 0.5});
}

TEST(RefRouter, SqrtSoftplus) {
  RouterRig rig({ln(std::exp(1.0) - 1), ln(std::exp(4.0) - 1)}, 2, HADAL_ROUTER_SQRT_SOFTPLUS);
  rig.expect({1, 0}, {2, 1});
}

TEST(RefRouter, GroupsByTheirBestOrTheirTwoBest) {
  RouterRig rig({ln(9), -ln(9), ln(3), 0}, 2, HADAL_ROUTER_SIGMOID);  // 0.9 and 0.1, 0.75 and 0.5
  rig.op.attr.router.groups = 2;
  rig.expect({0, 1}, {0.9, 0.1});
  rig.op.attr.router.group_best = 2;
  rig.expect({2, 3}, {0.75, 0.5});
}

TEST(RefRouter, TiesGoToTheLowerIndex) {
  RouterRig rig({0, ln(3), ln(3), 0}, 3, HADAL_ROUTER_SIGMOID);
  rig.expect({1, 2, 0}, {0.75, 0.75, 0.5});
}

TEST(RefRouter, TheHashTableChooses) {
  const std::vector<int32_t> table = {3, 2, 0, 1};
  RouterRig rig({ln(1), ln(2), ln(3), ln(4)}, 2, HADAL_ROUTER_SOFTMAX);
  rig.i32(HADAL_ROUTER_TOKEN, {1}, {1});
  rig.weight(HADAL_ROUTER_HASH, {2, 2}, table, HADAL_I32);
  rig.expect({0, 1}, {0.1, 0.2});
  rig.i32(HADAL_ROUTER_TOKEN, {1}, {2});
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_STREQ(rig.error.text, "router: token[0] = 2 is outside [0, 2)");
}

/// Three rows of two pairs, three experts.
struct SortRig : Rig {
  explicit SortRig(const std::vector<int32_t>& expert) : Rig(HADAL_OP_MOE_SORT) {
    i32(HADAL_MOE_SORT_EXPERT, {3, 2}, expert);
    f32(HADAL_MOE_SORT_WEIGHT, {3, 2}, {10, 11, 12, 13, 14, 15});
    i32(HADAL_MOE_SORT_ORDER, {6}, {});
    i32(HADAL_MOE_SORT_PLACE, {6}, {});
    i32(HADAL_MOE_SORT_OFFSET, {4}, {});
    f32(HADAL_MOE_SORT_ROW_WEIGHT, {6}, {});
  }
};

TEST(RefMoeSort, IsStable) {
  SortRig rig({1, 0, 1, 1, 0, 1});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.get<int32_t>(HADAL_MOE_SORT_ORDER), (std::vector<int32_t>{1, 4, 0, 2, 3, 5}));
  EXPECT_EQ(rig.get<int32_t>(HADAL_MOE_SORT_PLACE), (std::vector<int32_t>{2, 0, 3, 4, 1, 5}));
  EXPECT_EQ(rig.get<int32_t>(HADAL_MOE_SORT_OFFSET), (std::vector<int32_t>{0, 2, 6, 6}));
  EXPECT_EQ(rig.floats(HADAL_MOE_SORT_ROW_WEIGHT), (std::vector<float>{11, 14, 10, 12, 13, 15}));
}

TEST(RefMoeSort, RefusesAnExpertThatDoesNotExist) {
  SortRig rig({1, 0, 1, 3, 0, 1});
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_STREQ(rig.error.text, "moe_sort: expert[3] = 3 is outside [0, 3)");
}

TEST(RefGroupedMatmul, EachRowMeetsItsExpert) {
  const std::vector<float> w = {1, 0, 0, 2, 5, 5};  // [3, 1, 2]
  Rig rig(HADAL_OP_GROUPED_MATMUL);
  rig.op.attr.experts.fan = 2;
  rig.f32(HADAL_GROUPED_MATMUL_X, {2, 2}, {3, 4, 30, 40});
  rig.weight(HADAL_GROUPED_MATMUL_W, {3, 1, 2}, w, HADAL_F32);
  rig.i32(HADAL_GROUPED_MATMUL_OFFSET, {4}, {0, 1, 1, 4});
  rig.i32(HADAL_GROUPED_MATMUL_ORDER, {4}, {2, 0, 1, 3});
  rig.f32(HADAL_GROUPED_MATMUL_OUT, {4, 1}, {});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_GROUPED_MATMUL_OUT), (std::vector<float>{30, 35, 35, 350}));
  rig.op.operands[HADAL_GROUPED_MATMUL_ORDER] = -1;
  rig.f32(HADAL_GROUPED_MATMUL_X, {4, 2}, {1, 2, 3, 4, 5, 6, 7, 8});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_GROUPED_MATMUL_OUT), (std::vector<float>{1, 35, 55, 75}));
}

TEST(RefMoeCombine, AddsInTheOrderOfTheSlots) {
  Rig rig(HADAL_OP_MOE_COMBINE);
  rig.op.attr.experts.fan = 3;
  rig.f32(HADAL_MOE_COMBINE_X, {6, 1}, {1, 1e8f, -1e8f, 1e8f, -1e8f, 1});
  rig.i32(HADAL_MOE_COMBINE_PLACE, {6}, {1, 0, 2, 3, 4, 5});
  rig.f32(HADAL_MOE_COMBINE_OUT, {2, 1}, {1e8f, 0});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_MOE_COMBINE_OUT), (std::vector<float>{0, 1}));
  // SHARED comes before ADD, which may be OUT.
  rig.i32(HADAL_MOE_COMBINE_PLACE, {6}, {0, 0, 0, 3, 0, 0});
  rig.f32(HADAL_MOE_COMBINE_SHARED, {2, 1}, {5, -1e8f});
  rig.f32(HADAL_MOE_COMBINE_OUT, {2, 1}, {7, 1});
  rig.alias(HADAL_MOE_COMBINE_ADD, HADAL_MOE_COMBINE_OUT);
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_MOE_COMBINE_OUT), (std::vector<float>{15, 1}));
}

/// One head at position 3 of a sequence in blocks 1 and 0, of two entries of two numbers and one.
/// Against the query (1, 0; 1) the entries score 0, ln 3, 0 and 100; their values are (0, 8),
/// (1, 4), (9, 9) and (7, 7).
struct LatentRig : Rig {
  LatentRig() : Rig(HADAL_OP_LATENT_ATTENTION) {
    f32(HADAL_LATENT_ATTENTION_Q, {1, 1, 2}, {1, 0});
    f32(HADAL_LATENT_ATTENTION_TAIL, {1, 1, 1}, {1});
    i32(HADAL_LATENT_ATTENTION_POSITION, {1}, {3});
    i32(HADAL_LATENT_ATTENTION_ROW_SEQ, {1}, {0});
    f32(HADAL_LATENT_ATTENTION_PLANE, {2, 2, 3}, {9, 9, -9, 7, 7, 93, 0, 8, 0, 1, 4, ln(3) - 1});
    i32(HADAL_LATENT_ATTENTION_BLOCK_TABLE, {1, 2}, {1, 0});
    i32(HADAL_LATENT_ATTENTION_FIRST, {1}, {0});
    f32(HADAL_LATENT_ATTENTION_OUT, {1, 1, 2}, {});
    op.attr.latent.scale = 1;
    op.attr.latent.segments[0].ratio = op.attr.latent.segments[1].ratio = 1;
  }
  void expect(const std::vector<double>& out) {
    ASSERT_EQ(run(), HADAL_OK) << error.text;
    expect_near(floats(HADAL_LATENT_ATTENTION_OUT), out);
  }
};

TEST(RefLatentAttention, AnEntryForTwoPositions) {
  LatentRig rig;
  rig.op.attr.latent.segments[0].ratio = 2;  // entries 0 and 1
  rig.expect({0.75, 5});
  rig.op.attr.latent.segments[0].window = 1;
  rig.expect({1, 4});
  rig.i32(HADAL_LATENT_ATTENTION_POSITION, {1}, {2});
  rig.expect({0, 8});
  rig.i32(HADAL_LATENT_ATTENTION_FIRST, {1}, {1});  // inside entry 0
  rig.expect({0, 0});
}

TEST(RefLatentAttention, AListNamesWhatIsSeen) {
  LatentRig rig;
  rig.i32(HADAL_LATENT_ATTENTION_LIST, {1, 3}, {0, 1, -1});
  rig.expect({0.75, 5});
  rig.i32(HADAL_LATENT_ATTENTION_POSITION, {1}, {0});  // entry 1 is not there yet
  rig.expect({0, 8});
  rig.i32(HADAL_LATENT_ATTENTION_LIST, {1, 3}, {1, 1, -1});
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_STREQ(rig.error.text, "latent_attention: list[1] = 1 is outside [0, 4)");
}

TEST(RefLatentAttention, TwoSegmentsAndASink) {
  const std::vector<float> sink = {ln(4)};
  LatentRig rig;
  rig.i32(HADAL_LATENT_ATTENTION_LIST, {1, 1}, {1});
  rig.f32(HADAL_LATENT_ATTENTION_PLANE2, {1, 4, 3}, {0, 8, 0});
  rig.i32(HADAL_LATENT_ATTENTION_BLOCK_TABLE2, {1, 1}, {0});
  rig.i32(HADAL_LATENT_ATTENTION_FIRST2, {1}, {0});
  rig.op.attr.latent.segments[1].ratio = 4;  // its entry 0
  rig.expect({0.75, 5});
  rig.weight(HADAL_LATENT_ATTENTION_SINK, {1}, sink, HADAL_F32);
  rig.expect({0.375, 2.5});  // weights 3, 1, and 4 for nothing
}

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

/// Entries of one number, of two rows each.
struct CompressRig : Rig {
  explicit CompressRig(uint32_t overlap) : Rig(HADAL_OP_COMPRESS) {
    i32(HADAL_COMPRESS_ROW_SEQ, {1}, {0});
    i32(HADAL_COMPRESS_BLOCK_TABLE, {1, 2}, {1, 0});
    f32(HADAL_COMPRESS_OUT, {1, 1}, {5});
    op.attr.compress = {.ratio = 2, .overlap = overlap};
  }
  void expect(int32_t position, double out) {
    i32(HADAL_COMPRESS_POSITION, {1}, {position});
    ASSERT_EQ(run(), HADAL_OK) << error.text;
    expect_near(floats(HADAL_COMPRESS_OUT), {out});
  }
};

TEST(RefCompress, ARowWithItsApe) {
  const std::vector<float> ape = {ln(3), 0};
  CompressRig rig(0);
  rig.f32(HADAL_COMPRESS_PLANE, {2, 2, 2}, {1, 0, 2, 0, 4, 0, 8, ln(3)});
  rig.expect(1, 7);    // weights 1 and 3
  rig.expect(3, 1.5);  // the other block
  rig.weight(HADAL_COMPRESS_APE, {2}, ape, HADAL_F32);
  rig.expect(1, 6);     // 3 and 3
  rig.expect(3, 1.25);  // 3 and 1
  rig.expect(2, 0);
  rig.expect(0, 0);
}

TEST(RefCompress, AnOverlap) {
  const std::vector<float> ape = {ln(3), 0, 0, ln(2)};
  CompressRig rig(1);
  rig.f32(HADAL_COMPRESS_PLANE, {2, 2, 4},
          {90, 12, 9, ln(2), 90, 20, 9, ln(2), 4, 60, 0, 0, 8, 80, ln(3), 0});
  rig.expect(1, 70);    // nothing is before it
  rig.expect(3, 11.5);  // weights 1, 3, 2 and 2
  rig.weight(HADAL_COMPRESS_APE, {4}, ape, HADAL_F32);
  rig.expect(3, 140.0 / 12);  // 3, 3, 2 and 4
}

TEST(RefHcPre, WeightsOfTwoStreams) {
  const std::vector<float> base = {ln(3), 0, 0, 0, 0, ln(2), 0, 0};
  const std::vector<float> scale = {1, 2, 4};
  Rig rig(HADAL_OP_HC_PRE);
  rig.f32(HADAL_HC_PRE_X, {1, 2, 1}, {2, -2});
  // Divided by the root of 4 + 5.
  rig.f32(HADAL_HC_PRE_MIX, {1, 8}, {0, 0, 0, 3 * ln(3) / 2, 3 * ln(6) / 4, 0, 0, 0});
  rig.weight(HADAL_HC_PRE_BASE, {8}, base, HADAL_F32);
  rig.weight(HADAL_HC_PRE_SCALE, {3}, scale, HADAL_F32);
  rig.f32(HADAL_HC_PRE_OUT, {1, 1}, {});
  rig.f32(HADAL_HC_PRE_POST, {1, 2}, {});
  rig.f32(HADAL_HC_PRE_COMB, {1, 2, 2}, {});
  rig.op.attr.hc = {.norm_eps = 5, .eps = 0.25f, .iterations = 1};
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  expect_near(rig.floats(HADAL_HC_PRE_OUT), {0.5});  // 1 and 0.75
  expect_near(rig.floats(HADAL_HC_PRE_POST), {1, 1.5});
  // Rows 3 : 1 and 1 : 1, with eps 1, 0.5 and 0.75, 0.75; columns by 2 and 1.5.
  expect_near(rig.floats(HADAL_HC_PRE_COMB), {0.5, 1.0 / 3, 0.375, 0.5});
  rig.op.attr.hc.iterations = 2;  // rows by 13/12 and 9/8, columns by 163/156 and 469/468
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  expect_near(rig.floats(HADAL_HC_PRE_COMB), {72.0 / 163, 144.0 / 469, 52.0 / 163, 208.0 / 469});
}

TEST(RefHcPre, ThePreOfTheSiteBefore) {
  const std::vector<float> base = {ln(3), 0};
  const std::vector<float> scale = {1};
  Rig rig(HADAL_OP_HC_PRE);
  rig.f32(HADAL_HC_PRE_X, {1, 2, 2}, {2, 4, -2, 6});
  rig.f32(HADAL_HC_PRE_PRE, {1, 2}, {3, 0.5f});
  rig.f32(HADAL_HC_PRE_OUT, {1, 2}, {});
  rig.op.attr.hc = {.norm_eps = 1, .eps = 0.25f, .iterations = 1};
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_HC_PRE_OUT), (std::vector<float>{5, 15}));
  EXPECT_EQ(rig.floats(HADAL_HC_PRE_PRE), (std::vector<float>{3, 0.5f}));
  rig.f32(HADAL_HC_PRE_MIX, {1, 2}, {0, 4 * ln(3)});  // divided by the root of 15 + 1
  rig.weight(HADAL_HC_PRE_BASE, {2}, base, HADAL_F32);
  rig.weight(HADAL_HC_PRE_SCALE, {1}, scale, HADAL_F32);
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_HC_PRE_OUT), (std::vector<float>{5, 15}));
  expect_near(rig.floats(HADAL_HC_PRE_PRE), {1, 1});
  rig.op.operands[HADAL_HC_PRE_OUT] = -1;
  rig.f32(HADAL_HC_PRE_PRE, {1, 2}, {9, 9});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  expect_near(rig.floats(HADAL_HC_PRE_PRE), {1, 1});
}

TEST(RefHcPre, FormsThatDoNotExist) {
  const std::vector<float> one = {1};
  const auto why = [&](const std::vector<uint32_t>& given) {
    Rig rig(HADAL_OP_HC_PRE);
    rig.f32(HADAL_HC_PRE_X, {1, 1, 1}, {1});
    rig.op.attr.hc = {.norm_eps = 1, .eps = 0, .iterations = 1};
    for (const uint32_t i : given)
      if (i == HADAL_HC_PRE_BASE || i == HADAL_HC_PRE_SCALE)
        rig.weight(i, {1}, one, HADAL_F32);
      else if (i == HADAL_HC_PRE_COMB)
        rig.f32(i, {1, 1, 1}, {1});
      else
        rig.f32(i, {1, 1}, {1});
    EXPECT_EQ(rig.run(), HADAL_INVALID);
    const std::string text = rig.error.text;
    return text.substr(text.find("): ") + 3);
  };
  EXPECT_EQ(why({HADAL_HC_PRE_OUT}), "without pre, mix and out are needed");
  EXPECT_EQ(why({HADAL_HC_PRE_MIX, HADAL_HC_PRE_BASE, HADAL_HC_PRE_SCALE}),
            "without pre, mix and out are needed");
  EXPECT_EQ(why({HADAL_HC_PRE_PRE}), "neither mix nor out: nothing is asked");
  EXPECT_EQ(why({HADAL_HC_PRE_PRE, HADAL_HC_PRE_MIX, HADAL_HC_PRE_BASE}),
            "mix, base and scale go together");
  EXPECT_EQ(why({HADAL_HC_PRE_PRE, HADAL_HC_PRE_OUT, HADAL_HC_PRE_POST}),
            "post and comb go together");
  EXPECT_EQ(why({HADAL_HC_PRE_PRE, HADAL_HC_PRE_OUT, HADAL_HC_PRE_POST, HADAL_HC_PRE_COMB}),
            "post and comb need mix");
}

TEST(RefEngramGate, ByHowWellEachStreamMatches) {
  const std::vector<float> q = {1, 2, 1, 1, 1, 1}, k = {3, 1, 1, 1, 1, 1};
  Rig rig(HADAL_OP_ENGRAM_GATE);
  // Squares of stream 0 and its key: 1 and 4 for one number, with eps 3 roots of 3.5 and 5.
  rig.f32(HADAL_ENGRAM_GATE_X, {1, 3, 2}, {1, 0, 3, 1, 0, 5});
  rig.f32(HADAL_ENGRAM_GATE_KEY, {1, 3, 2}, {2, 0, -1, -3, 5, 0});
  rig.f32(HADAL_ENGRAM_GATE_VALUE, {1, 2}, {8, -16});
  rig.weight(HADAL_ENGRAM_GATE_Q_WEIGHT, {6}, q, HADAL_F32);
  rig.weight(HADAL_ENGRAM_GATE_K_WEIGHT, {6}, k, HADAL_F32);
  rig.op.attr.engram = {.eps = 3, .floor = 0.0625f};
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  const double a = sigmoid(std::sqrt(6 / std::sqrt(3.5 * 5 * 2))),
               b = sigmoid(-std::sqrt(6 / (8 * std::sqrt(2)))), c = sigmoid(0.25);
  expect_near(rig.floats(HADAL_ENGRAM_GATE_X),
              {1 + 8 * a, -16 * a, 3 + 8 * b, 1 - 16 * b, 8 * c, 5 - 16 * c});
}

TEST(RefHcPost, MixesAndAdds) {
  Rig rig(HADAL_OP_HC_POST);
  rig.f32(HADAL_HC_POST_X, {1, 2, 2}, {1, 2, 3, 4});
  rig.f32(HADAL_HC_POST_F, {1, 2}, {10, 20});
  rig.f32(HADAL_HC_POST_POST, {1, 2}, {1, 2});
  rig.f32(HADAL_HC_POST_COMB, {1, 2, 2}, {1, 2, 3, 4});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_HC_POST_X), (std::vector<float>{20, 34, 34, 60}));
}

}  // namespace
}  // namespace hadal::ref
