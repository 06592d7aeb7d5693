// Drafts of DeepSeek-V4: multi-token prediction, or the stages of DSpark.   x: [T, n hidden], the
// residual streams, updated in place.
#include "models/deepseek_v4/deepseek_v4.h"

namespace hadal::deepseek_v4 {

void DeepSeekV4Model::draft_layer(Ops& ops, const LayerWeights& w, const MoeSpec& moe,
                                  const PlaneLayer& window, int64_t block, Tensor x) const {
  const Rope rope = end_rope(spec_, inv_freq_, false, spec_.head_dim);
  decoder_layer(ops, w, moe, x, [&](Tensor h, Tensor f) {
    shared_kv_window_attention(ops, spec_, w.attn, rope, window, block, h, f);
  });
}

// Y_k = W_e norm(Embed(t)) + W_h norm(X_k) for each stream, one layer, a collapse of its own, the
// model's head.   X: the main pass's streams before the last collapse, one token before t
void DeepSeekV4Model::mtp(Ops& ops, const StepPlanes& planes) const {
  const DeepSeekV4Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size, n = s.hyper.streams;
  const double eps = s.model.rms_norm_eps;
  Scratch scratch(ops);
  const Tensor x = scratch.rows(HADAL_DIM_T, n * hidden);
  {
    Scratch inner(ops);
    const Tensor e = inner.rows(HADAL_DIM_T, hidden), h = inner.like(x);
    ops.embed(*ends_.embed_tokens, e);
    ops.rms_norm(e, *mtp_.enorm, eps, e);
    ops.matmul(e, *mtp_.e_proj, columns(x, 0, hidden));
    for (int64_t i = 1; i < n; ++i) ops.copy(columns(x, 0, hidden), columns(x, i * hidden, hidden));
    ops.gather_hidden(h);
    const Tensor streams = parts_as_rows(h, n), sum = parts_as_rows(x, n);
    ops.rms_norm(streams, *mtp_.hnorm, eps, streams);
    ops.matmul(streams, *mtp_.h_proj, sum, {}, sum);
  }
  draft_layer(ops, mtp_.layer, s.moe, planes.of(s.mtp_window, 0), 0, x);
  const Tensor last = ops.hidden_front(), h = scratch.rows(HADAL_DIM_R, hidden);
  ops.gather_logit_rows(x, last);
  hyper_collapse(ops, s.hyper, mtp_.hc_head, last, h);
  EndWeights ends = ends_;
  ends.norm = mtp_.norm;
  logits_of(ops, s.model, ends, h);
}

void DeepSeekV4Model::draft(Ops& ops, const StepPlanes& planes) const {
  if (spec_.model.draft.is_mtp()) return mtp(ops, planes);
  const Rope rope = end_rope(spec_, inv_freq_, false, spec_.head_dim);
  Scratch scratch(ops);
  const Tensor c = scratch.rows(HADAL_DIM_T, spec_.model.hidden_size);
  dspark_context(ops, dspark_, spec_.model, spec_.hyper.streams, c);
  for (size_t i = 0; i < stages_.size(); ++i)
    shared_kv_window(ops, spec_, stages_[i].attn, rope,
                     planes.of(spec_.dspark.window_plane, static_cast<int64_t>(i)), c);
}

void DeepSeekV4Model::draft_block(Ops& ops, const StepPlanes& planes) const {
  const DeepSeekV4Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size, n = s.hyper.streams;
  Scratch scratch(ops);
  const Tensor x = scratch.rows(HADAL_DIM_T, n * hidden);
  embed_streams(ops, x);
  for (size_t i = 0; i < stages_.size(); ++i)
    draft_layer(ops, stages_[i], s.dspark.moe,
                planes.of(s.dspark.window_plane, static_cast<int64_t>(i)), s.dspark.block_size, x);
  const Tensor last = scratch.rows(HADAL_DIM_R, n * hidden), h = dspark_state(ops, s.model);
  ops.gather_logit_rows(x, last);
  hyper_collapse(ops, s.hyper, stages_head_, last, h);
  dspark_base(ops, dspark_, s.model, ends_, h);
}

void DeepSeekV4Model::draft_next(Ops& ops, const StepPlanes& /*planes*/) const {
  dspark_next(ops, spec_.dspark, dspark_, spec_.model);
}

}  // namespace hadal::deepseek_v4
