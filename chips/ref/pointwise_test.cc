#include <gtest/gtest.h>

#include <cmath>

#include "test_rig.h"

namespace hadal::ref {
namespace {

void expect_close(const std::vector<float>& found, const std::vector<long double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_LE(std::fabs(static_cast<long double>(found[i]) - expected[i]),
              0x1p-23L * std::fabs(expected[i]) + 1e-37L)
        << i;
}

TEST(RefNorm, RmsWithResidualInPlace) {
  const std::vector<float> w = {1, 2};
  Rig rig(HADAL_OP_NORM);
  rig.f32(HADAL_NORM_X, {1, 2}, {1, 2});
  rig.alias(HADAL_NORM_OUT, HADAL_NORM_X);
  rig.f32(HADAL_NORM_RESIDUAL, {1, 2}, {2, 2});
  rig.weight(HADAL_NORM_W, {2}, w, HADAL_F32);
  rig.op.attr.norm.eps = 0.5f;
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_NORM_RESIDUAL), (std::vector<float>{3, 4}));
  const long double root = std::sqrt(12.5L + 0.5L);
  expect_close(rig.floats(HADAL_NORM_OUT), {3 / root, 4 / root * 2});
}

TEST(RefNorm, LayerNormPerHeadOfAView) {
  const std::vector<float> w = {2, 2, 2};
  const std::vector<float> b = {1, 1, 1};
  const auto x = numbers(16, 11);  // rows of 8: two heads of 3, two numbers that are not touched
  Rig rig(HADAL_OP_NORM);
  rig.f32(HADAL_NORM_X, {2, 8}, x);
  rig[HADAL_NORM_X].rank = 3;
  rig[HADAL_NORM_X].extents[1] = 2;
  rig[HADAL_NORM_X].extents[2] = 3;
  rig[HADAL_NORM_X].strides[1] = 12;
  rig[HADAL_NORM_X].strides[2] = 4;
  rig.f32(HADAL_NORM_OUT, {2, 2, 3}, {});
  rig.weight(HADAL_NORM_W, {3}, w, HADAL_F32);
  rig.weight(HADAL_NORM_B, {3}, b, HADAL_F32);
  rig.op.attr.norm = {.eps = 1e-3f, .layer = 1};
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  std::vector<long double> expected;
  for (size_t m = 0; m < 2; ++m)
    for (size_t h = 0; h < 2; ++h) {
      const float* r = &x[m * 8 + h * 3];
      const long double mean = (static_cast<long double>(r[0]) + static_cast<long double>(r[1]) +
                                static_cast<long double>(r[2])) /
                               3;
      long double var = 0;
      for (size_t i = 0; i < 3; ++i)
        var +=
            (static_cast<long double>(r[i]) - mean) * (static_cast<long double>(r[i]) - mean) / 3;
      for (size_t i = 0; i < 3; ++i)
        expected.push_back((static_cast<long double>(r[i]) - mean) /
                               std::sqrt(var + static_cast<long double>(1e-3f)) * 2 +
                           1);
    }
  expect_close(rig.floats(HADAL_NORM_OUT), expected);
}

// Angles 0.5 and 2 at position 1, one head of 5 of which 4 turn from the second on.
std::vector<float> turn(uint32_t interleaved, uint32_t inverse) {
  const std::vector<float> inv_freq = {0.5f, 2.0f};
  Rig rig(HADAL_OP_ROPE);
  rig.f32(HADAL_ROPE_X, {1, 1, 5}, {9, 1, 2, 3, 4});
  rig.i32(HADAL_ROPE_POSITION, {1}, {1});
  rig.weight(HADAL_ROPE_INV_FREQ, {2}, inv_freq, HADAL_F32);
  rig.op.attr.rope = {.first = 1,
                      .dims = 4,
                      .interleaved = interleaved,
                      .inverse = inverse,
                      .ratio = 1,
                      .amplitude = 1.5f};
  EXPECT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  return rig.floats(HADAL_ROPE_X);
}

TEST(RefRope, PairsByHand) {
  const double c0 = 1.5 * std::cos(0.5), s0 = 1.5 * std::sin(0.5), c1 = 1.5 * std::cos(2.0),
               s1 = 1.5 * std::sin(2.0);
  const auto near = [](const std::vector<float>& found, const std::vector<double>& expected) {
    for (size_t i = 0; i < found.size(); ++i)
      EXPECT_NEAR(static_cast<double>(found[i]), expected[i], 2e-6) << i;
  };
  near(turn(0, 0), {9, c0 - 3 * s0, 2 * c1 - 4 * s1, 3 * c0 + s0, 4 * c1 + 2 * s1});
  near(turn(1, 0), {9, c0 - 2 * s0, 2 * c0 + s0, 3 * c1 - 4 * s1, 4 * c1 + 3 * s1});
  near(turn(1, 1), {9, c0 + 2 * s0, 2 * c0 - s0, 3 * c1 + 4 * s1, 4 * c1 - 3 * s1});
}

TEST(RefRope, RatioTurnsOnlyTheLastOfEachGroup) {
  const std::vector<float> inv_freq = {1.0f};
  Rig rig(HADAL_OP_ROPE);
  rig.f32(HADAL_ROPE_X, {3, 1, 2}, {1, 0, 1, 0, 1, 0});
  rig.i32(HADAL_ROPE_POSITION, {3}, {2, 3, 7});
  rig.weight(HADAL_ROPE_INV_FREQ, {1}, inv_freq, HADAL_F32);
  rig.op.attr.rope = {
      .first = 0, .dims = 2, .interleaved = 1, .inverse = 0, .ratio = 4, .amplitude = 1};
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  const auto c = static_cast<float>(std::cos(4.0));
  const auto s = static_cast<float>(std::sin(4.0));
  EXPECT_EQ(rig.floats(HADAL_ROPE_X), (std::vector<float>{1, 0, 1, 0, c, s}));
}

TEST(RefSwiglu, ClampsGateFromAboveAndUpOnBothSides) {
  Rig rig(HADAL_OP_SWIGLU);
  rig.f32(HADAL_SWIGLU_GATE, {2, 2}, {1, 9, -9, 0});
  rig.f32(HADAL_SWIGLU_UP, {2, 2}, {2, 9, -9, 1});
  rig.f32(HADAL_SWIGLU_WEIGHT, {2}, {1, 0.5f});
  rig.f32(HADAL_SWIGLU_OUT, {2, 2}, {});
  rig.op.attr.swiglu.clamp = 7;
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  const auto silu = [](long double g) { return g / (1 + std::exp(-g)); };
  expect_close(rig.floats(HADAL_SWIGLU_OUT), {silu(1) * 2, silu(7) * 7, silu(-9) * -7 * 0.5L, 0});
}

TEST(RefAdd, Adds) {
  Rig rig(HADAL_OP_ADD);
  rig.f32(HADAL_ADD_X, {1, 3}, {1, 2, 3});
  rig.f32(HADAL_ADD_Y, {1, 3}, {0.5f, -2, 4});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_ADD_X), (std::vector<float>{1.5f, 0, 7}));
}

}  // namespace
}  // namespace hadal::ref
