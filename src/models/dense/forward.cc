// llama, qwen2, qwen3.   x: [T, hidden], the residual stream, updated in place.
#include "models/dense/dense.h"

namespace hadal::dense {

void DenseModel::decoder_layer(Ops& ops, const LayerWeights& w, const Tensor& k_plane,
                               const Tensor& v_plane, Tensor x) const {
  Scratch scratch(ops);
  Tensor h = scratch.like(x);
  ops.rms_norm(x, *w.input_layernorm, spec_.model.rms_norm_eps, h);
  gqa_attention(ops, spec_.attention, w.self_attn, *inv_freq_, k_plane, v_plane, h, x, w.window);
  ops.rms_norm(x, *w.post_attention_layernorm, spec_.model.rms_norm_eps, h);
  dense_ffn(ops, w.mlp, h, x, x);
}

void DenseModel::forward(Ops& ops, const StepPlanes& planes) const {
  Scratch scratch(ops);
  Tensor x = scratch.rows(HADAL_DIM_T, spec_.model.hidden_size);
  ops.embed(*ends_.embed_tokens, x);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto layer = static_cast<int64_t>(i);
    decoder_layer(ops, layers_[i], planes.of(0, layer), planes.of(1, layer), x);
  }
  end_of_model(ops, spec_.model, ends_, x);
}

}  // namespace hadal::dense
