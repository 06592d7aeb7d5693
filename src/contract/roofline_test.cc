#include "contract/roofline.h"

#include <gtest/gtest.h>

namespace hadal::contract {
namespace {

constexpr Peaks kPeaks = {.bytes_per_second = 10,
                          .flops_per_second = 100,
                          .int8_per_second = 400,
                          .bf16_per_second = 200};

TEST(Roofline, ArithmeticIsThatOfTheClass) {
  for (const char* plain : {"exact", "not said", "fp8"})
    EXPECT_EQ(arithmetic_peak(kPeaks, plain), 100) << plain;
  for (const char* int8 : {"block8 (32)", "block8 (256)", "row8"})
    EXPECT_EQ(arithmetic_peak(kPeaks, int8), 400) << int8;
  EXPECT_EQ(arithmetic_peak(kPeaks, "half"), 200);
  const Peaks fp32 = {.bytes_per_second = 10, .flops_per_second = 100};
  for (const char* any : {"block8 (32)", "row8", "half"})
    EXPECT_EQ(arithmetic_peak(fp32, any), 100) << any;
}

TEST(Roofline, TheSlowerOfBytesAndArithmeticBounds) {
  const Roof memory = roof_of({.flops = 100, .bytes = 20}, kPeaks, "exact");
  EXPECT_EQ(memory.seconds, 2);
  EXPECT_STREQ(memory.bound(), "memory");
  const Roof arithmetic = roof_of({.flops = 300, .bytes = 20}, kPeaks, "exact");
  EXPECT_EQ(arithmetic.seconds, 3);
  EXPECT_STREQ(arithmetic.bound(), "arithmetic");
  EXPECT_STREQ(roof_of({.flops = 300, .bytes = 20}, kPeaks, "row8").bound(), "memory");
  EXPECT_EQ(percent_of(arithmetic, 12), 25);
  EXPECT_EQ(percent_of(arithmetic, 0), 0);
}

TEST(Roofline, OneAfterAnotherTakesTheSumOfBoth) {
  Roof sum = roof_of({.flops = 100, .bytes = 20}, kPeaks, "exact");
  sum += roof_of({.flops = 300, .bytes = 0}, kPeaks, "exact");
  EXPECT_EQ(sum.seconds, 5);  // not the larger of 2 + 0 and 1 + 3
  EXPECT_STREQ(sum.bound(), "arithmetic");
}

TEST(Roofline, AnUnknownPeakBoundsNothing) {
  EXPECT_EQ(roof_of({.flops = 300, .bytes = 20}, {.flops_per_second = 100}, "exact").seconds, 3);
  EXPECT_EQ(roof_of({.flops = 300, .bytes = 20}, {}, "exact").seconds, 0);
}

TEST(Roofline, WhatIsMostlyLaunchIsNotJudgedWithoutIt) {
  EXPECT_EQ(without_launch(8, 2), 6);
  EXPECT_EQ(without_launch(8, 6), 2);
  EXPECT_FALSE(without_launch(8, 7));
  EXPECT_FALSE(without_launch(8, 9));
  EXPECT_FALSE(without_launch(0, 0));
}

TEST(Roofline, ACopyThatFailsHasNoRate) {
  int copies = 0;
  EXPECT_GT(copy_rate(contract::kCopyBytes, [&] { return ++copies > 0; }), 0);
  EXPECT_EQ(copy_rate(contract::kCopyBytes, [&] { return --copies > 3; }), 0);
}

}  // namespace
}  // namespace hadal::contract
