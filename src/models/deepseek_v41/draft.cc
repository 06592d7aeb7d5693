// Drafts of DeepSeek-V4.1: the stages of DSpark.   x: [T, n hidden], the residual streams.
#include "models/deepseek_v41/deepseek_v41.h"

namespace hadal::deepseek_v41 {

// Of what enters a target layer. The tail's rows alone are handed over: of layers before it they
// are taken out.
void DeepSeekV41Model::tap(Ops& ops, int64_t layer, Tensor x) const {
  const DeepSeekV41Spec& s = spec_;
  if (!s.model.draft.is_dspark() || !s.dspark.is_target(layer)) return;
  Scratch scratch(ops);
  if (s.has_tail() && layer < s.tail_from) {
    const Tensor all = x;
    x = scratch.rows(HADAL_DIM_U, s.hyper.streams * s.model.hidden_size);
    ops.gather_tail_rows(all, x);
  }
  dspark_tap(ops, s.dspark, layer, s.hyper.streams, x);
}

void DeepSeekV41Model::draft(Ops& ops, const StepPlanes& planes) const {
  const Rope rope = end_rope(spec_, inv_freq_, false, spec_.head_dim);
  Scratch scratch(ops);
  const Tensor c = scratch.rows(HADAL_DIM_T, spec_.model.hidden_size);
  dspark_context(ops, dspark_, spec_.model, spec_.hyper.streams, c);
  for (size_t i = 0; i < stages_.size(); ++i)
    shared_kv_window(ops, spec_, stages_[i].attn, rope,
                     planes.of(spec_.dspark.window_plane, static_cast<int64_t>(i)), c);
}

void DeepSeekV41Model::draft_block(Ops& ops, const StepPlanes& planes) const {
  const DeepSeekV41Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size, n = s.hyper.streams;
  const Rope rope = end_rope(s, inv_freq_, false, s.head_dim);
  Scratch scratch(ops);
  Flow flow;
  flow.x = scratch.rows(HADAL_DIM_T, n * hidden);
  flow.pre = scratch.rows(HADAL_DIM_T, n);
  for (int64_t i = 0; i < n; ++i)
    ops.embed(*ends_.embed_tokens, columns(flow.x, i * hidden, hidden));
  for (size_t i = 0; i < stages_.size(); ++i) {
    const PlaneLayer& window = planes.of(s.dspark.window_plane, static_cast<int64_t>(i));
    sublayers(ops, stages_[i], s.dspark.moe, flow, i == 0, [&](Tensor h, Tensor f) {
      shared_kv_window_attention(ops, s, stages_[i].attn, rope, window, s.dspark.block_size, h, f);
    });
  }
  const Tensor last = scratch.rows(HADAL_DIM_R, n * hidden), pre = scratch.rows(HADAL_DIM_R, n),
               h = dspark_state(ops, s.model);
  ops.gather_logit_rows(flow.x, last);
  ops.gather_logit_rows(flow.pre, pre);
  ops.hc_collapse(streams_view(last, s.hyper), pre, h);
  dspark_base(ops, dspark_, s.model, ends_, h);
}

void DeepSeekV41Model::draft_next(Ops& ops, const StepPlanes& /*planes*/) const {
  dspark_next(ops, spec_.dspark, dspark_, spec_.model);
}

}  // namespace hadal::deepseek_v41
