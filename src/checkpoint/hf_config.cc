// A folder's config.json in one form, and the bounds of the core numbers of any config.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "checkpoint/names.h"
#include "checkpoint/printable.h"

namespace hadal {
namespace {

/// Upper bounds far above any model: they keep a product of two of them, times 8 bytes, within 63
/// bits, and stop a layer count of 10^9 before anything is sized by it.
constexpr int64_t kMaxContext = int64_t{1} << 32;
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
    {"max_position_embeddings", kMaxContext},
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

/// rope_theta and one object rope_scaling, with rope_type in it, from wherever the versions of
/// transformers put them; what counts where several are there is as in its
/// RotaryEmbeddingConfigMixin. Parameters for each kind of layer stay as they are: their model
/// reads them.
Status unify_rope(Config& config) {
  HADAL_TRY(Config rope, config.object("rope_scaling"));
  if (rope.keys().empty()) {
    HADAL_TRY(rope, config.object("rope_parameters"));
    for (const std::string& key : rope.keys())
      if (rope.has(key) && rope.object(key)) return {};
  }
  config.set("rope_parameters", "null");
  for (const std::string_view key : {"rope_theta", "partial_rotary_factor"})
    if (rope.has(key)) config.copy(rope, key, key);
  constexpr std::string_view kOriginal = "original_max_position_embeddings";
  if (config.has(kOriginal)) {  // beside wins over inside
    rope.copy(config, kOriginal, kOriginal);
    config.set(kOriginal, "null");
  }
  HADAL_TRY(const std::string type,
            rope.text(rope.has("rope_type") ? "rope_type" : "type", "default"));
  if (type == "default" || type == "none") {
    config.set("rope_scaling", "null");
    return {};
  }
  rope.set_text("rope_type", type);
  config.set("rope_scaling", rope.dump());
  return {};
}

/// The storage of a folder's weights: plain numbers, or FP8 with block scales as DeepSeek publishes
/// it. Another quantisation would be read as if its packed bytes were weights.
Status check_quantization(const Config& config) {
  HADAL_TRY(const Config quantization, config.object("quantization_config"));
  if (quantization.keys().empty()) return {};
  const auto refused = [&](const std::string& what) {
    return failed(fmt::format(
        "{}: {}; known is FP8 in E4M3 with block scales (quant_method fp8). Take the original "
        "checkpoint, or a GGUF of it",
        quantization.origin(), what));
  };
  HADAL_TRY(const std::string method, quantization.text("quant_method", ""));
  if (method.empty()) return refused("no \"quant_method\" in it");
  if (method != "fp8") return refused("quant_method " + quote(method) + " is not known");
  HADAL_TRY(const std::string format, quantization.text("fmt", "e4m3"));
  if (format != "e4m3") return refused("fmt " + quote(format) + " is not known");
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
  HADAL_TRY(unify_rope(config));
  HADAL_TRY(extend_context(config));
  HADAL_TRY(check_quantization(config));
  if (!config.has("torch_dtype") && config.has("dtype")) {
    HADAL_TRY(const std::string dtype, config.text("dtype"));
    if (dtype == "bfloat16" || dtype == "float16" || dtype == "float32")
      config.set("torch_dtype", fmt::format("\"{}\"", dtype));
  }
  return {};
}

Status extend_context(Config& config) {
  constexpr int64_t kLongest = 1 << 24;  // what a ModelSpec takes
  HADAL_TRY(Config scaling, config.object("rope_scaling"));
  HADAL_TRY(const std::string type, scaling.text("rope_type", ""));
  if ((type != "yarn" && type != "llama3") || !config.has("max_position_embeddings")) return {};
  HADAL_TRY(const int64_t context, config.integer("max_position_embeddings", 1, kMaxContext));
  HADAL_TRY(const int64_t original,
            scaling.integer("original_max_position_embeddings", 1, kMaxContext, context));
  HADAL_TRY(const double factor, scaling.real("factor", 1.0));
  scaling.set("original_max_position_embeddings", fmt::format("{}", original));
  config.set("rope_scaling", scaling.dump());
  if (original == context && factor > 1 && factor <= static_cast<double>(kLongest / context))
    config.set("max_position_embeddings",
               fmt::format("{}", static_cast<int64_t>(factor * static_cast<double>(context))));
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
