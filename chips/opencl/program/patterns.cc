#include "program/patterns.h"

#include <algorithm>

#include "ops/launch.h"

namespace hadal::opencl {
namespace {

template <uint32_t kOperand, uint32_t kExtent>
int64_t extent(const ProgramTape& tape, const hadal_op& op) {
  return tape.tensor(op, kOperand)->extents[kExtent];
}

int64_t matmul_numbers(const ProgramTape& tape, const hadal_op& op) {
  const hadal_tensor& out = *tape.tensor(op, HADAL_MATMUL_OUT);
  return out.rank == 3 ? out.extents[1] * out.extents[2] : out.extents[1];
}

int64_t norm_heads(const ProgramTape& tape, const hadal_op& op) {
  const hadal_tensor& x = *tape.tensor(op, HADAL_NORM_X);
  return x.rank == 3 ? x.extents[1] : 1;
}
int64_t norm_numbers(const ProgramTape& tape, const hadal_op& op) {
  const hadal_tensor& x = *tape.tensor(op, HADAL_NORM_X);
  return norm_heads(tape, op) * x.extents[x.rank - 1];
}

int64_t rope_pairs(const ProgramTape& tape, const hadal_op& op) {
  return tape.tensor(op, HADAL_ROPE_X)->extents[1] * (op.attr.rope.dims / 2);
}

template <typename... Operands>
constexpr uint32_t bits(Operands... operands) {
  return (operand_bit(operands) | ... | 0u);
}

constexpr Pattern kPatterns[] = {
    {HADAL_OP_MATMUL, kItems, bits(HADAL_MATMUL_ADD, HADAL_MATMUL_OUT), 0, HADAL_MATMUL_X,
     matmul_numbers, nullptr},
    {HADAL_OP_GATED_MATMUL, kItems, bits(HADAL_GATED_MATMUL_OUT), 0, HADAL_GATED_MATMUL_X,
     extent<HADAL_GATED_MATMUL_OUT, 1>, nullptr},
    {kOpExperts, kItems, bits(kExpertsOut), 0, kExpertsOut, extent<kExpertsOut, 1>, nullptr},
    {HADAL_OP_GROUPED_MATMUL, kItems, bits(HADAL_GROUPED_MATMUL_OUT), 0, HADAL_GROUPED_MATMUL_OUT,
     extent<HADAL_GROUPED_MATMUL_OUT, 1>, nullptr},
    {HADAL_OP_NORM, kRows, 0, bits(HADAL_NORM_X, HADAL_NORM_RESIDUAL, HADAL_NORM_OUT), HADAL_NORM_X,
     norm_numbers, norm_heads},
    {HADAL_OP_ROPE, kBoth, 0, bits(HADAL_ROPE_X), HADAL_ROPE_X, rope_pairs,
     extent<HADAL_ROPE_X, 1>},
    {HADAL_OP_KV_WRITE, kBoth, bits(HADAL_KV_WRITE_X), bits(HADAL_KV_WRITE_X), HADAL_KV_WRITE_X,
     extent<HADAL_KV_WRITE_X, 1>, nullptr},
    {HADAL_OP_ADD, kBoth, bits(HADAL_ADD_X, HADAL_ADD_Y), bits(HADAL_ADD_X, HADAL_ADD_Y),
     HADAL_ADD_X, extent<HADAL_ADD_X, 1>, nullptr},
    {HADAL_OP_SWIGLU, kBoth, bits(HADAL_SWIGLU_GATE, HADAL_SWIGLU_UP, HADAL_SWIGLU_OUT),
     bits(HADAL_SWIGLU_GATE, HADAL_SWIGLU_UP, HADAL_SWIGLU_OUT), HADAL_SWIGLU_OUT,
     extent<HADAL_SWIGLU_OUT, 1>, nullptr},
    {HADAL_OP_MOE_COMBINE, kBoth,
     bits(HADAL_MOE_COMBINE_SHARED, HADAL_MOE_COMBINE_ADD, HADAL_MOE_COMBINE_OUT),
     bits(HADAL_MOE_COMBINE_SHARED, HADAL_MOE_COMBINE_ADD, HADAL_MOE_COMBINE_OUT),
     HADAL_MOE_COMBINE_OUT, extent<HADAL_MOE_COMBINE_OUT, 1>, nullptr},
    {HADAL_OP_COMPRESS, kBoth, bits(HADAL_COMPRESS_OUT), bits(HADAL_COMPRESS_OUT),
     HADAL_COMPRESS_OUT, extent<HADAL_COMPRESS_OUT, 1>, nullptr},
    {HADAL_OP_EMBED, kBoth, bits(HADAL_EMBED_OUT), bits(HADAL_EMBED_OUT), HADAL_EMBED_OUT,
     extent<HADAL_EMBED_OUT, 1>, nullptr},
    {HADAL_OP_GATHER_ROWS, kBoth, bits(HADAL_GATHER_ROWS_OUT), bits(HADAL_GATHER_ROWS_OUT),
     HADAL_GATHER_ROWS_OUT, extent<HADAL_GATHER_ROWS_OUT, 1>, nullptr},
    {HADAL_OP_HC_POST, kItems, bits(HADAL_HC_POST_F), 0, HADAL_HC_POST_X,
     extent<HADAL_HC_POST_X, 2>, nullptr}};

}  // namespace

bool is_plain(const hadal_tensor& weight) { return weight_of(weight.weight).parts.size() == 1; }

const Pattern* find_pattern(const ProgramTape& tape, const hadal_op& op) {
  const auto* at = std::find_if(std::begin(kPatterns), std::end(kPatterns),
                                [&](const Pattern& p) { return p.id == op.id; });
  if (at == std::end(kPatterns)) return nullptr;
  // With ORDER its rows lie anywhere; moe_experts leaves them in the order of their experts.
  if (op.id == HADAL_OP_GROUPED_MATMUL && tape.tensor(op, HADAL_GROUPED_MATMUL_ORDER))
    return nullptr;
  for (uint32_t i = 0; i < operand_count_of(op.id); ++i) {
    const hadal_tensor* t = tape.tensor(op, i);
    if (t && t->space == HADAL_SPACE_WEIGHT && !is_plain(*t)) return nullptr;
  }
  return at;
}

}  // namespace hadal::opencl
