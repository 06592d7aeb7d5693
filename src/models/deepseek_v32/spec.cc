#include <array>

#include "models/deepseek_v32/deepseek_v32.h"

namespace hadal::deepseek_v32 {
namespace {

constexpr auto kDefaults = std::to_array<Default>({
    {"q_lora_rank", "1536"},
    {"first_k_dense_replace", "3"},
    {"n_shared_experts", "1"},
    {"scoring_func", "\"sigmoid\""},
    {"n_group", "8"},
    {"topk_group", "4"},
    {"routed_scaling_factor", "2.5"},
});

}  // namespace

Result<DeepSeekV32Spec> DeepSeekV32Spec::from_config(const Config& given,
                                                     const FamilyOptions& options) {
  DeepSeekV32Spec s;
  const Config config = with_defaults(given, kDefaults);
  HADAL_TRY(s.model, ModelSpec::from_config(config, options.shard));
  HADAL_TRY(s.attention, MlaSpec::from_config(config, s.model));
  if (s.attention.q_lora_rank == 0)
    return failed(config.origin() +
                  ": q_lora_rank is missing: the indexer's queries are made of it");
  HADAL_TRY(s.indexer, IndexerSpec::from_config(config, s.attention.rope, s.model));
  HADAL_TRY(s.moe, MoeSpec::from_config(config, s.model));
  HADAL_TRY(s.num_nextn_predict_layers, config.integer("num_nextn_predict_layers", 0, 64, 0));
  s.attention.add_planes(s.model);
  const GroupHandle group = s.attention.latent_plane.group;
  s.indexer.add_planes(s.model, group);
  if (options.draft && s.num_nextn_predict_layers > 0) {
    s.model.draft = {.kind = DraftSpec::Kind::kMtp, .hidden = s.model.hidden_size};
    s.draft_latents = s.model.add_plane(group, PlaneRole::kLatent, 1, s.attention.cache_width());
    s.draft_keys = s.model.add_plane(group, PlaneRole::kIndexKey, 1, s.indexer.index_head_dim);
  }
  return s;
}

LayerWeights DeepSeekV32Model::bind_layer(WeightBinder& b, int64_t layer, bool is_moe) const {
  const DeepSeekV32Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size;
  const std::string p = layer_prefix(layer);
  LayerWeights w;
  w.input_layernorm = b.vector(p + "input_layernorm.weight", hidden);
  w.self_attn = bind_mla(b, p + "self_attn.", s.attention, hidden);
  w.indexer = bind_indexer(b, p + "self_attn.indexer.", s.indexer, hidden, s.attention.q_lora_rank);
  w.post_attention_layernorm = b.vector(p + "post_attention_layernorm.weight", hidden);
  w.mlp = bind_feed_forward(b, p + "mlp.", s.moe, is_moe, s.model);
  return w;
}

Status DeepSeekV32Model::bind(const Checkpoint& checkpoint) {
  const DeepSeekV32Spec& s = spec_;
  const int64_t layers = s.model.num_hidden_layers;
  WeightBinder b(checkpoint, weights_, s.model.shard);
  inv_freq_ = b.table("inv_freq", s.attention.rope.inv_freq());
  for (int64_t i = 0; i < layers; ++i) layers_.push_back(bind_layer(b, i, s.moe.is_moe(i)));
  if (s.model.draft.is_mtp()) {
    mtp_ = bind_mtp(b, layer_prefix(layers), s.model.hidden_size);
    mtp_layer_ = bind_layer(b, layers, true);
  }
  // Without drafts, and the copies of embedding and head that the MTP layers bring.
  b.known_unused_layers("model.layers.", layers, s.num_nextn_predict_layers);
  ends_ = bind_ends(b, s.model);
  return b.finish(unused_);
}

}  // namespace hadal::deepseek_v32
