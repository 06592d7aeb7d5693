// DeepSeek-V4.1.   x: [T, n hidden], the residual streams, updated in place; in the tail [U, …].
#include <cmath>

#include "models/deepseek_v41/deepseek_v41.h"

namespace hadal::deepseek_v41 {

LatentSegment DeepSeekV41Model::entries_of(const StepPlanes& planes, const LayerSpec& layer,
                                           bool keys) const {
  const auto& [kind, number] = spec_.sources[static_cast<size_t>(layer.source)];
  const SourcePlanes& p = spec_.planes[kind];
  return {.plane = planes.of(keys ? p.keys : p.entries, number),
          .group = p.entries_group,
          .ratio = layer.ratio};
}

// latent = norm(Σ_j softmax_j(W_gate h_j) ⊙ W_kv h_j) over an entry's tokens; the entry is RoPE of
// it, the index key RoPE(norm(W_k latent)), both by the entry's first position
void DeepSeekV41Model::make_entries(Ops& ops, const LayerSpec& layer, const AttentionWeights& w,
                                    const StepPlanes& planes, Tensor h) const {
  const DeepSeekV41Spec& s = spec_;
  const double eps = s.model.rms_norm_eps;
  const auto& [kind, number] = s.sources[static_cast<size_t>(layer.source)];
  const SourcePlanes& p = s.planes[kind];
  const LatentSegment entries = entries_of(planes, layer, false),
                      keys = entries_of(planes, layer, true);
  Rope rope = rope_of_tail(s.compress_rope, *compress_inv_freq_, s.head_dim);
  rope.ratio = layer.ratio;
  Scratch scratch(ops);

  const Tensor latent = scratch.rows(HADAL_DIM_T, s.head_dim);
  if (layer.ratio > 1) {
    const Tensor rows = scratch.rows(HADAL_DIM_T, 2 * s.head_dim);
    ops.matmul(h, *w.compressor_wkv, columns(rows, 0, s.head_dim));
    ops.matmul(h, *w.compressor_wgate, columns(rows, s.head_dim, s.head_dim));
    const Tensor plane = planes.of(p.rows, number);
    ops.kv_write(rows, plane, p.rows_group);
    ops.compress(plane, p.rows_group, std::nullopt, layer.ratio, false, latent);
  } else {
    ops.matmul(h, *w.compressor_wkv, latent);
  }
  ops.rms_norm(latent, *w.compressor_norm, eps, latent);

  const Tensor key = scratch.rows(HADAL_DIM_T, s.index_head_dim);
  ops.matmul(latent, *w.index_wk, key);
  ops.rms_norm(key, *w.index_k_norm, eps, key);
  Rope key_rope = rope_of_tail(s.compress_rope, *compress_inv_freq_, s.index_head_dim);
  key_rope.ratio = layer.ratio;
  ops.rope(heads_view(key, 1), key_rope);
  ops.kv_write(key, keys.plane, keys.group, layer.ratio);

  ops.rope(heads_view(latent, 1), rope);
  ops.kv_write(latent, entries.plane, entries.group, layer.ratio);
}

// I_{t,e} = Σ_j w_{t,j} ReLU(q_{t,j} · k_e); the index_topk largest are attended to
void DeepSeekV41Model::choose(Ops& ops, const LayerSpec& layer, const AttentionWeights& w,
                              const StepPlanes& planes, Tensor h, Tensor c_q,
                              const Flow& flow) const {
  const DeepSeekV41Spec& s = spec_;
  const auto rows = static_cast<hadal_dim>(h.row_dim);
  const LatentSegment keys = entries_of(planes, layer, true);
  Scratch scratch(ops);
  const Tensor q = scratch.rows(rows, s.index_n_heads * s.index_head_dim);
  const Tensor weight = scratch.rows(rows, s.index_n_heads);
  const Tensor q_heads = heads_view(q, s.index_n_heads);
  ops.matmul(c_q, *w.index_wq_b, q);
  ops.rope(q_heads, rope_of_tail(s.compress_rope, *compress_inv_freq_, s.index_head_dim));
  ops.matmul(h, *w.index_weights_proj, weight);
  if (layer.makes_blocks) ops.index_blocks(q_heads, weight, keys, flow.blocks);
  // An entry among the k largest lies in one of the k + 1 best blocks, the forced one counted: with
  // more blocks than k, the layer that names them finds its choice inside them as well.
  const bool inside =
      layer.searches_blocks || (layer.makes_blocks && s.candidate_topk_blocks > s.index_topk);
  ops.index_topk(q_heads, weight, keys, flow.list, inside ? &flow.blocks : nullptr);
}

// f = Attn(h), over the window and the chosen entries of the layer's source
void DeepSeekV41Model::attention(Ops& ops, int64_t number, const StepPlanes& planes,
                                 const Flow& flow, Tensor h, Tensor f) const {
  const DeepSeekV41Spec& s = spec_;
  const LayerSpec& layer = s.layers[static_cast<size_t>(number)];
  const AttentionWeights& w = layers_[static_cast<size_t>(number)].attn;
  const auto rows = static_cast<hadal_dim>(h.row_dim);
  const double eps = s.model.rms_norm_eps;
  const bool reads = layer.ratio > 0, tail = number >= s.tail_from;
  Rope rope = rope_of_tail(reads ? s.compress_rope : s.main_rope,
                           reads ? *compress_inv_freq_ : *main_inv_freq_, s.head_dim);
  Scratch scratch(ops);

  Tensor c_q = scratch.rows(rows, s.q_lora_rank);
  ops.matmul(h, *w.wq_a, c_q);
  ops.rms_norm(c_q, *w.q_norm, eps, c_q);
  Tensor q = scratch.rows(rows, s.query_width());
  ops.matmul(c_q, *w.wq_b, q);
  const Tensor q_heads = heads_view(q, s.num_attention_heads);
  ops.rope(q_heads, rope);

  const LatentSegment window = {
      .plane = tail ? planes.of(1, number - s.tail_from) : planes.of(0, number),
      .group = tail ? s.tail_group : 0,
      .window = s.sliding_window};
  Tensor kv = scratch.rows(rows, s.head_dim);
  ops.matmul(h, *w.wkv, kv);
  ops.rms_norm(kv, *w.kv_norm, eps, kv);
  ops.rope(heads_view(kv, 1), rope);
  ops.kv_write(kv, window.plane, window.group);

  if (layer.is_source) make_entries(ops, layer, w, planes, h);
  if (layer.chooses) choose(ops, layer, w, planes, h, c_q, flow);
  LatentSegment entries;
  if (reads) {
    entries = entries_of(planes, layer, false);
    entries.list = flow.list;
  }
  Tensor o = scratch.rows(rows, s.query_width());
  const Tensor o_heads = heads_view(o, s.num_attention_heads);
  ops.latent_attention(q_heads, {}, window, 1.0 / std::sqrt(static_cast<double>(s.head_dim)),
                       o_heads, *w.attn_sink, reads ? &entries : nullptr);
  // The values carry the rotation of the keys: it is taken back at the query's position.
  rope.inverse = true;
  ops.rope(o_heads, rope);
  Tensor u = scratch.rows(rows, s.o_groups * s.o_lora_rank);
  ops.matmul(heads_view(o, s.o_groups), *w.wo_a, heads_view(u, s.o_groups));
  ops.matmul(u, *w.wo_b, f);
}

void DeepSeekV41Model::decoder_layer(Ops& ops, int64_t number, const StepPlanes& planes,
                                     const Flow& flow) const {
  const DeepSeekV41Spec& s = spec_;
  const LayerWeights& w = layers_[static_cast<size_t>(number)];
  const int64_t n = s.hyper.streams, hidden = s.model.hidden_size;
  const auto rows = static_cast<hadal_dim>(flow.x.row_dim);
  Scratch scratch(ops);
  if (w.engram) {
    const int64_t width = s.engram.looked_up();
    Tensor looked_up = columns(ops.inputs().extra, static_cast<int64_t>(*w.engram) * width, width);
    if (rows == HADAL_DIM_U) {
      const Tensor all = looked_up;
      looked_up = scratch.rows(rows, width);
      ops.gather_tail_rows(all, looked_up);
    }
    engram(ops, engrams_[*w.engram], n, s.model.rms_norm_eps, looked_up, flow.x);
  }
  Tensor h = scratch.rows(rows, hidden), f = scratch.like(h);
  Tensor post = scratch.rows(rows, n), comb = scratch.rows(rows, n * n);
  // Before the first site `pre` is 1 for the first stream and 0 for the others.
  const bool first = number == 0;
  hyper_collapse_delayed(ops, s.hyper, w.hc_attn, flow.x, flow.pre,
                         first ? std::nullopt : std::optional(h), post, comb);
  ops.rms_norm(first ? columns(flow.x, 0, hidden) : h, *w.attn_norm, s.model.rms_norm_eps, h);
  attention(ops, number, planes, flow, h, f);
  hyper_merge(ops, s.hyper, flow.x, f, post, comb);
  hyper_collapse_delayed(ops, s.hyper, w.hc_ffn, flow.x, flow.pre, h, post, comb);
  ops.rms_norm(h, *w.ffn_norm, s.model.rms_norm_eps, h);
  moe_ffn(ops, s.moe, w.ffn, h, f);
  hyper_merge(ops, s.hyper, flow.x, f, post, comb);
}

Flow DeepSeekV41Model::flow_of(Scratch& scratch, hadal_dim rows) const {
  const DeepSeekV41Spec& s = spec_;
  Flow flow;
  flow.x = scratch.rows(rows, s.hyper.streams * s.model.hidden_size);
  flow.pre = scratch.rows(rows, s.hyper.streams);
  flow.list = scratch.make(HADAL_I32, rows, {1, s.index_topk});
  if (s.blocks_from < s.model.num_hidden_layers)
    flow.blocks = {.list = scratch.make(HADAL_I32, rows, {1, s.candidate_topk_blocks}),
                   .block_size = s.candidate_block_size};
  return flow;
}

void DeepSeekV41Model::forward(Ops& ops, const StepPlanes& planes) const {
  const DeepSeekV41Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size, n = s.hyper.streams;
  Scratch scratch(ops);
  Flow flow = flow_of(scratch, HADAL_DIM_T);
  for (int64_t i = 0; i < n; ++i)
    ops.embed(*ends_.embed_tokens, columns(flow.x, i * hidden, hidden));
  for (int64_t i = 0; i < s.tail_from; ++i) decoder_layer(ops, i, planes, flow);
  if (s.has_tail()) {
    const Flow all = flow;
    flow = flow_of(scratch, HADAL_DIM_U);
    ops.gather_tail_rows(all.x, flow.x);
    ops.gather_tail_rows(all.pre, flow.pre);
    ops.gather_tail_rows(all.list, flow.list);
    if (s.blocks_from < s.tail_from) ops.gather_tail_rows(all.blocks.list, flow.blocks.list);
  }
  for (int64_t i = s.tail_from; i < s.model.num_hidden_layers; ++i)
    decoder_layer(ops, i, planes, flow);
  Tensor last = scratch.rows(HADAL_DIM_R, n * hidden), pre = scratch.rows(HADAL_DIM_R, n);
  Tensor h = scratch.rows(HADAL_DIM_R, hidden);
  ops.gather_logit_rows(flow.x, last);
  ops.gather_logit_rows(flow.pre, pre);
  ops.hc_collapse(streams_view(last, s.hyper), pre, h);
  logits_of(ops, s.model, ends_, h);
}

}  // namespace hadal::deepseek_v41
