// llama, qwen2, qwen3.   x: [T, hidden], the residual stream, updated in place.
#include <cmath>

#include "models/dense/dense.h"

namespace hadal::dense {
namespace {

std::optional<Tensor> optional(const Weight* w) {
  return w ? std::optional<Tensor>(w->tensor) : std::nullopt;
}

}  // namespace

// x += W_o Attn(h)
void DenseModel::attention(Ops& ops, const LayerWeights& w, const Tensor& k_plane,
                           const Tensor& v_plane, Tensor h, Tensor x) const {
  const DenseSpec& s = spec_;
  const Rope rope{.inv_freq = *inv_freq_,
                  .dims = s.rope.dims,
                  .interleaved = s.rope.interleaved,
                  .amplitude = static_cast<float>(s.rope.amplitude)};
  Scratch scratch(ops);
  Tensor q = scratch.rows(HADAL_DIM_T, s.num_attention_heads * s.head_dim);
  Tensor k = scratch.rows(HADAL_DIM_T, s.num_key_value_heads * s.head_dim);
  Tensor v = scratch.rows(HADAL_DIM_T, s.num_key_value_heads * s.head_dim);
  ops.matmul(h, *w.q_proj, q, optional(w.q_bias));
  ops.matmul(h, *w.k_proj, k, optional(w.k_bias));
  ops.matmul(h, *w.v_proj, v, optional(w.v_bias));
  Tensor q_heads = heads_view(q, s.num_attention_heads),
         k_heads = heads_view(k, s.num_key_value_heads);
  if (s.qk_norm) {
    ops.rms_norm(q_heads, *w.q_norm, s.rms_norm_eps, q_heads);
    ops.rms_norm(k_heads, *w.k_norm, s.rms_norm_eps, k_heads);
  }
  ops.rope(q_heads, rope);
  ops.rope(k_heads, rope);
  ops.kv_write(k, k_plane, 0);
  ops.kv_write(v, v_plane, 0);
  Tensor o = scratch.like(q);
  ops.gqa_attention(q_heads, k_plane, v_plane, 0, s.num_key_value_heads,
                    1.0 / std::sqrt(static_cast<double>(s.head_dim)),
                    heads_view(o, s.num_attention_heads), w.window);
  ops.matmul(o, *w.o_proj, x, optional(w.o_bias), x);
}

// x += W_down (silu(W_gate h) ⊙ W_up h)
void DenseModel::feed_forward(Ops& ops, const LayerWeights& w, Tensor h, Tensor x) const {
  Scratch scratch(ops);
  Tensor g = scratch.rows(HADAL_DIM_T, spec_.intermediate_size);
  if (spec_.mlp_bias) {
    Tensor u = scratch.like(g);
    ops.matmul(h, *w.gate_proj, g, optional(w.gate_bias));
    ops.matmul(h, *w.up_proj, u, optional(w.up_bias));
    ops.swiglu(g, u, g);
  } else {
    ops.gated_matmul(h, *w.gate_proj, *w.up_proj, g);
  }
  ops.matmul(g, *w.down_proj, x, optional(w.down_bias), x);
}

void DenseModel::decoder_layer(Ops& ops, const LayerWeights& w, const Tensor& k_plane,
                               const Tensor& v_plane, Tensor x) const {
  Scratch scratch(ops);
  Tensor h = scratch.like(x);
  ops.rms_norm(x, *w.input_layernorm, spec_.rms_norm_eps, h);
  attention(ops, w, k_plane, v_plane, h, x);
  ops.rms_norm(x, *w.post_attention_layernorm, spec_.rms_norm_eps, h);
  feed_forward(ops, w, h, x);
}

void DenseModel::forward(Ops& ops, const StepPlanes& planes) const {
  Scratch scratch(ops);
  Tensor x = scratch.rows(HADAL_DIM_T, spec_.hidden_size);
  ops.embed(*embed_tokens_, x);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto layer = static_cast<int64_t>(i);
    decoder_layer(ops, layers_[i], planes.of(0, layer), planes.of(1, layer), x);
  }
  Tensor last = scratch.rows(HADAL_DIM_R, spec_.hidden_size);
  ops.gather_logit_rows(x, last);
  ops.rms_norm(last, *norm_, spec_.rms_norm_eps, last);
  ops.matmul(last, *lm_head_, ops.inputs().logits);
  ops.sample();
}

}  // namespace hadal::dense
