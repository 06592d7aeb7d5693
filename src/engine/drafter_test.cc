// The drafter on the tiny golden models: what it chooses, that neighbours and cuts change nothing
// of it, and that what it wrote for a rejected draft leaves no trace. What the logits are is held
// to the references by tests/golden/run_golden.py.
#include "engine/drafter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <utility>

#include "contract/sample.h"
#include "engine/block_manager.h"
#include "engine/testing.h"

namespace hadal {
namespace {

using Row = std::vector<float>;

/// A model with its drafts, and sequences that are run by hand.
class Bench {
 public:
  explicit Bench(const std::string& name) {
    auto checkpoint = Checkpoint::open(std::filesystem::path(HADAL_GOLDEN_MODELS) / name);
    EXPECT_TRUE(checkpoint) << checkpoint.error().message;
    checkpoint_ = *std::move(checkpoint);
    RunnerOptions options{.device = {.threads = 1},
                          .context = 320,
                          .max_tokens = 256,
                          .max_sequences = 4,
                          .max_logit_rows = 8,
                          .draft = true};
    options.compressed_vocabulary = [&] { return testing::any_vocabulary(checkpoint_->config()); };
    auto runner = ModelRunner::open(*checkpoint_, options);
    EXPECT_TRUE(runner) << runner.error().message;
    runner_ = *std::move(runner);
    EXPECT_TRUE(runner_->load());
    blocks_ = std::make_unique<BlockManager>(runner_->spec(), runner_->blocks());
    builder_ = std::make_unique<StepBuilder>(runner_->spec(), runner_->layout());
    drafter_ = std::make_unique<Drafter>(*runner_, *builder_);
  }

  [[nodiscard]] const ModelSpec& spec() const { return runner_->spec(); }

  std::unique_ptr<Sequence> sequence(int64_t slot, uint32_t seed, int64_t length) {
    auto seq = std::make_unique<Sequence>();
    seq->id = {slot};
    seq->slot = slot;
    std::mt19937 random(seed);
    for (int64_t i = 0; i < length; ++i)
      seq->tokens.push_back(
          static_cast<TokenId>(random() % static_cast<uint64_t>(spec().vocab_size)));
    seq->request.prompt = seq->tokens;
    seq->request.max_new_tokens = 100;
    seq->request.reuse_prefix = false;
    seq->request.logits_from = 0;
    seq->request.on_logits = [](int64_t, std::span<const float>) {};  // all rows of a tail
    blocks_->attach_prefix(*seq);
    return seq;
  }

  /// One step of the main model over what is pending, with `drafts` behind; the rows are verified
  /// as the engine does it.
  std::vector<ScheduledRows> step(std::span<Sequence* const> sequences) {
    std::vector<ScheduledRows> step;
    for (Sequence* seq : sequences) {
      const auto drafts = static_cast<int64_t>(seq->drafts.size());
      step.push_back({.seq = seq,
                      .begin = seq->computed,
                      .rows = seq->pending() + drafts,
                      .logit_rows = 1 + drafts,
                      .sampled_rows = 1 + drafts});
      EXPECT_TRUE(blocks_->reserve(*seq, seq->size() + drafts + 16));
    }
    StepInputs& inputs = builder_->build(step);
    runner_->fill_extra(builder_->extra_rows(step), inputs);
    EXPECT_TRUE(runner_->run(inputs, {}));
    const auto sampled = read_sampled(*runner_, inputs, false);
    EXPECT_TRUE(sampled);
    size_t row = 0;
    for (const ScheduledRows& part : step) {
      Sequence& seq = *part.seq;
      const std::vector<TokenId> drafts = std::exchange(seq.drafts, {});
      size_t right = 0;
      for (;; ++right) {
        seq.tokens.push_back(sampled->tokens[row + right]);
        if (right == drafts.size() || drafts[right] != seq.tokens.back()) break;
      }
      row += static_cast<size_t>(part.sampled_rows);
      seq.computed = seq.size() - 1;
    }
    return step;
  }

  struct Got {
    std::vector<TokenId> tokens;
    std::vector<Row> logits;
    std::vector<float> confidences;
    bool operator==(const Got&) const = default;
  };
  std::vector<Got> draft(std::span<const ScheduledRows> step, std::span<const int64_t> counts) {
    std::vector<Got> got(counts.size());
    std::vector<DraftWish> wishes;
    for (size_t i = 0; i < counts.size(); ++i)
      if (counts[i] > 0)
        wishes.push_back(
            {.seq = step[i].seq, .count = counts[i], .on_row = [&got, i](const auto& r) {
               got[i].logits.emplace_back(r.logits.begin(), r.logits.end());
             }});
    const auto drafts = drafter_->draft(step, wishes);
    EXPECT_TRUE(drafts) << drafts.error().message;
    for (size_t i = 0, w = 0; i < counts.size(); ++i)
      if (counts[i] > 0) {
        got[i].tokens = (*drafts)[w].tokens;
        got[i].confidences = (*drafts)[w++].confidences;
      }
    return got;
  }

 private:
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<BlockManager> blocks_;
  std::unique_ptr<StepBuilder> builder_;
  std::unique_ptr<Drafter> drafter_;
};

class Kinds : public ::testing::TestWithParam<const char*> {};

TEST_P(Kinds, AreSampledAsTheVerifiedRowIs) {
  Bench b(GetParam());
  auto seq = b.sequence(0, 1, 30);
  seq->request.sampling = {.temperature = 1.3F, .top_p = 0.9F, .presence_penalty = 0.4F, .seed = 9};
  for (const TokenId token : seq->tokens) ++seq->entries[token].in_prompt;
  Sequence* const one[] = {seq.get()};
  const auto step = b.step(one);
  const int64_t count[] = {4};
  const auto got = b.draft(step, count)[0];
  ASSERT_EQ(got.tokens.size(), 4U);
  std::vector<int32_t> entries;
  auto counts = seq->entries;
  for (size_t i = 0; i < 4; ++i) {
    entries.clear();
    for (const auto& [token, times] : counts)
      entries.insert(entries.end(), {token, times.in_prompt, times.in_output});
    const std::vector<float> bias(counts.size());
    float params[HADAL_PARAM_COUNT] = {};
    params[HADAL_PARAM_TEMPERATURE] = 1.3F;
    params[HADAL_PARAM_TOP_P] = 0.9F;
    params[HADAL_PARAM_REPETITION] = 1;
    params[HADAL_PARAM_PRESENCE] = 0.4F;
    const uint32_t key[2] = {9, 0};
    const auto expected = contract::sample_row(
        {.logits = got.logits[i],
         .params = params,
         .key = key,
         .position = static_cast<int32_t>(seq->size() + static_cast<int64_t>(i)),
         .entries = entries,
         .bias = bias.data()},
        {}, {});
    EXPECT_EQ(got.tokens[i], expected.token) << "draft " << i;
    ++counts[got.tokens[i]].in_output;
  }
}

TEST_P(Kinds, NeighboursChangeNothing) {
  Bench b(GetParam());
  std::vector<Bench::Got> alone;
  const int64_t lengths[] = {1, 40, 17}, counts[] = {3, 1, 4};
  for (uint32_t i = 0; i < 3; ++i) {
    auto seq = b.sequence(0, 10 + i, lengths[i]);
    Sequence* const one[] = {seq.get()};
    alone.push_back(b.draft(b.step(one), std::span(counts).subspan(i, 1))[0]);
    EXPECT_EQ(static_cast<int64_t>(alone.back().tokens.size()), counts[i]);
  }
  std::vector<std::unique_ptr<Sequence>> all;
  std::vector<Sequence*> together;
  for (uint32_t i = 0; i < 3; ++i) {
    all.push_back(b.sequence(i, 10 + i, lengths[i]));
    together.push_back(all.back().get());
  }
  EXPECT_EQ(b.draft(b.step(together), counts), alone);
}

// A script has 0 … 4 of 4 guesses right, so that what was written for guesses is met again; then
// the same tokens at once.
TEST_P(Kinds, WhatIsRejectedLeavesNoTrace) {
  Bench b(GetParam());
  auto plain = b.sequence(0, 5, 21);
  Sequence* const first[] = {plain.get()};
  for (int i = 0; i < 40; ++i) b.step(first);
  const std::vector<TokenId>& truth = plain->tokens;

  auto seq = b.sequence(1, 5, 21);
  Sequence* const one[] = {seq.get()};
  const int64_t four[] = {4}, none[] = {0};
  for (const size_t right : {0U, 4U, 2U, 1U, 3U, 0U, 4U}) {
    const auto step = b.step(one);
    b.draft(step, right == 3 ? none : four);
    const auto next = truth.begin() + static_cast<ptrdiff_t>(seq->tokens.size());
    seq->drafts.assign(next, next + 4);
    if (right < 4)
      seq->drafts[right] = static_cast<TokenId>((seq->drafts[right] + 1) % b.spec().vocab_size);
  }
  const auto stepwise = b.draft(b.step(one), four)[0];
  EXPECT_EQ(seq->tokens.size(), 21U + 8 + 14);
  EXPECT_TRUE(std::equal(seq->tokens.begin(), seq->tokens.end(), truth.begin()));

  auto fresh = b.sequence(2, 5, 21);
  fresh->tokens.assign(seq->tokens.begin(), seq->tokens.end() - 1);
  Sequence* const other[] = {fresh.get()};
  const auto at_once = b.draft(b.step(other), four)[0];
  EXPECT_EQ(fresh->tokens, seq->tokens);
  EXPECT_EQ(at_once, stepwise);
}

TEST_P(Kinds, StopWhereAMaskAllowsNothing) {
  Bench b(GetParam());
  auto seq = b.sequence(0, 3, 12);
  const auto known = static_cast<size_t>(seq->size()) + 1;
  std::vector<TokenId> first = seq->tokens;
  first.push_back(0);  // the bench tells a constraint of no token: this one stands for the first
  seq->constraint = std::make_unique<testing::Restricted>(
      first, [known](std::span<const TokenId> tokens, std::span<uint32_t> allowed) {
        // Behind the first token even ones alone; behind two drafts none.
        for (uint32_t& word : allowed) word = tokens.size() >= known + 2 ? 0 : 0x55555555U;
      });
  Sequence* const one[] = {seq.get()};
  const auto step = b.step(one);
  const int64_t four[] = {4};
  const auto got = b.draft(step, four)[0];
  ASSERT_EQ(got.tokens.size(), 2U);
  EXPECT_EQ(got.tokens[0] % 2, 0);
  EXPECT_EQ(got.tokens[1] % 2, 0);
}

INSTANTIATE_TEST_SUITE_P(Drafts, Kinds,
                         ::testing::Values("deepseek-v3", "deepseek-v32", "deepseek-v4",
                                           "deepseek-v4-dspark", "deepseek-v41-fp4"),
                         [](const auto& name) {
                           std::string text = name.param;
                           std::replace(text.begin(), text.end(), '-', '_');
                           return text;
                         });

}  // namespace
}  // namespace hadal
