// DeepSeek-V4.   x: [T, n hidden], the residual streams, updated in place.
#include "models/deepseek_v4/deepseek_v4.h"

namespace hadal::deepseek_v4 {

// f = Attn(h), over the window and, on compressed layers, the entries
void DeepSeekV4Model::attention(Ops& ops, int64_t layer, const StepPlanes& planes, Tensor h,
                                Tensor f) const {
  const DeepSeekV4Spec& s = spec_;
  const AttentionWeights& w = layers_[static_cast<size_t>(layer)].attn;
  const int64_t ratio = s.compress_ratios[static_cast<size_t>(layer)], number = s.number_of(layer);
  const bool compressed = ratio != kWindowOnly;
  const PlaneLayer& window = planes.of(s.window_plane, layer);
  const Rope rope = end_rope(s, inv_freq_, compressed, s.head_dim);
  Scratch scratch(ops);
  const Tensor c_q = scratch.rows(HADAL_DIM_T, s.q_lora_rank),
               q = scratch.rows(HADAL_DIM_T, s.query_width());
  shared_kv_queries(ops, s, w, rope, h, c_q, q);
  shared_kv_window(ops, s, w, rope, window, h);

  std::optional<LatentSegment> entries;
  if (compressed) {
    const CompressorSpec& compressor = ratio == kSparse ? s.sparse : s.heavy;
    compress(ops, compressor, w.compressor, s.rms_norm_eps, rope, planes, number, h);
    entries = {.plane = planes.of(compressor.entry_plane, number)};
  }
  if (ratio == kSparse) {
    const Tensor list = scratch.make(HADAL_I32, HADAL_DIM_T, {1, s.index_topk});
    const Rope index_rope = end_rope(s, inv_freq_, true, s.index_head_dim);
    compress(ops, s.index, w.index_compressor, s.rms_norm_eps, index_rope, planes, number, h);
    Scratch inner(ops);
    const IndexQueries index = index_queries(ops, inner, s, w, index_rope, h, c_q);
    ops.index_topk(index.q, index.weight, planes.of(s.index.entry_plane, number), list);
    entries->list = list;
  }
  shared_kv_output(ops, s, w, rope, q, {.plane = window, .window = s.sliding_window}, entries, f);
}

void DeepSeekV4Model::decoder_layer(Ops& ops, const LayerWeights& w, const MoeSpec& moe, Tensor x,
                                    const std::function<void(Tensor h, Tensor f)>& attend) const {
  const DeepSeekV4Spec& s = spec_;
  const int64_t n = s.hyper.streams;
  Scratch scratch(ops);
  Tensor h = scratch.rows(HADAL_DIM_T, s.model.hidden_size);
  Tensor f = scratch.like(h);
  Tensor post = scratch.rows(HADAL_DIM_T, n), comb = scratch.rows(HADAL_DIM_T, n * n);
  hyper_collapse(ops, s.hyper, w.hc_attn, x, h, post, comb);
  ops.rms_norm(h, *w.attn_norm, s.model.rms_norm_eps, h);
  attend(h, f);
  hyper_merge(ops, s.hyper, x, f, post, comb);
  hyper_collapse(ops, s.hyper, w.hc_ffn, x, h, post, comb);
  ops.rms_norm(h, *w.ffn_norm, s.model.rms_norm_eps, h);
  moe_ffn(ops, moe, w.ffn, h, f);
  hyper_merge(ops, s.hyper, x, f, post, comb);
}

void DeepSeekV4Model::embed_streams(Ops& ops, Tensor x) const {
  const int64_t hidden = spec_.model.hidden_size;
  for (int64_t i = 0; i < spec_.hyper.streams; ++i)
    ops.embed(*ends_.embed_tokens, columns(x, i * hidden, hidden));
}

void DeepSeekV4Model::forward(Ops& ops, const StepPlanes& planes) const {
  const DeepSeekV4Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size, n = s.hyper.streams;
  Scratch scratch(ops);
  Tensor x = scratch.rows(HADAL_DIM_T, n * hidden);
  embed_streams(ops, x);
  for (int64_t i = 0; i < s.model.num_hidden_layers; ++i) {
    ops.begin_layer(i);
    decoder_layer(ops, layers_[static_cast<size_t>(i)], s.moe, x,
                  [&](Tensor h, Tensor f) { attention(ops, i, planes, h, f); });
    if (s.model.draft.is_dspark()) dspark_tap(ops, s.dspark, i, s.hyper.streams, x);
  }
  ops.begin_head();
  if (s.model.draft.is_mtp()) ops.copy(x, ops.inputs().hidden);
  Tensor last = scratch.rows(HADAL_DIM_R, n * hidden), h = scratch.rows(HADAL_DIM_R, hidden);
  ops.gather_logit_rows(x, last);
  hyper_collapse(ops, s.hyper, hc_head_, last, h);
  logits_of(ops, s.model, ends_, h);
}

}  // namespace hadal::deepseek_v4
