// Conversions of small floats: all codes against arithmetic in double, and the rounding against a
// search for the nearest.
#include "base/floats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace hadal {
namespace {

/// The value of a code with these fields, by definition.
double value_of(uint32_t code, int exponent_bits, int mantissa_bits, int bias) {
  const uint32_t mantissa = code & ((1u << mantissa_bits) - 1);
  const int exponent = static_cast<int>(code >> mantissa_bits & ((1u << exponent_bits) - 1));
  const double sign = (code >> (exponent_bits + mantissa_bits) & 1u) != 0 ? -1.0 : 1.0;
  const double fraction = static_cast<double>(mantissa) / (1 << mantissa_bits);
  return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias)
                               : std::ldexp(1 + fraction, exponent - bias));
}

TEST(Floats, F16AllCodes) {
  for (uint32_t code = 0; code < 65536; ++code) {
    const float got = f16_to_f32(static_cast<uint16_t>(code));
    if ((code & 0x7c00) == 0x7c00) {
      if ((code & 0x3ff) != 0) {
        ASSERT_TRUE(std::isnan(got));
      } else {
        ASSERT_EQ(got, (code & 0x8000) != 0 ? -INFINITY : INFINITY);
      }
      continue;
    }
    ASSERT_EQ(static_cast<double>(got), value_of(code, 5, 10, 15)) << code;
    ASSERT_EQ(f32_to_f16(got), code);
  }
}

/// Between neighbouring codes: the middle goes to the even one, a hair to either side to the nearer
/// one.
template <typename To, typename From>
void check_rounding(uint32_t first, uint32_t last, To to, From from) {
  for (uint32_t code = first; code < last; ++code) {
    const auto low = static_cast<double>(from(static_cast<uint16_t>(code)));
    const auto high = static_cast<double>(from(static_cast<uint16_t>(code + 1)));
    const auto middle = static_cast<float>((low + high) / 2);
    if (static_cast<double>(middle) != (low + high) / 2) continue;  // no float lies there
    ASSERT_EQ(to(middle), code + (code & 1)) << code;
    ASSERT_EQ(to(std::nextafter(middle, 0.0f)), code) << code;
    ASSERT_EQ(to(std::nextafter(middle, INFINITY)), code + 1) << code;
    ASSERT_EQ(to(-middle), (code + (code & 1)) | 0x8000) << code;
  }
}

TEST(Floats, F16Rounds) { check_rounding(0, 0x7bff, f32_to_f16, f16_to_f32); }
TEST(Floats, Bf16Rounds) { check_rounding(0x0080, 0x7f7f, f32_to_bf16, bf16_to_f32); }

TEST(Floats, OverflowAndNan) {
  EXPECT_EQ(f32_to_f16(65519.996f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(-1e30f), 0xfc00);
  EXPECT_EQ(f32_to_f16(1e-10f), 0);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(f32_to_bf16(INFINITY), 0x7f80);
  const auto low_payload = std::bit_cast<float>(0x7f800001u);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(low_payload))));
  EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(low_payload))));
}

TEST(Floats, Fp8AllCodes) {
  for (uint32_t code = 0; code < 256; ++code) {
    const auto byte = static_cast<uint8_t>(code);
    const auto e4m3 = static_cast<double>(e4m3_to_f32(byte));
    const auto e5m2 = static_cast<double>(e5m2_to_f32(byte));
    const auto e8m0 = static_cast<double>(e8m0_to_f32(byte));
    ASSERT_TRUE((code & 0x7f) == 0x7f ? std::isnan(e4m3) : e4m3 == value_of(code, 4, 3, 7)) << code;
    ASSERT_TRUE((code & 0x7c) == 0x7c ? !std::isfinite(e5m2) : e5m2 == value_of(code, 5, 2, 15))
        << code;
    ASSERT_TRUE(code == 255 ? std::isnan(e8m0)
                            : e8m0 == std::ldexp(1.0, static_cast<int>(code) - 127))
        << code;
  }
  EXPECT_EQ(e4m3_to_f32(0x7e), 448.0f);
  for (uint32_t code = 0; code < 256; ++code) {  // codes come back; middles go to the even one
    const auto byte = static_cast<uint8_t>(code);
    if ((code & 0x7f) == 0x7f) continue;
    const float value = e4m3_to_f32(byte);
    ASSERT_EQ(f32_to_e4m3(value), byte);
    if ((code & 0x7f) == 0x7e) continue;
    const float next = e4m3_to_f32(static_cast<uint8_t>(code + 1)), middle = (value + next) / 2;
    ASSERT_EQ(f32_to_e4m3(middle), code + (code & 1)) << code;
    ASSERT_EQ(f32_to_e4m3(std::nextafter(middle, value)), code) << code;
    ASSERT_EQ(f32_to_e4m3(std::nextafter(middle, next)), code + 1) << code;
  }
  EXPECT_EQ(f32_to_e4m3(INFINITY), 0x7e);
  EXPECT_EQ(f32_to_e4m3(-500.0f), 0xfe);
  EXPECT_TRUE(std::isnan(e4m3_to_f32(f32_to_e4m3(NAN))));
  EXPECT_TRUE(std::isinf(e5m2_to_f32(0x7c)));
  EXPECT_TRUE(std::isnan(e5m2_to_f32(0xfd)));
  EXPECT_TRUE(std::isnan(e8m0_to_f32(255)));
  for (uint32_t code = 0; code < 16; ++code)
    EXPECT_EQ(static_cast<double>(e2m1_to_f32(static_cast<uint8_t>(code))), value_of(code, 2, 1, 1))
        << code;
}

}  // namespace
}  // namespace hadal
