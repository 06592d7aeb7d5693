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
  EXPECT_NE(refused.error().message.find("latent_attention ("), std::string::npos)
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

TEST(LostDevice, RunningRequestsEndAndTheNextOnesAreServed) {
  const Loaded alone = load(golden("llama"), apart_options({}));
  const int64_t vocab = alone.engine->spec().vocab_size;
  const Request short_one = request(3, 40, 3, vocab);
  const Got expected = run(*alone.engine, {short_one})[0];

  std::vector<std::string> log;
  EngineOptions engine;
  engine.log = [&](std::string_view line) { log.emplace_back(line); };
  const Loaded l = load(golden("llama"), apart_options({{"fail-at-run", "8"}}), engine);
  const auto id = l.engine->add(request(1, 40, 30, vocab));
  ASSERT_TRUE(id);
  Result<std::vector<TokenEvent>> events = std::vector<TokenEvent>();
  for (int i = 0; i < 100 && events; ++i) events = l.engine->step();
  ASSERT_FALSE(events);
  EXPECT_NE(events.error().message.find("fell off the bus"), std::string::npos);
  l.engine->cancel(*id);
  EXPECT_TRUE(run(*l.engine, {short_one})[0] == expected);
  ASSERT_EQ(log.size(), 1U);
  EXPECT_NE(log[0].find("open again"), std::string::npos);
}

TEST(LostDevice, ThatStaysAwayIsReplacedIfTheUserAllows) {
  std::vector<std::string> log;
  EngineOptions engine;
  engine.log = [&](std::string_view line) { log.emplace_back(line); };
  RunnerOptions options = apart_options({{"fail-at-run", "4"}, {"stays-away", "1"}});
  options.fallback = true;
  const Loaded with_cpu = load(golden("llama"), options, engine);
  options.fallback = false;
  const Loaded without = load(golden("llama"), options, engine);
  const int64_t vocab = with_cpu.engine->spec().vocab_size;
  const auto fail = [&](Engine& failing) {
    const auto id = failing.add(request(1, 40, 30, vocab));
    Result<std::vector<TokenEvent>> events = std::vector<TokenEvent>();
    for (int i = 0; i < 100 && events; ++i) events = failing.step();
    EXPECT_FALSE(events);
    failing.cancel(*id);
  };
  fail(*with_cpu.engine);
  fail(*without.engine);
  EXPECT_EQ(run(*with_cpu.engine, {request(3, 40, 3, vocab)})[0].tokens.size(), 3U);
  ASSERT_EQ(log.size(), 2U);
  EXPECT_NE(log[0].find("the cpu takes its part"), std::string::npos);
  for (int i = 0; i < 2; ++i) {  // each time anew: the process lives
    const auto id = without.engine->add(request(3, 40, 3, vocab));
    const auto events = without.engine->step();
    ASSERT_FALSE(events);
    EXPECT_NE(events.error().message.find("does not answer"), std::string::npos);
    without.engine->cancel(*id);
  }
}

TEST(DeviceMemory, ThatIsShortSendsLayersToTheCpu) {
  const auto checkpoint = Checkpoint::open(golden("llama"));
  for (const char* mib : {"1", "2", "1000"}) {
    RunnerOptions options = apart_options({{"memory-mib", mib}});
    const auto together = ModelRunner::open(**checkpoint, options);
    ASSERT_TRUE(together);
    const Status fitting = (*together)->check_memory();
    const bool fits = fitting.has_value();
    EXPECT_TRUE(fits || fitting.error().code == ErrorCode::kMemory);
    options.place = "auto";
    const auto placed = ModelRunner::open(**checkpoint, options);
    ASSERT_TRUE(placed) << placed.error().message;
    EXPECT_EQ((*placed)->places().size() == 1, fits) << mib;
    EXPECT_TRUE((*placed)->check_memory()) << mib;
  }
}

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
