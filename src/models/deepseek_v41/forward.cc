// DeepSeek-V4.1.   x: [T, n hidden], the residual streams, updated in place; in the tail [U, …].
#include "models/deepseek_v41/deepseek_v41.h"

namespace hadal::deepseek_v41 {

// latent = norm(Σ_j softmax_j(W_gate h_j) ⊙ W_kv h_j) over an entry's tokens; the entry is RoPE of
// it, the index key RoPE(norm(W_k latent)), both by the entry's first position
void DeepSeekV41Model::make_entries(Ops& ops, const LayerSpec& layer, const AttentionWeights& w,
                                    const StepPlanes& planes, Tensor h) const {
  const DeepSeekV41Spec& s = spec_;
  const SourcePlanes& source = source_of(layer);
  Rope rope = end_rope(s, inv_freq_, true, s.head_dim),
       key_rope = end_rope(s, inv_freq_, true, s.index_head_dim);
  rope.ratio = key_rope.ratio = layer.ratio;
  Scratch scratch(ops);

  const Tensor latent = scratch.rows(HADAL_DIM_T, s.head_dim);
  if (layer.ratio > 1) {
    const Tensor rows = scratch.rows(HADAL_DIM_T, 2 * s.head_dim);
    ops.matmul(h, *w.compressor_wkv, columns(rows, 0, s.head_dim));
    ops.matmul(h, *w.compressor_wgate, columns(rows, s.head_dim, s.head_dim));
    const PlaneLayer& plane = planes.of(source.rows, 0);
    ops.kv_write(rows, plane);
    ops.compress(plane, std::nullopt, layer.ratio, false, latent);
  } else {
    ops.matmul(h, *w.compressor_wkv, latent);
  }
  ops.rms_norm(latent, *w.compressor_norm, s.rms_norm_eps, latent);

  const Tensor key = scratch.rows(HADAL_DIM_T, s.index_head_dim);
  ops.matmul(latent, *w.index_wk, key);
  ops.rms_norm(key, *w.index_k_norm, s.rms_norm_eps, key);
  ops.rope(heads_view(key, 1), key_rope);
  ops.kv_write(key, planes.of(source.keys, 0));

  ops.rope(heads_view(latent, 1), rope);
  ops.kv_write(latent, planes.of(source.entries, 0));
}

// I_{t,e} = Σ_j w_{t,j} ReLU(q_{t,j} · k_e); the index_topk largest are attended to
void DeepSeekV41Model::choose(Ops& ops, const LayerSpec& layer, const AttentionWeights& w,
                              const StepPlanes& planes, Tensor h, Tensor c_q,
                              const Flow& flow) const {
  const DeepSeekV41Spec& s = spec_;
  const PlaneLayer& keys = planes.of(source_of(layer).keys, 0);
  Scratch scratch(ops);
  const IndexQueries index =
      index_queries(ops, scratch, s, w, end_rope(s, inv_freq_, true, s.index_head_dim), h, c_q);
  if (layer.makes_blocks) ops.index_blocks(index.q, index.weight, keys, flow.blocks);
  // An entry among the k largest lies in one of the k + 1 best blocks, the forced one counted: with
  // more blocks than k, the layer that names them finds its choice inside them as well.
  const bool inside =
      layer.searches_blocks || (layer.makes_blocks && s.candidate_topk_blocks > s.index_topk);
  ops.index_topk(index.q, index.weight, keys, flow.list, inside ? &flow.blocks : nullptr);
}

// f = Attn(h), over the window and the chosen entries of the layer's source
void DeepSeekV41Model::attention(Ops& ops, int64_t number, const StepPlanes& planes,
                                 const Flow& flow, Tensor h, Tensor f) const {
  const DeepSeekV41Spec& s = spec_;
  const LayerSpec& layer = s.layers[static_cast<size_t>(number)];
  const AttentionWeights& w = layers_[static_cast<size_t>(number)].attn;
  const auto rows = static_cast<hadal_dim>(h.row_dim);
  const bool reads = layer.ratio > 0;
  const PlaneLayer& window = number < s.tail_from
                                 ? planes.of(s.window_plane, number)
                                 : planes.of(s.tail_window_plane, number - s.tail_from);
  const Rope rope = end_rope(s, inv_freq_, reads, s.head_dim);
  Scratch scratch(ops);
  const Tensor c_q = scratch.rows(rows, s.q_lora_rank), q = scratch.rows(rows, s.query_width());
  shared_kv_queries(ops, s, w, rope, h, c_q, q);
  shared_kv_window(ops, s, w, rope, window, h);
  if (layer.is_source) make_entries(ops, layer, w, planes, h);
  if (layer.chooses) choose(ops, layer, w, planes, h, c_q, flow);
  std::optional<LatentSegment> entries;
  if (reads) entries = {.plane = planes.of(source_of(layer).entries, 0), .list = flow.list};
  shared_kv_output(ops, s, w, rope, q, {.plane = window, .window = s.sliding_window}, entries, f);
}

void DeepSeekV41Model::decoder_layer(Ops& ops, int64_t number, const StepPlanes& planes,
                                     const Flow& flow) const {
  const DeepSeekV41Spec& s = spec_;
  const LayerWeights& w = layers_[static_cast<size_t>(number)];
  const auto rows = static_cast<hadal_dim>(flow.x.row_dim);
  ops.begin_layer(number);
  Scratch scratch(ops);
  if (w.engram) {
    const int64_t width = s.engram.looked_up();
    Tensor looked_up = columns(ops.inputs().extra, static_cast<int64_t>(*w.engram) * width, width);
    if (rows == HADAL_DIM_U) {
      const Tensor all = looked_up;
      looked_up = scratch.rows(rows, width);
      ops.gather_tail_rows(all, looked_up);
    }
    engram(ops, engrams_[*w.engram], s.hyper.streams, s.model.rms_norm_eps, looked_up, flow.x);
  }
  tap(ops, number, flow.x);
  sublayers(ops, w, s.moe, flow, number == 0,
            [&](Tensor h, Tensor f) { attention(ops, number, planes, flow, h, f); });
}

void DeepSeekV41Model::sublayers(Ops& ops, const LayerWeights& w, const MoeSpec& moe,
                                 const Flow& flow, bool first,
                                 const std::function<void(Tensor h, Tensor f)>& attend) const {
  const DeepSeekV41Spec& s = spec_;
  const int64_t n = s.hyper.streams, hidden = s.model.hidden_size;
  const auto rows = static_cast<hadal_dim>(flow.x.row_dim);
  Scratch scratch(ops);
  Tensor h = scratch.rows(rows, hidden), f = scratch.like(h);
  Tensor post = scratch.rows(rows, n), comb = scratch.rows(rows, n * n);
  // Before the first site `pre` is 1 for the first stream and 0 for the others.
  hyper_collapse_delayed(ops, s.hyper, w.hc_attn, flow.x, flow.pre,
                         first ? std::nullopt : std::optional(h), post, comb);
  ops.rms_norm(first ? columns(flow.x, 0, hidden) : h, *w.attn_norm, s.model.rms_norm_eps, h);
  attend(h, f);
  hyper_merge(ops, s.hyper, flow.x, f, post, comb);
  hyper_collapse_delayed(ops, s.hyper, w.hc_ffn, flow.x, flow.pre, h, post, comb);
  ops.rms_norm(h, *w.ffn_norm, s.model.rms_norm_eps, h);
  moe_ffn(ops, moe, w.ffn, h, f);
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
  ops.begin_head();
  Tensor last = scratch.rows(HADAL_DIM_R, n * hidden), pre = scratch.rows(HADAL_DIM_R, n);
  Tensor h = scratch.rows(HADAL_DIM_R, hidden);
  ops.gather_logit_rows(flow.x, last);
  ops.gather_logit_rows(flow.pre, pre);
  ops.hc_collapse(streams_view(last, s.hyper), pre, h);
  logits_of(ops, s.model, ends_, h);
}

}  // namespace hadal::deepseek_v41
