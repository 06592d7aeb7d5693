#include "models/look_alike.h"

#include <algorithm>
#include <array>

#include "checkpoint/printable.h"

namespace hadal {
namespace {

/// Says nothing of how logits are computed from ids: training, origin, storage, text. Of the last
/// two, num_key_value_heads and head_dim, latent attention has no use.
constexpr auto kHarmless = std::to_array<std::string_view>({
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "auto_map",
    "aux_loss_alpha",
    "bos_token_id",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "ep_size",
    "hidden_dropout",
    "initializer_range",
    "max_window_layers",
    "model_type",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "quantization_config",
    "resid_pdrop",
    "rope_parameters",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "seq_aux",
    "tokenizer_class",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "head_dim",
    "num_key_value_heads",
});

/// Changes the mathematics, but for one value.
struct Neutral {
  std::string_view key;
  double value;  ///< false is 0, true is 1
};
constexpr auto kNeutral = std::to_array<Neutral>({
    {"attention_multiplier", 1},
    {"attn_logit_softcapping", 0},
    {"embedding_multiplier", 1},
    {"final_logit_softcapping", 0},
    {"index_topk", 0},
    {"logit_scale", 1},
    {"logits_scaling", 1},
    {"mlp_bias", 0},
    {"moe_layer_freq", 1},
    {"num_nextn_predict_layers", 0},
    {"partial_rotary_factor", 1},
    {"qk_layernorm", 0},
    {"residual_multiplier", 1},
    {"scale_emb", 1},
    {"use_qk_norm", 0},
    {"use_sliding_window", 0},
});

bool is_neutral(const Config& config, std::string_view key) {
  const auto row = std::find_if(kNeutral.begin(), kNeutral.end(),
                                [&](const Neutral& n) { return n.key == key; });
  if (row == kNeutral.end()) return false;
  if (const auto number = config.real(key)) return *number == row->value;
  const auto truth = config.boolean(key);
  return truth && *truth == (row->value != 0);
}

}  // namespace

Status refuse_unread(const Config& config, std::string_view type, std::string_view architecture) {
  std::vector<std::string> unknown;
  for (const std::string& key : config.unasked())
    if (std::find(kHarmless.begin(), kHarmless.end(), key) == kHarmless.end() &&
        !is_neutral(config, key))
      unknown.push_back(quote(key) + ": " + config.value_text(key, 40));
  if (unknown.empty()) return {};
  return failed(config.origin() + ": model_type " + quote(type) + " is not known, and as " +
                quote(architecture) +
                ", its class, it says what Hadal does not read: " + listed(unknown) +
                ". If that does not change what the model computes, take it out of the file");
}

}  // namespace hadal
