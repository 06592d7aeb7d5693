// check_operands (contract/check.h): the shapes of operators.inc, held against operands.
#include <gtest/gtest.h>

#include <cstring>

#include "contract/check.h"
#include "test_rig.h"

namespace hadal::ref {
namespace {

/// A gqa_attention that fits; the tests below spoil it.
class Attention : public ::testing::Test {
 protected:
  Attention() : rig(HADAL_OP_GQA_ATTENTION) {
    rig.f32(HADAL_GQA_ATTENTION_Q, {2, 4, 8}, {});
    rig.f32(HADAL_GQA_ATTENTION_K, {3, 4, 16}, {});
    rig.f32(HADAL_GQA_ATTENTION_V, {3, 4, 10}, {});
    rig.i32(HADAL_GQA_ATTENTION_POSITION, {2}, {});
    rig.i32(HADAL_GQA_ATTENTION_ROW_SEQ, {2}, {});
    rig.i32(HADAL_GQA_ATTENTION_BLOCK_TABLE, {1, 2}, {});
    rig.i32(HADAL_GQA_ATTENTION_FIRST, {1}, {});
    rig.f32(HADAL_GQA_ATTENTION_OUT, {2, 4, 5}, {});
    rig.op.attr.attention = {.scale = 1, .kv_heads = 2, .window = 0};
  }
  std::string check() {
    hadal_tensor tensors[HADAL_MAX_OPERANDS] = {};
    for (size_t i = 0; i < HADAL_MAX_OPERANDS; ++i)
      if (rig.op.operands[i] >= 0)
        tensors[i] = rig.tensors[static_cast<size_t>(rig.op.operands[i])];
    hadal_error error{};
    error.size = sizeof error;
    const hadal_status status = hadal::contract::check_operands(rig.op, tensors, &error);
    EXPECT_EQ(status == HADAL_OK, error.text[0] == '\0');
    const char* colon = std::strstr(error.text, "): ");
    return colon ? colon + 3 : error.text;
  }
  hadal_tensor& operator[](uint32_t operand) { return rig[operand]; }
  Rig rig;
};

TEST_F(Attention, Fits) { EXPECT_EQ(check(), ""); }

TEST_F(Attention, AProductOfANameBoundLater) {
  (*this)[HADAL_GQA_ATTENTION_V].extents[2] = 11;
  EXPECT_EQ(check(), "v: extent 2 is 11, kv_heads * Dv is 10");
}

TEST_F(Attention, ANameMeansOneNumber) {
  (*this)[HADAL_GQA_ATTENTION_V].extents[1] = 8;
  EXPECT_EQ(check(), "v: extent 1 is 8, slots is 4");
}

TEST_F(Attention, RowCountsOfTheStepAreNotMixed) {
  (*this)[HADAL_GQA_ATTENTION_POSITION].row_dim = HADAL_DIM_T;
  EXPECT_EQ(check(), "position: T is another row count of the step there");
}

TEST_F(Attention, RolesTypesAndStrides) {
  (*this)[HADAL_GQA_ATTENTION_Q].strides[2] = 8;
  EXPECT_EQ(check(), "q must be contiguous along its innermost extent");
  (*this)[HADAL_GQA_ATTENTION_Q].strides[2] = 4;
  (*this)[HADAL_GQA_ATTENTION_Q].strides[1] = 30;
  EXPECT_EQ(check(), "q has a stride that is no multiple of its element");
  (*this)[HADAL_GQA_ATTENTION_Q].strides[1] = 32;
  (*this)[HADAL_GQA_ATTENTION_K].dtype = HADAL_I32;
  EXPECT_EQ(check(), "k is I32, expected F32 F16 BF16");
  (*this)[HADAL_GQA_ATTENTION_K].dtype = HADAL_F32;
  (*this)[HADAL_GQA_ATTENTION_OUT].space = HADAL_SPACE_NONE;
  EXPECT_EQ(check(), "out is missing");
}

TEST_F(Attention, HeadsAreAMultipleOfKvHeads) {
  rig.op.attr.attention.kv_heads = 3;
  (*this)[HADAL_GQA_ATTENTION_K].extents[2] = 24;
  (*this)[HADAL_GQA_ATTENTION_V].extents[2] = 15;
  EXPECT_EQ(check(), "the heads must be a multiple of kv_heads");
}

TEST(CheckOperands, RanksGoTogether) {
  const std::vector<float> w(12, 1.0f);
  Rig rig(HADAL_OP_MATMUL);
  rig.f32(HADAL_MATMUL_X, {2, 1, 3}, {});
  rig.weight(HADAL_MATMUL_W, {4, 3}, w, HADAL_F32);
  rig.f32(HADAL_MATMUL_OUT, {2, 1, 4}, {});
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_NE(std::strstr(rig.error.text, "w has rank 2, expected [N, K] or [B, N, K]"), nullptr)
      << rig.error.text;
}

TEST(CheckOperands, QuotientsAndConstants) {
  const std::vector<float> inv_freq(3, 1.0f);
  Rig rig(HADAL_OP_ROPE);
  rig.f32(HADAL_ROPE_X, {1, 1, 8}, {});
  rig.i32(HADAL_ROPE_POSITION, {1}, {});
  rig.weight(HADAL_ROPE_INV_FREQ, {3}, inv_freq, HADAL_F32);
  rig.op.attr.rope = {
      .first = 0, .dims = 6, .interleaved = 0, .inverse = 0, .ratio = 1, .amplitude = 1};
  EXPECT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  rig.op.attr.rope.dims = 8;
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_NE(std::strstr(rig.error.text, "inv_freq: extent 0 is 3, dims / 2 is 4"), nullptr)
      << rig.error.text;
  rig.op.attr.rope = {
      .first = 4, .dims = 6, .interleaved = 0, .inverse = 0, .ratio = 1, .amplitude = 1};
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_NE(std::strstr(rig.error.text, "first + dims is more than a head has"), nullptr)
      << rig.error.text;
}

}  // namespace
}  // namespace hadal::ref
