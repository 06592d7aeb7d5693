#include "quantize/metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "checkpoint/gguf.h"

namespace hadal::quantize {
namespace {

/// Writes `{architecture}.*`.
class KeyWriter {
 public:
  KeyWriter(const Config& config, const Architecture& architecture, GgufWriter& out)
      : config_(config), architecture_(architecture), out_(out) {}

  [[nodiscard]] std::string full(std::string_view key) const {
    return fmt::format("{}.{}", architecture_.gguf, key);
  }
  void number(std::string_view key, int64_t value) { out_.add_u32(full(key), value); }
  void real(std::string_view key, double value) { out_.add_f32(full(key), value); }
  void flag(std::string_view key, bool value) { out_.add_bool(full(key), value); }
  void text(std::string_view key, std::string_view value) { out_.add_text(full(key), value); }

  /// What `from` has under the row's official name; nothing if it has no such key.
  Status row(const Config& from, const GgufKeyRow& row, int64_t layers) {
    if (!from.has(row.official)) return {};
    switch (row.kind) {
      case GgufKind::kBool: {
        HADAL_TRY(const bool value, from.boolean(row.official));
        flag(row.gguf, value);
        return {};
      }
      case GgufKind::kReal: {
        HADAL_TRY(const double value, from.real(row.official));
        real(row.gguf, value);
        return {};
      }
      case GgufKind::kRealOrList: {
        HADAL_TRY(const double value, from.real(row.official));
        out_.add_f32s(full(row.gguf), std::vector<double>(static_cast<size_t>(layers), value));
        return {};
      }
      case GgufKind::kInteger: {
        HADAL_TRY(const int64_t value, from.integer(row.official, 0, UINT32_MAX));
        number(row.gguf, value);
        return {};
      }
      case GgufKind::kIntegerOrList:
      case GgufKind::kIntegers: {
        HADAL_TRY(const std::vector<int64_t> values, from.integers(row.official));
        if (row.kind == GgufKind::kIntegerOrList && values.size() == 1)
          number(row.gguf, values[0]);
        else
          out_.add_i32s(full(row.gguf), values);
        return {};
      }
    }
    return {};
  }

 private:
  const Config& config_;
  const Architecture& architecture_;
  GgufWriter& out_;
};

Error no_key(const Config& config, std::string_view key) {
  return failed(fmt::format("{}: \"{}\" {} cannot be written: no key of a GGUF says it",
                            config.origin(), key, config.value_text(key, 60)));
}

/// Of these the values depend on more than one official key: add_configuration sets them.
constexpr auto kComputed = std::to_array<std::string_view>(
    {"block_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
     "attention.sliding_window", "rope.freq_base", "rope.dimension_count",
     "attention.layer_norm_rms_epsilon", "expert_group_count", "expert_group_used_count",
     "expert_weights_norm", "expert_weights_scale", "nextn_predict_layers"});

Status add_rope_scaling(const Config& config, bool latent, KeyWriter& out) {
  HADAL_TRY(const Config scaling, config.object("rope_scaling"));
  HADAL_TRY(const std::string type, scaling.text("rope_type", "default"));
  if (type == "default" || type == "llama3") return {};  // llama3: the tensor rope_freqs
  if (type != "linear" && type != "yarn") return no_key(config, "rope_scaling");
  out.text("rope.scaling.type", type);
  for (const GgufKeyRow& row : gguf_scaling_keys()) HADAL_TRY(out.row(scaling, row, 0));
  if (type == "linear") return {};
  HADAL_TRY(const bool truncate, scaling.boolean("truncate", true));
  HADAL_TRY(const double mscale, scaling.real("mscale", 0.0));
  HADAL_TRY(const double all_dim, scaling.real("mscale_all_dim", 0.0));
  if (!truncate || (mscale != all_dim && all_dim != 0)) return no_key(config, "rope_scaling");
  if (!scaling.has("original_max_position_embeddings")) {
    HADAL_TRY(const int64_t context, config.integer("max_position_embeddings", 1, UINT32_MAX));
    out.number("rope.scaling.original_context_length", context);
  }
  if (all_dim != 0) out.real("rope.scaling.yarn_log_multiplier", 0.1 * all_dim);
  if (latent) return {};
  // In a GGUF a multiplier of YaRN's own amplitude; attention_factor replaces that.
  HADAL_TRY(const double factor, scaling.real("factor", 1.0));
  HADAL_TRY(double amplitude, scaling.real("attn_factor", 1.0));
  if (scaling.has("attention_factor")) {
    HADAL_TRY(amplitude, scaling.real("attention_factor"));
    amplitude /= 0.1 * std::log(factor) + 1.0;
  }
  if (amplitude != 1) out.real("rope.scaling.attn_factor", amplitude);
  return {};
}

Status add_experts(const Config& config, KeyWriter& out) {
  HADAL_TRY(const int64_t every, config.integer("moe_layer_freq", 1, 4096, 1));
  if (every != 1) return no_key(config, "moe_layer_freq");
  HADAL_TRY(const std::string scoring, config.text("scoring_func", "softmax"));
  const bool softmax = scoring == "softmax";
  out.number("expert_gating_func", softmax ? 1 : scoring == "sigmoid" ? 2 : 4);
  HADAL_TRY(const bool norm, config.boolean("norm_topk_prob", !softmax));
  out.flag("expert_weights_norm", norm);
  HADAL_TRY(const double scale, config.real("routed_scaling_factor", 1.0));
  out.real("expert_weights_scale", scale);
  HADAL_TRY(const int64_t groups, config.integer("n_group", 1, 65536, 1));
  HADAL_TRY(const std::string method, config.text("topk_method", ""));
  if (groups == 1 || method == "greedy") return {};
  HADAL_TRY(const int64_t kept, config.integer("topk_group", 1, groups, groups));
  out.number("expert_group_count", groups);
  out.number("expert_group_used_count", kept);
  return {};
}

/// Head sizes and the rotary width.
Status add_heads(const Config& config, const Architecture& architecture, KeyWriter& out) {
  HADAL_TRY(const int64_t heads, config.integer("num_attention_heads", 1, 65536));
  if (architecture.latent) {
    HADAL_TRY(const int64_t rank, config.integer("kv_lora_rank", 1, 65536));
    HADAL_TRY(const int64_t nope, config.integer("qk_nope_head_dim", 1, 65536));
    HADAL_TRY(const int64_t rope, config.integer("qk_rope_head_dim", 1, 65536));
    HADAL_TRY(const int64_t value, config.integer("v_head_dim", 1, 65536));
    out.number("attention.head_count_kv", 1);
    out.number("attention.key_length", rank + rope);
    out.number("attention.value_length", rank);
    out.number("attention.key_length_mla", nope + rope);
    out.number("attention.value_length_mla", value);
    out.number("rope.dimension_count", rope);
    return {};
  }
  HADAL_TRY(const int64_t hidden, config.integer("hidden_size", 1, UINT32_MAX));
  HADAL_TRY(const int64_t head_dim, config.integer("head_dim", 1, 65536, hidden / heads));
  HADAL_TRY(const int64_t kv,
            config.integer("num_key_value_heads", 1, 65536, architecture.v4 ? 1 : heads));
  HADAL_TRY(const int64_t turned, config.integer("rope_dim", 1, 65536, head_dim));
  HADAL_TRY(const double part, config.real("partial_rotary_factor", 0.125));
  HADAL_TRY(const int64_t v4_turned,
            config.integer("qk_rope_head_dim", 1, 65536,
                           static_cast<int64_t>(part * static_cast<double>(head_dim))));
  out.number("attention.head_count_kv", kv);
  out.number("attention.key_length", head_dim);
  out.number("attention.value_length", head_dim);
  out.number("rope.dimension_count", architecture.v4 ? v4_turned : turned);
  return {};
}

}  // namespace

Status add_configuration(const Config& config, const Architecture& architecture, int64_t mtp,
                         GgufWriter& out) {
  KeyWriter keys(config, architecture, out);
  HADAL_TRY(const int64_t layers, config.integer("num_hidden_layers", 1, 65536));
  keys.number("block_count", layers + mtp);
  if (mtp > 0) keys.number("nextn_predict_layers", mtp);
  for (const GgufKeyRow& row : gguf_keys(architecture))
    if (std::find(kComputed.begin(), kComputed.end(), row.gguf) == kComputed.end())
      HADAL_TRY(keys.row(config, row, layers + mtp));
  HADAL_TRY(const double eps, config.real("rms_norm_eps", 1e-6));
  keys.real("attention.layer_norm_rms_epsilon", eps);
  HADAL_TRY(const double theta, config.real("rope_theta", 10000.0));
  keys.real("rope.freq_base", theta);
  if (architecture.v4) {
    HADAL_TRY(const int64_t window, config.integer("sliding_window", 1, UINT32_MAX));
    keys.number("attention.sliding_window", window);
  }
  HADAL_TRY(add_heads(config, architecture, keys));
  if (architecture.experts) HADAL_TRY(add_experts(config, keys));
  return add_rope_scaling(config, architecture.latent, keys);
}

Status copy_metadata(const Checkpoint& checkpoint, GgufWriter& out) {
  const MappedFile& first = checkpoint.files()[0];
  HADAL_TRY(const GgufFile file, parse_gguf(first.bytes(), first.path().string()));
  for (const auto& [key, value] : file.metadata) {
    const bool anew = key.starts_with("split.") || key == "general.alignment" ||
                      key == "general.file_type" || key == "general.quantization_version";
    if (!anew) out.copy(key, value);
  }
  return {};
}

}  // namespace hadal::quantize
