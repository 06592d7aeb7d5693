#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "test_rig.h"

namespace hadal::ref {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// One row of the operator.
struct Row {
  std::vector<float> logits;
  std::vector<float> params = {
      0, 0, 1, 0, 1, 0, 0, 0};  // temperature, top-k, top-p, min-p, repetition, presence, frequency
  std::vector<int32_t> entries = {};  // [n, 3]
  std::vector<float> bias = {};
  std::vector<uint32_t> mask = {};
  std::vector<uint32_t> seed = {0, 0};
  int32_t position = 0;
};

struct Answer {
  int32_t token = -1;
  float logprob = 0;
  std::vector<int32_t> top;
};

Answer sample_row(const Row& row) {
  const auto v = static_cast<int64_t>(row.logits.size());
  const auto entries = static_cast<int64_t>(row.bias.size());
  Rig rig(HADAL_OP_SAMPLE);
  rig.f32(HADAL_SAMPLE_LOGITS, {1, v}, row.logits);
  rig.f32(HADAL_SAMPLE_PARAMS, {1, HADAL_PARAM_COUNT}, row.params);
  rig.set(HADAL_SAMPLE_SEED, {1, 2}, row.seed, HADAL_U32);
  rig.i32(HADAL_SAMPLE_POSITION, {1}, {row.position});
  rig.i32(HADAL_SAMPLE_ENTRY_START, {1, 2}, {0, static_cast<int32_t>(entries)});
  rig.i32(HADAL_SAMPLE_ENTRY, {entries, 3}, row.entries);
  rig.f32(HADAL_SAMPLE_ENTRY_BIAS, {entries}, row.bias);
  if (!row.mask.empty()) rig.set(HADAL_SAMPLE_MASK, {1, (v + 31) / 32}, row.mask, HADAL_U32);
  rig.i32(HADAL_SAMPLE_TOKEN, {1}, {-1});
  rig.f32(HADAL_SAMPLE_LOGPROB, {1}, {kNan});
  rig.i32(HADAL_SAMPLE_TOP_TOKEN, {1, 2}, {-1, -1});
  rig.f32(HADAL_SAMPLE_TOP_LOGPROB, {1, 2}, {kNan, kNan});
  rig.op.attr.sample.top = 2;
  EXPECT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  return {rig.get<int32_t>(HADAL_SAMPLE_TOKEN)[0], rig.floats(HADAL_SAMPLE_LOGPROB)[0],
          rig.get<int32_t>(HADAL_SAMPLE_TOP_TOKEN)};
}

TEST(RefSample, GreedyTiesTakeTheLowerIdAndNanIsNever) {
  EXPECT_EQ(sample_row({.logits = {1, 3, 3, 2}}).token, 1);
  EXPECT_EQ(sample_row({.logits = {kNan, -5, kNan, -4}}).token, 3);
  EXPECT_EQ(sample_row({.logits = {kNan, kNan}}).token, 0);
}

TEST(RefSample, ReportsRawLogProbabilities) {
  const Answer a = sample_row({.logits = {0, 2, 1}, .entries = {1, 0, 1}, .bias = {-100}});
  EXPECT_EQ(a.token, 2);
  EXPECT_NEAR(static_cast<double>(a.logprob), 1 - std::log(1 + std::exp(1.0) + std::exp(2.0)),
              1e-6);
  EXPECT_EQ(a.top, (std::vector<int32_t>{1, 2}));
}

TEST(RefSample, PenaltiesByHand) {
  // repetition 2: 4 -> 2 and -1 -> -2; presence 0.5 and frequency 0.25 count the output alone.
  const auto run = [](std::vector<float> logits, std::vector<int32_t> entries,
                      std::vector<float> bias) {
    return sample_row({.logits = std::move(logits),
                       .params = {0, 0, 1, 0, 2, 0.5f, 0.25f, 0},
                       .entries = std::move(entries),
                       .bias = std::move(bias)})
        .token;
  };
  EXPECT_EQ(run({4, 2.01f}, {0, 1, 0}, {0}), 1);
  EXPECT_EQ(run({4, 1.99f}, {0, 1, 0}, {0}), 0);
  EXPECT_EQ(run({-1, -1.99f}, {0, 1, 0}, {0}), 1);
  EXPECT_EQ(run({-1, -2.01f}, {0, 1, 0}, {0}), 0);
  EXPECT_EQ(run({4, 0.76f}, {0, 0, 3}, {0}), 1);  // 2 - 0.5 - 0.75
  EXPECT_EQ(run({4, 0.74f}, {0, 0, 3}, {0}), 0);
  EXPECT_EQ(run({4, 4.5f}, {0, 0, 0}, {1}), 0);  // a bias alone is no occurrence
}

TEST(RefSample, MaskForbids) {
  EXPECT_EQ(sample_row({.logits = {1, 9, 2}, .mask = {0b101}}).token, 2);
}

// Known answers of Philox-4x32-10 (Random123's kat_vectors): counter and key zero give 6627e8d5
// e169c58d bc57ac4c 9b00dbd8.
TEST(RefSample, NoiseIsPhilox) {
  const std::vector<uint32_t> words = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
  std::vector<double> noise;
  for (const uint32_t x : words)
    noise.push_back(-std::log(-std::log((static_cast<double>(x >> 8) + 0.5) / 16777216.0)));
  for (size_t i = 0; i < 4; ++i)
    for (size_t j = 0; j < 4; ++j) {
      if (i == j) continue;
      // Token i is lifted until it just beats, or just fails to beat, token j.
      for (const double margin : {-1e-3, 1e-3}) {
        std::vector<float> logits(4, -1000);
        logits[j] = 0;
        logits[i] = static_cast<float>(noise[j] - noise[i] + margin);
        EXPECT_EQ(sample_row({.logits = logits, .params = {1, 0, 1, 0, 1, 0, 0, 0}}).token,
                  static_cast<int32_t>(margin > 0 ? i : j));
      }
    }
}

TEST(RefSample, CutsKeepWhatTheyShould) {
  // Probabilities 0.5, 0.25, 0.125, 0.125.
  const std::vector<float> logits = {std::log(0.5f), std::log(0.25f), std::log(0.125f),
                                     std::log(0.125f)};
  const auto seen = [&](std::vector<float> params) {
    std::map<int32_t, int> count;
    for (int32_t p = 0; p < 400; ++p)
      ++count[sample_row({.logits = logits, .params = params, .seed = {7, 9}, .position = p})
                  .token];
    return count;
  };
  EXPECT_EQ(seen({1, 0, 1, 0, 1, 0, 0, 0}).size(), 4u);
  EXPECT_EQ(seen({1, 2, 1, 0, 1, 0, 0, 0}).size(), 2u);
  EXPECT_EQ(seen({1, 0, 0.76f, 0, 1, 0, 0, 0}).size(), 3u);
  EXPECT_EQ(seen({1, 0, 0.74f, 0, 1, 0, 0, 0}).size(), 2u);
  EXPECT_EQ(seen({1, 0, 0, 0, 1, 0, 0, 0}).size(), 1u);
  EXPECT_EQ(seen({1, 0, 1, 0.3f, 1, 0, 0, 0}).size(), 2u);
  EXPECT_EQ(seen({1, 3, 0.8f, 0, 1, 0, 0, 0}).size(),
            2u);  // of top-k's 0.875 the first two are 0.857
  const auto all = seen({1, 0, 1, 0, 1, 0, 0, 0});
  EXPECT_NEAR(all.at(0), 200, 40);  // four standard deviations of a binomial
  EXPECT_NEAR(all.at(1), 100, 35);
}

}  // namespace
}  // namespace hadal::ref
