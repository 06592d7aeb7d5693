// Grouped-query attention with rotary positions (multi-head attention where every head has its own
// keys).
#pragma once

#include <string>

#include "models/model.h"

namespace hadal {

/// What a family's attention has whatever config.json says.
struct GqaKind {
  bool qk_norm = false;   ///< an RMS norm of each head of q and k, before the rotation
  bool qkv_bias = false;  ///< biases of q, k and v
};

struct GqaSpec {
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  Share heads, kv_heads;  ///< this rank's; a key head of several ranks' heads is on each of them
  int64_t head_dim = 0;
  bool attention_bias = false;  ///< q, k and v have biases; o as well where the checkpoint has one
  bool qk_norm = false;
  double rms_norm_eps = 0;  ///< of that norm
  RopeSpec rope;
  PlaneHandle key_plane, value_plane;

  /// The keys of config.json; writes the fields for people to `model`.
  static Result<GqaSpec> from_config(const Config& config, ModelSpec& model,
                                     const GqaKind& kind = {});
  /// Keys and values of all layers, in a group of their own.
  void add_planes(ModelSpec& model);
};

struct GqaWeights {
  // of this rank's heads
  Weight* q_proj = nullptr;  // [heads * head_dim, hidden]
  Weight* k_proj = nullptr;  // [kv_heads * head_dim, hidden]
  Weight* v_proj = nullptr;  // [kv_heads * head_dim, hidden]
  Weight* o_proj = nullptr;  // [hidden, heads * head_dim]
  Weight *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr, *o_bias = nullptr;  // or nullptr
  Weight *q_norm = nullptr, *k_norm = nullptr;  // [head_dim], or nullptr
};

/// `prefix` ends in a dot: "model.layers.0.self_attn.".
GqaWeights bind_gqa(WeightBinder& binder, const std::string& prefix, const GqaSpec& spec,
                    int64_t hidden);

/// x += W_o Attn(h).   h and x [T, hidden]; window: positions that attention sees, the query's own
/// included; 0: all
void gqa_attention(Ops& ops, const GqaSpec& spec, const GqaWeights& w, Tensor inv_freq,
                   const StepPlanes& planes, int64_t layer, Tensor h, Tensor x, int64_t window = 0);

}  // namespace hadal
