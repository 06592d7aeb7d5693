#include <gtest/gtest.h>

#include <cmath>

#include "models/spec.h"

namespace hadal {
namespace {

RopeSpec rope(const char* json, int64_t dims) {
  auto config = Config::parse(json, "test");
  EXPECT_TRUE(config);
  auto spec = RopeSpec::from_config(*config, dims);
  EXPECT_TRUE(spec) << (spec ? "" : spec.error().message);
  return *spec;
}

void expect_close(float value, double expected) {
  EXPECT_NEAR(static_cast<double>(value) / expected, 1.0, 2e-6);
}

// Check values worked out by hand from the YaRN formula for the published configurations.
TEST(Rope, YarnOfDeepSeekV3) {
  const auto inv = rope(
      R"({"rope_theta": 10000, "max_position_embeddings": 163840, "rope_scaling": {"type": "yarn", "factor": 40,
      "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}})",
      64);
  const auto f = inv.inv_freq();
  expect_close(f[0], 1);
  expect_close(f[10], 5.623413e-2);
  expect_close(f[16], 5.5e-3);
  expect_close(f[23], 3.333804e-5);
  expect_close(f[31], 3.333804e-6);
  EXPECT_EQ(inv.amplitude, 1);
}

TEST(Rope, YarnOfQwen3WithAttnFactorHasAmplitudeOne) {
  const auto spec = rope(
      R"({"rope_theta": 1000000, "max_position_embeddings": 131072, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
      "original_max_position_embeddings": 32768, "attn_factor": 0.8782488562869419}})",
      128);
  const auto f = spec.inv_freq();
  expect_close(f[23], 6.978306e-3);
  expect_close(f[31], 8.029597e-4);
  expect_close(f[40], 4.445698e-5);
  expect_close(f[63], 3.102344e-7);
  EXPECT_NEAR(spec.amplitude, 1.0, 1e-12);
}

TEST(Rope, AttentionFactorReplacesAndItsAbsenceComputesTheAmplitude) {
  const char* with =
      R"({"max_position_embeddings": 64, "rope_scaling": {"type": "yarn", "factor": 4, "attention_factor": 0.5}})";
  EXPECT_EQ(rope(with, 32).amplitude, 0.5);
  const char* without =
      R"({"max_position_embeddings": 64, "rope_scaling": {"type": "yarn", "factor": 4}})";
  EXPECT_NEAR(rope(without, 32).amplitude, 1.1386294361119891, 1e-12);
}

TEST(Rope, LinearDividesEveryFrequency) {
  const auto f =
      rope(R"({"rope_theta": 100000, "rope_scaling": {"type": "linear", "factor": 4}})", 128)
          .inv_freq();
  EXPECT_EQ(f[0], 0.25F);
}

TEST(Rope, Llama3KeepsHighAndDividesLowFrequencies) {
  const auto f =
      rope(
          R"({"rope_theta": 500000, "rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
      "high_freq_factor": 4, "original_max_position_embeddings": 8192}})",
          128)
          .inv_freq();
  EXPECT_EQ(f[0], 1.0F);
  expect_close(f[63], 1.0 / 8 / std::pow(500000.0, 126.0 / 128));
}

TEST(Rope, RefusesWhatItDoesNotKnow) {
  for (const char* bad :
       {R"({"rope_scaling": {"type": "longrope", "factor": 4}})",
        R"({"rope_scaling": {"type": "linear"}})",
        R"({"rope_scaling": {"type": "linear", "factor": 0}})", R"({"rope_theta": 0})",
        R"({"rope_dim": 200})", R"({"rope_scaling": {"rope_type": "llama3", "factor": 8}})"}) {
    auto config = Config::parse(bad, "test");
    ASSERT_TRUE(config);
    EXPECT_FALSE(RopeSpec::from_config(*config, 64)) << bad;
  }
}

}  // namespace
}  // namespace hadal
