// A folder's config.json in one form, and the bounds of the core numbers of any config.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "checkpoint/names.h"
#include "checkpoint/printable.h"

namespace hadal {
namespace {

/// Upper bounds far above any model: they keep a product of two of them, times 8 bytes, within 63
/// bits, and stop a layer count of 10^9 before anything is sized by it.
struct Bound {
  std::string_view key;
  int64_t high;
};
constexpr auto kBounds = std::to_array<Bound>({
    {"num_hidden_layers", 4096},
    {"hidden_size", 1 << 20},
    {"head_dim", 1 << 16},
    {"v_head_dim", 1 << 16},
    {"vocab_size", 1 << 24},
    {"max_position_embeddings", int64_t{1} << 32},
});

/// As kBounds, for keys that may hold a list with a number for each layer.
constexpr auto kListBounds = std::to_array<Bound>({
    {"intermediate_size", 1 << 24},
    {"num_attention_heads", 1 << 16},
    {"num_key_value_heads", 1 << 16},
});

/// A model that also sees keeps its language model's values in text_config: they are lifted to the
/// top, where every family reads them. The names of the whole stay.
Status lift_text_config(Config& config) {
  HADAL_TRY(const Config text, config.object("text_config"));
  for (const std::string& key : text.keys())
    if (key != "model_type" && key != "architectures") config.copy(text, key, key);
  return {};
}

/// What the published configuration classes take where a config.json leaves a key out, as far as it
/// is another value than the models' own default.
struct Omitted {
  std::string_view model_type, key, value;
};
constexpr auto kOmitted = std::to_array<Omitted>({
    {"qwen3", "head_dim", "128"},
    {"deepseek_v2", "n_shared_experts", "2"},
    {"deepseek_v3", "scoring_func", "\"sigmoid\""},
    {"deepseek_v3", "routed_scaling_factor", "2.5"},
    {"deepseek_v3", "n_shared_experts", "1"},
    {"deepseek_v4", "scoring_func", "\"sqrtsoftplus\""},
    {"deepseek_v4", "routed_scaling_factor", "1.5"},
    {"deepseek_v4", "n_shared_experts", "1"},
    {"deepseek_v4", "swiglu_limit", "10.0"},
});
/// Types that take what another one does.
constexpr auto kTakesAfter = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"deepseek_v32", "deepseek_v3"},
    {"deepseek_v41", "deepseek_v4"},
    {"deepseek_v41_text", "deepseek_v4"},
});

Status fill_omitted(Config& config) {
  HADAL_TRY(const std::string type, config.text("model_type", ""));
  std::string_view like = type;
  for (const auto& [of, other] : kTakesAfter)
    if (of == type) like = other;
  const std::vector<std::string> keys = config.keys();
  const auto omitted = [&](std::string_view key) {  // a null is no omission
    return std::find(keys.begin(), keys.end(), key) == keys.end();
  };
  if (like == "deepseek_v3" && omitted("first_k_dense_replace")) {
    // Newer files list the kinds of layers instead.
    HADAL_TRY(const std::vector<std::string> kinds, config.texts("mlp_layer_types"));
    HADAL_TRY(const int64_t layers, config.integer("num_hidden_layers", 0, INT64_MAX, 0));
    const auto dense =
        std::find_if(kinds.begin(), kinds.end(), [](const std::string& k) { return k != "dense"; });
    const int64_t count =
        kinds.empty() ? std::min<int64_t>(3, layers) : static_cast<int64_t>(dense - kinds.begin());
    config.set("first_k_dense_replace", fmt::format("{}", count));
  }
  for (const Omitted& o : kOmitted)
    if (o.model_type == like && omitted(o.key)) config.set(o.key, o.value);
  return {};
}

/// transformers 5 keeps theta and scaling together in rope_parameters. Parameters per kind of layer
/// stay as they are: their model reads them.
Status unfold_rope_parameters(Config& config) {
  HADAL_TRY(const Config rope, config.object("rope_parameters"));
  if (!rope.has("rope_theta") && !rope.has("rope_type")) return {};
  if (rope.has("rope_theta") && !config.has("rope_theta")) {
    HADAL_TRY(const double theta, rope.real("rope_theta"));
    config.set("rope_theta", fmt::format("{}", theta));
  }
  if (rope.has("partial_rotary_factor") && !config.has("partial_rotary_factor")) {
    HADAL_TRY(const double part, rope.real("partial_rotary_factor"));
    config.set("partial_rotary_factor", fmt::format("{}", part));
  }
  if (!config.has("rope_scaling")) config.set("rope_scaling", rope.dump());
  return {};
}

/// `type` is the old name of `rope_type`; "default" means that nothing is scaled.
Status unify_rope_scaling(Config& config) {
  HADAL_TRY(Config scaling, config.object("rope_scaling"));
  if (!config.has("rope_scaling")) return {};
  const std::string_view key = scaling.has("rope_type") ? "rope_type" : "type";
  HADAL_TRY(const std::string type, scaling.text(key, "default"));
  if (type == "default") {
    config.set("rope_scaling", "null");
    return {};
  }
  if (key == "type") {
    scaling.set_text("rope_type", type == "su" ? "longrope" : type);
    config.set("rope_scaling", scaling.dump());
  }
  return {};
}

Status check_positive(const Config& config, std::string_view key) {
  if (!config.has(key)) return {};
  HADAL_TRY(const double value, config.real(key));
  if (!(value > 0))
    return failed(fmt::format("{}: {}: expected a positive number, found {}", config.origin(),
                              quote(key), value));
  return {};
}

}  // namespace

Status normalise_config(Config& config) {
  HADAL_TRY(lift_text_config(config));
  HADAL_TRY(fill_omitted(config));
  if (config.has("rope_parameters")) HADAL_TRY(unfold_rope_parameters(config));
  HADAL_TRY(unify_rope_scaling(config));
  if (!config.has("torch_dtype") && config.has("dtype")) {
    HADAL_TRY(const std::string dtype, config.text("dtype"));
    if (dtype == "bfloat16" || dtype == "float16" || dtype == "float32")
      config.set("torch_dtype", fmt::format("\"{}\"", dtype));
  }
  HADAL_TRY(const std::string type, config.text("model_type", ""));
  const bool halves = type == "llama" || type == "qwen2" || type == "qwen3";
  if (halves && !config.has("rope_interleave")) config.set("rope_interleave", "false");
  if (config.has("partial_rotary_factor") && config.has("head_dim") && !config.has("rope_dim")) {
    HADAL_TRY(const double part, config.real("partial_rotary_factor"));
    HADAL_TRY(const int64_t head_dim, config.integer("head_dim", 1, 1 << 16));
    if (!(part > 0 && part <= 1))
      return failed(fmt::format("{}: \"partial_rotary_factor\": expected 0 to 1, found {}",
                                config.origin(), part));
    if (part < 1)
      config.set("rope_dim",
                 fmt::format("{}", static_cast<int64_t>(static_cast<double>(head_dim) * part)));
  }
  return {};
}

Status check_config(const Config& config) {
  for (const Bound& bound : kBounds)
    if (config.has(bound.key)) HADAL_TRY(config.integer(bound.key, 1, bound.high));
  for (const Bound& bound : kListBounds) {
    HADAL_TRY(const std::vector<int64_t> values, config.integers(bound.key));
    for (const int64_t value : values)
      if (value < 1 || value > bound.high)
        return failed(fmt::format("{}: {}: expected whole numbers from 1 to {}, found {}",
                                  config.origin(), quote(bound.key), bound.high, value));
  }
  HADAL_TRY(check_positive(config, "rms_norm_eps"));
  HADAL_TRY(check_positive(config, "rope_theta"));
  HADAL_TRY(const Config scaling, config.object("rope_scaling"));
  HADAL_TRY(check_positive(scaling, "factor"));
  return {};
}

}  // namespace hadal
