#include "engine/scheduler.h"

#include <gtest/gtest.h>

namespace hadal {
namespace {

std::unique_ptr<Sequence> sequence(int64_t prompt, int64_t computed, int64_t generated = 0) {
  auto seq = std::make_unique<Sequence>();
  seq->request.prompt.resize(static_cast<size_t>(prompt));
  seq->request.max_new_tokens = 10;
  seq->tokens.resize(static_cast<size_t>(prompt + generated));
  seq->computed = computed;
  return seq;
}

const StepLimits kLimits{.tokens = 16, .sequences = 4, .logit_rows = 4, .entries = 40};

TEST(Scheduler, DecodesFirstThenCutsPromptsInOrderOfArrival) {
  std::vector<std::unique_ptr<Sequence>> seqs;
  seqs.push_back(sequence(20, 0));
  seqs.push_back(sequence(5, 5, 1));
  const auto step = choose_rows(seqs, {.limits = kLimits}, {});
  ASSERT_EQ(step.size(), 2U);
  EXPECT_EQ(step[0].seq, seqs[1].get());
  EXPECT_EQ(step[0].rows, 1);
  EXPECT_EQ(step[0].logit_rows, 1);
  EXPECT_EQ(step[1].seq, seqs[0].get());
  EXPECT_EQ(step[1].rows, 15);
  EXPECT_EQ(step[1].logit_rows, 0);  // the prompt goes on
}

TEST(Scheduler, KeepsTheCutThatTheRequestAskedFor) {
  std::vector<std::unique_ptr<Sequence>> seqs;
  seqs.push_back(sequence(20, 0));
  seqs[0]->request.chunks = {3, 20};
  auto step = choose_rows(seqs, {.limits = kLimits}, {});
  ASSERT_EQ(step.size(), 1U);
  EXPECT_EQ(step[0].rows, 3);
  seqs[0]->computed = 3;
  seqs[0]->chunk_left = 0;
  step = choose_rows(seqs, {.limits = kLimits}, {});
  EXPECT_EQ(step[0].rows, 16);  // the limit of a step cuts a chunk
}

TEST(Scheduler, WantsNoMoreLogitsThanAStepHolds) {
  std::vector<std::unique_ptr<Sequence>> seqs;
  seqs.push_back(sequence(20, 0));
  seqs[0]->request.on_logits = [](int64_t, std::span<const float>) {};
  const auto step = choose_rows(seqs, {.limits = kLimits}, {});
  ASSERT_EQ(step.size(), 1U);
  EXPECT_EQ(step[0].rows, 4);
  EXPECT_EQ(step[0].logit_rows, 4);
}

TEST(Scheduler, HasNothingToDoWithoutSequences) {
  EXPECT_TRUE(choose_rows({}, {.limits = kLimits}, {}).empty());
}

}  // namespace
}  // namespace hadal
