// How soon short prompts are answered beside one of 100,000 tokens, by the real clock. Machines are
// noisy: it is no test that a build rests on, but a measurement, run by
// `engine_test --gtest_also_run_disabled_tests --gtest_filter='*Fairness*'`.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>

#include "checkpoint/testing.h"
#include "engine/testing.h"

namespace hadal {
namespace {

using namespace hadal::testing;  // NOLINT: the tests' own words

constexpr int64_t kLong = 100000;
constexpr double kStep = 0.1;

/// A copy of a golden model that takes so long a context.
std::filesystem::path long_model(const ::hadal::testing::TempFolder& folder) {
  std::filesystem::copy(
      golden("llama"), folder.path(),
      std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
  std::ifstream in(folder.path() / "config.json");
  std::string config((std::istreambuf_iterator<char>(in)), {});
  in.close();
  const std::string key = "\"max_position_embeddings\": ";
  const size_t at = config.find(key);
  EXPECT_NE(at, std::string::npos);
  config.replace(at + key.size(), config.find_first_of(",\n", at) - at - key.size(), "131072");
  std::ofstream(folder.path() / "config.json") << config;
  return folder.path();
}

/// Seconds until the first token of so many short requests, one after another, until `stop`.
std::vector<double> first_tokens(Engine& engine, int count, const std::function<bool()>& stop) {
  std::vector<double> seconds;
  for (uint32_t i = 0; static_cast<int>(seconds.size()) < count && !stop(); ++i) {
    const double start = engine.now();
    const auto id = engine.add(request(i + 100, 20 + i % 40, 2, engine.spec().vocab_size, false));
    EXPECT_TRUE(id);
    bool first = false;
    while (!first) {
      const auto events = engine.step();
      EXPECT_TRUE(events);
      for (const TokenEvent& event : *events) first = first || event.seq == *id;
    }
    seconds.push_back(engine.now() - start);
    for (int s = 0; s < 2; ++s) EXPECT_TRUE(engine.step());  // it ends; whoever comes next is new
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

TEST(Fairness, DISABLED_ShortPromptsBesideALongOne) {
  const ::hadal::testing::TempFolder folder;
  RunnerOptions options{.device = {.threads = 1},
                        .context = kLong + 1000,
                        .cache_tokens = kLong + 20000,
                        .max_tokens = 512,
                        .max_sequences = 8,
                        .max_logit_rows = 16};
  const Loaded l = load(long_model(folder), options, {.step_seconds = kStep, .now = {}});
  Engine& engine = *l.engine;
  const auto p99 = [](const std::vector<double>& v) {
    return v[static_cast<size_t>(0.99 * static_cast<double>(v.size() - 1))];
  };
  (void)first_tokens(engine, 20, [] { return false; });
  const auto unloaded = first_tokens(engine, 200, [] { return false; });
  const SeqId slow = *engine.add(request(1, kLong, 1, engine.spec().vocab_size, false));
  ASSERT_TRUE(engine.step());
  const auto done = [&] {
    const auto& running = engine.scheduler().running();
    return std::none_of(running.begin(), running.end(),
                        [&](const auto& seq) { return seq->id == slow; });
  };
  const auto loaded = first_tokens(engine, 200, done);
  int64_t computed = kLong;
  for (const auto& seq : engine.scheduler().running())
    if (seq->id == slow) computed = seq->computed;
  std::printf(
      "first token of short prompts: alone p50 %.1f ms, p99 %.1f ms (%zu); beside a prompt of "
      "%lld tokens p50 %.1f ms, p99 %.1f ms (%zu); it went on to %lld tokens meanwhile\n",
      1e3 * unloaded[unloaded.size() / 2], 1e3 * p99(unloaded), unloaded.size(),
      static_cast<long long>(kLong), 1e3 * loaded[loaded.size() / 2], 1e3 * p99(loaded),
      loaded.size(), static_cast<long long>(computed));
  EXPECT_LE(p99(loaded), p99(unloaded) + 2 * kStep);
  EXPECT_GT(computed, static_cast<int64_t>(loaded.size()));
}

}  // namespace
}  // namespace hadal
