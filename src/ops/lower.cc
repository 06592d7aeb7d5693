// The fused operators that a chip may decline, spelt in smaller ones. A chip that takes the fused
// form must give the same result within the bounds of the parts.
#include "ops/ops.h"

namespace hadal {

void Ops::lower_gated_matmul(Tensor x, const Matrix& gate, const Matrix& up, Tensor out,
                             double clamp) {
  Scratch scratch(*this);
  Tensor u = scratch.like(out);
  matmul(x, gate, out);
  matmul(x, up, u);
  swiglu(out, u, out, clamp);
}

void Ops::lower_moe_experts(Tensor x, Tensor expert, Tensor weight, Tensor gate, Tensor up,
                            Tensor down, Tensor out, const hadal_experts_attr& experts,
                            std::optional<Tensor> shared, std::optional<Tensor> add) {
  Scratch scratch(*this);
  const auto dim = static_cast<hadal_dim>(x.row_dim);
  const int64_t pairs = x.extents[0] * expert.extents[1], width = gate.extents[1];
  const Tensor order = scratch.make(HADAL_I32, dim, {pairs}),
               place = scratch.make(HADAL_I32, dim, {pairs}),
               offset = scratch.make(HADAL_I32, HADAL_DIM_CONST, {gate.extents[0] + 1}),
               row_weight = scratch.make(HADAL_F32, dim, {pairs}),
               hidden = scratch.make(HADAL_F32, dim, {pairs, width}),
               y = scratch.make(HADAL_F32, dim, {pairs, out.extents[1]});
  hadal_attributes attr{}, sort{};
  attr.experts.fan = static_cast<uint32_t>(expert.extents[1]);
  sort.experts.first = experts.first;
  sort.experts.of = experts.of;
  emit(HADAL_OP_MOE_SORT, {expert, weight, order, place, offset, row_weight}, sort);
  {
    Scratch inner(*this);
    const Tensor u = inner.make(HADAL_F32, dim, {pairs, width});
    emit(HADAL_OP_GROUPED_MATMUL, {x, gate, offset, order, hidden}, attr);
    emit(HADAL_OP_GROUPED_MATMUL, {x, up, offset, order, u}, attr);
    swiglu(hidden, u, hidden, static_cast<double>(experts.clamp), row_weight);
  }
  emit(HADAL_OP_GROUPED_MATMUL, {hidden, down, offset, std::nullopt, y}, attr);
  emit(HADAL_OP_MOE_COMBINE, {y, place, shared, add, out}, attr);
}

void Ops::lower_mla_attention(Tensor q_nope, Tensor q_rope, Tensor w_uk, Tensor w_uv,
                              const LatentSegment& segment, double scale, Tensor out) {
  Scratch scratch(*this);
  const auto dim = static_cast<hadal_dim>(q_nope.row_dim);
  const int64_t heads = q_nope.extents[1], rank = w_uk.extents[1];
  const Tensor q = scratch.make(HADAL_F32, dim, {q_nope.extents[0], heads, rank});
  const Tensor u = scratch.make(HADAL_F32, dim, {q_nope.extents[0], heads, rank});
  matmul(q_nope, w_uk, q);
  latent_attention(q, q_rope, segment, scale, u);
  matmul(u, w_uv, out);
}

}  // namespace hadal
