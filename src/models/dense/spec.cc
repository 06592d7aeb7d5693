#include <algorithm>

#include "models/dense/dense.h"

namespace hadal::dense {
namespace {

// Far above every published model; a file that says more lies.
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxContext = int64_t{1} << 24;

void describe(DenseSpec& s) {
  const auto add = [&](const char* name, const std::string& value) {
    s.model.fields.emplace_back(name, value);
  };
  add("hidden_size", std::to_string(s.hidden_size));
  add("intermediate_size", std::to_string(s.intermediate_size));
  add("num_hidden_layers", std::to_string(s.model.num_hidden_layers));
  add("num_attention_heads", std::to_string(s.num_attention_heads));
  add("num_key_value_heads", std::to_string(s.num_key_value_heads));
  add("head_dim", std::to_string(s.head_dim));
  add("vocab_size", std::to_string(s.model.vocab_size));
  add("max_position_embeddings", std::to_string(s.model.max_position_embeddings));
  add("rope", s.rope.text());
  add("tie_word_embeddings", s.tie_word_embeddings ? "true" : "false");
  add("qk_norm", s.qk_norm ? "true" : "false");
  add("attention_bias", s.attention_bias ? "true" : "false");
  add("mlp_bias", s.mlp_bias ? "true" : "false");
  const auto sliding =
      std::count_if(s.window.begin(), s.window.end(), [](int64_t w) { return w > 0; });
  if (sliding > 0)
    add("sliding_window",
        std::to_string(s.window.back()) + " positions on " + std::to_string(sliding) + " layers");
}

/// Sliding windows a layer, as transformers reads them: layer_types where given, else
/// use_sliding_window and max_window_layers.
Result<std::vector<int64_t>> windows(const Config& config, int64_t layers) {
  std::vector<int64_t> window(static_cast<size_t>(layers), 0);
  HADAL_TRY(const bool use, config.boolean("use_sliding_window", false));
  HADAL_TRY(const std::vector<std::string> types, config.texts("layer_types"));
  HADAL_TRY(const int64_t width, config.integer("sliding_window", 1, kMaxContext, kMaxContext));
  if (!types.empty() && static_cast<int64_t>(types.size()) != layers)
    return failed(config.origin() + ": layer_types names " + std::to_string(types.size()) +
                  " layers, num_hidden_layers is " + std::to_string(layers));
  HADAL_TRY(const int64_t full, config.integer("max_window_layers", 0, kMaxLayers, 28));
  for (int64_t i = 0; i < layers; ++i) {
    const bool sliding =
        types.empty() ? use && i >= full : types[static_cast<size_t>(i)] == "sliding_attention";
    if (!types.empty() && !sliding && types[static_cast<size_t>(i)] != "full_attention")
      return failed(config.origin() + ": layer_types: '" + types[static_cast<size_t>(i)] +
                    "' is not known; known are full_attention, sliding_attention");
    if (sliding) window[static_cast<size_t>(i)] = width;
  }
  return window;
}

}  // namespace

Result<DenseSpec> DenseSpec::from_config(const Config& config) {
  DenseSpec s;
  HADAL_TRY(s.model.family, config.text("model_type"));
  HADAL_TRY(s.model.vocab_size, config.integer("vocab_size", 1, kMaxWidth * 16));
  HADAL_TRY(s.hidden_size, config.integer("hidden_size", 1, kMaxWidth));
  HADAL_TRY(s.intermediate_size, config.integer("intermediate_size", 1, kMaxWidth));
  HADAL_TRY(s.model.num_hidden_layers, config.integer("num_hidden_layers", 1, kMaxLayers));
  HADAL_TRY(s.num_attention_heads, config.integer("num_attention_heads", 1, 4096));
  HADAL_TRY(s.num_key_value_heads,
            config.integer("num_key_value_heads", 1, s.num_attention_heads, s.num_attention_heads));
  HADAL_TRY(s.model.max_position_embeddings,
            config.integer("max_position_embeddings", 1, kMaxContext));
  if (s.num_attention_heads % s.num_key_value_heads != 0)
    return failed(
        config.origin() + ": num_attention_heads " + std::to_string(s.num_attention_heads) +
        " is no multiple of num_key_value_heads " + std::to_string(s.num_key_value_heads));
  std::optional<int64_t> default_head_dim;
  if (s.hidden_size % s.num_attention_heads == 0)
    default_head_dim = s.hidden_size / s.num_attention_heads;
  HADAL_TRY(s.head_dim, config.integer("head_dim", 1, 4096, default_head_dim));
  HADAL_TRY(s.rms_norm_eps, config.real("rms_norm_eps", 1e-6));
  if (!(s.rms_norm_eps >= 0) || s.rms_norm_eps > 1)
    return failed(config.origin() + ": rms_norm_eps is " + std::to_string(s.rms_norm_eps) +
                  ", expected a number in [0, 1]");
  // qwen3 ties small models, llama and qwen2 say so in the file; the default of all three classes
  // is false.
  HADAL_TRY(s.tie_word_embeddings, config.boolean("tie_word_embeddings", false));
  HADAL_TRY(s.attention_bias, config.boolean("attention_bias", s.model.family == "qwen2"));
  s.qk_norm = s.model.family == "qwen3";
  HADAL_TRY(s.rope, RopeSpec::from_config(config, s.head_dim));

  // What the published models do not use is refused rather than ignored.
  HADAL_TRY(const std::string act, config.text("hidden_act", "silu"));
  if (act != "silu")
    return failed(config.origin() + ": hidden_act '" + act + "' is not known; known is silu");
  HADAL_TRY(s.mlp_bias, config.boolean("mlp_bias", false));
  HADAL_TRY(s.window, windows(config, s.model.num_hidden_layers));

  s.model.hidden_size = s.hidden_size;
  s.model.groups = {PlaneGroup{.name = "kv"}};
  const int64_t width = s.num_key_value_heads * s.head_dim;
  s.model.planes = {Plane{.name = "k", .layers = s.model.num_hidden_layers, .width = width},
                    Plane{.name = "v", .layers = s.model.num_hidden_layers, .width = width}};
  describe(s);
  return s;
}

Result<std::unique_ptr<Model>> make(const Config& config) {
  HADAL_TRY(DenseSpec spec, DenseSpec::from_config(config));
  return std::unique_ptr<Model>(new DenseModel(std::move(spec)));
}

}  // namespace hadal::dense
