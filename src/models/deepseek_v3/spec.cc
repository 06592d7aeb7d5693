#include <array>

#include "models/deepseek_v3/deepseek_v3.h"

namespace hadal::deepseek_v3 {
namespace {

constexpr auto kV2Defaults = std::to_array<Default>({
    {"q_lora_rank", "1536"},
    {"n_shared_experts", "2"},
    {"topk_method", "\"greedy\""},
});
constexpr auto kV3Defaults = std::to_array<Default>({
    {"q_lora_rank", "1536"},
    {"first_k_dense_replace", "3"},
    {"n_shared_experts", "1"},
    {"scoring_func", "\"sigmoid\""},
    {"n_group", "8"},
    {"topk_group", "4"},
    {"routed_scaling_factor", "2.5"},
});

}  // namespace

Result<DeepSeekV3Spec> DeepSeekV3Spec::from_config(const Config& given,
                                                   const FamilyOptions& options) {
  DeepSeekV3Spec s;
  HADAL_TRY(const std::string model_type, given.text("model_type"));
  const Config config = with_defaults(
      given, model_type == "deepseek_v2" ? std::span<const Default>(kV2Defaults) : kV3Defaults);
  HADAL_TRY(s.model, ModelSpec::from_config(config, options.shard));
  HADAL_TRY(s.attention, MlaSpec::from_config(config, s.model));
  HADAL_TRY(s.moe, MoeSpec::from_config(config, s.model));
  HADAL_TRY(s.num_nextn_predict_layers, config.integer("num_nextn_predict_layers", 0, 64, 0));
  s.attention.add_planes(s.model);
  if (options.draft && s.num_nextn_predict_layers > 0) {
    s.model.draft = {.kind = DraftSpec::Kind::kMtp, .hidden = s.model.hidden_size};
    s.draft_plane = s.model.add_plane(s.attention.latent_plane.group, PlaneRole::kLatent, 1,
                                      s.attention.cache_width());
  }
  return s;
}

LayerWeights DeepSeekV3Model::bind_layer(WeightBinder& b, int64_t layer, bool is_moe) const {
  const DeepSeekV3Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size;
  const std::string p = layer_prefix(layer);
  LayerWeights w;
  w.input_layernorm = b.vector(p + "input_layernorm.weight", hidden);
  w.self_attn = bind_mla(b, p + "self_attn.", s.attention, hidden);
  w.post_attention_layernorm = b.vector(p + "post_attention_layernorm.weight", hidden);
  w.mlp = bind_feed_forward(b, p + "mlp.", s.moe, is_moe, s.model);
  return w;
}

Status DeepSeekV3Model::bind(const Checkpoint& checkpoint) {
  const DeepSeekV3Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size, layers = s.model.num_hidden_layers;
  WeightBinder b(checkpoint, weights_, s.model.shard);
  inv_freq_ = b.table("inv_freq", s.attention.rope.inv_freq());
  for (int64_t i = 0; i < layers; ++i) layers_.push_back(bind_layer(b, i, s.moe.is_moe(i)));
  if (s.model.draft.is_mtp()) {
    mtp_ = bind_mtp(b, layer_prefix(layers), hidden);
    mtp_layer_ = bind_layer(b, layers, true);
  }
  // Without drafts, and the copies of embedding and head that the MTP layers bring.
  b.known_unused_layers("model.layers.", layers, s.num_nextn_predict_layers);
  ends_ = bind_ends(b, s.model);
  return b.finish(unused_);
}

}  // namespace hadal::deepseek_v3
