// router, moe_sort, grouped_matmul, moe_combine, with numbers computed by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "test_rig.h"

namespace hadal::ref {
namespace {

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

TEST(RefMoeSort, OfARangeThePairsOfOthersHaveNoPlace) {
  SortRig rig({6, 4, 0, 5, 4, 9});  // the experts here: 4, 5, 6 of 10
  rig.op.attr.experts.first = 4;
  rig.op.attr.experts.of = 10;
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  const auto front = [&](auto values) { return values.resize(4), values; };
  EXPECT_EQ(front(rig.get<int32_t>(HADAL_MOE_SORT_ORDER)), (std::vector<int32_t>{1, 4, 3, 0}));
  EXPECT_EQ(rig.get<int32_t>(HADAL_MOE_SORT_PLACE), (std::vector<int32_t>{3, 0, -1, 2, 1, -1}));
  EXPECT_EQ(rig.get<int32_t>(HADAL_MOE_SORT_OFFSET), (std::vector<int32_t>{0, 2, 3, 4}));
  EXPECT_EQ(front(rig.floats(HADAL_MOE_SORT_ROW_WEIGHT)), (std::vector<float>{11, 14, 13, 10}));
  rig.op.attr.experts.of = 9;
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_STREQ(rig.error.text, "moe_sort: expert[5] = 9 is outside [0, 9)");
  rig.op.attr.experts.of = 6;
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_NE(std::string(rig.error.text).find("first + the experts here is more than of"),
            std::string::npos)
      << rig.error.text;
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

TEST(RefMoeCombine, APairWithoutAPlaceAddsNothing) {
  Rig rig(HADAL_OP_MOE_COMBINE);
  rig.op.attr.experts.fan = 2;
  rig.f32(HADAL_MOE_COMBINE_X, {4, 1}, {1, 2, 4, 8});
  rig.i32(HADAL_MOE_COMBINE_PLACE, {4}, {-1, 1, -1, -1});
  rig.f32(HADAL_MOE_COMBINE_OUT, {2, 1}, {7, 7});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_MOE_COMBINE_OUT), (std::vector<float>{2, 0}));
  rig.i32(HADAL_MOE_COMBINE_PLACE, {4}, {-2, 1, 0, 0});
  EXPECT_EQ(rig.run(), HADAL_INVALID);
}

}  // namespace
}  // namespace hadal::ref
