// llama, qwen2, qwen3.   x: [T, hidden], the residual stream, updated in place.
#include "models/dense/dense.h"

namespace hadal::dense {

void DenseModel::decoder_layer(Ops& ops, int64_t layer, const StepPlanes& planes, Tensor x) const {
  const LayerWeights& w = layers_[static_cast<size_t>(layer)];
  Scratch scratch(ops);
  Tensor h = scratch.like(x);
  ops.rms_norm(x, *w.input_layernorm, spec_.model.rms_norm_eps, h);
  gqa_attention(ops, spec_.attention, w.self_attn, *inv_freq_, planes, layer, h, x, w.window);
  ops.rms_norm(x, *w.post_attention_layernorm, spec_.model.rms_norm_eps, h);
  dense_ffn(ops, w.mlp, h, x, x);
}

void DenseModel::forward(Ops& ops, const StepPlanes& planes) const {
  Scratch scratch(ops);
  Tensor x = scratch.rows(HADAL_DIM_T, spec_.model.hidden_size);
  ops.embed(*ends_.embed_tokens, x);
  for (int64_t i = 0; i < spec_.model.num_hidden_layers; ++i) {
    ops.begin_layer(i);
    decoder_layer(ops, i, planes, x);
  }
  end_of_model(ops, spec_.model, ends_, x);
}

}  // namespace hadal::dense
