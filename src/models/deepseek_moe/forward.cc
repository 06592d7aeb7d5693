// DeepSeekMoE.   x: [T, hidden], the residual stream, updated in place.
#include "models/deepseek_moe/deepseek_moe.h"

namespace hadal::deepseek_moe {

void DeepSeekMoeModel::forward(Ops& ops, const StepPlanes& planes) const {
  const double eps = spec_.model.rms_norm_eps;
  Scratch scratch(ops);
  Tensor x = scratch.rows(HADAL_DIM_T, spec_.model.hidden_size);
  Tensor h = scratch.like(x);
  ops.embed(*ends_.embed_tokens, x);
  for (int64_t i = 0; i < spec_.model.num_hidden_layers; ++i) {
    const LayerWeights& w = layers_[static_cast<size_t>(i)];
    ops.begin_layer(i);
    ops.rms_norm(x, *w.input_layernorm, eps, h);
    gqa_attention(ops, spec_.attention, w.self_attn, *inv_freq_, planes, i, h, x);
    ops.rms_norm(x, *w.post_attention_layernorm, eps, h);
    feed_forward(ops, spec_.moe, w.mlp, h, x);
  }
  end_of_model(ops, spec_.model, ends_, x);
}

}  // namespace hadal::deepseek_moe
