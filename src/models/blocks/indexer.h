// The lightning indexer (DeepSeek-V3.2, §2.1): which tokens a query attends to.
//
//   q^I = RoPE(W_qb c_q), k^I = RoPE(LayerNorm(W_k x)), w = W_w x
//   I_{t,s} = Σ_j w_{t,j} ReLU(q^I_{t,j} · k^I_s),  the index_topk largest are attended to
//
// The rotation is half-split, unlike that of the attention itself. Left out, since they change no
// choice: the Hadamard turn of q^I and k^I (it keeps dot products) and the constant factors of w.
#pragma once

#include <string>

#include "models/model.h"

namespace hadal {

struct IndexerSpec {
  int64_t index_n_heads = 0;
  int64_t index_head_dim = 0;
  int64_t index_topk = 0;
  RopeSpec rope;
  PlaneHandle key_plane;

  /// `rope`: that of the attention.
  static Result<IndexerSpec> from_config(const Config& config, const RopeSpec& rope,
                                         ModelSpec& model);
  /// The keys of all layers, in the group of what they choose among.
  void add_planes(ModelSpec& model, GroupHandle group);
};

struct IndexerWeights {
  Weight* wq_b = nullptr;                            // [heads * head_dim, q_lora_rank]
  Weight* wk = nullptr;                              // [head_dim, hidden]
  Weight *k_norm = nullptr, *k_norm_bias = nullptr;  // [head_dim]
  Weight* weights_proj = nullptr;                    // [heads, hidden]
};

/// `prefix` ends in a dot: "model.layers.0.self_attn.indexer.".
IndexerWeights bind_indexer(WeightBinder& binder, const std::string& prefix,
                            const IndexerSpec& spec, int64_t hidden, int64_t q_lora_rank);

/// Writes the rows' keys to the plane and the choice of each row to `list`.   h [T, hidden], c_q
/// [T, q_lora_rank], list [T, index_topk] I32
void indexer(Ops& ops, const IndexerSpec& spec, const IndexerWeights& w, Tensor inv_freq,
             const PlaneLayer& keys, Tensor h, Tensor c_q, Tensor list);

}  // namespace hadal
