// Engine::step on the tiny golden models: what a request gets must not depend on who runs beside
// it, on how its tokens are verified, or on whether it lost its place in between.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "checkpoint/testing.h"
#include "engine/testing.h"

namespace hadal {
namespace {

using namespace hadal::testing;  // NOLINT: the tests' own words

class Families : public ::testing::TestWithParam<const char*> {};

TEST_P(Families, PreemptedSequencesGetTheBitsThatTheyHaveAlone) {
  RunnerOptions options = small_options();
  const Loaded wide = load(golden(GetParam()), options);
  const int64_t vocab = wide.engine->spec().vocab_size;
  const int64_t unit = wide.engine->spec().reuse_unit;
  const auto requests = [&] {
    std::vector<Request> all;
    for (uint32_t s = 0; s < 3; ++s)
      all.push_back(request(s, unit / 2 + 9 * s, unit, vocab, s != 1));
    return all;
  };
  std::vector<Got> alone;
  for (Request& r : requests()) alone.push_back(run(*wide.engine, {std::move(r)})[0]);
  options.cache_tokens = 5 * unit / 2;  // one and a half of the three
  const Loaded narrow = load(golden(GetParam()), options);
  const std::vector<Got> together = run(*narrow.engine, requests());
  EXPECT_GT(narrow.engine->scheduler().preemptions(), 0);
  for (size_t i = 0; i < alone.size(); ++i) {
    EXPECT_EQ(static_cast<int64_t>(together[i].tokens.size()), unit);
    EXPECT_EQ(together[i], alone[i]) << "request " << i;
  }
}

TEST_P(Families, DraftsChangeNothingButTheNumberOfSteps) {
  const Loaded l = load(golden(GetParam()));
  const int64_t vocab = l.engine->spec().vocab_size;
  Request plain = request(5, 40, 40, vocab);
  plain.sampling.presence_penalty = 0.5F;  // counts of a row behind drafts must include them
  plain.sampling.repetition_penalty = 1.3F;
  const Got expected = run(*l.engine, {plain})[0];
  // The true continuation, with a wrong token at every place in turn: all lengths of acceptance.
  std::vector<TokenId> truth = plain.prompt;
  truth.insert(truth.end(), expected.tokens.begin(), expected.tokens.end());
  for (const int64_t wrong : {-1, 0, 1, 2, 3}) {
    Request drafted = plain;
    int64_t calls = 0;
    drafted.propose = [&](std::span<const TokenId> tokens, int64_t most) {
      ++calls;
      std::vector<TokenId> guess;
      for (int64_t i = 0; i < std::min<int64_t>(most, 4); ++i) {
        const size_t at = tokens.size() + static_cast<size_t>(i);
        if (at >= truth.size()) break;
        guess.push_back(i == wrong ? (truth[at] + 1) % static_cast<TokenId>(vocab) : truth[at]);
      }
      return guess;
    };
    const Got got = run(*l.engine, {drafted, request(6, 20, 30, vocab)})[0];
    EXPECT_EQ(got, expected) << "wrong at " << wrong;
    const int64_t per_step = wrong < 0 ? 5 : wrong + 1;
    EXPECT_LE(calls, 40 / per_step + 5) << "wrong at " << wrong;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, Families,
                         ::testing::Values("llama", "qwen3", "deepseek-v3", "deepseek-v32",
                                           "deepseek-v4", "deepseek-v41"));

TEST(Engine, EveryRowHasItsOwnMask) {
  const Loaded l = load(golden("llama"));
  const int64_t vocab = l.engine->spec().vocab_size;
  Request r = request(1, 10, 20, vocab);
  // Only tokens that are as even as the length of what stands before them.
  restrict(r, [](std::span<const TokenId> tokens, std::span<uint32_t> allowed) {
    for (uint32_t& word : allowed) word &= tokens.size() % 2 == 0 ? 0x55555555U : 0xaaaaaaaaU;
  });
  const std::vector<TokenId> expected = run(*l.engine, {r})[0].tokens;
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_EQ(expected[i] % 2, static_cast<TokenId>((10 + i) % 2)) << i;
  // Drafts of which some are forbidden, beside a neighbour without a mask.
  r.propose = [&](std::span<const TokenId> tokens, int64_t most) {
    std::vector<TokenId> guess;
    for (size_t i = tokens.size() - 10; i < expected.size() && guess.size() < 3; ++i)
      guess.push_back(expected[i] ^ (i % 5 == 4 ? 1 : 0));
    guess.resize(std::min(guess.size(), static_cast<size_t>(most)));
    return guess;
  };
  const Got neighbour = run(*l.engine, {request(9, 10, 20, vocab)})[0];
  const std::vector<Got> both = run(*l.engine, {r, request(9, 10, 20, vocab)});
  EXPECT_EQ(both[0].tokens, expected);
  EXPECT_EQ(both[1], neighbour);
}

TEST(Engine, SamplesOfOnePromptDifferAndAreRepeatable) {
  const Loaded l = load(golden("llama"));
  const int64_t vocab = l.engine->spec().vocab_size;
  const auto sample = [&](uint32_t number) {
    Request r = request(3, 12, 16, vocab);
    r.sampling.sample = number;
    return r;
  };
  const auto first = run(*l.engine, {sample(0), sample(1), sample(2), sample(3)});
  const auto again = run(*l.engine, {sample(3), sample(2), sample(1), sample(0)});
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(first[i].tokens, again[3 - i].tokens);
    for (size_t j = 0; j < i; ++j) EXPECT_NE(first[i].tokens, first[j].tokens);
  }
  EXPECT_EQ(first[0], run(*l.engine, {request(3, 12, 16, vocab)})[0]);
}

TEST(Engine, PenaltiesOfManyRowsStayWithinTheirPartOfTheInputs) {
  RunnerOptions options = small_options();
  options.max_sequences = 1;
  options.max_logit_rows = 8;
  const Loaded l = load(golden("llama"), options);
  const int64_t vocab = l.engine->spec().vocab_size;
  Request r = request(2, 250, 30, vocab, false);  // near every token of the vocabulary has a count
  r.sampling.frequency_penalty = 0.1F;
  const Got expected = run(*l.engine, {r})[0];
  r.propose = [&](std::span<const TokenId> tokens, int64_t most) {
    std::vector<TokenId> guess;
    for (size_t i = tokens.size() - 250; i < expected.tokens.size(); ++i)
      guess.push_back(expected.tokens[i]);
    guess.resize(std::min(guess.size(), static_cast<size_t>(most)));
    return guess;
  };
  EXPECT_EQ(run(*l.engine, {r})[0], expected);
}

TEST(Engine, TellsTheMostLikelyTokensToThoseWhoAsk) {
  const Loaded l = load(golden("llama"));
  const int64_t vocab = l.engine->spec().vocab_size;
  Request asks = request(1, 8, 4, vocab);
  asks.top_logprobs = 3;
  const auto got = run(*l.engine, {asks, request(2, 8, 4, vocab)});
  for (const TokenEvent& event : got[0].events) {
    ASSERT_EQ(event.top.size(), 3U);
    EXPECT_GE(event.top[0].logprob, event.top[1].logprob);
    EXPECT_LE(event.logprob, event.top[0].logprob);
  }
  for (const TokenEvent& event : got[1].events) EXPECT_TRUE(event.top.empty());
  Request too_many = request(1, 8, 4, vocab);
  too_many.top_logprobs = kMaxTopLogprobs + 1;
  EXPECT_EQ(l.engine->add(too_many).error().code, ErrorCode::kUsage);
}

TEST(Engine, ARequestThatCanNeverFitFailsAlone) {
  RunnerOptions options = small_options();
  options.cache_tokens = 128;
  const Loaded l = load(golden("llama"), options);
  const int64_t vocab = l.engine->spec().vocab_size;
  EXPECT_EQ(l.engine->longest(), 128);
  ASSERT_TRUE(l.engine->add(request(1, 100, 5, vocab)));
  const auto refused = l.engine->add(request(2, 129, 5, vocab));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kMemory);
  EXPECT_EQ(refused.error().message, "the prompt has 129 tokens, the cache holds 128");
  // One that grows to the end of the cache ends there, and the other one has its answer.
  const auto got = run(*l.engine, {request(3, 120, 100, vocab)});
  EXPECT_EQ(got[0].events.back().finish, FinishReason::kContext);
  EXPECT_EQ(got[0].tokens.size(), 9U);
}

TEST(Engine, OfBlockTablesOnlyChangedEntriesTravel) {
  RunnerOptions options = small_options();
  options.context = 512;
  const Loaded l = load(golden("llama"), options);
  ASSERT_TRUE(l.engine->add(request(1, 60, 100, l.engine->spec().vocab_size)));
  ASSERT_TRUE(l.engine->step());  // the prompt, and whole tables once
  uint64_t least = UINT64_MAX, most = 0;
  for (int i = 0; i < 70; ++i) {
    ASSERT_TRUE(l.engine->step());
    least = std::min(least, l.engine->runner().input_bytes_copied());
    most = std::max(most, l.engine->runner().input_bytes_copied());
  }
  EXPECT_GE(most, least + sizeof(int32_t));  // a new block: one entry
  EXPECT_LE(most, least + 512);
}

/// A copy of a golden model with the first `count` numbers of one tensor set.
std::filesystem::path with_tensor(const ::hadal::testing::TempFolder& folder,
                                  const std::string& model, const std::string& tensor,
                                  uint16_t bf16, size_t count) {
  std::filesystem::copy(
      golden(model), folder.path(),
      std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
  const auto checkpoint = Checkpoint::open(golden(model));
  const TensorInfo* info = (*checkpoint)->find(tensor);
  EXPECT_TRUE(info && info->dtype == HADAL_BF16);
  const MappedFile& file = (*checkpoint)->files()[info->file];
  std::fstream out(folder.path() / "model.safetensors",
                   std::ios::binary | std::ios::in | std::ios::out);
  out.seekp(info->data.data() - file.bytes().data());
  for (size_t i = 0; i < std::min(count, info->data.size() / 2); ++i)
    out.write(reinterpret_cast<const char*>(&bf16), sizeof bf16);
  return folder.path();
}

TEST(Engine, NumbersThatAreNotFiniteEndTheRequestAndNameTheLayer) {
  const ::hadal::testing::TempFolder folder;
  // Values beyond f16 in the cache of layer 1.
  const auto path =
      with_tensor(folder, "llama", "model.layers.1.self_attn.v_proj.weight", 0x4a80, 1 << 20);
  RunnerOptions options = small_options();
  const Loaded f16 = load(path, options);
  const Got got = run(*f16.engine, {request(1, 8, 20, f16.engine->spec().vocab_size)}, false)[0];
  ASSERT_EQ(got.events.size(), 1U);
  ASSERT_TRUE(got.events[0].error);
  EXPECT_EQ(got.events[0].finish, FinishReason::kError);
  EXPECT_NE(got.events[0].error->message.find("layer 1 (gqa_attention)"), std::string::npos)
      << got.events[0].error->message;
  EXPECT_EQ(got.events[0].error->setting, Setting::kCacheBf16);
  options.kv_cache_dtype = HADAL_BF16;
  const Loaded bf16 = load(path, options);
  EXPECT_EQ(run(*bf16.engine, {request(1, 8, 20, bf16.engine->spec().vocab_size)}, false)[0]
                .tokens.size(),
            20U);
}

TEST(Engine, OneNaNAmongTheLogitsIsSeen) {
  const ::hadal::testing::TempFolder folder;
  const auto path = with_tensor(folder, "llama", "lm_head.weight", 0x7fc0, 1);
  const Loaded l = load(path);
  const Got got = run(*l.engine, {request(1, 8, 20, l.engine->spec().vocab_size)}, false)[0];
  ASSERT_EQ(got.events.size(), 1U);
  ASSERT_TRUE(got.events[0].error);
  EXPECT_NE(got.events[0].error->message.find("lm_head"), std::string::npos)
      << got.events[0].error->message;
  // It comes out of no cache: another type of the cache is no advice.
  EXPECT_EQ(got.events[0].error->setting, Setting::kNone);
}

TEST(Engine, ADraftLayersLastPositionHasAPlace) {
  RunnerOptions options = small_options();
  options.context = 64;
  options.draft = true;
  const Loaded l = load(golden("deepseek-v3"), options);
  const int64_t vocab = l.engine->spec().vocab_size;
  EXPECT_EQ(l.engine->longest(), 64);
  std::vector<Request> requests;
  std::vector<std::vector<std::vector<float>>> drafts(4);
  for (uint32_t i = 0; i < 4; ++i) {
    requests.push_back(request(i % 2, 64, 0, vocab, false));
    requests.back().on_draft_logits = [&drafts, i](int64_t, std::span<const float> row) {
      drafts[i].emplace_back(row.begin(), row.end());
    };
  }
  run(*l.engine, std::move(requests), false);
  EXPECT_EQ(drafts[0].size(), 63U);
  EXPECT_EQ(drafts[0], drafts[2]);  // neighbours of other tokens between them
  EXPECT_EQ(drafts[1], drafts[3]);
}

TEST(Engine, AMaskThatAllowsNothingEndsItsRequestAlone) {
  const Loaded l = load(golden("llama"));
  const int64_t vocab = l.engine->spec().vocab_size;
  Request dead = request(1, 10, 20, vocab);
  restrict(dead, [](std::span<const TokenId> tokens, std::span<uint32_t> allowed) {
    if (tokens.size() == 13) std::fill(allowed.begin(), allowed.end(), 0U);
  });
  const Got neighbour = run(*l.engine, {request(2, 10, 20, vocab)})[0];
  const auto got = run(*l.engine, {dead, request(2, 10, 20, vocab)});
  EXPECT_EQ(got[0].tokens.size(), 3U);
  ASSERT_TRUE(got[0].events.back().error);
  EXPECT_EQ(got[1], neighbour);
}

TEST(Engine, GuessesOfOneLeaveTheOthersTheirTokens) {
  RunnerOptions options = small_options();
  options.max_logit_rows = 4;
  const Loaded l = load(golden("llama"), options);
  const int64_t vocab = l.engine->spec().vocab_size;
  Request guesses = request(1, 8, 30, vocab);
  guesses.propose = [](std::span<const TokenId>, int64_t most) {
    return std::vector<TokenId>(static_cast<size_t>(most), 1);
  };
  ASSERT_TRUE(l.engine->add(guesses));
  const auto other = l.engine->add(request(2, 8, 10, vocab));
  ASSERT_TRUE(other);
  int64_t of_other = 0;
  for (int i = 0; i < 12; ++i) {
    const auto events = l.engine->step();
    ASSERT_TRUE(events);
    for (const TokenEvent& event : *events) of_other += event.seq == *other;
  }
  EXPECT_EQ(of_other, 10);
}

TEST(Engine, RefusesNumbersThatNoStepCouldServe) {
  const Loaded l = load(golden("llama"));
  Request r = request(1, 8, 4, l.engine->spec().vocab_size);
  r.chunks = {3, 0};
  EXPECT_EQ(l.engine->add(r).error().message,
            "a chunk is 0, expected a whole number from 1 to 2147483647");
  r.chunks = {};
  r.logits_from = 8;
  EXPECT_EQ(l.engine->add(r).error().code, ErrorCode::kUsage);
}

TEST(Engine, AnInterruptLeavesEverythingAsItWas) {
  const Loaded l = load(golden("llama"));
  const int64_t vocab = l.engine->spec().vocab_size;
  const Got expected = run(*l.engine, {request(1, 100, 20, vocab, false)})[0];
  Got got;
  Request r = request(1, 100, 20, vocab, false);
  const auto id = l.engine->add(std::move(r));
  ASSERT_TRUE(id);
  for (int i = 0; !l.engine->idle(); ++i) {
    if (i % 3 == 1) l.engine->interrupt();
    const auto events = l.engine->step();
    if (!events) {
      ASSERT_EQ(events.error().code, ErrorCode::kInterrupted);
      l.engine->runner().clear_interrupt();
      continue;
    }
    for (const TokenEvent& event : *events) got.tokens.push_back(event.token);
  }
  EXPECT_EQ(got.tokens, expected.tokens);
}

// A chip whose queue runs behind: chunks of a prompt are queued while the one before still runs.
TEST(Engine, BuildsTheNextStepWhileOneRuns) {
  RunnerOptions options = small_options();
  options.device.chip = HADAL_APART_HALF_FILE;
  const auto prompt_of = [](const Loaded& loaded) {
    Request r = request(5, 300, 8, loaded.engine->spec().vocab_size, false);
    r.chunks = {64, 60, 50, 40};
    return r;
  };
  const Loaded whole = load(golden("llama"), options);
  const std::vector<TokenId> expected = run(*whole.engine, {prompt_of(whole)}, false)[0].tokens;
  ASSERT_EQ(expected.size(), 8U);

  const Loaded cut = load(golden("llama"), options);
  ASSERT_TRUE(cut.engine->add(prompt_of(cut)));
  ASSERT_TRUE(cut.engine->step());
  EXPECT_TRUE(cut.engine->runs_ahead());
  EXPECT_EQ(cut.engine->scheduler().running()[0]->computed, 64);
  ASSERT_TRUE(cut.engine->step());  // waits for both
  EXPECT_FALSE(cut.engine->runs_ahead());
  EXPECT_EQ(cut.engine->scheduler().running()[0]->computed, 124);

  // An interrupt takes back what nobody has waited for.
  ASSERT_TRUE(cut.engine->step());
  EXPECT_EQ(cut.engine->scheduler().running()[0]->computed, 174);
  cut.engine->interrupt();
  const auto stopped = cut.engine->step();
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kInterrupted);
  EXPECT_EQ(cut.engine->scheduler().running()[0]->computed, 124);
  cut.engine->runner().clear_interrupt();
  std::vector<TokenId> tokens;
  while (!cut.engine->idle()) {
    const auto events = cut.engine->step();
    ASSERT_TRUE(events) << events.error().message;
    for (const TokenEvent& event : *events) tokens.push_back(event.token);
  }
  EXPECT_EQ(tokens, expected);

  // A second request settles it, and so does cancelling.
  const Loaded other = load(golden("llama"), options);
  const auto first = other.engine->add(prompt_of(other));
  ASSERT_TRUE(other.engine->step());
  ASSERT_TRUE(other.engine->add(prompt_of(other)));
  ASSERT_TRUE(other.engine->step());
  EXPECT_FALSE(other.engine->runs_ahead());
  other.engine->cancel(*first);
  EXPECT_EQ(other.engine->scheduler().running().size(), 1U);
}

// Groups that keep their last rows have blocks for one step alone: nothing is queued ahead there.
TEST(Engine, DoesNotRunAheadWhereBlocksAreGivenBack) {
  const Loaded l = load(golden("deepseek-v4"));
  Request r = request(5, 300, 2, l.engine->spec().vocab_size, false);
  ASSERT_TRUE(l.engine->add(std::move(r)));
  while (!l.engine->idle()) {
    const auto events = l.engine->step();
    ASSERT_TRUE(events) << events.error().message;
    EXPECT_FALSE(l.engine->runs_ahead());
  }
}

}  // namespace
}  // namespace hadal
