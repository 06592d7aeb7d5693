#include "base/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "base/quant.h"

namespace hadal {
namespace {

constexpr int kRow = 2048;

std::vector<float> encoded_and_decoded(DType dtype, const std::vector<float>& x) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<uint8_t> bytes(static_cast<size_t>(row_bytes(dtype, n).value()) + 1);
  std::vector<float> back(x.size());
  // one byte further: no format may ask for alignment
  EXPECT_TRUE(encode_from_f32(dtype, x.data(), n, bytes.data() + 1)) << dtype_name(dtype);
  EXPECT_TRUE(decode_to_f32(dtype, bytes.data() + 1, n, back.data()));
  return back;
}

double squared_error(const std::vector<float>& x, const std::vector<float>& y) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += std::pow(static_cast<double>(x[i]) - y[i], 2);
  return sum;
}

/// Rows as models have them, and such as they do not.
std::vector<std::pair<const char*, std::vector<float>>> rows() {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 0.02f);
  std::uniform_real_distribution<float> uniform(-3, 3);
  std::student_t_distribution<float> heavy(3);
  const auto make = [&](auto value) {
    std::vector<float> row(kRow);
    for (float& x : row) x = value();
    return row;
  };
  auto spike = make([&] { return normal(random); });
  for (size_t i = 5; i < spike.size(); i += 300) spike[i] = 0.2f;
  return {{"normal", make([&] { return normal(random); })},
          {"uniform", make([&] { return uniform(random); })},
          {"heavy", make([&] { return heavy(random); })},
          {"above zero", make([&] { return 5 + uniform(random); })},
          {"below zero", make([&] { return normal(random) - 1; })},
          {"spikes", spike},
          {"one value", make([] { return 0.37f; })}};
}

struct Bits {
  DType dtype;
  int group;          ///< values that share a scale
  float steps;        ///< of the code: a group's span is so many
  bool with_minimum;  ///< codes begin at the group's minimum
  int scale_levels;   ///< 0: the scale is a number of its own, else of a super-block's
};
constexpr Bits kTypes[] = {{HADAL_Q4_0, 32, 8, false, 0},  {HADAL_Q4_K, 32, 15, true, 63},
                           {HADAL_Q5_0, 32, 16, false, 0}, {HADAL_Q5_1, 32, 31, true, 0},
                           {HADAL_Q5_K, 32, 31, true, 63}, {HADAL_Q6_K, 16, 32, false, 128},
                           {HADAL_Q8_0, 32, 127, false, 0}};

/// What plain rounding keeps to: one step of the group for its own error and what the end of the
/// codes cuts off; the scale's and the minimum's own rounding times the largest code; f16.
double bound(const Bits& type, const float* block, int values) {
  double step = 0, low = 0, largest = 0;
  for (int g = 0; g < values; g += type.group) {
    const auto [least, most] = std::minmax_element(block + g, block + g + type.group);
    const double bottom = std::min(0.0f, *least), top = *most;
    const double span = type.with_minimum ? std::max(0.0, top - bottom)
                                          : std::max(std::abs(*least), std::abs(*most));
    step = std::max(step, span / static_cast<double>(type.steps));
    low = std::max(low, -bottom);
    largest = std::max({largest, std::abs(bottom), std::abs(top)});
  }
  double total = step + largest * 0x1p-10;
  if (type.scale_levels > 0)
    total += (static_cast<double>(type.steps) * step + (type.with_minimum ? low : 0.0)) /
             (2.0 * type.scale_levels);
  return total;
}

TEST(Quantize, ErrorStaysBelowThatOfPlainRounding) {
  for (const auto& [name, x] : rows())
    for (const Bits& type : kTypes) {
      const std::vector<float> back = encoded_and_decoded(type.dtype, x);
      const int block = dtype_info(type.dtype)->block_values;
      for (int at = 0; at < kRow; at += block) {
        const std::vector<float> a(x.begin() + at, x.begin() + at + block),
            b(back.begin() + at, back.begin() + at + block);
        const double limit = bound(type, a.data(), block);
        EXPECT_LE(std::sqrt(squared_error(a, b) / block), limit)
            << dtype_name(type.dtype) << " of " << name << ", block at " << at;
      }
    }
}

TEST(Quantize, MoreBitsMeanLessError) {
  for (const auto& [name, x] : rows()) {
    // Types without a minimum are another thing where all values are on one side.
    if (std::any_of(x.begin(), x.end(), [](float v) { return v > 0; }) ==
        std::all_of(x.begin(), x.end(), [](float v) { return v > 0; }))
      continue;
    const auto error = [&](DType dtype) { return squared_error(x, encoded_and_decoded(dtype, x)); };
    EXPECT_LT(error(HADAL_Q4_K), error(HADAL_Q4_0)) << name;
    EXPECT_LT(error(HADAL_Q5_0), error(HADAL_Q4_0)) << name;
    EXPECT_LT(error(HADAL_Q5_K), error(HADAL_Q4_K)) << name;
    EXPECT_LT(error(HADAL_Q6_K), error(HADAL_Q5_K)) << name;
    EXPECT_LT(error(HADAL_Q8_0), error(HADAL_Q6_K)) << name;
    EXPECT_LT(error(HADAL_F16), error(HADAL_Q8_0)) << name;
  }
}

/// The usual quantiser: the value of largest magnitude gets the last code.
double error_of_plain_q4_0(const std::vector<float>& x) {
  double sum = 0;
  for (size_t at = 0; at < x.size(); at += 32) {
    float extreme = 0;
    for (size_t i = at; i < at + 32; ++i)
      if (std::abs(x[i]) > std::abs(extreme)) extreme = x[i];
    const float d = extreme / -8;
    for (size_t i = at; i < at + 32; ++i) {
      const float q = d == 0 ? 0 : std::clamp(std::round(x[i] / d), -8.0f, 7.0f);
      sum += std::pow(static_cast<double>(x[i]) - d * q, 2);
    }
  }
  return sum;
}

TEST(Quantize, TheSearchIsWorthIt) {
  const auto all = rows();
  const std::vector<float>& normal = all[0].second;
  EXPECT_LT(squared_error(normal, encoded_and_decoded(HADAL_Q4_0, normal)),
            0.9 * error_of_plain_q4_0(normal));
}

TEST(Quantize, WhatAFormatHoldsExactlyComesBack) {
  std::mt19937 random(3);
  for (const Bits& type : kTypes) {
    const int high =
        type.with_minimum ? static_cast<int>(type.steps) : static_cast<int>(type.steps) - 1;
    const int low = type.with_minimum ? 0 : type.dtype == HADAL_Q8_0 ? -127 : -high - 1;
    std::vector<float> x(kRow);
    for (size_t i = 0; i < x.size(); ++i) {
      const auto at = static_cast<int>(i) % type.group;
      // both ends are there, so that the scale can be found
      const int q = at == 0 ? low
                    : at == 1
                        ? high
                        : low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
      // of a super-block's scale, so that both are powers of two
      x[i] = 0x1p-12f * static_cast<float>(q * std::max(1, type.scale_levels));
    }
    const float most = *std::max_element(x.begin(), x.end());
    const std::vector<float> back = encoded_and_decoded(type.dtype, x);
    for (size_t i = 0; i < x.size(); ++i)
      EXPECT_NEAR(back[i], x[i], most * 0x1p-20f) << dtype_name(type.dtype) << " at " << i;
  }
}

TEST(Quantize, ZerosStayZeros) {
  const std::vector<float> zeros(kRow);
  for (const Bits& type : kTypes) EXPECT_EQ(encoded_and_decoded(type.dtype, zeros), zeros);
}

TEST(Quantize, PlainTypesRoundToNearest) {
  const std::vector<float> x = {1.0f, -2.5f, 0.333333f, 1e-9f, 0, 300};
  for (const DType dtype : {HADAL_F16, HADAL_BF16, HADAL_F32}) {
    const std::vector<float> once = encoded_and_decoded(dtype, x);
    EXPECT_EQ(encoded_and_decoded(dtype, once), once);
    for (size_t i = 0; i < x.size(); ++i)
      EXPECT_NEAR(once[i], x[i],
                  std::abs(x[i]) * (dtype == HADAL_BF16 ? 0x1p-8f : 0x1p-11f) + 3e-8f);
  }
  EXPECT_EQ(encoded_and_decoded(HADAL_I32, {0, 255, 70000}), (std::vector<float>{0, 255, 70000}));
}

TEST(Quantize, WhatCannotBeWrittenIsRefused) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<uint8_t> bytes(1024);
  for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(), 1e30f}) {
    std::vector<float> x(256, 0.5f);
    x[77] = bad;
    for (const Bits& type : kTypes)
      EXPECT_FALSE(encode_from_f32(type.dtype, x.data(), 256, bytes.data()))
          << dtype_name(type.dtype) << " of " << bad;
    EXPECT_FALSE(encode_from_f32(HADAL_F16, x.data(), 256, bytes.data()));
  }
  const std::vector<float> x(256, 0.5f);
  EXPECT_FALSE(encode_from_f32(HADAL_Q4_K, x.data(), 128, bytes.data()));
  EXPECT_FALSE(encode_from_f32(HADAL_Q4_0, x.data(), 33, bytes.data()));
  EXPECT_FALSE(encode_from_f32(HADAL_IQ2_S, x.data(), 256, bytes.data()));
  EXPECT_FALSE(can_encode(HADAL_IQ2_S));
  const float half = 0.5f;
  EXPECT_FALSE(encode_from_f32(HADAL_I32, &half, 1, bytes.data()));
}

}  // namespace
}  // namespace hadal
