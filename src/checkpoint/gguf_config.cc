// GGUF metadata as a config.json.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "checkpoint/gguf_keys.h"
#include "checkpoint/gguf_published.h"
#include "checkpoint/gguf_v41.h"
#include "checkpoint/names.h"
#include "checkpoint/printable.h"

namespace hadal {
namespace {

using Kind = GgufKind;
using Notes = std::vector<std::string>;

constexpr auto kCommonKeys = std::to_array<GgufKeyRow>({
    {"context_length", "max_position_embeddings", Kind::kInteger},
    {"embedding_length", "hidden_size", Kind::kInteger},
    {"block_count", "num_hidden_layers", Kind::kInteger},
    {"feed_forward_length", "intermediate_size", Kind::kIntegerOrList},
    {"attention.head_count", "num_attention_heads", Kind::kIntegerOrList},
    {"attention.head_count_kv", "num_key_value_heads", Kind::kIntegerOrList},
    {"attention.key_length", "head_dim", Kind::kInteger},
    {"attention.value_length", "v_head_dim", Kind::kInteger},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", Kind::kReal},
    {"attention.sliding_window", "sliding_window", Kind::kInteger},
    {"rope.freq_base", "rope_theta", Kind::kReal},
    {"vocab_size", "vocab_size", Kind::kInteger},
});

constexpr auto kExpertKeys = std::to_array<GgufKeyRow>({
    {"leading_dense_block_count", "first_k_dense_replace", Kind::kInteger},
    {"expert_feed_forward_length", "moe_intermediate_size", Kind::kInteger},
    {"expert_count", "n_routed_experts", Kind::kInteger},
    {"expert_used_count", "num_experts_per_tok", Kind::kInteger},
    {"expert_shared_count", "n_shared_experts", Kind::kInteger},
    {"expert_group_count", "n_group", Kind::kInteger},
    {"expert_group_used_count", "topk_group", Kind::kInteger},
    {"expert_weights_scale", "routed_scaling_factor", Kind::kReal},
    {"expert_weights_norm", "norm_topk_prob", Kind::kBool},
    {"nextn_predict_layers", "num_nextn_predict_layers", Kind::kInteger},
    {"attention.q_lora_rank", "q_lora_rank", Kind::kInteger},
    {"attention.kv_lora_rank", "kv_lora_rank", Kind::kInteger},
    {"attention.indexer.head_count", "index_n_heads", Kind::kInteger},
    {"attention.indexer.key_length", "index_head_dim", Kind::kInteger},
    {"attention.indexer.top_k", "index_topk", Kind::kInteger},
});

constexpr auto kV4Keys = std::to_array<GgufKeyRow>({
    {"rope.dimension_count", "qk_rope_head_dim", Kind::kInteger},
    {"attention.output_group_count", "o_groups", Kind::kInteger},
    {"attention.output_lora_rank", "o_lora_rank", Kind::kInteger},
    {"attention.compress_ratios", "compress_ratios", Kind::kIntegers},
    {"attention.compress_rope_freq_base", "compress_rope_theta", Kind::kReal},
    {"hyper_connection.count", "hc_mult", Kind::kInteger},
    {"hyper_connection.sinkhorn_iterations", "hc_sinkhorn_iters", Kind::kInteger},
    {"hyper_connection.epsilon", "hc_eps", Kind::kReal},
    {"hash_layer_count", "num_hash_layers", Kind::kInteger},
    {"swiglu_clamp_exp", "swiglu_limit", Kind::kRealOrList},
});

constexpr auto kScalingKeys = std::to_array<GgufKeyRow>({
    {"rope.scaling.factor", "factor", Kind::kReal},
    {"rope.scaling.original_context_length", "original_max_position_embeddings", Kind::kInteger},
    {"rope.scaling.yarn_ext_factor", "extrapolation_factor", Kind::kReal},
    {"rope.scaling.yarn_beta_fast", "beta_fast", Kind::kReal},
    {"rope.scaling.yarn_beta_slow", "beta_slow", Kind::kReal},
});

/// rope.scaling.type; "" without the key. A file without a type but with a factor means linear
/// scaling.
Result<std::string> scaling_type(const GgufKeys& keys) {
  constexpr std::string_view kType = "rope.scaling.type";
  const GgufValue* value = keys.find(kType);
  if (!value) return std::string();
  const auto text = value->text();
  if (!text)
    return keys.error(kType, fmt::format("expected a string, found {}", value->description()));
  return std::string(*text);
}

/// What DeepSeek's YaRN needs beside a factor; of what its files leave out no default is right.
Status complete_yarn(const GgufKeys& keys, bool latent, PublishedValues* published,
                     Config& scaling) {
  if (published && !scaling.has("original_max_position_embeddings")) {
    HADAL_TRY(const double context, published->take("rope.scaling.original_context_length",
                                                    &PublishedModel::original_context_length));
    scaling.set("original_max_position_embeddings", fmt::format("{}", context));
  }
  constexpr std::string_view kMultiplier = "rope.scaling.yarn_log_multiplier";
  std::optional<double> multiplier;
  if (const GgufValue* value = keys.find(kMultiplier)) {
    multiplier = value->real();
    if (!multiplier) return keys.error(kMultiplier, "expected a number");
  } else if (latent && published) {
    HADAL_TRY(multiplier, published->take(kMultiplier, &PublishedModel::yarn_log_multiplier));
  }
  if (!multiplier) return {};
  // DeepSeek's files hold 0.1 · mscale_all_dim here.
  scaling.set("mscale", fmt::format("{}", *multiplier * 10.0));
  scaling.set("mscale_all_dim", fmt::format("{}", *multiplier * 10.0));
  return {};
}

/// rope.scaling.* as the object rope_scaling. `published` is there for DeepSeek's own models.
Status set_rope_scaling(const GgufKeys& keys, bool latent, PublishedValues* published,
                        Config& config) {
  HADAL_TRY(std::string type, scaling_type(keys));
  if (type == "none") return {};
  Config scaling;
  HADAL_TRY(keys.copy(kScalingKeys, scaling));
  if (!scaling.has("factor") && keys.has("rope.scale_linear")) {
    HADAL_TRY(const std::string json, keys.json("rope.scale_linear", Kind::kReal));
    scaling.set("factor", json);
  }
  if (type.empty() && published && published->knows(&PublishedModel::scaling_factor)) {
    if (!scaling.has("factor")) {
      HADAL_TRY(const double factor,
                published->take("rope.scaling.factor", &PublishedModel::scaling_factor));
      scaling.set("factor", fmt::format("{}", factor));
    }
    type = "yarn";
    published->say("rope.scaling.type", type);
  }
  HADAL_TRY(const double factor, scaling.real("factor", 1.0));
  if (type.empty() && factor == 1.0) return {};
  // A multiplier on YaRN's own amplitude, like attn_factor in config.json; transformers'
  // attention_factor replaces it.
  for (const std::string_view name : {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor"})
    if (keys.has(name)) {
      HADAL_TRY(const std::string json, keys.json(name, Kind::kReal));
      scaling.set("attn_factor", json);
    }
  HADAL_TRY(complete_yarn(keys, latent, type == "yarn" ? published : nullptr, scaling));
  // Latent attention's cos and sin keep their amplitude, whatever the factor.
  if (latent && !scaling.has("mscale")) scaling.set("attention_factor", "1.0");
  scaling.set_text("rope_type", type.empty() ? "linear" : type);
  config.set("rope_scaling", scaling.dump());
  return {};
}

/// The router's numbers that DeepSeek's models do not take a default for. A model whose queries are
/// not compressed never had groups of experts.
Status complete_router(bool latent, PublishedValues& published, Config& config) {
  if (!config.has("routed_scaling_factor")) {
    HADAL_TRY(const double scale,
              published.take("expert_weights_scale", &PublishedModel::expert_weights_scale));
    config.set("routed_scaling_factor", fmt::format("{}", scale));
  }
  // Some writers say 0 where there are no groups.
  HADAL_TRY(const int64_t said, config.integer("n_group", 0, INT32_MAX, -1));
  if (said == 0) {
    config.set("n_group", "1");
    config.set("topk_group", "1");
  }
  HADAL_TRY(const int64_t compressed, config.integer("q_lora_rank", 0, INT32_MAX, 0));
  if (!latent || compressed == 0) return {};
  if (!config.has("n_group")) {
    HADAL_TRY(const double groups,
              published.take("expert_group_count", &PublishedModel::expert_group_count));
    config.set("n_group", fmt::format("{}", static_cast<int64_t>(groups)));
  }
  HADAL_TRY(const int64_t groups, config.integer("n_group", 0, INT32_MAX));
  if (groups > 1 && !config.has("topk_group")) {
    HADAL_TRY(const double kept,
              published.take("expert_group_used_count", &PublishedModel::expert_group_used_count));
    config.set("topk_group", fmt::format("{}", static_cast<int64_t>(kept)));
  }
  return {};
}

/// Latent attention: the head sizes before compression, under their official names.
Status set_latent_keys(const GgufKeys& keys, Config& config) {
  constexpr int64_t kMost = 65536;
  HADAL_TRY(const auto rope, keys.integer("rope.dimension_count", 1, kMost));
  HADAL_TRY(auto key_length, keys.integer("attention.key_length_mla", 1, kMost));
  HADAL_TRY(auto value_length, keys.integer("attention.value_length_mla", 1, kMost));
  if (!key_length) {  // files from before the split of kv_b
    HADAL_TRY(key_length, keys.integer("attention.key_length", 1, kMost));
    HADAL_TRY(value_length, keys.integer("attention.value_length", 1, kMost));
  }
  if (rope) config.set("qk_rope_head_dim", fmt::format("{}", *rope));
  if (rope && key_length && *key_length > *rope)
    config.set("qk_nope_head_dim", fmt::format("{}", *key_length - *rope));
  if (value_length) config.set("v_head_dim", fmt::format("{}", *value_length));
  config.set("head_dim", "null");
  HADAL_TRY(const int64_t heads, config.integer("num_attention_heads", 1, 65536, 0));
  if (heads > 0) config.set("num_key_value_heads", fmt::format("{}", heads));
  const GgufValue* gating = keys.find("expert_gating_func");
  const bool sigmoid = gating && gating->integer() == 2;  // no key: softmax, files of V2's time
  config.set("scoring_func", sigmoid ? R"("sigmoid")" : R"("softmax")");
  if (!sigmoid) config.set_text("model_type", "deepseek_v2");
  return {};
}

/// rope_dim where only a part of each head is rotated.
Status set_rope_dim(const GgufKeys& keys, Config& config) {
  constexpr std::string_view kDims = "rope.dimension_count";
  HADAL_TRY(const auto dim, keys.integer(kDims, 1, 65536));
  if (!dim) return {};
  HADAL_TRY(int64_t head_dim, config.integer("head_dim", 1, 65536, 0));
  if (head_dim == 0) {
    HADAL_TRY(const int64_t width, config.integer("hidden_size", 1, INT32_MAX, 0));
    HADAL_TRY(const std::vector<int64_t> heads, config.integers("num_attention_heads"));
    if (!heads.empty() && heads[0] > 0) head_dim = width / heads[0];
  }
  if (head_dim > 0 && *dim > head_dim)
    return keys.error(kDims,
                      fmt::format("{} dimensions to rotate in a head of {}", *dim, head_dim));
  if (*dim < head_dim) config.set("rope_dim", fmt::format("{}", *dim));
  return {};
}

/// Layers of drafts (MTP, DSpark) are counted in block_count where they are in the file.
Status set_layers(const GgufKeys& keys, const GgufTensorFacts& facts, Config& config) {
  int64_t drafts = facts.mtp_layers;
  if (facts.has_dspark) {
    HADAL_TRY(const auto stages, keys.integer("nextn_predict_layers", 0, INT32_MAX));
    drafts = stages.value_or(0);
  }
  if (drafts > 0) {
    HADAL_TRY(const int64_t blocks, config.integer("num_hidden_layers", 0, INT32_MAX, 0));
    config.set("num_hidden_layers", fmt::format("{}", std::max<int64_t>(0, blocks - drafts)));
  }
  config.set("num_nextn_predict_layers", fmt::format("{}", drafts));
  return {};
}

/// From GGUF's own keys.
Result<Config> translated_config(const GgufKeys& keys, const Architecture* known,
                                 const GgufTensorFacts& facts, Notes& notes) {
  HADAL_TRY(Config config, Config::parse("{}", keys.origin()));
  config.set_text("model_type", known ? known->model_type : keys.architecture());
  HADAL_TRY(keys.copy(kCommonKeys, config));
  if (known && facts.embedding_rows > 0 && !config.has("rms_norm_eps"))
    return keys.error("attention.layer_norm_rms_epsilon", "missing");
  if (!config.has("num_key_value_heads") && config.has("num_attention_heads"))
    config.copy(config, "num_attention_heads", "num_key_value_heads");
  const bool latent = known && known->latent, v4 = known && known->v4;
  if (known && known->experts) HADAL_TRY(keys.copy(kExpertKeys, config));
  HADAL_TRY(set_layers(keys, facts, config));
  if (latent) {
    HADAL_TRY(set_latent_keys(keys, config));
  } else if (v4) {
    HADAL_TRY(keys.copy(kV4Keys, config));
    config.set_text("scoring_func", "sqrtsoftplus");
  } else {
    HADAL_TRY(set_rope_dim(keys, config));
  }
  if (known && known->v41) HADAL_TRY(set_v41_keys(keys, facts, config, notes));
  if (!(latent || v4) || facts.embedding_rows == 0) {  // a vocabulary alone needs no router
    HADAL_TRY(set_rope_scaling(keys, latent, nullptr, config));
    return config;
  }
  HADAL_TRY(PublishedValues published, PublishedValues::of(keys, config, notes));
  HADAL_TRY(complete_router(latent, published, config));
  HADAL_TRY(set_rope_scaling(keys, latent, &published, config));
  return config;
}

}  // namespace

Result<Config> gguf_config(const GgufFile& file, const GgufTensorFacts& facts,
                           const std::string& origin, std::vector<std::string>& notes) {
  const GgufValue* name = file.find("general.architecture");
  if (!name)
    return failed(
        fmt::format("{}: key \"general.architecture\" is missing: no language model", origin));
  const auto architecture = name->text();
  if (!architecture || architecture->empty() || architecture->size() > 64)
    return failed(fmt::format("{}: key \"general.architecture\": expected a name, found {}", origin,
                              name->description()));
  const Architecture* known = find_architecture(*architecture);
  const GgufKeys keys(file, std::string(*architecture), origin);
  Config config;
  if (known && known->v41 && has_official_keys(keys)) {
    HADAL_TRY(config, official_keys_config(keys));
    config.set_text("model_type", known->model_type);
    config.set("num_nextn_predict_layers", "0");  // such files have no stages of DSpark
    HADAL_TRY(set_v41_keys(keys, facts, config, notes));
  } else {
    HADAL_TRY(config, translated_config(keys, known, facts, notes));
  }
  if (!config.has("vocab_size")) {
    const GgufValue* tokens = file.find("tokenizer.ggml.tokens");
    const int64_t count = facts.embedding_rows > 0     ? facts.embedding_rows
                          : tokens && tokens->is_array ? tokens->count
                                                       : 0;
    if (count > 0) config.set("vocab_size", fmt::format("{}", count));
  }
  config.set("tie_word_embeddings", facts.has_output ? "false" : "true");
  if (known) config.set("rope_interleave", known->interleaved ? "true" : "false");
  return config;
}

std::vector<GgufKeyRow> gguf_keys(const Architecture& architecture) {
  std::vector<GgufKeyRow> rows(kCommonKeys.begin(), kCommonKeys.end());
  if (architecture.experts) rows.insert(rows.end(), kExpertKeys.begin(), kExpertKeys.end());
  if (architecture.v4) rows.insert(rows.end(), kV4Keys.begin(), kV4Keys.end());
  return rows;
}

std::span<const GgufKeyRow> gguf_scaling_keys() { return kScalingKeys; }

}  // namespace hadal
