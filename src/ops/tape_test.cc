#include <gtest/gtest.h>

#include "ops/ops.h"

namespace hadal {
namespace {

StepLayout layout() {
  return StepLayout({.tokens = 4,
                     .sequences = 2,
                     .logit_rows = 2,
                     .entries = 8,
                     .vocab = 10,
                     .top = 3,
                     .max_blocks = {5}});
}

const TakesOptional kTakesAll = [](const hadal_op&, std::span<const Tensor>) { return true; };

Tensor weight(std::initializer_list<int64_t> extents) {
  return make_tensor(HADAL_F32, HADAL_SPACE_WEIGHT, HADAL_DIM_CONST, extents);
}

TEST(Tape, NamesATensorOnceAndMarksItsLastUse) {
  const StepLayout inputs = layout();
  Tape tape;
  TapeSink sink(tape);
  Ops ops(sink, inputs, kTakesAll);
  {
    Scratch scratch(ops);
    const Tensor x = scratch.rows(HADAL_DIM_T, 8), y = scratch.rows(HADAL_DIM_T, 8);
    ops.embed(weight({10, 8}), x);
    ops.rms_norm(x, weight({8}), 1e-6, y);
    ops.add(x, y);
  }
  ASSERT_EQ(tape.ops.size(), 3U);
  EXPECT_EQ(tape.ops[0].operands[HADAL_EMBED_OUT], tape.ops[1].operands[HADAL_NORM_X]);
  EXPECT_EQ(tape.ops[0].last_use, 0U);
  EXPECT_EQ(tape.ops[1].last_use, 0U);
  EXPECT_EQ(tape.ops[2].last_use, (1U << HADAL_ADD_X) | (1U << HADAL_ADD_Y));
}

TEST(Tape, ScratchIsAStackWithAnExactHighWaterMark) {
  const StepLayout inputs = layout();
  Tape tape;
  TapeSink sink(tape);
  Ops ops(sink, inputs, kTakesAll);
  {
    Scratch outer(ops);
    const Tensor a = outer.rows(HADAL_DIM_T, 16);  // 4 rows of 64 bytes
    EXPECT_EQ(a.offset, 0U);
    {
      Scratch inner(ops);
      EXPECT_EQ(inner.rows(HADAL_DIM_R, 16).offset, 256U);
    }
    EXPECT_EQ(outer.rows(HADAL_DIM_S, 1).offset, 256U);
  }
  EXPECT_EQ(ops.scratch_bytes(), 256U + 128U);
}

TEST(Tape, LowersTheGatedMatmulThatAChipDeclines) {
  const StepLayout inputs = layout();
  Tape tape;
  TapeSink sink(tape);
  // One call fits the chip, the other does not: each is decided by itself.
  Ops ops(sink, inputs, [](const hadal_op&, std::span<const Tensor> tensors) {
    return tensors[HADAL_GATED_MATMUL_GATE].extents[0] == 4;
  });
  Scratch scratch(ops);
  ops.gated_matmul(scratch.rows(HADAL_DIM_T, 8), weight({6, 8}), weight({6, 8}),
                   scratch.rows(HADAL_DIM_T, 6));
  ops.gated_matmul(scratch.rows(HADAL_DIM_T, 8), weight({4, 8}), weight({4, 8}),
                   scratch.rows(HADAL_DIM_T, 4));
  ASSERT_EQ(tape.ops.size(), 4U);
  EXPECT_EQ(tape.ops[0].id, static_cast<uint32_t>(HADAL_OP_MATMUL));
  EXPECT_EQ(tape.ops[2].id, static_cast<uint32_t>(HADAL_OP_SWIGLU));
  EXPECT_EQ(tape.ops[3].id, static_cast<uint32_t>(HADAL_OP_GATED_MATMUL));
}

/// The operators that a product by each of these gives.
std::vector<uint32_t> operators_of(const AdapterBank* first, const AdapterBank* second) {
  StepLimits limits = layout().limits;
  limits.adapters = true;
  const StepLayout inputs(limits);
  Tape tape;
  TapeSink sink(tape);
  Ops ops(sink, inputs, kTakesAll);
  Scratch scratch(ops);
  const Tensor x = scratch.rows(HADAL_DIM_T, 8), y = scratch.rows(HADAL_DIM_T, 6);
  ops.matmul(x, {weight({6, 8}), first}, y);
  ops.gated_matmul(x, {weight({6, 8}), first}, {weight({6, 8}), second}, y);
  std::vector<uint32_t> ids;
  for (const hadal_op& op : tape.ops) ids.push_back(op.id);
  EXPECT_EQ(ops.adapters_used().size(), (first ? 1U : 0U) + (second ? 1U : 0U));
  return ids;
}

TEST(Tape, AdaptersStandBehindEveryProductOfTheirMatrix) {
  const AdapterBank one{weight({2, 3, 8}), weight({2, 6, 3})},
      two{weight({2, 1, 8}), weight({2, 6, 1})};
  using Ids = std::vector<uint32_t>;
  EXPECT_EQ(operators_of(nullptr, nullptr), (Ids{HADAL_OP_MATMUL, HADAL_OP_GATED_MATMUL}));
  EXPECT_EQ(operators_of(nullptr, &two), (Ids{HADAL_OP_MATMUL, HADAL_OP_MATMUL, HADAL_OP_MATMUL,
                                              HADAL_OP_LORA_ADD, HADAL_OP_SWIGLU}));
  EXPECT_EQ(operators_of(&one, &two),
            (Ids{HADAL_OP_MATMUL, HADAL_OP_LORA_ADD, HADAL_OP_MATMUL, HADAL_OP_LORA_ADD,
                 HADAL_OP_MATMUL, HADAL_OP_LORA_ADD, HADAL_OP_SWIGLU}));
}

TEST(StepInputs, AdaptersHaveAPartOnlyWhereThereAreAny) {
  EXPECT_EQ(layout().adapter.space, static_cast<uint32_t>(HADAL_SPACE_NONE));
  StepLimits limits = layout().limits;
  limits.adapters = true;
  const StepLayout with(limits);
  EXPECT_EQ(with.small_inputs().size(), layout().small_inputs().size() + 1);
  EXPECT_GT(with.input_bytes, layout().input_bytes);
}

TEST(StepInputs, PartsDoNotOverlapAndLargeOnesComeLast) {
  const StepLayout l = layout();
  EXPECT_LT(l.token.offset, l.position.offset);
  EXPECT_LT(l.entry_start.offset, l.entry.offset);
  EXPECT_LT(l.entry.offset, l.mask.offset);
  EXPECT_GE(l.input_bytes, l.mask.offset + 2 * 4);
  EXPECT_GE(l.top_logprob.offset, l.logits.offset + 2 * 10 * 4);
}

}  // namespace
}  // namespace hadal
