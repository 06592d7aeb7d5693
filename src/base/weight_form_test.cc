#include "base/weight_form.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/floats.h"

namespace hadal {
namespace {

std::byte* bytes_of(std::vector<float>& scales) {
  return reinterpret_cast<std::byte*>(scales.data());
}

TEST(Forms, Int8ByRows) {
  const WeightForm form{HADAL_I8, HADAL_F32, 1, 0};
  const std::vector<float> values = {127, -1, 0.4f, 0, 0, 0, 2, -4, 1};
  std::vector<std::byte> out(9);
  std::vector<float> scales(3);
  const EncodingError error = encode_rows(form, values.data(), 3, 3, out.data(), bytes_of(scales));
  EXPECT_EQ(scales, (std::vector<float>{1, 1, 4.0f / 127}));  // a row of zeros keeps them
  const auto at = [&](size_t i) { return static_cast<int>(static_cast<int8_t>(out[i])); };
  EXPECT_EQ(at(0), 127);
  EXPECT_EQ(at(1), -1);
  EXPECT_EQ(at(2), 0);
  EXPECT_EQ(at(3), 0);
  EXPECT_EQ(at(6), 64);  // 63.5 goes to the even number
  EXPECT_EQ(at(7), -127);
  EXPECT_EQ(at(8), 32);
  EXPECT_GT(error.error, 0.16);
  EXPECT_EQ(form.bytes(2, 3, 3), 18U + 24U);
  EXPECT_EQ(form.text(), "I8 with F32 scales by row");
}

TEST(Forms, Fp8ByBlocksWithPartialOnes) {
  const WeightForm form{HADAL_F8_E4M3, HADAL_F32, 2, 2};
  const std::vector<float> values = {448, 1, 896, 2, -224, 0};  // [2, 3]
  std::vector<std::byte> out(6);
  std::vector<float> scales(2);
  const EncodingError error = encode_rows(form, values.data(), 2, 3, out.data(), bytes_of(scales));
  EXPECT_EQ(scales, (std::vector<float>{1, 2}));
  for (size_t i = 0; i < 6; ++i)
    EXPECT_EQ(e4m3_to_f32(static_cast<uint8_t>(out[i])) * scales[i % 3 / 2], values[i]) << i;
  EXPECT_EQ(error.error, 0);
}

TEST(Forms, HalvesRoundToTheNearest) {
  const std::vector<float> values = {1.00390625f, 3};  // 1 + 2^-8: half way in bf16
  std::vector<std::byte> out(4);
  const EncodingError error =
      encode_rows({.dtype = HADAL_BF16}, values.data(), 1, 2, out.data(), nullptr);
  EXPECT_EQ(error.error, 0x1p-16);
  EXPECT_EQ(error.values, 1.00390625 * 1.00390625 + 9);
}

TEST(Forms, ScalesThatArePowersOfTwoAreNotBelow) {
  const WeightForm form{HADAL_I8, HADAL_F8_E8M0, 1, 2};
  const std::vector<float> values = {127, 64, 128, 1, 0, 0};
  std::vector<std::byte> out(6), scales(3);
  encode_rows(form, values.data(), 1, 6, out.data(), scales.data());
  EXPECT_EQ(static_cast<int>(scales[0]), 127);  // 1: 127 / 127 is one already
  EXPECT_EQ(static_cast<int>(scales[1]), 128);  // 2: 128 / 127 is above 1
  EXPECT_EQ(static_cast<int>(scales[2]), 127);
  EXPECT_EQ(static_cast<int>(out[0]), 127);
  EXPECT_EQ(static_cast<int>(out[2]), 64);
  EXPECT_EQ(static_cast<int>(out[3]), 0);  // half way between 0 and 1: the even one
}

TEST(Forms, WhatCannotBeMadeIsSaid) {
  EXPECT_TRUE(can_encode({.dtype = HADAL_F16}));
  EXPECT_FALSE(can_encode({.dtype = HADAL_Q4_K}));
  EXPECT_TRUE(can_encode({HADAL_I8, HADAL_BF16, 1, 0}));
  EXPECT_FALSE(can_encode({HADAL_I8, HADAL_Q8_0, 1, 0}));
  EXPECT_FALSE(can_encode({HADAL_I8, HADAL_F32, -7, 0}));
  EXPECT_FALSE(can_encode({.dtype = HADAL_I8}));
}

}  // namespace
}  // namespace hadal
