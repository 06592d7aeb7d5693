#include "ops/ops.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "contract/operators.h"

namespace hadal {

namespace {

/// An operator with its operands side by side; absent ones have space NONE.
struct Described {
  hadal_op op{};
  std::array<Tensor, HADAL_MAX_OPERANDS> tensors{};
  size_t count = 0;

  Described(uint32_t id, std::initializer_list<std::optional<Tensor>> operands,
            const hadal_attributes& attr)
      : count(operands.size()) {
    HADAL_CHECK(count == contract::operand_count(id));
    op.id = id;
    op.attr = attr;
    std::fill(std::begin(op.operands), std::end(op.operands), -1);
    size_t i = 0;
    for (const auto& operand : operands) {
      if (operand) {
        tensors[i] = *operand;
        op.operands[i] = static_cast<int32_t>(i);
      }
      ++i;
    }
  }
  [[nodiscard]] std::span<const Tensor> operands() const { return {tensors.data(), count}; }
};

}  // namespace

void Ops::emit(uint32_t id, std::initializer_list<std::optional<Tensor>> operands,
               const hadal_attributes& attr) {
  const Described call(id, operands, attr);
  sink_.op(call.op, call.operands());
  ++emitted_;
}

bool Ops::emit_if_taken(uint32_t id, std::initializer_list<std::optional<Tensor>> operands,
                        const hadal_attributes& attr) {
  const Described call(id, operands, attr);
  if (!takes_(call.op, call.operands())) return false;
  sink_.op(call.op, call.operands());
  ++emitted_;
  return true;
}

void Ops::embed(Tensor table, Tensor out) { emit(HADAL_OP_EMBED, {inputs_.token, table, out}); }

void Ops::matmul(Tensor x, const Matrix& w, Tensor out, std::optional<Tensor> bias,
                 std::optional<Tensor> add) {
  emit(HADAL_OP_MATMUL, {x, w.tensor, bias, add, out});
  lora_add(x, w.adapters, out);
}

void Ops::lora_add(Tensor x, const AdapterBank* adapters, Tensor out) {
  if (!adapters) return;
  // Rows of logits belong to no sequence that a step input names.
  HADAL_CHECK(x.row_dim != HADAL_DIM_R && inputs_.limits.adapters);
  emit(HADAL_OP_LORA_ADD, {x, adapters->a, adapters->b, inputs_.adapter, row_seq_of(x), out});
  adapters_.insert(adapters);
}

void Ops::rms_norm(Tensor x, std::optional<Tensor> w, double eps, Tensor out) {
  hadal_attributes attr{};
  attr.norm.eps = static_cast<float>(eps);
  emit(HADAL_OP_NORM, {x, w, std::nullopt, std::nullopt, out}, attr);
}

void Ops::layer_norm(Tensor x, Tensor w, Tensor b, double eps, Tensor out) {
  hadal_attributes attr{};
  attr.norm.eps = static_cast<float>(eps);
  attr.norm.layer = 1;
  emit(HADAL_OP_NORM, {x, w, b, std::nullopt, out}, attr);
}

void Ops::rope(Tensor x, const Rope& rope) {
  hadal_attributes attr{};
  attr.rope.first = static_cast<uint32_t>(rope.first);
  attr.rope.dims = static_cast<uint32_t>(rope.dims);
  attr.rope.interleaved = rope.interleaved ? 1 : 0;
  attr.rope.inverse = rope.inverse ? 1 : 0;
  attr.rope.ratio = static_cast<uint32_t>(rope.ratio);
  attr.rope.amplitude = rope.amplitude;
  emit(HADAL_OP_ROPE, {x, position_of(x), rope.inv_freq}, attr);
}

void Ops::swiglu(Tensor gate, Tensor up, Tensor out, double clamp,
                 std::optional<Tensor> row_weight) {
  hadal_attributes attr{};
  attr.swiglu.clamp = static_cast<float>(clamp);
  emit(HADAL_OP_SWIGLU, {gate, up, row_weight, out}, attr);
}

void Ops::gated_matmul(Tensor x, const Matrix& gate, const Matrix& up, Tensor out, double clamp) {
  hadal_attributes attr{};
  attr.swiglu.clamp = static_cast<float>(clamp);
  // Adapters stand between the products and what is made of them.
  const bool plain = !gate.adapters && !up.adapters;
  if (!plain || !emit_if_taken(HADAL_OP_GATED_MATMUL, {x, gate.tensor, up.tensor, out}, attr))
    lower_gated_matmul(x, gate, up, out, clamp);
}

void Ops::add(Tensor x, Tensor y) { emit(HADAL_OP_ADD, {x, y}); }

void Ops::copy(Tensor x, Tensor out) { emit(HADAL_OP_CONVERT, {x, out}); }

void Ops::kv_write(Tensor x, const PlaneLayer& plane) {
  hadal_attributes attr{};
  attr.kv_write.ratio = static_cast<uint32_t>(plane.ratio);
  emit(HADAL_OP_KV_WRITE,
       {x, plane.tensor, position_of(x), row_seq_of(x), inputs_.block_table[plane.group],
        inputs_.write_from[plane.group]},
       attr);
}

void Ops::gqa_attention(Tensor q, const PlaneLayer& keys, const PlaneLayer& values,
                        int64_t kv_heads, double scale, Tensor out, int64_t window) {
  HADAL_CHECK(keys.group == values.group);
  hadal_attributes attr{};
  attr.attention.scale = static_cast<float>(scale);
  attr.attention.kv_heads = static_cast<uint32_t>(kv_heads);
  attr.attention.window = static_cast<uint32_t>(window);
  emit(HADAL_OP_GQA_ATTENTION,
       {q, keys.tensor, values.tensor, position_of(q), row_seq_of(q),
        inputs_.block_table[keys.group], inputs_.first[keys.group], std::nullopt, out},
       attr);
}

void Ops::router(Tensor logits, std::optional<Tensor> bias, const Router& how, Tensor expert,
                 Tensor weight, std::optional<Tensor> hash) {
  hadal_attributes attr{};
  attr.router = {.score = how.score,
                 .groups = static_cast<uint32_t>(how.groups),
                 .groups_kept = static_cast<uint32_t>(how.groups_kept),
                 .group_best = static_cast<uint32_t>(how.group_best),
                 .normalise = how.normalise ? 1u : 0u,
                 .scale = static_cast<float>(how.scale)};
  const std::optional<Tensor> token = hash ? std::optional<Tensor>(inputs_.token) : std::nullopt;
  emit(HADAL_OP_ROUTER, {logits, bias, token, hash, expert, weight}, attr);
}

void Ops::moe_experts(Tensor x, Tensor expert, Tensor weight, Tensor gate, Tensor up, Tensor down,
                      Tensor out, double clamp, std::optional<Tensor> shared,
                      std::optional<Tensor> add, const ExpertRange& range) {
  hadal_attributes attr{};
  attr.experts = {.clamp = static_cast<float>(clamp),
                  .fan = static_cast<uint32_t>(expert.extents[1]),
                  .first = static_cast<uint32_t>(range.first),
                  .of = static_cast<uint32_t>(range.of)};
  const Region around = region_;
  enter({.part = Region::Part::kExperts, .layer = around.layer});
  if (!emit_if_taken(HADAL_OP_MOE_EXPERTS, {x, expert, weight, gate, up, down, shared, add, out},
                     attr))
    lower_moe_experts(x, expert, weight, gate, up, down, out, attr.experts, shared, add);
  enter(around);
}

void Ops::latent_attention(Tensor q, std::optional<Tensor> tail, const LatentSegment& segment,
                           double scale, Tensor out, std::optional<Tensor> sink,
                           const LatentSegment* second) {
  hadal_attributes attr{};
  attr.latent.scale = static_cast<float>(scale);
  std::optional<Tensor> plane2, table2, first2, list2;
  const auto segment_attr = [](const LatentSegment& s) {
    return hadal_segment_attr{.ratio = static_cast<uint32_t>(s.plane.ratio),
                              .window = static_cast<uint32_t>(s.window)};
  };
  attr.latent.segments[0] = segment_attr(segment);
  if (second) {
    attr.latent.segments[1] = segment_attr(*second);
    plane2 = second->plane.tensor;
    table2 = inputs_.block_table[second->plane.group];
    first2 = inputs_.first[second->plane.group];
    list2 = second->list;
  }
  const PlaneLayer& plane = segment.plane;
  emit(HADAL_OP_LATENT_ATTENTION,
       {q, tail, segment.to_horizon ? inputs_.horizon : position_of(q), row_seq_of(q), plane.tensor,
        inputs_.block_table[plane.group], inputs_.first[plane.group], segment.list, plane2, table2,
        first2, list2, sink, out},
       attr);
}

void Ops::index_topk(Tensor q, Tensor weight, const PlaneLayer& keys, Tensor list,
                     const CandidateBlocks* candidates) {
  hadal_attributes attr{};
  attr.index.ratio = static_cast<uint32_t>(keys.ratio);
  std::optional<Tensor> blocks;
  if (candidates) {
    blocks = candidates->list;
    attr.index.block_size = static_cast<uint32_t>(candidates->block_size);
  }
  emit(HADAL_OP_INDEX_TOPK,
       {q, weight, position_of(q), row_seq_of(q), keys.tensor, inputs_.block_table[keys.group],
        inputs_.first[keys.group], list, blocks},
       attr);
}

void Ops::index_blocks(Tensor q, Tensor weight, const PlaneLayer& keys,
                       const CandidateBlocks& candidates) {
  hadal_attributes attr{};
  attr.index = {.ratio = static_cast<uint32_t>(keys.ratio),
                .block_size = static_cast<uint32_t>(candidates.block_size)};
  emit(HADAL_OP_INDEX_BLOCKS,
       {q, weight, position_of(q), row_seq_of(q), keys.tensor, inputs_.block_table[keys.group],
        inputs_.first[keys.group], candidates.list},
       attr);
}

void Ops::compress(const PlaneLayer& rows, std::optional<Tensor> ape, int64_t ratio, bool overlap,
                   Tensor out) {
  hadal_attributes attr{};
  attr.compress = {.ratio = static_cast<uint32_t>(ratio), .overlap = overlap ? 1u : 0u};
  emit(HADAL_OP_COMPRESS,
       {rows.tensor, ape, position_of(out), row_seq_of(out), inputs_.block_table[rows.group], out},
       attr);
}

void Ops::emit_hc_pre(Tensor x, std::optional<Tensor> mix, std::optional<Tensor> base,
                      std::optional<Tensor> scale, const HyperConnection& how,
                      std::optional<Tensor> out, std::optional<Tensor> post,
                      std::optional<Tensor> comb, std::optional<Tensor> pre) {
  hadal_attributes attr{};
  attr.hc = {.norm_eps = static_cast<float>(how.norm_eps),
             .eps = static_cast<float>(how.eps),
             .iterations = static_cast<uint32_t>(how.iterations)};
  emit(HADAL_OP_HC_PRE, {x, mix, base, scale, out, post, comb, pre}, attr);
}

void Ops::hc_pre(Tensor x, Tensor mix, Tensor base, Tensor scale, const HyperConnection& how,
                 Tensor out, std::optional<Tensor> post, std::optional<Tensor> comb) {
  emit_hc_pre(x, mix, base, scale, how, out, post, comb, {});
}

void Ops::hc_pre_delayed(Tensor x, Tensor mix, Tensor base, Tensor scale,
                         const HyperConnection& how, Tensor pre, std::optional<Tensor> out,
                         Tensor post, Tensor comb) {
  emit_hc_pre(x, mix, base, scale, how, out, post, comb, pre);
}

void Ops::hc_collapse(Tensor x, Tensor pre, Tensor out) {
  emit_hc_pre(x, {}, {}, {}, HyperConnection{}, out, {}, {}, pre);
}

void Ops::hc_post(Tensor x, Tensor f, Tensor post, Tensor comb) {
  emit(HADAL_OP_HC_POST, {x, f, post, comb});
}

void Ops::engram_gate(Tensor x, Tensor key, Tensor value, Tensor q_weight, Tensor k_weight,
                      double eps) {
  constexpr float kFloor = 1e-6f;  // of the published model
  hadal_attributes attr{};
  attr.engram = {.eps = static_cast<float>(eps), .floor = kFloor};
  emit(HADAL_OP_ENGRAM_GATE, {x, key, value, q_weight, k_weight}, attr);
}

void Ops::mla_attention(Tensor q_nope, Tensor q_rope, Tensor w_uk, Tensor w_uv,
                        const LatentSegment& segment, double scale, Tensor out) {
  hadal_attributes attr{};
  attr.latent.scale = static_cast<float>(scale);
  attr.latent.segments[0].ratio = static_cast<uint32_t>(segment.plane.ratio);
  if (!emit_if_taken(HADAL_OP_MLA_ATTENTION,
                     {q_nope, q_rope, w_uk, w_uv, segment.plane.tensor, position_of(q_nope),
                      row_seq_of(q_nope), inputs_.block_table[segment.plane.group],
                      inputs_.first[segment.plane.group], segment.list, out},
                     attr))
    lower_mla_attention(q_nope, q_rope, w_uk, w_uv, segment, scale, out);
}

/// All rows of a step output that an earlier pass filled: that one had its own number of them.
Tensor Ops::every_row(Tensor rows) const {
  rows.extents[0] *= inputs_.limits.dims()[rows.row_dim];
  rows.row_dim = HADAL_DIM_CONST;
  return rows;
}

void Ops::gather_hidden(Tensor out) {
  emit(HADAL_OP_GATHER_ROWS, {every_row(inputs_.hidden), inputs_.draft_row, out});
}

Tensor Ops::hidden_front() const {
  HADAL_CHECK(inputs_.limits.logit_rows <= inputs_.limits.tokens);
  Tensor front = inputs_.hidden;
  front.row_dim = HADAL_DIM_R;
  return front;
}

void Ops::gather_earlier_rows(Tensor rows, Tensor out) {
  emit(HADAL_OP_GATHER_ROWS, {every_row(rows), inputs_.logit_row, out});
}

void Ops::gather_tail_rows(Tensor x, Tensor out) {
  emit(HADAL_OP_GATHER_ROWS, {x, inputs_.tail_row, out});
}

void Ops::gather_logit_rows(Tensor x, Tensor out) {
  emit(HADAL_OP_GATHER_ROWS, {x, inputs_.logit_row, out});
}

void Ops::all_reduce(Tensor x) {
  if (ranks_ > 1) emit(HADAL_OP_ALL_REDUCE, {x});
}

void Ops::sum_of_ranks(Tensor out, std::optional<Tensor> add, const MakePart& make) {
  if (ranks_ == 1) return make(out, add);
  if (!add) {
    make(out, std::nullopt);
    return all_reduce(out);
  }
  HADAL_CHECK(add->space == out.space && add->offset == out.offset);
  Scratch scratch(*this);
  const Tensor part = scratch.like(out);
  make(part, std::nullopt);
  all_reduce(part);
  this->add(out, part);
}

void Ops::sample() {
  hadal_attributes attr{};
  const int64_t top = sample_.top ? inputs_.limits.top : 0;
  attr.sample.top = static_cast<uint32_t>(top);
  emit_if_taken(
      HADAL_OP_SAMPLE,
      {inputs_.logits, inputs_.sample_params, inputs_.sample_seed, inputs_.sample_position,
       inputs_.entry_start, inputs_.entry, inputs_.entry_bias,
       sample_.mask ? std::optional(inputs_.mask) : std::nullopt, inputs_.sampled, inputs_.logprob,
       columns(inputs_.top_token, 0, top), columns(inputs_.top_logprob, 0, top)},
      attr);
}

Tensor Scratch::like(const Tensor& t) {
  HADAL_CHECK(t.rank == 2);
  return make(static_cast<DType>(t.dtype), static_cast<hadal_dim>(t.row_dim),
              {t.extents[0], t.extents[1]});
}

Tensor Scratch::make(DType dtype, hadal_dim dim, std::initializer_list<int64_t> extents) {
  Tensor out = make_tensor(dtype, HADAL_SPACE_SCRATCH, dim, extents);
  const int64_t rows = out.extents[0] * ops_.inputs_.limits.dims()[out.row_dim];
  out.offset = ops_.scratch_top_;
  const uint64_t alignment = ops_.inputs_.limits.alignment;
  ops_.scratch_top_ +=
      (static_cast<uint64_t>(rows * out.strides[0]) + alignment - 1) / alignment * alignment;
  ops_.scratch_high_ = std::max(ops_.scratch_high_, ops_.scratch_top_);
  return out;
}

Scratch::~Scratch() {
  ops_.sink_.release(bottom_, ops_.scratch_top_, ops_.emitted_ - opened_);
  ops_.scratch_top_ = bottom_;
}

}  // namespace hadal
