// DeepSeek-V3.2.   x: [T, hidden], the residual stream, updated in place.
#include "models/deepseek_v32/deepseek_v32.h"

namespace hadal::deepseek_v32 {

void DeepSeekV32Model::decoder_layer(Ops& ops, int64_t layer, const StepPlanes& planes,
                                     Tensor x) const {
  const DeepSeekV32Spec& s = spec_;
  const LayerWeights& w = layers_[static_cast<size_t>(layer)];
  Scratch scratch(ops);
  Tensor h = scratch.like(x);
  ops.rms_norm(x, *w.input_layernorm, s.model.rms_norm_eps, h);
  {
    Scratch inner(ops);
    Tensor c_q = inner.rows(HADAL_DIM_T, s.attention.q_lora_rank);
    Tensor list = inner.make(HADAL_I32, HADAL_DIM_T, {1, s.indexer.index_topk});
    mla_query_latent(ops, w.self_attn, h, c_q);
    indexer(ops, s.indexer, w.indexer, *inv_freq_, planes.of(s.indexer.key_plane, layer), h, c_q,
            list);
    mla_attention(ops, s.attention, w.self_attn, *inv_freq_,
                  {.plane = planes.of(s.attention.latent_plane, layer), .list = list}, h, c_q, x);
  }
  ops.rms_norm(x, *w.post_attention_layernorm, s.model.rms_norm_eps, h);
  feed_forward(ops, s.moe, w.mlp, h, x);
}

void DeepSeekV32Model::forward(Ops& ops, const StepPlanes& planes) const {
  Scratch scratch(ops);
  Tensor x = scratch.rows(HADAL_DIM_T, spec_.model.hidden_size);
  ops.embed(*ends_.embed_tokens, x);
  for (int64_t i = 0; i < spec_.model.num_hidden_layers; ++i) decoder_layer(ops, i, planes, x);
  end_of_model(ops, spec_.model, ends_, x);
}

}  // namespace hadal::deepseek_v32
