#include "models/deepseek_moe/deepseek_moe.h"

namespace hadal::deepseek_moe {

Result<DeepSeekMoeSpec> DeepSeekMoeSpec::from_config(const Config& config,
                                                     const FamilyOptions& options) {
  DeepSeekMoeSpec s;
  HADAL_TRY(s.model, ModelSpec::from_config(config, options.shard));
  HADAL_TRY(s.attention, GqaSpec::from_config(config, s.model));
  HADAL_TRY(s.moe, MoeSpec::from_config(config, s.model));
  s.attention.add_planes(s.model);
  return s;
}

Status DeepSeekMoeModel::bind(const Checkpoint& checkpoint) {
  const DeepSeekMoeSpec& s = spec_;
  const int64_t hidden = s.model.hidden_size;
  WeightBinder b(checkpoint, weights_, s.model.shard);
  inv_freq_ = b.table("inv_freq", s.attention.rope.inv_freq());
  for (int64_t i = 0; i < s.model.num_hidden_layers; ++i) {
    const std::string p = layer_prefix(i);
    LayerWeights w;
    w.input_layernorm = b.vector(p + "input_layernorm.weight", hidden);
    w.self_attn = bind_gqa(b, p + "self_attn.", s.attention, hidden);
    w.post_attention_layernorm = b.vector(p + "post_attention_layernorm.weight", hidden);
    w.mlp = bind_feed_forward(b, p + "mlp.", s.moe, s.moe.is_moe(i), s.model);
    layers_.push_back(w);
  }
  ends_ = bind_ends(b, s.model);
  return b.finish(unused_);
}

}  // namespace hadal::deepseek_moe
