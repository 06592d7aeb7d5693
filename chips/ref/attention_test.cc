#include <gtest/gtest.h>

#include <cmath>

#include "test_rig.h"

namespace hadal::ref {
namespace {

constexpr int64_t kSlots = 4, kBlocks = 6, kHeads = 6, kKvHeads = 2, kD = 5, kDv = 3;

struct Case {
  std::vector<int32_t> position = {9, 0, 3, 4};
  std::vector<int32_t> row_seq = {1, 0, 0, 1};
  std::vector<int32_t> block_table = {4, -1, -1, 1, 0, 5};  // [2, 3]
  std::vector<int32_t> first = {0, 2};
  uint32_t window = 0;
  bool sink = false;
};

// The formula once more, over plain arrays in long double, with a softmax that takes no maximum.
std::vector<long double> expected(const Case& c, const std::vector<float>& q,
                                  const std::vector<float>& k, const std::vector<float>& v,
                                  const std::vector<float>& sink) {
  std::vector<long double> out;
  for (size_t t = 0; t < c.position.size(); ++t)
    for (int64_t h = 0; h < kHeads; ++h) {
      const int64_t kv = h / (kHeads / kKvHeads);
      const auto s = static_cast<size_t>(c.row_seq[t]);
      long double total =
          c.sink ? std::exp(static_cast<long double>(sink[static_cast<size_t>(h)])) : 0;
      std::vector<long double> sum(kDv, 0);
      for (int32_t j = 0; j <= c.position[t]; ++j) {
        if (j < c.first[s] ||
            (c.window != 0 && j + static_cast<int32_t>(c.window) <= c.position[t]))
          continue;
        const int64_t at =
            c.block_table[s * 3 + static_cast<size_t>(j / kSlots)] * kSlots + j % kSlots;
        long double score = 0;
        for (int64_t i = 0; i < kD; ++i)
          score += static_cast<long double>(
                       q[static_cast<size_t>((static_cast<int64_t>(t) * kHeads + h) * kD + i)]) *
                   static_cast<long double>(k[static_cast<size_t>((at * kKvHeads + kv) * kD + i)]);
        const long double p = std::exp(0.75L * score);
        total += p;
        for (int64_t i = 0; i < kDv; ++i)
          sum[static_cast<size_t>(i)] +=
              p * static_cast<long double>(v[static_cast<size_t>((at * kKvHeads + kv) * kDv + i)]);
      }
      for (const long double x : sum) out.push_back(x / total);
    }
  return out;
}

void check(const Case& c) {
  const auto tokens = static_cast<int64_t>(c.position.size());
  const auto q = numbers(static_cast<size_t>(tokens * kHeads * kD), 21);
  const auto k = numbers(static_cast<size_t>(kBlocks * kSlots * kKvHeads * kD), 22);
  const auto v = numbers(static_cast<size_t>(kBlocks * kSlots * kKvHeads * kDv), 23);
  const auto sink = numbers(kHeads, 24);
  Rig rig(HADAL_OP_GQA_ATTENTION);
  rig.f32(HADAL_GQA_ATTENTION_Q, {tokens, kHeads, kD}, q);
  rig.f32(HADAL_GQA_ATTENTION_K, {kBlocks, kSlots, kKvHeads * kD}, k);
  rig.f32(HADAL_GQA_ATTENTION_V, {kBlocks, kSlots, kKvHeads * kDv}, v);
  rig.i32(HADAL_GQA_ATTENTION_POSITION, {tokens}, c.position);
  rig.i32(HADAL_GQA_ATTENTION_ROW_SEQ, {tokens}, c.row_seq);
  rig.i32(HADAL_GQA_ATTENTION_BLOCK_TABLE, {2, 3}, c.block_table);
  rig.i32(HADAL_GQA_ATTENTION_FIRST, {2}, c.first);
  if (c.sink) rig.weight(HADAL_GQA_ATTENTION_SINK, {kHeads}, sink, HADAL_F32);
  rig.f32(HADAL_GQA_ATTENTION_OUT, {tokens, kHeads, kDv}, {});
  rig.op.attr.attention = {.scale = 0.75f, .kv_heads = kKvHeads, .window = c.window};
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  const auto found = rig.floats(HADAL_GQA_ATTENTION_OUT);
  const auto wanted = expected(c, q, k, v, sink);
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(static_cast<double>(found[i]), static_cast<double>(wanted[i]), 0x1p-24) << i;
}

TEST(RefAttention, SequencesInShuffledBlocks) { check({}); }
TEST(RefAttention, Window) { check({.window = 3}); }
TEST(RefAttention, Sink) { check({.sink = true}); }

TEST(RefAttention, ARowThatSeesNothingGetsZeros) {
  Rig rig(HADAL_OP_GQA_ATTENTION);
  rig.f32(HADAL_GQA_ATTENTION_Q, {1, 1, 1}, {1});
  rig.f32(HADAL_GQA_ATTENTION_K, {1, 2, 1}, {1, 1});
  rig.f32(HADAL_GQA_ATTENTION_V, {1, 2, 1}, {1, 1});
  rig.i32(HADAL_GQA_ATTENTION_POSITION, {1}, {0});
  rig.i32(HADAL_GQA_ATTENTION_ROW_SEQ, {1}, {0});
  rig.i32(HADAL_GQA_ATTENTION_BLOCK_TABLE, {1, 1}, {0});
  rig.i32(HADAL_GQA_ATTENTION_FIRST, {1}, {1});
  rig.f32(HADAL_GQA_ATTENTION_OUT, {1, 1, 1}, {5});
  rig.op.attr.attention = {.scale = 1, .kv_heads = 1, .window = 0};
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_GQA_ATTENTION_OUT), (std::vector<float>{0}));
}

TEST(RefAttention, RefusesAVisiblePositionWithoutABlock) {
  Rig rig(HADAL_OP_GQA_ATTENTION);
  rig.f32(HADAL_GQA_ATTENTION_Q, {1, 1, 1}, {1});
  rig.f32(HADAL_GQA_ATTENTION_K, {1, 2, 1}, {1, 1});
  rig.f32(HADAL_GQA_ATTENTION_V, {1, 2, 1}, {1, 1});
  rig.i32(HADAL_GQA_ATTENTION_POSITION, {1}, {3});
  rig.i32(HADAL_GQA_ATTENTION_ROW_SEQ, {1}, {0});
  rig.i32(HADAL_GQA_ATTENTION_BLOCK_TABLE, {1, 2}, {0, -1});
  rig.i32(HADAL_GQA_ATTENTION_FIRST, {1}, {0});
  rig.f32(HADAL_GQA_ATTENTION_OUT, {1, 1, 1}, {5});
  rig.op.attr.attention = {.scale = 1, .kv_heads = 1, .window = 0};
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_STREQ(rig.error.text, "gqa_attention: block_table[1] = -1 is outside [0, 1)");
}

}  // namespace
}  // namespace hadal::ref
