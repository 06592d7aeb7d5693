// DeepSeek-V3.2.   x: [T, hidden], the residual stream, updated in place.
#include "models/deepseek_v32/deepseek_v32.h"

namespace hadal::deepseek_v32 {

void DeepSeekV32Model::decoder_layer(Ops& ops, const LayerWeights& w, const PlaneLayer& latents,
                                     const PlaneLayer& keys, Tensor x) const {
  const DeepSeekV32Spec& s = spec_;
  Scratch scratch(ops);
  Tensor h = scratch.like(x);
  ops.rms_norm(x, *w.input_layernorm, s.model.rms_norm_eps, h);
  {
    Scratch inner(ops);
    Tensor c_q = inner.rows(HADAL_DIM_T, s.attention.q_lora_rank);
    Tensor list = inner.make(HADAL_I32, HADAL_DIM_T, {1, s.indexer.index_topk});
    mla_query_latent(ops, w.self_attn, h, c_q);
    indexer(ops, s.indexer, w.indexer, *inv_freq_, keys, h, c_q, list);
    mla_attention(ops, s.attention, w.self_attn, *inv_freq_, {.plane = latents, .list = list}, h,
                  c_q, x);
  }
  ops.rms_norm(x, *w.post_attention_layernorm, s.model.rms_norm_eps, h);
  feed_forward(ops, s.moe, w.mlp, h, x);
}

void DeepSeekV32Model::forward(Ops& ops, const StepPlanes& planes) const {
  Scratch scratch(ops);
  Tensor x = scratch.rows(HADAL_DIM_T, spec_.model.hidden_size);
  ops.embed(*ends_.embed_tokens, x);
  for (int64_t i = 0; i < spec_.model.num_hidden_layers; ++i) {
    ops.begin_layer(i);
    decoder_layer(ops, layers_[static_cast<size_t>(i)], planes.of(spec_.attention.latent_plane, i),
                  planes.of(spec_.indexer.key_plane, i), x);
  }
  ops.begin_head();
  if (spec_.model.draft.is_mtp()) mtp_hand_over(ops, spec_.model, ends_, x);
  end_of_model(ops, spec_.model, ends_, x);
}

void DeepSeekV32Model::draft(Ops& ops, const StepPlanes& planes) const {
  Scratch scratch(ops);
  const Tensor x = scratch.rows(HADAL_DIM_T, spec_.model.hidden_size);
  mtp_begin(ops, spec_.model, ends_, mtp_, x);
  decoder_layer(ops, mtp_layer_, planes.of(spec_.draft_latents, 0), planes.of(spec_.draft_keys, 0),
                x);
  mtp_end(ops, spec_.model, ends_, mtp_, x);
}

}  // namespace hadal::deepseek_v32
