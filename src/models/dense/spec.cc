#include <algorithm>
#include <array>

#include "checkpoint/printable.h"
#include "models/dense/dense.h"

namespace hadal::dense {
namespace {

constexpr auto kQwen2Defaults = std::to_array<Default>({
    {"num_key_value_heads", "32"},
    {"sliding_window", "4096"},
});
constexpr auto kQwen3Defaults = std::to_array<Default>({
    {"num_key_value_heads", "32"},
    {"sliding_window", "4096"},
    {"head_dim", "128"},
});

/// What sets one of the three families apart from the others.
struct Family {
  GqaKind attention;
  bool windows = false;  ///< sliding windows; llama's class has none, whatever config.json says
  std::span<const Default> defaults;
};

Family family_of(std::string_view model_type) {
  if (model_type == "qwen2") return {{.qkv_bias = true}, true, kQwen2Defaults};
  if (model_type == "qwen3") return {{.qk_norm = true}, true, kQwen3Defaults};
  return {};
}

/// Sliding windows a layer, as transformers reads them: layer_types where given, else
/// use_sliding_window and max_window_layers.
Result<std::vector<int64_t>> windows(const Config& config, const ModelSpec& model, bool known) {
  const int64_t layers = model.num_hidden_layers;
  std::vector<int64_t> window(static_cast<size_t>(layers), 0);
  if (!known) return window;
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
      return failed(config.origin() + ": layer_types: " + quote(types[static_cast<size_t>(i)]) +
                    " is not known; known are full_attention, sliding_attention");
    if (sliding && !use)
      return failed(config.origin() + ": layer_types names sliding_attention, and " +
                    "use_sliding_window is not true");
    if (sliding) window[static_cast<size_t>(i)] = width;
  }
  return window;
}

}  // namespace

Result<DenseSpec> DenseSpec::from_config(const Config& given, const FamilyOptions& options) {
  DenseSpec s;
  HADAL_TRY(const std::string model_type, given.text("model_type"));
  const Family family = family_of(model_type);
  const Config config = with_defaults(given, family.defaults);
  HADAL_TRY(s.model, ModelSpec::from_config(config, options.shard));
  HADAL_TRY(s.attention, GqaSpec::from_config(config, s.model, family.attention));
  HADAL_TRY(s.intermediate_size, width_of(config, "intermediate_size"));
  HADAL_TRY(s.mlp_bias, config.boolean("mlp_bias", false));
  HADAL_TRY(s.window, windows(config, s.model, family.windows));
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
