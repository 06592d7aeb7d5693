// The hyper-connections and engram_gate, with numbers computed by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "test_rig.h"

namespace hadal::ref {
namespace {

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
