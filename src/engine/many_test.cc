// The engine for many: samples of one prompt, keys, priorities, deadlines, guesses, biases, and ten
// thousand random requests by a simulated clock. Bits stay those of a request that runs alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "engine/testing.h"

namespace hadal {
namespace {

using namespace hadal::testing;  // NOLINT: the tests' own words

class Samples : public ::testing::TestWithParam<const char*> {};

TEST_P(Samples, OfOnePromptAreThoseOfSingleRequests) {
  const Loaded l = load(golden(GetParam()));
  const int64_t vocab = l.engine->spec().vocab_size;
  const int64_t unit = l.engine->spec().reuse_unit;
  // Prompts that end within a unit, at one, and one token behind; with the prefix cache and
  // without.
  for (const int64_t length : {unit / 2 + 3, unit, unit + 1, int64_t{1}})
    for (const bool reuse : {true, false}) {
      const Request prompt = request(7, length, 12, vocab, reuse);
      std::vector<Got> single;
      for (uint32_t i = 0; i < 4; ++i) {
        Request one = prompt;
        one.sampling.sample = i;
        one.reuse_prefix = false;
        single.push_back(run(*l.engine, {one}, false)[0]);
      }
      const int64_t steps = l.engine->counts().steps;
      const auto ids = l.engine->add_samples(prompt, 4);
      ASSERT_TRUE(ids);
      std::vector<Got> got(4);
      drive(*l.engine, *ids, got);
      for (size_t i = 0; i < 4; ++i) EXPECT_EQ(got[i].tokens, single[i].tokens) << i;
      EXPECT_NE(got[0].tokens, got[1].tokens);
      // The prompt ran once: the others began behind it, with a step for its last token.
      const int64_t chunks = (length + 63) / 64;
      EXPECT_LE(l.engine->counts().steps - steps, chunks + 12 + 1);
      EXPECT_EQ(got[1].events.back().stats.cached_tokens, length - 1);
    }
}

INSTANTIATE_TEST_SUITE_P(Golden, Samples,
                         ::testing::Values("llama", "deepseek-v3", "deepseek-v32", "deepseek-v4",
                                           "deepseek-v41"));

TEST(Many, SamplesWithoutAPlaceWaitLikeEverybody) {
  RunnerOptions options = small_options();
  options.max_sequences = 2;
  const Loaded l = load(golden("llama"), options);
  const Request prompt = request(7, 100, 9, l.engine->spec().vocab_size);
  std::vector<Got> single;
  for (uint32_t i = 0; i < 5; ++i) {
    Request one = prompt;
    one.sampling.sample = i;
    single.push_back(run(*l.engine, {one}, false)[0]);
  }
  const auto ids = l.engine->add_samples(prompt, 5);
  std::vector<Got> got(5);
  drive(*l.engine, *ids, got);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(got[i].tokens, single[i].tokens) << i;
  // One whose leader is gone waits for nobody.
  const auto orphans = l.engine->add_samples(prompt, 2);
  l.engine->cancel((*orphans)[0]);
  std::vector<Got> left(1);
  drive(*l.engine, std::span(*orphans).subspan(1), left);
  EXPECT_EQ(left[0].tokens, single[1].tokens);
}

TEST(Many, PrefixesOfAnotherKeyAreNeverHit) {
  const Loaded l = load(golden("llama"));
  const auto cached = [&](const std::string& key) {
    Request r = request(3, 200, 2, l.engine->spec().vocab_size);
    r.cache_key = key;
    return run(*l.engine, {r}, false)[0].events.back().stats.cached_tokens;
  };
  EXPECT_EQ(cached("a"), 0);
  EXPECT_EQ(cached("a"), 192);
  EXPECT_EQ(cached("b"), 0);
  EXPECT_EQ(cached("b"), 192);
  EXPECT_EQ(cached(""), 0);
  EXPECT_EQ(l.engine->counts().cached_tokens, 2 * 192);
}

TEST(Many, KeysWithoutUnitsLeaveNothingBehind) {
  RunnerOptions options = small_options();
  options.cache_tokens = 320;
  const Loaded l = load(golden("llama"), options);
  for (uint32_t i = 0; i < 200; ++i) {
    Request r = request(i, 100, 1, l.engine->spec().vocab_size);
    r.cache_key = std::to_string(i);
    run(*l.engine, {r}, false);
  }
  EXPECT_LE(l.engine->blocks().tree().keys(), 5);  // as many as the cache has units
}

TEST(Many, SmallerPrioritiesComeFirstAndTakePlaces) {
  RunnerOptions options = small_options();
  options.max_sequences = 1;
  const Loaded l = load(golden("llama"), options);
  const int64_t vocab = l.engine->spec().vocab_size;
  std::vector<Request> requests;
  std::vector<Got> alone;
  for (const int32_t priority : {2, 2, 0, 1}) {
    requests.push_back(request(static_cast<uint32_t>(requests.size()), 40, 20, vocab));
    requests.back().priority = priority;
    alone.push_back(run(*l.engine, {requests.back()}, false)[0]);
  }
  std::vector<SeqId> ids;
  ids.push_back(*l.engine->add(requests[0]));
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(l.engine->step());  // it runs when the others come
  for (size_t i = 1; i < 4; ++i) ids.push_back(*l.engine->add(requests[i]));
  std::vector<Got> got(4);
  std::vector<int64_t> order;
  while (!l.engine->idle()) {
    const auto events = l.engine->step();
    ASSERT_TRUE(events);
    for (const TokenEvent& event : *events)
      if (event.finish != FinishReason::kNone) order.push_back(event.seq.value - ids[0].value);
  }
  EXPECT_EQ(order, (std::vector<int64_t>{2, 3, 0, 1}));
  EXPECT_EQ(l.engine->scheduler().preemptions(), 1);
}

TEST(Many, NobodyLosesAPlaceInVain) {
  RunnerOptions options = small_options();
  options.cache_tokens = 320;
  const Loaded l = load(golden("llama"), options);
  const int64_t vocab = l.engine->spec().vocab_size;
  Request large = request(1, 200, 30, vocab, false), small = request(2, 20, 30, vocab, false),
          waits = request(3, 200, 5, vocab, false);
  large.priority = waits.priority = 1;
  small.priority = 2;
  ASSERT_TRUE(l.engine->add(large));
  ASSERT_TRUE(l.engine->add(small));
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(l.engine->step());
  // It would not fit in the small one's place either: that one goes on beside the large one.
  ASSERT_TRUE(l.engine->add(waits));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(l.engine->step());
  EXPECT_EQ(l.engine->scheduler().running().size(), 2U);
  EXPECT_EQ(l.engine->scheduler().preemptions(), 0);
  while (!l.engine->idle()) ASSERT_TRUE(l.engine->step());
  EXPECT_FALSE(l.engine->add_samples(small, 0));
  EXPECT_FALSE(l.engine->add_samples(small, 129));
}

TEST(Many, DeadlinesEndWhatWaitsAndWhatRuns) {
  double now = 100;
  RunnerOptions options = small_options();
  options.max_sequences = 1;
  const Loaded l = load(golden("llama"), options, {.now = [&] { return now; }});
  const int64_t vocab = l.engine->spec().vocab_size;
  Request runs = request(1, 10, 100, vocab), waits = request(2, 10, 100, vocab);
  runs.deadline = 110;
  waits.deadline = 105;
  const SeqId first = *l.engine->add(runs), second = *l.engine->add(waits);
  std::map<int64_t, double> ended;
  for (; now < 120 && !l.engine->idle(); now += 1) {
    const auto events = l.engine->step();
    ASSERT_TRUE(events);
    for (const TokenEvent& event : *events)
      if (event.finish != FinishReason::kNone) {
        EXPECT_EQ(event.finish, FinishReason::kDeadline);
        ended[event.seq.value] = now;
      }
  }
  EXPECT_EQ(ended[second.value], 105);
  EXPECT_EQ(ended[first.value], 110);
}

TEST(Many, BiasesAndBadWordsChooseAmongTokens) {
  const Loaded l = load(golden("llama"));
  const int64_t vocab = l.engine->spec().vocab_size;
  const Request plain = request(1, 10, 20, vocab);
  Request biased = plain;
  biased.logit_bias = {{5, 90.0F}};
  const Got fives = run(*l.engine, {biased}, false)[0];
  EXPECT_EQ(fives.tokens, std::vector<TokenId>(20, 5));
  // Never two fives in a row, not even among guesses; and no eight.
  biased.bad_words = {{5, 5}, {8}};
  biased.logit_bias.emplace_back(8, 100.0F);
  const std::vector<TokenId> tokens = run(*l.engine, {biased}, false)[0].tokens;
  biased.propose = [](std::span<const TokenId>, int64_t most) {
    return std::vector<TokenId>(static_cast<size_t>(std::min<int64_t>(most, 3)), 5);
  };
  EXPECT_EQ(run(*l.engine, {biased}, false)[0].tokens, tokens);
  for (size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(tokens[i] == 5, i % 2 == 0) << i;
    EXPECT_NE(tokens[i], 8);
  }
  // A bad word that is all that a grammar allows is a dead end, and no token slips through.
  Request dead = plain;
  dead.bad_words = {{3}};
  restrict(dead, [](std::span<const TokenId>, std::span<uint32_t> allowed) {
    std::fill(allowed.begin(), allowed.end(), 0U);
    allowed[0] = 1U << 3;
  });
  const Got got = run(*l.engine, {dead}, false)[0];
  EXPECT_EQ(got.events.back().finish, FinishReason::kError);
  EXPECT_TRUE(got.tokens.empty());
}

TEST(Many, BiasesBeyondTheTablesOrTheVocabularyAreRefused) {
  RunnerOptions options = small_options();
  options.context = 64;  // and as many of them as there may be have room
  options.max_sequences = 1;
  const Loaded l = load(golden("llama"), options);
  const int64_t vocab = l.engine->spec().vocab_size;
  const auto said = [&](const std::function<void(Request&)>& set) {
    Request r = request(1, 10, 3, vocab);
    set(r);
    const auto id = l.engine->add(r);
    if (!id) return id.error().message;
    std::vector<Got> got(1);
    drive(*l.engine, std::span(&*id, 1), got);
    return std::to_string(got[0].tokens.size()) + " tokens";
  };
  const auto biases = [&](int64_t count) {
    return said([&](Request& r) {
      for (int64_t i = 0; i < count; ++i)
        r.logit_bias.emplace_back(static_cast<TokenId>(i % vocab), 0.5F);
      r.sampling.presence_penalty = 0.5F;
    });
  };
  EXPECT_EQ(biases(1024), "3 tokens");
  EXPECT_EQ(biases(1025).find("logit_bias: 1025 entries were found"), 0U) << biases(1025);
  const auto words = [&](int64_t count) {
    return said([&](Request& r) { r.bad_words.assign(static_cast<size_t>(count), {1}); });
  };
  EXPECT_EQ(words(kMostBadWords), "3 tokens");
  EXPECT_NE(words(kMostBadWords + 1).find("513"), std::string::npos);
  for (const TokenId wrong : {static_cast<TokenId>(-1), static_cast<TokenId>(vocab)}) {
    EXPECT_NE(said([&](Request& r) { r.logit_bias = {{wrong, 1}}; }).find("outside"),
              std::string::npos);
    EXPECT_NE(said([&](Request& r) { r.bad_words = {{1, wrong}}; }).find("outside"),
              std::string::npos);
  }
  EXPECT_NE(said([](Request& r) { r.bad_words = {{}}; }).find("no tokens"), std::string::npos);
  EXPECT_NE(said([](Request& r) { r.logit_bias = {{1, 101}}; }).find("logit_bias[]"),
            std::string::npos);
}

TEST(Many, PromptLookupChangesNoToken) {
  const Loaded l = load(golden("llama"));
  const int64_t vocab = l.engine->spec().vocab_size;
  // A tiny model at temperature 0 goes round in circles: guesses are right.
  for (const float temperature : {0.0F, 1.0F}) {
    Request r = request(4, 60, 200, vocab);
    r.sampling.temperature = temperature;
    const Got expected = run(*l.engine, {r}, false)[0];
    r.prompt_lookup = true;
    const Got got = run(*l.engine, {r, request(9, 20, 50, vocab)}, false)[0];
    EXPECT_EQ(got.tokens, expected.tokens);
    const RequestStats& stats = got.events.back().stats;
    EXPECT_LE(stats.accepted_tokens, stats.drafted_tokens);
    EXPECT_TRUE(temperature > 0 || stats.accepted_tokens > 0);
  }
}

TEST(Many, StepsKeepToTheirTime) {
  // A device that takes 10 ms a step, 1 ms a row, and 1 us a row and position.
  const auto device = [](int64_t rows, double context) {
    return 0.010 + 0.001 * static_cast<double>(rows) + 1e-6 * context;
  };
  StepTimes times;
  EXPECT_EQ(times.room(0.1, {}, 0, 512), 512);  // nothing is known yet
  std::mt19937 random(1);
  for (int i = 0; i < 400; ++i) {
    const auto rows = static_cast<int64_t>(1 + random() % 256);
    const double context = static_cast<double>(rows) * static_cast<double>(random() % 1000);
    times.measured(rows, context, device(rows, context));
  }
  for (const double positions : {0.0, 500.0, 1000.0}) {
    const int64_t room = times.room(0.1, {}, positions, 512);
    EXPECT_NEAR(device(room, positions * static_cast<double>(room)), 0.1, 0.015) << positions;
    const StepTimes::Load before{.rows = 40, .context = 40 * positions};
    const int64_t less = times.room(0.1, before, positions, 512);
    EXPECT_NEAR(device(less + 40, positions * static_cast<double>(less + 40)), 0.1, 0.015);
  }
  // A machine that becomes three times slower is followed.
  for (int i = 0; i < 30; ++i) times.measured(64, 0, 3 * device(64, 0));
  EXPECT_NEAR(times.seconds(64, 0), 3 * device(64, 0), 0.02);
}

/// Sequences whose prompts have not begun.
std::vector<std::unique_ptr<Sequence>> prompts_of(std::initializer_list<int64_t> lengths) {
  std::vector<std::unique_ptr<Sequence>> seqs;
  for (const int64_t length : lengths) {
    auto seq = std::make_unique<Sequence>();
    seq->id = {static_cast<int64_t>(seqs.size())};
    seq->request.prompt.resize(static_cast<size_t>(length));
    seq->request.max_new_tokens = 1;
    seq->tokens.resize(static_cast<size_t>(length));
    seqs.push_back(std::move(seq));
  }
  return seqs;
}

/// Rows of each sequence in a step, by its number.
std::map<int64_t, int64_t> rows_of(const std::vector<ScheduledRows>& step) {
  std::map<int64_t, int64_t> rows;
  for (const ScheduledRows& part : step) rows[part.seq->id.value] = part.rows;
  return rows;
}

TEST(Many, ALongPromptKeepsItsPartAndLetsShortOnesThrough) {
  auto seqs = prompts_of({100000, 50, 30, 60});
  const StepLimits limits{.tokens = 128, .sequences = 4, .logit_rows = 8, .entries = 8};
  auto rows = rows_of(choose_rows(seqs, {.limits = limits}, {}));
  EXPECT_EQ(rows, (std::map<int64_t, int64_t>{{0, 32}, {1, 50}, {2, 30}, {3, 16}}));
  // A larger priority gets what the smaller ones leave.
  seqs[1]->request.priority = seqs[2]->request.priority = -1;
  std::swap(seqs[0], seqs[2]);
  rows = rows_of(choose_rows(seqs, {.limits = limits}, {}));
  EXPECT_EQ(rows[1], 50);
  EXPECT_EQ(rows[2], 30);
}

TEST(Many, AChipWithoutTheRuleOfBitsHasFixedChunks) {
  const auto seqs = prompts_of({200, 90});
  const StepLimits limits{.tokens = 100, .sequences = 4, .logit_rows = 8, .entries = 8};
  const StepBudget budget{.limits = limits, .seconds = 1e-9, .fixed_chunk = 64};
  StepTimes times;
  times.measured(1, 0, 1);
  EXPECT_EQ(rows_of(choose_rows(seqs, budget, times)), (std::map<int64_t, int64_t>{{0, 64}}));
  seqs[0]->computed = 192;
  EXPECT_EQ(rows_of(choose_rows(seqs, budget, times)),
            (std::map<int64_t, int64_t>{{0, 8}, {1, 64}}));
}

/// Ten thousand requests at random times, with random priorities, deadlines and cancellations. Each
/// must end in one way, in bounded time, and everything that it held must come back.
TEST(Many, TenThousandRequestsLeaveNothingBehind) {
  constexpr int kRequests = 10000;
  double now = 0;
  RunnerOptions options = small_options();
  options.cache_tokens = 448;
  const Loaded l =
      load(golden("llama"), options, {.step_seconds = 0.02, .now = [&] { return now; }});
  Engine& engine = *l.engine;
  const int64_t vocab = engine.spec().vocab_size;
  std::mt19937 random(11);
  struct Live {
    double arrival, deadline, cancel;
  };
  std::map<int64_t, Live> live;
  std::map<FinishReason, int> ends;
  int added = 0, cancelled = 0;
  double next = 0, longest = 0;
  std::vector<std::vector<TokenId>> documents;
  for (uint32_t d = 0; d < 4; ++d) documents.push_back(random_tokens(d, 300, vocab));
  while (added < kRequests || !engine.idle()) {
    while (added < kRequests && next <= now) {
      Request r = request(static_cast<uint32_t>(added), 1, 1 + random() % 8, vocab);
      const auto& document = documents[random() % 4];
      r.prompt.assign(document.begin(),
                      document.begin() + 1 + random() % (random() % 8 ? 40 : 299));
      r.prompt_lookup = random() % 4 == 0;
      r.cache_key = random() % 2 ? "a" : "b";
      r.priority = static_cast<int32_t>(random() % 3);
      Live request{.arrival = now, .deadline = 1e300, .cancel = 1e300};
      if (random() % 4 == 0)
        r.deadline = request.deadline = now + static_cast<double>(random() % 100) * 0.01;
      if (random() % 4 == 0) request.cancel = now + static_cast<double>(random() % 100) * 0.01;
      const auto ids = engine.add_samples(r, 1 + (random() % 10 == 0 ? 2 : 0));
      ASSERT_TRUE(ids) << ids.error().message;
      for (const SeqId id : *ids) live[id.value] = request;
      ++added;
      next += static_cast<double>(random() % 1000) * 7e-5;
    }
    for (auto it = live.begin(); it != live.end();) {
      if (it->second.cancel > now) {
        ++it;
        continue;
      }
      engine.cancel({it->first});
      ++cancelled;
      it = live.erase(it);
    }
    const auto events = engine.step();
    ASSERT_TRUE(events) << events.error().message;
    now += 0.01;
    for (const TokenEvent& event : *events) {
      ASSERT_TRUE(live.contains(event.seq.value));
      if (event.finish == FinishReason::kNone) continue;
      const Live request = live[event.seq.value];
      longest = std::max(longest, now - request.arrival);
      EXPECT_TRUE(event.finish != FinishReason::kDeadline || request.deadline <= now);
      EXPECT_LE(now, request.deadline + 0.02);
      ++ends[event.finish];
      live.erase(event.seq.value);
    }
  }
  EXPECT_TRUE(live.empty());
  EXPECT_GT(ends[FinishReason::kLength], 1000);
  EXPECT_GT(ends[FinishReason::kDeadline], 100);
  EXPECT_GT(cancelled, 100);
  EXPECT_EQ(ends[FinishReason::kError], 0);
  EXPECT_GT(engine.scheduler().preemptions(), 0);
  // Blocks, places: all are back.
  const PrefixTree& tree = engine.blocks().tree();
  for (size_t g = 0; g < tree.pools().size(); ++g)
    EXPECT_EQ(tree.available(g), tree.pools()[g].capacity());
  const auto all = engine.add_samples(request(1, 4, 2, vocab), 4);
  std::vector<Got> got(4);
  drive(engine, *all, got);
  for (const Got& one : got) EXPECT_EQ(one.tokens.size(), 2U);
  RecordProperty("longest_seconds", std::to_string(longest));
  RecordProperty("steps", std::to_string(engine.counts().steps));
}

}  // namespace
}  // namespace hadal
