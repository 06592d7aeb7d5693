// A model on several devices: what the user's words mean, where the newest bytes are, and the
// promise: devices that compute alike give the bits of one.
#include "engine/placement.h"

#include <gtest/gtest.h>

#include "checkpoint/testing.h"
#include "engine/segments.h"
#include "engine/testing_devices.h"

namespace hadal {
namespace {

using namespace hadal::testing;  // NOLINT: the tests' own words

constexpr Region layer(int64_t i) { return {.part = Region::Part::kLayer, .layer = i}; }
constexpr Region experts(int64_t i) { return {.part = Region::Part::kExperts, .layer = i}; }
constexpr Region kHead = {.part = Region::Part::kHead, .layer = -1};
constexpr Region kEmbedding = {.part = Region::Part::kEmbedding, .layer = -1};

TEST(DeviceName, IsAChipItsNumberAndAnInstance) {
  EXPECT_EQ(*parse_device_name("opencl"), (DeviceName{.chip = "opencl"}));
  EXPECT_EQ(*parse_device_name(" cpu:3 "), (DeviceName{.chip = "cpu", .index = 3}));
  EXPECT_EQ(*parse_device_name("./a.b:c/libx.so:1#2"),
            (DeviceName{.chip = "./a.b:c/libx.so", .index = 1, .instance = 2}));
  EXPECT_EQ(*parse_device_name("./a:0/libx.so"), (DeviceName{.chip = "./a:0/libx.so"}));
  for (const char* wrong : {"", ":1", "cpu:", "cpu:-1", "cpu:x", "cpu#0", "cpu#", "cpu:99999"})
    EXPECT_FALSE(parse_device_name(wrong)) << wrong;
}

TEST(Placement, LaterRulesGoFirst) {
  const auto p = Placement::parse("layers 2-3: a; layer 3: b:1; experts of layers 1-: c; head: c;",
                                  {.chip = "home"});
  ASSERT_TRUE(p) << p.error().message;
  const auto name = [&](const Region& region) { return p->devices()[p->of(region)].text(); };
  EXPECT_EQ(name(layer(1)), "home:0");
  EXPECT_EQ(name(layer(2)), "a:0");
  EXPECT_EQ(name(layer(3)), "b:1");
  EXPECT_EQ(name(experts(0)), "home:0");
  EXPECT_EQ(name(experts(2)), "c:0");
  EXPECT_EQ(name(kHead), "c:0");
  EXPECT_EQ(name(kEmbedding), "home:0");
  EXPECT_EQ(name(experts(-1)), "c:0");  // of a draft: with the head
  EXPECT_TRUE(p->check(4));
  EXPECT_FALSE(p->check(3));
}

TEST(Placement, SaysWhatWasExpected) {
  for (const char* wrong :
       {"layers", "layers: cpu", "layers 3-1: cpu", "layers -2: cpu", "heads: cpu",
        "experts of: cpu", "experts of all: cpu", "head", "head:", "head: cpu:x", ": cpu"}) {
    const auto p = Placement::parse(wrong, {.chip = "cpu"});
    ASSERT_FALSE(p) << wrong;
    EXPECT_EQ(p.error().code, ErrorCode::kUsage);
    EXPECT_NE(p.error().message.find("expected"), std::string::npos) << p.error().message;
  }
}

TEST(Holders, KnowWhereTheNewestBytesAre) {
  Holders holders;
  holders.written(0, 100, 0);
  holders.written(20, 40, 1);
  holders.copied(30, 60, 2);
  const auto found = holders.within(10, 90);
  std::string text;
  for (const auto& s : found)
    text += std::to_string(s.begin) + "-" + std::to_string(s.end) + ":" + std::to_string(s.places) +
            " ";
  EXPECT_EQ(text, "10-20:1 20-30:2 30-40:6 40-60:5 60-90:1 ");
  holders.forget(25, 70);
  EXPECT_EQ(holders.within(0, 200).size(), 3U);
}

class OnSeveralDevices : public ::testing::TestWithParam<const char*> {};

TEST_P(OnSeveralDevices, TheBitsAreThoseOfOne) {
  RunnerOptions options = options_for(GetParam());
  const std::vector<Got> alone = answers(GetParam(), options);
  for (const char* place : {"layers 1-: cpu:0#2", "layer 0: cpu:0#2; head: cpu:0#3",
                            "embedding: cpu:0#2; layers 0-: cpu:0#2"}) {
    options.place = place;
    EXPECT_TRUE(answers(GetParam(), options) == alone) << place;
  }
}

TEST_P(OnSeveralDevices, ExpertsMayBeElsewhere) {
  RunnerOptions options = options_for(GetParam());
  options.place = "experts: cpu:0#2";
  if (std::string(GetParam()).starts_with("deepseek")) {
    const std::vector<Got> apart = answers(GetParam(), options);
    options.place.clear();
    EXPECT_TRUE(answers(GetParam(), options) == apart);
    return;
  }
  const auto checkpoint = Checkpoint::open(golden(GetParam()));
  const auto runner = ModelRunner::open(**checkpoint, options);
  ASSERT_FALSE(runner);
  EXPECT_NE(runner.error().message.find("no experts"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Families, OnSeveralDevices,
                         ::testing::Values("llama", "qwen2", "qwen3", "deepseek-moe",
                                           "deepseek-v2-lite", "deepseek-v3", "deepseek-v32",
                                           "deepseek-v4", "deepseek-v4-dspark"));

TEST(SeveralDevices, OfAnotherChipComputeTheSameModel) {
  RunnerOptions options = small_options();
  options.device.chip = "ref";
  const std::vector<Got> ref = answers("deepseek-v3", options);
  options.place = std::string("layers 1-: ") + HADAL_APART_HALF_FILE + "; experts: ref";
  const std::vector<Got> mixed = answers("deepseek-v3", options);
  // Rounded to bf16 in between: near, not the same.
  const auto& [position, row] = *ref[0].logits.begin();
  const std::vector<float>& other = mixed[0].logits.at(position);
  const double difference = squared_distance(row, other);
  EXPECT_GT(difference, 0);
  EXPECT_LT(difference, 0.01 * squared_distance(row, std::vector<float>(row.size(), 0.0F)));
}

TEST(SeveralDevices, WhatAChipDeclinesGoesToTheCpuIfTheUserAllows) {
  RunnerOptions options = small_options();
  const std::vector<Got> whole = answers("deepseek-v3", options);
  options.device.chip = HADAL_TEMPLATE_FILE;  // it has what dense models need
  const auto checkpoint = Checkpoint::open(golden("deepseek-v3"));
  const auto refused = ModelRunner::open(**checkpoint, options);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("latent_attention(q ["), std::string::npos)
      << refused.error().message;
  options.fallback = true;
  const auto runner = ModelRunner::open(**checkpoint, options);
  ASSERT_TRUE(runner) << runner.error().message;
  const auto& fallbacks = (*runner)->placer().fallbacks();
  EXPECT_EQ(fallbacks.at("latent_attention").count, 3);
  EXPECT_EQ(fallbacks.at("kv_write").reason, "the cache that it touches is there");
  EXPECT_FALSE(fallbacks.contains("norm"));
  const std::vector<Got> mixed = answers("deepseek-v3", options);
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_EQ(mixed[i].tokens, whole[i].tokens);
}

TEST(SeveralDevices, ThatFallBackTakeCachesThatLayersShareAlong) {
  RunnerOptions options = small_options();
  options.device.chip = HADAL_TEMPLATE_FILE;
  options.fallback = true;
  const Loaded l = load(golden("deepseek-v41"), options);
  const ModelRunner& runner = l.engine->runner();
  EXPECT_TRUE(runner.placer().fallbacks().contains("latent_attention"));
  EXPECT_EQ(run(*l.engine, {request(3, 60, 4, l.engine->spec().vocab_size)})[0].tokens.size(), 4U);
}

TEST(SeveralDevices, AreNotThereWhereNothingFallsBack) {
  RunnerOptions options = apart_options({});
  options.fallback = true;
  const Loaded l = load(golden("llama"), options);
  EXPECT_EQ(l.engine->runner().places().size(), 1U);
}

TEST(SeveralDevices, GiveTheMostLikelyTokensOfTheHead) {
  RunnerOptions options = small_options();
  const auto top = [&] {
    const Loaded l = load(golden("qwen3"), options);
    Request asked = request(3, 40, 4, l.engine->spec().vocab_size);
    asked.top_logprobs = 3;
    std::vector<std::pair<TokenId, float>> all;
    const Got got = run(*l.engine, {std::move(asked)})[0];
    for (const TokenEvent& event : got.events)
      for (const TokenLogprob& of : event.top) all.emplace_back(of.token, of.logprob);
    EXPECT_EQ(all.size(), 12U);
    return all;
  };
  const auto alone = top();
  options.place = "layers 1-: cpu:0#2; head: cpu:0#2";
  EXPECT_EQ(top(), alone);
}

TEST(SeveralDevices, DraftByStatesThatSeveralOfThemLeft) {
  RunnerOptions options = options_for("deepseek-v4-dspark");
  std::vector<int64_t> right;
  // The draft reads the states behind layers 1 and 3, columns of one memory.
  for (const char* place : {"", "layers 2-: cpu:0#2", "layers 2-: cpu:0#2; head: cpu:0#2"}) {
    options.place = place;
    EngineOptions engine;
    engine.draft_tokens = 3;
    const Loaded l = load(golden("deepseek-v4-dspark"), options, std::move(engine));
    (void)run(*l.engine, {request(1, 100, 40, l.engine->spec().vocab_size)}, false);
    right.push_back(l.engine->counts().accepted_tokens);
  }
  EXPECT_EQ(right[1], right[0]);
  EXPECT_EQ(right[2], right[0]);
}

TEST(SeveralDevices, PagesOfAllAreKeptAndFound) {
  RunnerOptions options = small_options();
  options.place = std::string("layers 1-: ") + HADAL_APART_HALF_FILE;
  const Loaded l = load(golden("llama"), options);
  const int64_t vocab = l.engine->spec().vocab_size;
  const Got cold = run(*l.engine, {request(5, 200, 4, vocab, false)})[0];
  (void)run(*l.engine, {request(5, 200, 4, vocab)});
  const Got warm = run(*l.engine, {request(5, 200, 4, vocab)})[0];
  EXPECT_EQ(warm.tokens, cold.tokens);
  EXPECT_TRUE(warm.logits == cold.logits);
}

TEST(Ranks, TakeTheDevicesThatThereAre) {
  EXPECT_EQ(device_of_rank(0, 3, 4, 8), 3);
  EXPECT_EQ(device_of_rank(4, 1, 4, 8), 5);
  EXPECT_EQ(device_of_rank(5, 1, 4, 8), 5);  // too few behind it
  EXPECT_EQ(device_of_rank(0, 1, 2, 1), 0);
}

TEST(Ranks, ADeviceThatIsLostEndsTheRun) {
  RunnerOptions options = small_options();
  options.device.chip = HADAL_APART_HALF_FILE;
  options.device.chip_options = {{"fail-at-run", "8"}};
  options.rank_threads = 2;
  const Loaded l = load(golden("llama"), options);
  const int64_t vocab = l.engine->spec().vocab_size;
  for (int i = 0; i < 2; ++i) {  // nobody hangs, and nobody goes on with half a model
    const auto id = l.engine->add(request(1, 40, 30, vocab));
    Result<std::vector<TokenEvent>> events = std::vector<TokenEvent>();
    for (int step = 0; step < 100 && events; ++step) events = l.engine->step();
    EXPECT_FALSE(events);
    l.engine->cancel(*id);
  }
}

/// A model in parts: sums are made in another order, so bits differ from those of the whole; but
/// not from run to run, nor between threads.
class InParts : public ::testing::TestWithParam<const char*> {};

TEST_P(InParts, ComputesTheSameModel) {
  RunnerOptions options = options_for(GetParam());
  options.weights = WeightMode::kF32;
  options.kv_cache_dtype = HADAL_F32;
  const std::vector<Got> whole = answers(GetParam(), options);
  options.rank_threads = 2;
  const std::vector<Got> parts = answers(GetParam(), options);
  EXPECT_TRUE(answers(GetParam(), options) == parts);
  for (size_t i = 0; i < whole.size(); ++i) {
    const auto first = whole[i].logits.begin();
    const std::vector<float>& other = parts[i].logits.at(first->first);
    const std::vector<float> zero(other.size(), 0.0F);
    EXPECT_LT(squared_distance(first->second, other), 1e-8 * squared_distance(other, zero));
  }
}

INSTANTIATE_TEST_SUITE_P(Families, InParts,
                         ::testing::Values("llama", "qwen3", "deepseek-v2", "deepseek-v3",
                                           "deepseek-v32", "deepseek-v4"));

TEST(SeveralDevices, LayersThatShareACacheStayTogether) {
  const auto checkpoint = Checkpoint::open(golden("deepseek-v41"));
  RunnerOptions options = small_options();
  options.compressed_vocabulary = [&] { return any_vocabulary((*checkpoint)->config()); };
  std::string refused;
  int placed = 0;
  const auto whole = ModelRunner::open(**checkpoint, options);
  ASSERT_TRUE(whole) << whole.error().message;
  for (int64_t i = 1; i < (*whole)->spec().num_hidden_layers; ++i) {
    options.place = "layers " + std::to_string(i) + "-: cpu:0#2";
    const auto runner = ModelRunner::open(**checkpoint, options);
    if (runner)
      ++placed;
    else
      refused = runner.error().message;
  }
  EXPECT_GT(placed, 0);
  EXPECT_NE(refused.find("share a cache"), std::string::npos) << refused;
}

}  // namespace
}  // namespace hadal
