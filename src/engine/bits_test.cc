// The promise about numbers, for many: 64 prompts of 64 tokens each, every row of logits hashed.
// The hashes are those of a request that ran alone on one thread, whoever runs beside it, however
// it is cut, cached, preempted, kept on disk, guessed ahead, or drawn several times.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/hash.h"
#include "checkpoint/testing.h"
#include "engine/testing.h"

namespace hadal {
namespace {

using namespace hadal::testing;  // NOLINT: the tests' own words

constexpr int64_t kPrompts = 64, kTokens = 64;

/// What a request got: its tokens, and a hash of each row of logits by its position.
struct Hashes {
  std::vector<TokenId> tokens;
  std::map<int64_t, uint64_t> rows;
  RequestStats stats;
};

class Bits : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    RunnerOptions options = wide(1);
    const Loaded l = load(golden(GetParam()), options);
    vocab_ = l.engine->spec().vocab_size;
    unit_ = l.engine->spec().reuse_unit;
    std::vector<Request> all = requests();
    for (Request& r : all) r.reuse_prefix = false;
    for (Request& r : all) alone_.push_back(run_all(*l.engine, {r})[0]);
    for (const Hashes& h : alone_) ASSERT_EQ(static_cast<int64_t>(h.rows.size()), kTokens);
  }

  /// Room for `sequences` at once.
  static RunnerOptions wide(int64_t sequences, int32_t threads = 1) {
    return {.device = {.threads = threads},
            .context = 512,
            .max_tokens = 512,
            .max_sequences = sequences,
            .max_logit_rows = sequences + 16};
  }

  /// Prompts of all lengths to 256 over a few documents, so that prefixes meet; greedy and sampled.
  [[nodiscard]] std::vector<Request> requests() const {
    std::vector<Request> all;
    for (uint32_t i = 0; i < kPrompts; ++i) {
      Request r = request(i % 6, 1 + (i * 37) % 250, kTokens, vocab_);
      r.sampling = {.temperature = i % 4 == 0 ? 0.0F : 1.0F, .seed = i};
      if (i % 5 == 0) r.sampling.repetition_penalty = 1.2F;
      all.push_back(std::move(r));
    }
    return all;
  }

  static std::vector<Hashes> run_all(Engine& engine, std::vector<Request> requests) {
    std::vector<Hashes> got(requests.size());
    std::map<int64_t, size_t> index;
    for (size_t i = 0; i < requests.size(); ++i) {
      requests[i].logits_from = static_cast<int64_t>(requests[i].prompt.size()) - 1;
      requests[i].on_logits = [&got, i](int64_t position, std::span<const float> row) {
        got[i].rows[position] = checksum(std::as_bytes(row));
      };
      const auto id = engine.add(std::move(requests[i]));
      EXPECT_TRUE(id) << id.error().message;
      index[id->value] = i;
    }
    while (!engine.idle()) {
      const auto events = engine.step();
      EXPECT_TRUE(events) << events.error().message;
      if (!events) break;
      for (const TokenEvent& event : *events) {
        const auto mine = index.find(event.seq.value);
        if (mine == index.end()) continue;
        if (event.token >= 0) got[mine->second].tokens.push_back(event.token);
        if (event.finish != FinishReason::kNone) got[mine->second].stats = event.stats;
      }
    }
    return got;
  }

  void expect_same(const std::vector<Hashes>& got, const char* how) const {
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].tokens, alone_[i].tokens) << how << ", request " << i;
      EXPECT_EQ(got[i].rows, alone_[i].rows) << how << ", request " << i;
    }
  }

  static int64_t hits(const std::vector<Hashes>& got) {
    int64_t tokens = 0;
    for (const Hashes& h : got) tokens += h.stats.cached_tokens;
    return tokens;
  }

  int64_t vocab_ = 320, unit_ = 64;
  std::vector<Hashes> alone_;
};

TEST_P(Bits, AmongEightAmongSixtyFourColdAndCachedOneThreadAndTwo) {
  for (const auto& [sequences, threads] : {std::pair<int64_t, int32_t>(8, 1), {64, 2}}) {
    const Loaded l = load(golden(GetParam()), wide(sequences, threads));
    std::vector<Request> cold = requests();
    for (Request& r : cold) r.reuse_prefix = false;
    expect_same(run_all(*l.engine, std::move(cold)), "cold");
    (void)run_all(*l.engine, requests());
    const auto cached = run_all(*l.engine, requests());
    expect_same(cached, "cached");
    EXPECT_GT(hits(cached), kPrompts * 16);
  }
}

TEST_P(Bits, PreemptedSwappedAndRestarted) {
  const ::hadal::testing::TempFolder folder;
  RunnerOptions options = wide(8);
  options.context = 384;
  options.cache_tokens = 3 * 384;
  const SwapOptions swap{.file = folder.path() / "pages", .max_bytes = 256 << 20};
  {
    const Loaded l = load(golden(GetParam()), options);
    ASSERT_TRUE(l.engine->swap_to(swap));
    expect_same(run_all(*l.engine, requests()), "preempted and swapped");
    EXPECT_GT(l.engine->scheduler().preemptions(), 0);
    EXPECT_GT(l.engine->swap()->file().reads(), 0);
    l.engine->save_pages();
  }
  const Loaded again = load(golden(GetParam()), options);
  ASSERT_TRUE(again.engine->swap_to(swap));
  const auto got = run_all(*again.engine, requests());
  expect_same(got, "restarted");
  EXPECT_GT(hits(got), kPrompts * 16);
  EXPECT_GT(again.engine->swap()->file().reads(), 0);
}

TEST_P(Bits, InChunksOfAnyLengthAndByTheClock) {
  for (const int64_t chunk : {1, 7, 64, 512}) {
    const Loaded l = load(golden(GetParam()), wide(8));
    std::vector<Request> all = requests();
    all.resize(chunk == 1 ? 16 : kPrompts);
    for (Request& r : all) {
      r.chunks = {chunk};
      r.reuse_prefix = false;
    }
    expect_same(run_all(*l.engine, std::move(all)), "in chunks");
  }
  const Loaded l = load(golden(GetParam()), wide(8), {.step_seconds = 0.003, .now = {}});
  expect_same(run_all(*l.engine, requests()), "by the clock");
}

TEST_P(Bits, BesideCancelledNeighbours) {
  const Loaded l = load(golden(GetParam()), wide(8));
  std::vector<Request> all = requests();
  std::vector<Hashes> got(all.size());
  std::map<int64_t, size_t> index;
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].logits_from = static_cast<int64_t>(all[i].prompt.size()) - 1;
    all[i].on_logits = [&got, i](int64_t position, std::span<const float> row) {
      got[i].rows[position] = checksum(std::as_bytes(row));
    };
    index[l.engine->add(std::move(all[i]))->value] = i;
  }
  std::set<int64_t> cancelled;
  for (int step = 0; !l.engine->idle(); ++step) {
    const auto events = l.engine->step();
    ASSERT_TRUE(events);
    for (const TokenEvent& event : *events)
      if (event.token >= 0) got[index[event.seq.value]].tokens.push_back(event.token);
    if (step % 3 != 0 || l.engine->scheduler().running().empty()) continue;
    const SeqId id = l.engine->scheduler().running()[0]->id;
    if (id.value % 3 != 0) continue;
    l.engine->cancel(id);
    cancelled.insert(id.value);
  }
  EXPECT_GT(cancelled.size(), 5U);
  for (const auto& [id, i] : index) {
    if (cancelled.contains(id)) continue;
    EXPECT_EQ(got[i].tokens, alone_[i].tokens) << i;
    EXPECT_EQ(got[i].rows, alone_[i].rows) << i;
  }
}

TEST_P(Bits, WithGuessesOfEveryLengthOfAcceptance) {
  const Loaded l = load(golden(GetParam()), wide(8));
  std::vector<Request> all = requests();
  std::set<int64_t> accepted;
  for (size_t i = 0; i < all.size(); ++i) {
    // The truth up to a place that moves on with every call, and something else from there.
    std::vector<TokenId> truth = all[i].prompt;
    truth.insert(truth.end(), alone_[i].tokens.begin(), alone_[i].tokens.end());
    all[i].propose = [truth, vocab = vocab_, calls = int64_t{0}, &accepted](
                         std::span<const TokenId> tokens, int64_t most) mutable {
      const int64_t right = calls++ % 6;
      std::vector<TokenId> guess;
      for (int64_t g = 0; g < std::min<int64_t>(most, 5); ++g) {
        const size_t at = tokens.size() + static_cast<size_t>(g);
        if (at >= truth.size()) break;
        guess.push_back(g == right ? static_cast<TokenId>((truth[at] + 1) % vocab) : truth[at]);
      }
      accepted.insert(std::min<int64_t>(right, static_cast<int64_t>(guess.size())));
      return guess;
    };
  }
  expect_same(run_all(*l.engine, std::move(all)), "scripted guesses");
  for (int64_t k = 0; k <= 5; ++k) EXPECT_TRUE(accepted.contains(k)) << k;
  std::vector<Request> looked_up = requests();
  for (Request& r : looked_up) r.prompt_lookup = true;
  expect_same(run_all(*l.engine, std::move(looked_up)), "prompt lookup");
  EXPECT_GT(l.engine->counts().accepted_tokens, 0);
}

TEST_P(Bits, SamplesAreThoseOfSingleRequests) {
  const Loaded l = load(golden(GetParam()), wide(8));
  for (size_t i = 1; i < 12; i += 2) {
    const Request r = requests()[i];
    const auto ids = l.engine->add_samples(r, 4);
    ASSERT_TRUE(ids);
    std::vector<Got> got(4);
    drive(*l.engine, *ids, got);
    for (uint32_t s = 0; s < 4; ++s) {
      Request single = r;
      single.sampling.sample = s;
      single.reuse_prefix = false;
      EXPECT_EQ(got[s].tokens, run_all(*l.engine, {single})[0].tokens) << i << ", sample " << s;
    }
    EXPECT_EQ(got[0].tokens, alone_[i].tokens);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, Bits,
                         ::testing::Values("llama", "deepseek-v3", "deepseek-v32", "deepseek-v4",
                                           "deepseek-v41"),
                         [](const auto& name) {
                           std::string text = name.param;
                           std::erase(text, '-');
                           return text;
                         });

/// Drafts by the model's own layers.
class ModelDrafts : public ::testing::TestWithParam<const char*> {};

TEST_P(ModelDrafts, ChangeNoToken) {
  RunnerOptions options{.device = {.threads = 1},
                        .context = 384,
                        .max_tokens = 256,
                        .max_sequences = 6,
                        .max_logit_rows = 40};
  const Loaded plain = load(golden(GetParam()), options);
  const int64_t vocab = plain.engine->spec().vocab_size;
  const auto requests = [&] {
    std::vector<Request> all;
    for (uint32_t i = 0; i < 16; ++i) {
      all.push_back(request(i, 3 + 17 * i, 40, vocab));
      all[i].sampling.temperature = i % 2 == 0 ? 0.0F : 0.7F;
      all[i].prompt_lookup = i % 4 == 3;
    }
    return all;
  };
  std::vector<Got> expected;
  for (const Request& r : requests()) expected.push_back(run(*plain.engine, {r}, false)[0]);
  options.draft = true;
  for (const std::optional<int64_t> count :
       {std::optional<int64_t>(4), std::optional<int64_t>(1), {}}) {
    options.cache_tokens = count == 4 ? 3 * 384 : 0;  // and some lose their places
    const Loaded drafting = load(golden(GetParam()), options, {.draft_tokens = count, .now = {}});
    const std::vector<Got> got = run(*drafting.engine, requests(), false);
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_EQ(got[i].tokens, expected[i].tokens) << i << ", " << count.value_or(-1) << " drafts";
    const EngineCounts counts = drafting.engine->counts();
    if (count) {
      EXPECT_GT(counts.drafted_tokens, 300);
    }
    RecordProperty(
        "accepted_of_" + std::to_string(count.value_or(-1)),
        std::to_string(counts.accepted_tokens) + " of " + std::to_string(counts.drafted_tokens));
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, ModelDrafts,
                         ::testing::Values("deepseek-v3", "deepseek-v32", "deepseek-v4",
                                           "deepseek-v4-dspark", "deepseek-v41-fp4"),
                         [](const auto& name) {
                           std::string text = name.param;
                           std::erase(text, '-');
                           return text;
                         });

}  // namespace
}  // namespace hadal
