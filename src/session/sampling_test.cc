#include "session/sampling.h"

#include <gtest/gtest.h>

namespace hadal {
namespace {

TEST(Sampling, ChoiceStandsOverTheFileAndTheFileOverTheFormat) {
  TokenizerData data;
  data.generation_config_json = R"({"temperature": 0.3, "top_k": 7})";
  SamplingChoice choice;
  choice.top_k = 9;
  choice.seed = 5;
  const auto s = sampling_params(choice, data, "qwen3", "m");
  ASSERT_TRUE(s) << s.error().message;
  EXPECT_FLOAT_EQ(s->temperature, 0.3F);
  EXPECT_EQ(s->top_k, 9);
  EXPECT_LT(s->top_p, 1.0F);  // Qwen3's card
  EXPECT_EQ(s->seed, 5U);
}

TEST(Sampling, TopKOfMinusOneIsOff) {
  TokenizerData data;
  data.generation_config_json = R"({"top_k": -1})";
  SamplingChoice choice;
  choice.greedy = true;
  const auto s = sampling_params(choice, data, "", "m");
  ASSERT_TRUE(s) << s.error().message;
  EXPECT_EQ(s->top_k, 0);
  EXPECT_EQ(s->temperature, 0.0F);
}

TEST(Sampling, WithoutASeedEachAnswerHasItsOwn) {
  const auto a = sampling_params({}, {}, "", "m"), b = sampling_params({}, {}, "", "m");
  ASSERT_TRUE(a && b);
  EXPECT_NE(a->seed, b->seed);
}

}  // namespace
}  // namespace hadal
