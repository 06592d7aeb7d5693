// Attention with one latent for keys and values alike (DeepSeek-V4, §2.3; V4.1): low-rank queries,
// a sliding window, a sink for each head, a grouped low-rank output projection. What lies behind
// the window differs from family to family.
//
//   c_q = norm(W_qa x), q = W_qb c_q;  kv = norm(W_kv x);  both turned by RoPE at their end
//   o_h = Σ p kv, turned back at the query's position;  out = W_ob [W_oa,g o_g]
#pragma once

#include <string>

#include "models/spec.h"
#include "models/weights.h"

namespace hadal {

struct SharedKvSpec {
  int64_t num_attention_heads = 0;
  int64_t head_dim = 0;
  int64_t q_lora_rank = 0;
  int64_t o_groups = 0;
  int64_t o_lora_rank = 0;
  int64_t sliding_window = 0;
  int64_t index_n_heads = 0, index_head_dim = 0, index_topk = 0;
  RopeSpec main_rope;      ///< of layers with a window alone
  RopeSpec compress_rope;  ///< of the others, in all their parts

  static Result<SharedKvSpec> from_config(const Config& config);
  /// What all families say of it to people, but for the layers' kinds.
  void add_fields(ModelSpec& model, const std::string& layers) const;
  [[nodiscard]] int64_t query_width() const { return num_attention_heads * head_dim; }
};

struct SharedKvWeights {
  Weight* wq_a = nullptr;       // [q_lora_rank, hidden]
  Weight* q_norm = nullptr;     // [q_lora_rank]
  Weight* wq_b = nullptr;       // [heads head_dim, q_lora_rank]
  Weight* wkv = nullptr;        // [head_dim, hidden]
  Weight* kv_norm = nullptr;    // [head_dim]
  Weight* attn_sink = nullptr;  // [heads]
  Weight* wo_a = nullptr;       // [o_groups, o_lora_rank, heads head_dim / o_groups]
  Weight* wo_b = nullptr;       // [hidden, o_groups o_lora_rank]
  // of a layer that chooses among entries:
  Weight* index_wq_b = nullptr;          // [index heads index_head_dim, q_lora_rank]
  Weight* index_weights_proj = nullptr;  // [index heads, hidden]
};

/// `prefix` ends in a dot: "layers.2.attn.". chooses: the layer has an indexer.
SharedKvWeights bind_shared_kv(WeightBinder& binder, const std::string& prefix,
                               const SharedKvSpec& spec, int64_t hidden, bool chooses);

}  // namespace hadal
