#include "checkpoint/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "checkpoint/printable.h"

namespace hadal {
namespace {

// --- tensors

struct NameRow {
  std::string_view gguf;
  std::string_view official;
};

/// Outside of the layers, all architectures.
constexpr auto kOuter = std::to_array<NameRow>({
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
});

/// Within blk.N. → model.layers.N., dense transformer layers.
constexpr auto kDense = std::to_array<NameRow>({
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"attn_output", "self_attn.o_proj"},
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
});

/// DeepSeek's mixture of experts. GGUF stacks the experts into one tensor [experts, out, in]; the
/// official files have one tensor an expert, so the stacked ones bear the official name without its
/// number.
constexpr auto kExperts = std::to_array<NameRow>({
    {"ffn_gate_inp", "mlp.gate"},
    {"ffn_gate_exps", "mlp.experts.gate_proj"},
    {"ffn_up_exps", "mlp.experts.up_proj"},
    {"ffn_down_exps", "mlp.experts.down_proj"},
    {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"},
    {"ffn_up_shexp", "mlp.shared_experts.up_proj"},
    {"ffn_down_shexp", "mlp.shared_experts.down_proj"},
});

/// Multi-head latent attention. k_b and v_b are the halves of kv_b_proj, k_b transposed.
constexpr auto kLatent = std::to_array<NameRow>({
    {"attn_q_a", "self_attn.q_a_proj"},
    {"attn_q_a_norm", "self_attn.q_a_layernorm"},
    {"attn_q_b", "self_attn.q_b_proj"},
    {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
    {"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
    {"attn_kv_b", "self_attn.kv_b_proj"},
    {"attn_k_b", "self_attn.k_b_proj"},
    {"attn_v_b", "self_attn.v_b_proj"},
});

/// The lightning indexer, and the MTP layer behind the others.
constexpr auto kSparse = std::to_array<NameRow>({
    {"indexer.attn_q_b", "self_attn.indexer.wq_b"},
    {"indexer.attn_k", "self_attn.indexer.wk"},
    {"indexer.k_norm", "self_attn.indexer.k_norm"},
    {"indexer.proj", "self_attn.indexer.weights_proj"},
    {"nextn.eh_proj", "eh_proj"},
    {"nextn.enorm", "enorm"},
    {"nextn.hnorm", "hnorm"},
    {"nextn.embed_tokens", "embed_tokens"},
    {"nextn.shared_head_norm", "shared_head.norm"},
    {"nextn.shared_head_head", "shared_head.head"},
});

/// DeepSeek-V4, whose official names are of another make: outside of the layers, and within blk.N.
/// → layers.N.
constexpr auto kV4Outer = std::to_array<NameRow>({
    {"token_embd.weight", "embed.weight"},
    {"output_norm.weight", "norm.weight"},
    {"output.weight", "head.weight"},
    {"output_hc_fn.weight", "hc_head_fn"},
    {"output_hc_base.weight", "hc_head_base"},
    {"output_hc_scale.weight", "hc_head_scale"},
});
constexpr auto kV4 = std::to_array<NameRow>({
    {"attn_norm.weight", "attn_norm.weight"},
    {"ffn_norm.weight", "ffn_norm.weight"},
    {"hc_attn_fn.weight", "hc_attn_fn"},
    {"hc_attn_base.weight", "hc_attn_base"},
    {"hc_attn_scale.weight", "hc_attn_scale"},
    {"hc_ffn_fn.weight", "hc_ffn_fn"},
    {"hc_ffn_base.weight", "hc_ffn_base"},
    {"hc_ffn_scale.weight", "hc_ffn_scale"},
    {"attn_q_a.weight", "attn.wq_a.weight"},
    {"attn_q_a_norm.weight", "attn.q_norm.weight"},
    {"attn_q_b.weight", "attn.wq_b.weight"},
    {"attn_kv.weight", "attn.wkv.weight"},
    {"attn_kv_a_norm.weight", "attn.kv_norm.weight"},
    {"attn_sinks.weight", "attn.attn_sink"},
    {"attn_output_a.weight", "attn.wo_a.weight"},
    {"attn_output_b.weight", "attn.wo_b.weight"},
    {"attn_compressor_kv.weight", "attn.compressor.wkv.weight"},
    {"attn_compressor_gate.weight", "attn.compressor.wgate.weight"},
    {"attn_compressor_ape.weight", "attn.compressor.ape"},
    {"attn_compressor_norm.weight", "attn.compressor.norm.weight"},
    {"indexer.attn_q_b.weight", "attn.indexer.wq_b.weight"},
    {"indexer.proj.weight", "attn.indexer.weights_proj.weight"},
    {"indexer_compressor_kv.weight", "attn.indexer.compressor.wkv.weight"},
    {"indexer_compressor_gate.weight", "attn.indexer.compressor.wgate.weight"},
    {"indexer_compressor_ape.weight", "attn.indexer.compressor.ape"},
    {"indexer_compressor_norm.weight", "attn.indexer.compressor.norm.weight"},
    {"ffn_gate_inp.weight", "ffn.gate.weight"},
    {"ffn_gate_tid2eid.weight", "ffn.gate.tid2eid"},
    {"exp_probs_b.bias", "ffn.gate.bias"},
    {"ffn_gate_exps.weight", "ffn.experts.w1.weight"},
    {"ffn_down_exps.weight", "ffn.experts.w2.weight"},
    {"ffn_up_exps.weight", "ffn.experts.w3.weight"},
    {"ffn_gate_shexp.weight", "ffn.shared_experts.w1.weight"},
    {"ffn_down_shexp.weight", "ffn.shared_experts.w2.weight"},
    {"ffn_up_shexp.weight", "ffn.shared_experts.w3.weight"},
});

/// Whole names that do not follow stem + ".weight" or ".bias".
constexpr auto kWhole = std::to_array<NameRow>({
    {"exp_probs_b.bias", "mlp.gate.e_score_correction_bias"},
});

// --- metadata

constexpr auto kCommonKeys = std::to_array<KeyRow>({
    {"context_length", "max_position_embeddings", KeyKind::kInteger},
    {"embedding_length", "hidden_size", KeyKind::kInteger},
    {"block_count", "num_hidden_layers", KeyKind::kInteger},
    {"feed_forward_length", "intermediate_size", KeyKind::kIntegerOrList},
    {"attention.head_count", "num_attention_heads", KeyKind::kIntegerOrList},
    {"attention.head_count_kv", "num_key_value_heads", KeyKind::kIntegerOrList},
    {"attention.key_length", "head_dim", KeyKind::kInteger},
    {"attention.value_length", "v_head_dim", KeyKind::kInteger},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", KeyKind::kReal},
    {"attention.sliding_window", "sliding_window", KeyKind::kInteger},
    {"rope.freq_base", "rope_theta", KeyKind::kReal},
    {"vocab_size", "vocab_size", KeyKind::kInteger},
});

constexpr auto kExpertKeys = std::to_array<KeyRow>({
    {"leading_dense_block_count", "first_k_dense_replace", KeyKind::kInteger},
    {"expert_feed_forward_length", "moe_intermediate_size", KeyKind::kInteger},
    {"expert_count", "n_routed_experts", KeyKind::kInteger},
    {"expert_used_count", "num_experts_per_tok", KeyKind::kInteger},
    {"expert_shared_count", "n_shared_experts", KeyKind::kInteger},
    {"expert_group_count", "n_group", KeyKind::kInteger},
    {"expert_group_used_count", "topk_group", KeyKind::kInteger},
    {"expert_weights_scale", "routed_scaling_factor", KeyKind::kReal},
    {"expert_weights_norm", "norm_topk_prob", KeyKind::kBool},
    {"nextn_predict_layers", "num_nextn_predict_layers", KeyKind::kInteger},
    {"attention.q_lora_rank", "q_lora_rank", KeyKind::kInteger},
    {"attention.kv_lora_rank", "kv_lora_rank", KeyKind::kInteger},
    {"attention.indexer.head_count", "index_n_heads", KeyKind::kInteger},
    {"attention.indexer.key_length", "index_head_dim", KeyKind::kInteger},
    {"attention.indexer.top_k", "index_topk", KeyKind::kInteger},
});

constexpr auto kV4Keys = std::to_array<KeyRow>({
    {"rope.dimension_count", "qk_rope_head_dim", KeyKind::kInteger},
    {"attention.output_group_count", "o_groups", KeyKind::kInteger},
    {"attention.output_lora_rank", "o_lora_rank", KeyKind::kInteger},
    {"attention.compress_ratios", "compress_ratios", KeyKind::kIntegers},
    {"attention.compress_rope_freq_base", "compress_rope_theta", KeyKind::kReal},
    {"hyper_connection.count", "hc_mult", KeyKind::kInteger},
    {"hyper_connection.sinkhorn_iterations", "hc_sinkhorn_iters", KeyKind::kInteger},
    {"hyper_connection.epsilon", "hc_eps", KeyKind::kReal},
    {"hash_layer_count", "num_hash_layers", KeyKind::kInteger},
    {"swiglu_clamp_exp", "swiglu_limit", KeyKind::kRealOrList},
});

constexpr auto kScalingKeys = std::to_array<KeyRow>({
    {"rope.scaling.factor", "factor", KeyKind::kReal},
    {"rope.scaling.original_context_length", "original_max_position_embeddings", KeyKind::kInteger},
    {"rope.scaling.yarn_ext_factor", "extrapolation_factor", KeyKind::kReal},
    {"rope.scaling.yarn_beta_fast", "beta_fast", KeyKind::kReal},
    {"rope.scaling.yarn_beta_slow", "beta_slow", KeyKind::kReal},
});

// --- architectures

constexpr auto kArchitectures = std::to_array<GgufArchitecture>({
    // gguf, model_type, interleaved, experts, latent, v4
    {"llama", "llama", true, false, false},
    {"qwen2", "qwen2", false, false, false},
    {"qwen3", "qwen3", false, false, false},
    {"deepseek", "deepseek", true, true, false},
    {"deepseek2", "deepseek_v3", true, true, true},  // or deepseek_v2: set_latent_keys
    {"deepseek32", "deepseek_v32", true, true, true},
    {"deepseek4", "deepseek_v4", true, true, false, true},
});

const GgufArchitecture* find_architecture(std::string_view gguf) {
  const auto it = std::find_if(kArchitectures.begin(), kArchitectures.end(),
                               [&](const auto& row) { return row.gguf == gguf; });
  return it == kArchitectures.end() ? nullptr : &*it;
}

const NameRow* find_row(std::span<const NameRow> rows, std::string_view gguf) {
  const auto it =
      std::find_if(rows.begin(), rows.end(), [&](const NameRow& row) { return row.gguf == gguf; });
  return it == rows.end() ? nullptr : &*it;
}

/// The JSON text of a metadata value, or an error that names the key.
Result<std::string> json_value(std::string_view key, const GgufValue& value, KeyKind kind,
                               const std::string& origin) {
  const auto wrong = [&](std::string_view expected) {
    return failed(fmt::format("{}: key {}: expected {}, found {}", origin, quote(key), expected,
                              value.description()));
  };
  if (kind == KeyKind::kBool) {
    const auto truth = value.boolean();
    if (!truth) return wrong("a bool");
    return std::string(*truth ? "true" : "false");
  }
  if (kind == KeyKind::kReal || (kind == KeyKind::kRealOrList && !value.is_array)) {
    const auto number = value.real();
    if (!number) return wrong("a finite number");
    return fmt::format("{}", *number);
  }
  if (kind == KeyKind::kRealOrList && value.is_array) {
    const auto list = value.reals();
    if (!list || list->empty()) return wrong("a list of numbers");
    if (!std::all_of(list->begin(), list->end(), [&](double v) { return v == list->front(); }))
      return wrong("the same number for all layers");
    return fmt::format("{}", list->front());
  }
  if ((kind == KeyKind::kIntegerOrList || kind == KeyKind::kIntegers) && value.is_array) {
    const auto list = value.integers();
    if (!list || list->empty()) return wrong("a list of whole numbers");
    if (kind == KeyKind::kIntegers) return fmt::format("[{}]", fmt::join(*list, ", "));
    // Most files that have a list have one number in it for all layers.
    if (std::all_of(list->begin(), list->end(), [&](int64_t v) { return v == list->front(); }))
      return fmt::format("{}", list->front());
    return fmt::format("[{}]", fmt::join(*list, ", "));
  }
  const auto number = value.integer();
  if (!number) return wrong("a whole number");
  return fmt::format("{}", *number);
}

/// Reads `{architecture}.*` keys.
class Keys {
 public:
  Keys(const GgufFile& file, std::string architecture, const std::string& origin)
      : file_(file), architecture_(std::move(architecture)), origin_(origin) {}

  [[nodiscard]] std::string full(std::string_view key) const {
    return fmt::format("{}.{}", architecture_, key);
  }
  [[nodiscard]] const GgufValue* find(std::string_view key) const { return file_.find(full(key)); }
  [[nodiscard]] const std::string& origin() const { return origin_; }

  Status copy(std::span<const KeyRow> rows, Config& config) const {
    for (const KeyRow& row : rows) {
      const GgufValue* value = find(row.gguf);
      if (!value) continue;
      HADAL_TRY(const std::string json, json_value(full(row.gguf), *value, row.kind, origin_));
      config.set(row.official, json);
    }
    return {};
  }

 private:
  const GgufFile& file_;
  std::string architecture_;
  const std::string& origin_;
};

/// rope.scaling.* as the object rope_scaling. A file without a type but with a factor means linear
/// scaling.
Status set_rope_scaling(const Keys& keys, bool latent, Config& config) {
  std::string type;
  if (const GgufValue* value = keys.find("rope.scaling.type")) {
    const auto text = value->text();
    if (!text)
      return failed(fmt::format("{}: key {}: expected a string, found {}", keys.origin(),
                                quote(keys.full("rope.scaling.type")), value->description()));
    type = *text;
  }
  if (type == "none") return {};
  Config scaling;
  HADAL_TRY(keys.copy(kScalingKeys, scaling));
  if (!scaling.has("factor"))
    if (const GgufValue* old = keys.find("rope.scale_linear")) {
      HADAL_TRY(const std::string json,
                json_value(keys.full("rope.scale_linear"), *old, KeyKind::kReal, keys.origin()));
      scaling.set("factor", json);
    }
  HADAL_TRY(const double factor, scaling.real("factor", 1.0));
  if (type.empty() && factor == 1.0) return {};
  // A multiplier on YaRN's own amplitude, like attn_factor in config.json; transformers'
  // attention_factor replaces it.
  for (const std::string_view name : {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor"})
    if (const GgufValue* value = keys.find(name)) {
      HADAL_TRY(const std::string json,
                json_value(keys.full(name), *value, KeyKind::kReal, keys.origin()));
      scaling.set("attn_factor", json);
    }
  // DeepSeek's files hold 0.1 · mscale_all_dim here.
  if (const GgufValue* value = keys.find("rope.scaling.yarn_log_multiplier")) {
    const auto number = value->real();
    if (!number)
      return failed(fmt::format("{}: key {}: expected a number", keys.origin(),
                                quote(keys.full("rope.scaling.yarn_log_multiplier"))));
    scaling.set("mscale", fmt::format("{}", *number * 10.0));
    scaling.set("mscale_all_dim", fmt::format("{}", *number * 10.0));
  } else if (latent) {  // cos and sin keep their amplitude, whatever the factor
    scaling.set("attention_factor", "1.0");
  }
  scaling.set_text("rope_type", type.empty() ? "linear" : type);
  config.set("rope_scaling", scaling.dump());
  return {};
}

/// Latent attention: the head sizes before compression, under their official names.
Status set_latent_keys(const Keys& keys, Config& config) {
  const auto number = [&](std::string_view key) -> Result<int64_t> {
    const GgufValue* value = keys.find(key);
    if (!value) return int64_t{-1};
    const auto whole = value->integer();
    if (!whole || *whole < 1 || *whole > 65536)
      return failed(fmt::format("{}: key {}: expected a whole number from 1 to 65536, found {}",
                                keys.origin(), quote(keys.full(key)), value->description()));
    return *whole;
  };
  HADAL_TRY(const int64_t rope, number("rope.dimension_count"));
  HADAL_TRY(int64_t key_length, number("attention.key_length_mla"));
  HADAL_TRY(int64_t value_length, number("attention.value_length_mla"));
  if (key_length < 0) {  // files from before the split of kv_b
    HADAL_TRY(key_length, number("attention.key_length"));
    HADAL_TRY(value_length, number("attention.value_length"));
  }
  if (rope > 0) config.set("qk_rope_head_dim", fmt::format("{}", rope));
  if (rope > 0 && key_length > rope)
    config.set("qk_nope_head_dim", fmt::format("{}", key_length - rope));
  if (value_length > 0) config.set("v_head_dim", fmt::format("{}", value_length));
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
Status set_rope_dim(const Keys& keys, Config& config) {
  const GgufValue* value = keys.find("rope.dimension_count");
  if (!value) return {};
  const auto dim = value->integer();
  if (!dim || *dim < 1 || *dim > 65536)
    return failed(fmt::format("{}: key {}: expected a whole number from 1 to 65536, found {}",
                              keys.origin(), quote(keys.full("rope.dimension_count")),
                              value->description()));
  HADAL_TRY(int64_t head_dim, config.integer("head_dim", 1, 65536, 0));
  if (head_dim == 0) {
    HADAL_TRY(const int64_t width, config.integer("hidden_size", 1, INT32_MAX, 0));
    HADAL_TRY(const std::vector<int64_t> heads, config.integers("num_attention_heads"));
    if (!heads.empty() && heads[0] > 0) head_dim = width / heads[0];
  }
  if (head_dim > 0 && *dim > head_dim)
    return failed(fmt::format("{}: key {}: {} dimensions to rotate in a head of {}", keys.origin(),
                              quote(keys.full("rope.dimension_count")), *dim, head_dim));
  if (*dim < head_dim) config.set("rope_dim", fmt::format("{}", *dim));
  return {};
}

}  // namespace

std::string official_name(std::string_view architecture, std::string_view gguf_name) {
  const GgufArchitecture* known = find_architecture(architecture);
  if (!known) return std::string(gguf_name);
  if (known->v4)
    if (const NameRow* row = find_row(kV4Outer, gguf_name)) return std::string(row->official);
  std::string_view rest = gguf_name;
  std::string prefix;
  if (rest.starts_with("blk.")) {
    const size_t dot = rest.find('.', 4);
    if (dot == std::string_view::npos || dot == 4) return std::string(gguf_name);
    const std::string_view number = rest.substr(4, dot - 4);
    const bool digits =
        std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits || (number.size() > 1 && number[0] == '0')) return std::string(gguf_name);
    prefix = fmt::format("model.layers.{}.", number);
    rest.remove_prefix(dot + 1);
    if (known->v4) {
      const NameRow* row = find_row(kV4, rest);
      return row ? fmt::format("layers.{}.{}", number, row->official) : std::string(gguf_name);
    }
    if (known->experts)
      if (const NameRow* row = find_row(kWhole, rest)) return prefix + std::string(row->official);
  }
  const size_t end = rest.rfind('.');
  if (end == std::string_view::npos) return std::string(gguf_name);
  const std::string_view stem = rest.substr(0, end);
  const std::string_view kind = rest.substr(end);
  if (kind != ".weight" && kind != ".bias") return std::string(gguf_name);
  const NameRow* row = prefix.empty() ? find_row(kOuter, stem) : find_row(kDense, stem);
  if (!row && !prefix.empty() && known->experts) row = find_row(kExperts, stem);
  if (!row && !prefix.empty() && known->latent) row = find_row(kLatent, stem);
  if (!row && !prefix.empty() && known->latent) row = find_row(kSparse, stem);
  return row ? fmt::format("{}{}{}", prefix, row->official, kind) : std::string(gguf_name);
}

Result<Config> gguf_config(const GgufFile& file, const GgufTensorFacts& facts,
                           const std::string& origin) {
  const GgufValue* name = file.find("general.architecture");
  if (!name)
    return failed(
        fmt::format("{}: key \"general.architecture\" is missing: no language model", origin));
  const auto architecture = name->text();
  if (!architecture || architecture->empty() || architecture->size() > 64)
    return failed(fmt::format("{}: key \"general.architecture\": expected a name, found {}", origin,
                              name->description()));
  const GgufArchitecture* known = find_architecture(*architecture);

  HADAL_TRY(Config config, Config::parse("{}", origin));
  config.set_text("model_type", known ? known->model_type : *architecture);
  const Keys keys(file, std::string(*architecture), origin);
  HADAL_TRY(keys.copy(kCommonKeys, config));
  if (known && facts.embedding_rows > 0 && !config.has("rms_norm_eps"))
    return failed(fmt::format("{}: key \"{}.attention.layer_norm_rms_epsilon\" is missing", origin,
                              *architecture));
  if (!config.has("num_key_value_heads") && config.has("num_attention_heads"))
    config.copy(config, "num_attention_heads", "num_key_value_heads");
  if (known && known->experts) HADAL_TRY(keys.copy(kExpertKeys, config));
  if (known && known->latent) {
    HADAL_TRY(set_latent_keys(keys, config));
  } else if (known && known->v4) {
    HADAL_TRY(keys.copy(kV4Keys, config));
    config.set_text("scoring_func", "sqrtsoftplus");
  } else {
    HADAL_TRY(set_rope_dim(keys, config));
  }
  HADAL_TRY(set_rope_scaling(keys, known && known->latent, config));
  if (!config.has("vocab_size")) {
    const GgufValue* tokens = file.find("tokenizer.ggml.tokens");
    const int64_t count = facts.embedding_rows > 0     ? facts.embedding_rows
                          : tokens && tokens->is_array ? tokens->count
                                                       : 0;
    if (count > 0) config.set("vocab_size", fmt::format("{}", count));
  }
  // The layers of multi-token prediction are counted in block_count where they are in the file.
  if (facts.mtp_layers > 0) {
    HADAL_TRY(const int64_t blocks, config.integer("num_hidden_layers", 0, INT32_MAX, 0));
    config.set("num_hidden_layers",
               fmt::format("{}", std::max<int64_t>(0, blocks - facts.mtp_layers)));
    config.set("num_nextn_predict_layers", fmt::format("{}", facts.mtp_layers));
  } else {
    config.set("num_nextn_predict_layers", "0");
  }
  config.set("tie_word_embeddings", facts.has_output ? "false" : "true");
  if (known) config.set("rope_interleave", known->interleaved ? "true" : "false");
  return config;
}

std::string published_name(std::string_view model_type, std::string_view name) {
  constexpr std::string_view kModel = "model.", kHyperHead = "hc_head.hc_",
                             kNorm = ".attn.norm.weight";
  if (!model_type.starts_with("deepseek_v4")) return std::string(name);
  if (name == "lm_head.weight") return "head.weight";
  if (!name.starts_with(kModel)) return std::string(name);
  name.remove_prefix(kModel.size());
  if (name == "embed_tokens.weight") return "embed.weight";
  if (name.starts_with(kHyperHead)) return "hc_head_" + std::string(name.substr(kHyperHead.size()));
  if (name.ends_with(kNorm))
    return std::string(name.substr(0, name.size() - kNorm.size())) + ".attn.kv_norm.weight";
  return std::string(name);
}

// --- the way back, for writing

const GgufArchitecture* gguf_architecture(std::string_view model_type) {
  if (model_type == "deepseek_v2") model_type = "deepseek_v3";  // one architecture for both
  const auto it = std::find_if(kArchitectures.begin(), kArchitectures.end(),
                               [&](const auto& row) { return row.model_type == model_type; });
  return it == kArchitectures.end() ? nullptr : &*it;
}

std::string gguf_name(const GgufArchitecture& architecture, std::string_view official) {
  const auto back = [&](std::span<const NameRow> rows, std::string_view name) {
    const auto it = std::find_if(rows.begin(), rows.end(),
                                 [&](const NameRow& row) { return row.official == name; });
    return it == rows.end() ? std::string() : std::string(it->gguf);
  };
  std::string_view rest = official;
  const std::string_view layers = architecture.v4 ? "layers." : "model.layers.";
  const bool inner = rest.starts_with(layers);
  std::string prefix;
  if (inner) {
    const size_t dot = std::min(rest.find('.', layers.size()), rest.size() - 1);
    prefix = fmt::format("blk.{}.", rest.substr(layers.size(), dot - layers.size()));
    rest.remove_prefix(dot + 1);
  }
  std::string found;
  if (architecture.v4) {
    found = inner ? back(kV4, rest) : back(kV4Outer, rest);
    return found.empty() ? found : prefix + found;
  }
  if (inner && architecture.experts) found = back(kWhole, rest);
  if (!found.empty()) return prefix + found;
  const size_t end = std::min(rest.rfind('.'), rest.size());
  const std::string_view stem = rest.substr(0, end);
  found = inner ? back(kDense, stem) : back(kOuter, stem);
  if (found.empty() && inner && architecture.experts) found = back(kExperts, stem);
  if (found.empty() && inner && architecture.latent) found = back(kLatent, stem);
  if (found.empty() && inner && architecture.latent) found = back(kSparse, stem);
  return found.empty() ? found : prefix + found + std::string(rest.substr(end));
}

std::vector<KeyRow> gguf_keys(const GgufArchitecture& architecture) {
  std::vector<KeyRow> rows(kCommonKeys.begin(), kCommonKeys.end());
  if (architecture.experts) rows.insert(rows.end(), kExpertKeys.begin(), kExpertKeys.end());
  if (architecture.v4) rows.insert(rows.end(), kV4Keys.begin(), kV4Keys.end());
  return rows;
}

std::vector<KeyRow> gguf_scaling_keys() { return {kScalingKeys.begin(), kScalingKeys.end()}; }

}  // namespace hadal
