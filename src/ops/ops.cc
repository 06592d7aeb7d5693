#include "ops/ops.h"

#include <algorithm>
#include <array>

#include "base/host_chip.h"

namespace hadal {

void Ops::emit(uint32_t id, std::initializer_list<std::optional<Tensor>> operands,
               const hadal_attributes& attr) {
  HADAL_CHECK(operands.size() == host_chip::operand_count(id));
  hadal_op op{};
  op.id = id;
  op.attr = attr;
  std::array<Tensor, HADAL_MAX_OPERANDS> tensors{};
  size_t i = 0;
  for (const auto& operand : operands) {
    if (operand) tensors[i] = *operand;
    op.operands[i] = operand ? static_cast<int32_t>(i) : -1;
    ++i;
  }
  for (; i < HADAL_MAX_OPERANDS; ++i) op.operands[i] = -1;
  sink_.op(op, std::span(tensors.data(), operands.size()));
  ++emitted_;
}

void Ops::embed(Tensor table, Tensor out) { emit(HADAL_OP_EMBED, {inputs_.token, table, out}); }

void Ops::matmul(Tensor x, Tensor w, Tensor out, std::optional<Tensor> bias,
                 std::optional<Tensor> add) {
  emit(HADAL_OP_MATMUL, {x, w, bias, add, out});
}

void Ops::rms_norm(Tensor x, std::optional<Tensor> w, double eps, Tensor out) {
  hadal_attributes attr{};
  attr.norm.eps = static_cast<float>(eps);
  emit(HADAL_OP_NORM, {x, w, std::nullopt, std::nullopt, out}, attr);
}

void Ops::add_rms_norm(Tensor x, Tensor residual, std::optional<Tensor> w, double eps, Tensor out) {
  hadal_attributes attr{};
  attr.norm.eps = static_cast<float>(eps);
  emit(HADAL_OP_NORM, {x, w, std::nullopt, residual, out}, attr);
}

void Ops::rope(Tensor x, const Rope& rope) {
  hadal_attributes attr{};
  attr.rope.first = static_cast<uint32_t>(rope.first);
  attr.rope.dims = static_cast<uint32_t>(rope.dims);
  attr.rope.interleaved = rope.interleaved ? 1 : 0;
  attr.rope.ratio = 1;
  attr.rope.amplitude = rope.amplitude;
  emit(HADAL_OP_ROPE, {x, inputs_.position, rope.inv_freq}, attr);
}

void Ops::swiglu(Tensor gate, Tensor up, Tensor out, double clamp,
                 std::optional<Tensor> row_weight) {
  hadal_attributes attr{};
  attr.swiglu.clamp = static_cast<float>(clamp);
  emit(HADAL_OP_SWIGLU, {gate, up, row_weight, out}, attr);
}

void Ops::gated_matmul(Tensor x, Tensor gate, Tensor up, Tensor out, double clamp) {
  if (lowering_.gated_matmul) return lower_gated_matmul(x, gate, up, out, clamp);
  hadal_attributes attr{};
  attr.swiglu.clamp = static_cast<float>(clamp);
  emit(HADAL_OP_GATED_MATMUL, {x, gate, up, out}, attr);
}

void Ops::add(Tensor x, Tensor y) { emit(HADAL_OP_ADD, {x, y}); }

void Ops::kv_write(Tensor x, Tensor plane, size_t group) {
  hadal_attributes attr{};
  attr.kv_write.ratio = 1;
  emit(HADAL_OP_KV_WRITE,
       {x, plane, inputs_.position, inputs_.row_seq, inputs_.block_table[group],
        inputs_.write_from[group]},
       attr);
}

void Ops::gqa_attention(Tensor q, Tensor k_plane, Tensor v_plane, size_t group, int64_t kv_heads,
                        double scale, Tensor out, int64_t window) {
  hadal_attributes attr{};
  attr.attention.scale = static_cast<float>(scale);
  attr.attention.kv_heads = static_cast<uint32_t>(kv_heads);
  attr.attention.window = static_cast<uint32_t>(window);
  emit(HADAL_OP_GQA_ATTENTION,
       {q, k_plane, v_plane, inputs_.position, inputs_.row_seq, inputs_.block_table[group],
        inputs_.first[group], std::nullopt, out},
       attr);
}

void Ops::gather_logit_rows(Tensor x, Tensor out) {
  emit(HADAL_OP_GATHER_ROWS, {x, inputs_.logit_row, out});
}

void Ops::sample() {
  hadal_attributes attr{};
  attr.sample.top = static_cast<uint32_t>(inputs_.limits.top);
  emit(HADAL_OP_SAMPLE,
       {inputs_.logits, inputs_.sample_params, inputs_.sample_seed, inputs_.sample_position,
        inputs_.entry_start, inputs_.entry, inputs_.entry_bias, std::nullopt, inputs_.sampled,
        inputs_.logprob, inputs_.top_token, inputs_.top_logprob},
       attr);
}

Tensor Scratch::rows(hadal_dim dim, int64_t width) {
  Tensor t = make_tensor(HADAL_F32, HADAL_SPACE_SCRATCH, dim, {1, width});
  return like(t);
}

Tensor Scratch::like(const Tensor& t) {
  HADAL_CHECK(t.rank == 2);
  Tensor out = make_tensor(static_cast<DType>(t.dtype), HADAL_SPACE_SCRATCH,
                           static_cast<hadal_dim>(t.row_dim), {t.extents[0], t.extents[1]});
  const int64_t rows = out.extents[0] * ops_.inputs_.limits.dims()[out.row_dim];
  out.offset = ops_.scratch_top_;
  ops_.scratch_top_ += (static_cast<uint64_t>(rows * out.strides[0]) + 63) / 64 * 64;
  ops_.scratch_high_ = std::max(ops_.scratch_high_, ops_.scratch_top_);
  return out;
}

Scratch::~Scratch() {
  ops_.sink_.release(bottom_, ops_.scratch_top_, ops_.emitted_ - opened_);
  ops_.scratch_top_ = bottom_;
}

}  // namespace hadal
