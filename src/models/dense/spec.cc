#include <algorithm>

#include "models/dense/dense.h"

namespace hadal::dense {
namespace {

/// Sliding windows a layer, as transformers reads them: layer_types where given, else
/// use_sliding_window and max_window_layers.
Result<std::vector<int64_t>> windows(const Config& config, const ModelSpec& model) {
  const int64_t layers = model.num_hidden_layers;
  std::vector<int64_t> window(static_cast<size_t>(layers), 0);
  HADAL_TRY(const bool use, config.boolean("use_sliding_window", false));
  HADAL_TRY(const std::vector<std::string> types, config.texts("layer_types"));
  HADAL_TRY(const int64_t width,
            config.integer("sliding_window", 1, INT32_MAX, model.max_position_embeddings));
  if (!types.empty() && static_cast<int64_t>(types.size()) != layers)
    return failed(config.origin() + ": layer_types names " + std::to_string(types.size()) +
                  " layers, num_hidden_layers is " + std::to_string(layers));
  HADAL_TRY(const int64_t full, config.integer("max_window_layers", 0, INT32_MAX, 28));
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

GqaDefaults defaults_of(const std::string& family) {
  return {.attention_bias = family == "qwen2", .qk_norm = family == "qwen3"};
}

}  // namespace

Result<DenseSpec> DenseSpec::from_config(const Config& config) {
  DenseSpec s;
  HADAL_TRY(s.model, ModelSpec::from_config(config));
  HADAL_TRY(s.attention, GqaSpec::from_config(config, s.model, defaults_of(s.model.family)));
  HADAL_TRY(s.intermediate_size, width_of(config, "intermediate_size"));
  HADAL_TRY(s.mlp_bias, config.boolean("mlp_bias", false));
  HADAL_TRY(s.window, windows(config, s.model));
  s.attention.add_planes(s.model);
  s.model.field("intermediate_size", s.intermediate_size);
  s.model.field("mlp_bias", s.mlp_bias);
  const auto sliding =
      std::count_if(s.window.begin(), s.window.end(), [](int64_t w) { return w > 0; });
  if (sliding > 0)
    s.model.field("sliding_window", std::to_string(s.window.back()) + " positions on " +
                                        std::to_string(sliding) + " layers");
  return s;
}

}  // namespace hadal::dense
