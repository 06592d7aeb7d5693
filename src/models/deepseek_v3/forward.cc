// DeepSeek-V2, V2-Lite, V3, R1, V3.1.   x: [T, hidden], the residual stream, updated in place.
#include "models/deepseek_v3/deepseek_v3.h"

namespace hadal::deepseek_v3 {

void DeepSeekV3Model::decoder_layer(Ops& ops, const LayerWeights& w, const PlaneLayer& latents,
                                    Tensor x) const {
  Scratch scratch(ops);
  Tensor h = scratch.like(x);
  ops.rms_norm(x, *w.input_layernorm, spec_.model.rms_norm_eps, h);
  mla_attention(ops, spec_.attention, w.self_attn, *inv_freq_, {.plane = latents}, h, x);
  ops.rms_norm(x, *w.post_attention_layernorm, spec_.model.rms_norm_eps, h);
  feed_forward(ops, spec_.moe, w.mlp, h, x);
}

void DeepSeekV3Model::forward(Ops& ops, const StepPlanes& planes) const {
  Scratch scratch(ops);
  Tensor x = scratch.rows(HADAL_DIM_T, spec_.model.hidden_size);
  ops.embed(*ends_.embed_tokens, x);
  for (int64_t i = 0; i < spec_.model.num_hidden_layers; ++i) {
    ops.begin_layer(i);
    decoder_layer(ops, layers_[static_cast<size_t>(i)], planes.of(spec_.attention.latent_plane, i),
                  x);
  }
  ops.begin_head();
  if (spec_.model.draft.is_mtp()) mtp_hand_over(ops, spec_.model, ends_, x);
  end_of_model(ops, spec_.model, ends_, x);
}

void DeepSeekV3Model::draft(Ops& ops, const StepPlanes& planes) const {
  Scratch scratch(ops);
  const Tensor x = scratch.rows(HADAL_DIM_T, spec_.model.hidden_size);
  mtp_begin(ops, spec_.model, ends_, mtp_, x);
  decoder_layer(ops, mtp_layer_, planes.of(spec_.draft_plane, 0), x);
  mtp_end(ops, spec_.model, ends_, mtp_, x);
}

}  // namespace hadal::deepseek_v3
