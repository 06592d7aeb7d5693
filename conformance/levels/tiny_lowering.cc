// What a tiny model's fused operators stand for, as src/ops/lower.cc emits it.
#include <algorithm>

#include "levels/tiny_model.h"

namespace hadal::conformance {
namespace {

hadal_op part(uint32_t id, const Recorder::Operands& operands, const hadal_attributes& attr = {}) {
  hadal_op op{};
  op.id = id;
  op.attr = attr;
  std::fill(std::begin(op.operands), std::end(op.operands), -1);
  for (const auto& [operand, index] : operands) op.operands[operand] = index;
  return op;
}

}  // namespace

std::vector<hadal_op> TinyModel::lower(const hadal_op& op) {
  switch (op.id) {
    case HADAL_OP_GATED_MATMUL:
      return lower_gated(op);
    case HADAL_OP_MOE_EXPERTS:
      return lower_experts(op);
    case HADAL_OP_MLA_ATTENTION:
      return lower_mla(op);
    default:
      return {};
  }
}

std::vector<hadal_op> TinyModel::lower_gated(const hadal_op& op) {
  const int32_t* o = op.operands;
  const int32_t out = o[HADAL_GATED_MATMUL_OUT];
  const int32_t up = recorder_.rows(at(out).extents[1]);
  return {
      part(HADAL_OP_MATMUL, {{HADAL_MATMUL_X, o[HADAL_GATED_MATMUL_X]},
                             {HADAL_MATMUL_W, o[HADAL_GATED_MATMUL_GATE]},
                             {HADAL_MATMUL_OUT, out}}),
      part(HADAL_OP_MATMUL, {{HADAL_MATMUL_X, o[HADAL_GATED_MATMUL_X]},
                             {HADAL_MATMUL_W, o[HADAL_GATED_MATMUL_UP]},
                             {HADAL_MATMUL_OUT, up}}),
      part(HADAL_OP_SWIGLU,
           {{HADAL_SWIGLU_GATE, out}, {HADAL_SWIGLU_UP, up}, {HADAL_SWIGLU_OUT, out}}, op.attr)};
}

std::vector<hadal_op> TinyModel::lower_experts(const hadal_op& op) {
  const int32_t* o = op.operands;
  const auto scratch = [&](uint32_t dtype, uint32_t dim, std::vector<int64_t> extents) {
    return recorder_.tensor(dtype, HADAL_SPACE_SCRATCH, dim, std::move(extents));
  };
  const int64_t fan = op.attr.experts.fan, inner = at(o[HADAL_MOE_EXPERTS_GATE]).extents[1],
                width = at(o[HADAL_MOE_EXPERTS_OUT]).extents[1],
                experts = at(o[HADAL_MOE_EXPERTS_GATE]).extents[0];
  const int32_t order = scratch(HADAL_I32, HADAL_DIM_T, {fan}),
                place = scratch(HADAL_I32, HADAL_DIM_T, {fan}),
                offset = scratch(HADAL_I32, HADAL_DIM_CONST, {experts + 1}),
                row_weight = scratch(HADAL_F32, HADAL_DIM_T, {fan}),
                hidden = scratch(HADAL_F32, HADAL_DIM_T, {fan, inner}),
                up = scratch(HADAL_F32, HADAL_DIM_T, {fan, inner}),
                y = scratch(HADAL_F32, HADAL_DIM_T, {fan, width});
  hadal_attributes attr{}, swiglu{};
  attr.experts.fan = op.attr.experts.fan;
  swiglu.swiglu.clamp = op.attr.experts.clamp;
  const auto grouped = [&](int32_t x, int32_t w, int32_t by, int32_t out) {
    return part(HADAL_OP_GROUPED_MATMUL,
                {{HADAL_GROUPED_MATMUL_X, x},
                 {HADAL_GROUPED_MATMUL_W, w},
                 {HADAL_GROUPED_MATMUL_OFFSET, offset},
                 {HADAL_GROUPED_MATMUL_ORDER, by},
                 {HADAL_GROUPED_MATMUL_OUT, out}},
                attr);
  };
  return {part(HADAL_OP_MOE_SORT, {{HADAL_MOE_SORT_EXPERT, o[HADAL_MOE_EXPERTS_EXPERT]},
                                   {HADAL_MOE_SORT_WEIGHT, o[HADAL_MOE_EXPERTS_WEIGHT]},
                                   {HADAL_MOE_SORT_ORDER, order},
                                   {HADAL_MOE_SORT_PLACE, place},
                                   {HADAL_MOE_SORT_OFFSET, offset},
                                   {HADAL_MOE_SORT_ROW_WEIGHT, row_weight}}),
          grouped(o[HADAL_MOE_EXPERTS_X], o[HADAL_MOE_EXPERTS_GATE], order, hidden),
          grouped(o[HADAL_MOE_EXPERTS_X], o[HADAL_MOE_EXPERTS_UP], order, up),
          part(HADAL_OP_SWIGLU,
               {{HADAL_SWIGLU_GATE, hidden},
                {HADAL_SWIGLU_UP, up},
                {HADAL_SWIGLU_WEIGHT, row_weight},
                {HADAL_SWIGLU_OUT, hidden}},
               swiglu),
          grouped(hidden, o[HADAL_MOE_EXPERTS_DOWN], -1, y),
          part(HADAL_OP_MOE_COMBINE,
               {{HADAL_MOE_COMBINE_X, y},
                {HADAL_MOE_COMBINE_PLACE, place},
                {HADAL_MOE_COMBINE_SHARED, o[HADAL_MOE_EXPERTS_SHARED]},
                {HADAL_MOE_COMBINE_ADD, o[HADAL_MOE_EXPERTS_ADD]},
                {HADAL_MOE_COMBINE_OUT, o[HADAL_MOE_EXPERTS_OUT]}},
               attr)};
}

std::vector<hadal_op> TinyModel::lower_mla(const hadal_op& op) {
  const int32_t* o = op.operands;
  const int64_t heads = at(o[HADAL_MLA_ATTENTION_W_UK]).extents[0],
                rank = at(o[HADAL_MLA_ATTENTION_W_UK]).extents[1];
  const auto scratch = [&] {
    return recorder_.tensor(HADAL_F32, HADAL_SPACE_SCRATCH, HADAL_DIM_T, {1, heads, rank});
  };
  const int32_t q = scratch(), u = scratch();
  return {part(HADAL_OP_MATMUL, {{HADAL_MATMUL_X, o[HADAL_MLA_ATTENTION_Q_NOPE]},
                                 {HADAL_MATMUL_W, o[HADAL_MLA_ATTENTION_W_UK]},
                                 {HADAL_MATMUL_OUT, q}}),
          part(HADAL_OP_LATENT_ATTENTION,
               {{HADAL_LATENT_ATTENTION_Q, q},
                {HADAL_LATENT_ATTENTION_TAIL, o[HADAL_MLA_ATTENTION_Q_ROPE]},
                {HADAL_LATENT_ATTENTION_POSITION, o[HADAL_MLA_ATTENTION_POSITION]},
                {HADAL_LATENT_ATTENTION_ROW_SEQ, o[HADAL_MLA_ATTENTION_ROW_SEQ]},
                {HADAL_LATENT_ATTENTION_PLANE, o[HADAL_MLA_ATTENTION_PLANE]},
                {HADAL_LATENT_ATTENTION_BLOCK_TABLE, o[HADAL_MLA_ATTENTION_BLOCK_TABLE]},
                {HADAL_LATENT_ATTENTION_FIRST, o[HADAL_MLA_ATTENTION_FIRST]},
                {HADAL_LATENT_ATTENTION_LIST, o[HADAL_MLA_ATTENTION_LIST]},
                {HADAL_LATENT_ATTENTION_OUT, u}},
               op.attr),
          part(HADAL_OP_MATMUL, {{HADAL_MATMUL_X, u},
                                 {HADAL_MATMUL_W, o[HADAL_MLA_ATTENTION_W_UV]},
                                 {HADAL_MATMUL_OUT, o[HADAL_MLA_ATTENTION_OUT]}})};
}

}  // namespace hadal::conformance
