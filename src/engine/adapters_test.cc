// Adapters in the engine, on the tiny models of tests/golden and the adapters of tests/adapters:
// what a request gets must not depend on who else has which, nor on when one comes or goes. The
// numbers themselves are compared with the reference by tests/adapters/run_adapters.py.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <random>

#include "checkpoint/adapter_testing.h"
#include "engine/engine.h"

namespace hadal {
namespace {

std::filesystem::path data(const std::string& name) {
  return std::filesystem::path(HADAL_TEST_DATA) / name;
}

NamedAdapter named(const std::string& name) {
  return {.name = name, .folder = data("adapters/" + name)};
}

struct Loaded {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Engine> engine;
  Engine* operator->() const { return engine.get(); }
};

RunnerOptions small_options(std::vector<NamedAdapter> adapters = {}) {
  return {.device = {.threads = 1},
          .context = 192,
          .max_tokens = 64,
          .max_sequences = 4,
          .max_logit_rows = 8,
          .adapters = std::move(adapters)};
}

Loaded load(const std::string& base, const RunnerOptions& options) {
  Loaded l;
  auto checkpoint = Checkpoint::open(data("golden/" + base));
  EXPECT_TRUE(checkpoint) << checkpoint.error().message;
  l.checkpoint = *std::move(checkpoint);
  auto engine = Engine::load(*l.checkpoint, options);
  EXPECT_TRUE(engine) << engine.error().message;
  l.engine = *std::move(engine);
  return l;
}

using Rows = std::map<int64_t, std::vector<float>>;

/// A request, and the rows of logits that it got, by position.
struct Asked {
  Request request;
  Rows rows;

  Asked(uint32_t seed, int32_t adapter, int64_t length = 70, int64_t new_tokens = 6) {
    std::mt19937 random(seed);
    for (int64_t i = 0; i < length; ++i)
      request.prompt.push_back(static_cast<TokenId>(random() % 300));
    request.max_new_tokens = new_tokens;
    request.adapter = adapter;
    request.reuse_prefix = false;
  }
  Asked& with(std::vector<int64_t> chunks) {
    request.chunks = std::move(chunks);
    return *this;
  }
};

void add(Engine& engine, Asked& asked) {
  Request r = asked.request;
  r.on_logits = [&asked](int64_t position, std::span<const float> row) {
    EXPECT_TRUE(asked.rows.emplace(position, std::vector<float>(row.begin(), row.end())).second);
  };
  const auto id = engine.add(std::move(r));
  EXPECT_TRUE(id) << id.error().message;
}

void drain(Engine& engine) {
  for (int steps = 0; !engine.idle() && steps < 1000; ++steps) {
    const auto events = engine.step();
    ASSERT_TRUE(events) << events.error().message;
    for (const TokenEvent& event : *events) ASSERT_FALSE(event.error) << event.error->message;
  }
  EXPECT_TRUE(engine.idle());
}

Rows alone(const Loaded& loaded, Asked asked) {
  add(*loaded.engine, asked);
  drain(*loaded.engine);
  return asked.rows;
}

struct Pair {
  const char *base, *adapter;
};

class Bases : public ::testing::TestWithParam<Pair> {};

TEST_P(Bases, WithoutAnAdapterTheBitsAreThoseOfTheModelWhoeverIsBeside) {
  const auto [base, adapter] = GetParam();
  const Loaded plain = load(base, small_options()),
               with = load(base, small_options({named(adapter)}));
  const Rows expected = alone(plain, Asked(1, -1));
  Asked none(1, -1), neighbour(2, 0), other(3, 0, 33);
  for (Asked* asked : {&neighbour, &none, &other}) add(*with.engine, *asked);
  drain(*with.engine);
  EXPECT_EQ(none.rows, expected);
  EXPECT_NE(neighbour.rows, alone(plain, Asked(2, -1)));
}

TEST_P(Bases, AnAdaptersRowsAreTheSameAloneAmongOthersInChunksAndOnTwoThreads) {
  const auto [base, adapter] = GetParam();
  RunnerOptions options = small_options({named(adapter)});
  const Loaded one = load(base, options);
  const Rows expected = alone(one, Asked(1, 0));
  EXPECT_EQ(expected.size(), 75U);
  EXPECT_EQ(alone(one, Asked(1, 0).with({1})), expected);
  EXPECT_EQ(alone(one, Asked(1, 0).with({7, 30, 2})), expected);
  Asked again(1, 0), none(2, -1), same(3, 0);
  for (Asked* asked : {&none, &again, &same}) add(*one.engine, *asked);
  drain(*one.engine);
  EXPECT_EQ(again.rows, expected);
  options.device.threads = 2;
  EXPECT_EQ(alone(load(base, options), Asked(1, 0)), expected);
  options.eager = true;
  EXPECT_EQ(alone(load(base, options), Asked(1, 0)), expected);
}

INSTANTIATE_TEST_SUITE_P(Adapters, Bases,
                         ::testing::Values(Pair{"llama", "llama"}, Pair{"qwen2", "qwen2"},
                                           Pair{"llama-llama3-gguf/model.gguf", "llama-llama3"},
                                           Pair{"deepseek-moe", "deepseek-moe"},
                                           Pair{"deepseek-v3", "deepseek-v3"},
                                           Pair{"deepseek-v4", "deepseek-v4"}));

TEST(Adapters, TwoAtOnceAreEachAsAlone) {
  const Loaded first = load("llama", small_options({named("llama")}));
  const Loaded second = load("llama", small_options({named("llama-few")}));
  const Rows a = alone(first, Asked(1, 0)), b = alone(second, Asked(2, 0));
  const Loaded both = load("llama", small_options({named("llama-few"), named("llama")}));
  Asked x(1, 1), y(2, 0), none(3, -1);
  for (Asked* asked : {&x, &y, &none}) add(*both.engine, *asked);
  drain(*both.engine);
  EXPECT_EQ(x.rows, a);
  EXPECT_EQ(y.rows, b);
  EXPECT_EQ(none.rows, alone(first, Asked(3, -1)));
}

TEST(Adapters, ComeAndGoWhileRequestsRunAndKeepTheirNumbers) {
  for (const bool eager : {false, true}) {
    RunnerOptions options = small_options();
    options.more_adapters = true;
    options.eager = eager;
    const Loaded loaded = load("llama", options);
    ModelRunner& runner = loaded->runner();
    EXPECT_EQ(loaded->runner().memory_plan().adapters, 0U);
    const Rows plain = alone(loaded, Asked(1, -1));
    const Rows expected = alone(load("llama", small_options({named("llama-few")})), Asked(2, 0));
    const Rows other = alone(load("llama", small_options({named("llama")})), Asked(3, 0));

    ASSERT_TRUE(runner.set_adapters({named("llama"), named("llama-few")}));
    EXPECT_GT(runner.memory_plan().adapters, 0U);
    EXPECT_EQ(*runner.adapter_number("llama-few"), 1);
    const Digest kept = *runner.adapter_digest(1), gone = *runner.adapter_digest(0);
    EXPECT_NE(kept, gone);
    Asked none(1, -1), few(2, 1);
    add(*loaded.engine, none);
    add(*loaded.engine, few.with({16}));
    ASSERT_TRUE(loaded->step());
    ASSERT_TRUE(loaded->step());
    const auto used = loaded->set_adapters({named("llama")});
    ASSERT_FALSE(used);
    EXPECT_EQ(used.error().code, ErrorCode::kUsage);
    EXPECT_NE(used.error().message.find("llama-few"), std::string::npos) << used.error().message;
    EXPECT_FALSE(loaded->set_adapters({named("llama-few"), named("llama")}));  // another number
    ASSERT_TRUE(loaded->set_adapters({{}, named("llama-few")}));               // one goes
    EXPECT_EQ(*runner.adapter_digest(1), kept);
    EXPECT_EQ(runner.adapter_digest(0), nullptr);
    ASSERT_TRUE(loaded->step());
    ASSERT_TRUE(runner.set_adapters({named("llama"), named("llama-few")}));  // and comes back
    EXPECT_EQ(*runner.adapter_digest(1), kept);
    EXPECT_EQ(*runner.adapter_digest(0), gone);
    drain(*loaded.engine);
    EXPECT_EQ(none.rows, plain);
    EXPECT_EQ(few.rows, expected);
    EXPECT_EQ(alone(loaded, Asked(3, 0)), other);

    ASSERT_TRUE(loaded->set_adapters({}));
    EXPECT_EQ(runner.memory_plan().adapters, 0U);
    EXPECT_EQ(alone(loaded, Asked(1, -1)), plain);
  }
}

TEST(Adapters, WhatIsNotLoadedIsRefused) {
  const Loaded loaded = load("llama", small_options({{}, named("llama-few")}));
  for (const int32_t wrong : {-2, 0, 2, INT32_MAX}) {
    const auto id = loaded->add(Asked(1, wrong).request);
    ASSERT_FALSE(id) << wrong;
    EXPECT_EQ(id.error().code, ErrorCode::kUsage);
    EXPECT_NE(id.error().message.find("adapter " + std::to_string(wrong)), std::string::npos);
  }
  EXPECT_TRUE(loaded->add(Asked(1, 1).request));
  const auto number = loaded->runner().adapter_number("other");
  ASSERT_FALSE(number);
  EXPECT_EQ(number.error().code, ErrorCode::kUsage);
  EXPECT_NE(number.error().message.find("llama-few"), std::string::npos) << number.error().message;
}

TEST(Adapters, AFailedChangeLeavesEverythingAsItWas) {
  const Loaded loaded = load("llama", small_options({named("llama")}));
  const Rows expected = alone(loaded, Asked(1, 0));
  const testing::AdapterFolder broken(
      R"({"r": 1, "lora_alpha": 1})",
      {testing::adapter_tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
                               "F32", {1, 5}, 1.0f),
       testing::adapter_tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
                               "F32", {64, 1}, 1.0f)});
  const auto wrong = loaded->runner().set_adapters({named("llama"), {"broken", broken.path()}});
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("q_proj"), std::string::npos) << wrong.error().message;
  EXPECT_FALSE(loaded->runner().set_adapters({named("llama"), named("llama")}));
  EXPECT_FALSE(loaded->runner().set_adapters({{"gone", data("adapters/none")}}));
  EXPECT_EQ(loaded->runner().adapters().size(), 1U);
  EXPECT_EQ(alone(loaded, Asked(1, 0)), expected);
  // Without an input for them there is no way to bring any.
  const Loaded plain = load("llama", small_options());
  const auto none = plain->runner().set_adapters({named("llama")});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::kUsage);
}

TEST(Adapters, ACachedPrefixIsNeverThatOfAnother) {
  const Loaded loaded = load("llama", small_options({named("llama"), named("llama-few")}));
  const auto ask = [&](int32_t adapter, bool reuse) {
    Asked asked(9, adapter, 150, 2);
    asked.request.reuse_prefix = reuse;
    asked.request.logits_from = 149;
    return alone(loaded, asked);
  };
  std::map<int32_t, Rows> cold;
  for (const int32_t adapter : {-1, 0, 1}) cold[adapter] = ask(adapter, false);
  EXPECT_NE(cold[-1], cold[0]);
  EXPECT_NE(cold[0], cold[1]);
  for (const int32_t adapter : {0, -1, 1, 0, -1, 1}) EXPECT_EQ(ask(adapter, true), cold[adapter]);
  // An adapter that takes another's place is another one.
  ASSERT_TRUE(loaded->runner().set_adapters({named("llama-few"), {}}));
  EXPECT_EQ(ask(0, true), cold[1]);
}

#ifdef HADAL_APART_HALF_FILE
TEST(Adapters, OnAChipWithMemoryOfItsOwn) {
  RunnerOptions options = small_options({named("llama"), named("llama-few")});
  options.device.chip = HADAL_APART_HALF_FILE;
  const Loaded loaded = load("llama", options);
  const Rows expected = alone(loaded, Asked(1, 1));
  Asked x(1, 1), y(2, 0), none(3, -1);
  for (Asked* asked : {&x, &y, &none}) add(*loaded.engine, *asked);
  ASSERT_TRUE(loaded->step());
  ASSERT_TRUE(loaded->set_adapters({named("llama"), named("llama-few"), {}}));
  drain(*loaded.engine);
  EXPECT_EQ(x.rows, expected);
}

TEST(Adapters, AChipThatDeclinesThemIsToldByName) {
  auto checkpoint = Checkpoint::open(data("golden/llama"));
  ASSERT_TRUE(checkpoint);
  RunnerOptions options = small_options({named("llama")});
  options.device.chip = HADAL_APART_ROW8_FILE;
  const auto runner = ModelRunner::open(**checkpoint, options);
  ASSERT_FALSE(runner);
  EXPECT_NE(runner.error().message.find("declines lora_add"), std::string::npos)
      << runner.error().message;
}
#endif

}  // namespace
}  // namespace hadal
