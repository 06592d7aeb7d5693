// DeepSeek-V4.   x: [T, n hidden], the residual streams, updated in place.
#include <algorithm>
#include <cmath>

#include "models/deepseek_v4/deepseek_v4.h"

namespace hadal::deepseek_v4 {

LayerPlanes DeepSeekV4Model::planes_of(const StepPlanes& planes, int64_t layer) const {
  enum : size_t {
    kWindow,
    kSparseRows,
    kSparseEntries,
    kIndexRows,
    kIndexKeys,
    kHeavyRows,
    kHeavyEntries
  };
  enum : size_t { kWindowGroup, kSparseRowsGroup, kSparseGroup, kHeavyRowsGroup, kHeavyGroup };
  const auto& ratios = spec_.compress_ratios;
  const int64_t ratio = ratios[static_cast<size_t>(layer)];
  // The layer's number among those of its kind.
  const int64_t i = std::count(ratios.begin(), ratios.begin() + layer, ratio);
  LayerPlanes p{.window = planes.of(kWindow, layer), .main = {}, .index = {}};
  if (ratio == kSparse) {
    p.main = {planes.of(kSparseRows, i), planes.of(kSparseEntries, i), kSparseRowsGroup,
              kSparseGroup};
    p.index = {planes.of(kIndexRows, i), planes.of(kIndexKeys, i), kSparseRowsGroup, kSparseGroup};
  }
  if (ratio == kHeavy)
    p.main = {planes.of(kHeavyRows, i), planes.of(kHeavyEntries, i), kHeavyRowsGroup, kHeavyGroup};
  return p;
}

// f = Attn(h), over the window and, on compressed layers, the entries
void DeepSeekV4Model::attention(Ops& ops, int64_t layer, const LayerPlanes& planes, Tensor h,
                                Tensor f) const {
  const DeepSeekV4Spec& s = spec_;
  const AttentionWeights& w = layers_[static_cast<size_t>(layer)].attn;
  const int64_t ratio = s.compress_ratios[static_cast<size_t>(layer)];
  const int64_t heads = s.num_attention_heads, width = heads * s.head_dim;
  const double eps = s.model.rms_norm_eps;
  const bool compressed = ratio != kWindowOnly;
  const Tensor inv_freq = compressed ? *compress_inv_freq_ : *main_inv_freq_;
  Rope rope = rope_of_tail(compressed ? s.compress_rope : s.main_rope, inv_freq, s.head_dim);
  Scratch scratch(ops);

  Tensor c_q = scratch.rows(HADAL_DIM_T, s.q_lora_rank);
  ops.matmul(h, *w.wq_a, c_q);
  ops.rms_norm(c_q, *w.q_norm, eps, c_q);
  Tensor q = scratch.rows(HADAL_DIM_T, width);
  ops.matmul(c_q, *w.wq_b, q);
  const Tensor q_heads = heads_view(q, heads);
  ops.rms_norm(q_heads, std::nullopt, eps, q_heads);
  ops.rope(q_heads, rope);

  Tensor kv = scratch.rows(HADAL_DIM_T, s.head_dim);
  ops.matmul(h, *w.wkv, kv);
  ops.rms_norm(kv, *w.kv_norm, eps, kv);
  ops.rope(heads_view(kv, 1), rope);
  ops.kv_write(kv, planes.window, 0);

  LatentSegment entries{
      .plane = planes.main.entries, .group = planes.main.entries_group, .ratio = ratio};
  if (compressed)
    hadal::compress(ops, ratio == kSparse ? s.sparse : s.heavy, w.compressor, eps, inv_freq,
                    planes.main, h);
  if (ratio == kSparse) {
    Tensor list = scratch.make(HADAL_I32, HADAL_DIM_T, {1, s.index_topk});
    Tensor q_index = scratch.rows(HADAL_DIM_T, s.index_n_heads * s.index_head_dim);
    Tensor weight = scratch.rows(HADAL_DIM_T, s.index_n_heads);
    hadal::compress(ops, s.index, w.index_compressor, eps, inv_freq, planes.index, h);
    ops.matmul(c_q, *w.index_wq_b, q_index);
    ops.rope(heads_view(q_index, s.index_n_heads),
             rope_of_tail(s.compress_rope, inv_freq, s.index_head_dim));
    ops.matmul(h, *w.index_weights_proj, weight);
    ops.index_topk(
        heads_view(q_index, s.index_n_heads), weight,
        {.plane = planes.index.entries, .group = planes.index.entries_group, .ratio = ratio}, list);
    entries.list = list;
  }

  Tensor o = scratch.rows(HADAL_DIM_T, width);
  const Tensor o_heads = heads_view(o, heads);
  ops.latent_attention(q_heads, {}, {.plane = planes.window, .window = s.sliding_window},
                       1.0 / std::sqrt(static_cast<double>(s.head_dim)), o_heads, *w.attn_sink,
                       compressed ? &entries : nullptr);
  // The values carry the rotation of the keys: it is taken back at the query's position.
  rope.inverse = true;
  ops.rope(o_heads, rope);
  Tensor u = scratch.rows(HADAL_DIM_T, s.o_groups * s.o_lora_rank);
  ops.matmul(heads_view(o, s.o_groups), *w.wo_a, heads_view(u, s.o_groups));
  ops.matmul(u, *w.wo_b, f);
}

void DeepSeekV4Model::decoder_layer(Ops& ops, int64_t layer, const LayerPlanes& planes,
                                    Tensor x) const {
  const DeepSeekV4Spec& s = spec_;
  const LayerWeights& w = layers_[static_cast<size_t>(layer)];
  const int64_t n = s.hyper.streams;
  Scratch scratch(ops);
  Tensor h = scratch.rows(HADAL_DIM_T, s.model.hidden_size);
  Tensor f = scratch.like(h);
  Tensor post = scratch.rows(HADAL_DIM_T, n), comb = scratch.rows(HADAL_DIM_T, n * n);
  hyper_collapse(ops, s.hyper, w.hc_attn, x, h, post, comb);
  ops.rms_norm(h, *w.attn_norm, s.model.rms_norm_eps, h);
  attention(ops, layer, planes, h, f);
  hyper_merge(ops, s.hyper, x, f, post, comb);
  hyper_collapse(ops, s.hyper, w.hc_ffn, x, h, post, comb);
  ops.rms_norm(h, *w.ffn_norm, s.model.rms_norm_eps, h);
  moe_ffn(ops, s.moe, w.ffn, h, f);
  hyper_merge(ops, s.hyper, x, f, post, comb);
}

void DeepSeekV4Model::forward(Ops& ops, const StepPlanes& planes) const {
  const DeepSeekV4Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size, n = s.hyper.streams;
  Scratch scratch(ops);
  Tensor x = scratch.rows(HADAL_DIM_T, n * hidden);
  for (int64_t i = 0; i < n; ++i) ops.embed(*ends_.embed_tokens, columns(x, i * hidden, hidden));
  for (int64_t i = 0; i < s.model.num_hidden_layers; ++i)
    decoder_layer(ops, i, planes_of(planes, i), x);
  Tensor last = scratch.rows(HADAL_DIM_R, n * hidden), h = scratch.rows(HADAL_DIM_R, hidden);
  ops.gather_logit_rows(x, last);
  hyper_collapse(ops, s.hyper, hc_head_, last, h);
  logits_of(ops, s.model, ends_, h);
}

}  // namespace hadal::deepseek_v4
