#include "models/dense/dense.h"

namespace hadal::dense {
namespace {

// Far above every published model; a file that says more lies.
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxContext = int64_t{1} << 24;

void describe(DenseSpec& s) {
  const auto add = [&](const char* name, const std::string& value) { s.model.fields.emplace_back(name, value); };
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
  HADAL_TRY(s.num_key_value_heads, config.integer("num_key_value_heads", 1, s.num_attention_heads, s.num_attention_heads));
  HADAL_TRY(s.model.max_position_embeddings, config.integer("max_position_embeddings", 1, kMaxContext));
  if (s.num_attention_heads % s.num_key_value_heads != 0)
    return failed(config.origin() + ": num_attention_heads " + std::to_string(s.num_attention_heads) +
                  " is no multiple of num_key_value_heads " + std::to_string(s.num_key_value_heads));
  std::optional<int64_t> default_head_dim;
  if (s.hidden_size % s.num_attention_heads == 0) default_head_dim = s.hidden_size / s.num_attention_heads;
  HADAL_TRY(s.head_dim, config.integer("head_dim", 1, 4096, default_head_dim));
  HADAL_TRY(s.rms_norm_eps, config.real("rms_norm_eps", 1e-6));
  if (!(s.rms_norm_eps >= 0) || s.rms_norm_eps > 1)
    return failed(config.origin() + ": rms_norm_eps is " + std::to_string(s.rms_norm_eps) + ", expected a number in [0, 1]");
  // qwen3 ties small models, llama and qwen2 say so in the file; the default of all three classes is false.
  HADAL_TRY(s.tie_word_embeddings, config.boolean("tie_word_embeddings", false));
  HADAL_TRY(s.attention_bias, config.boolean("attention_bias", s.model.family == "qwen2"));
  s.qk_norm = s.model.family == "qwen3";
  HADAL_TRY(s.rope, RopeSpec::from_config(config, s.head_dim));

  // What the published models do not use is refused rather than ignored.
  HADAL_TRY(const std::string act, config.text("hidden_act", "silu"));
  if (act != "silu") return failed(config.origin() + ": hidden_act '" + act + "' is not known; known is silu");
  HADAL_TRY(const bool mlp_bias, config.boolean("mlp_bias", false));
  if (mlp_bias) return failed(config.origin() + ": mlp_bias is true, which no DeepSeek model has and Hadal does not run");
  HADAL_TRY(const bool window, config.boolean("use_sliding_window", false));
  if (window) return failed(config.origin() + ": use_sliding_window is true, which no DeepSeek model has and Hadal does not run");

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
