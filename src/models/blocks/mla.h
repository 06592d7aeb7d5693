// Multi-head latent attention (DeepSeek-V2, §2.1): keys and values are made of one latent vector a
// token, and that is all that is cached.
//
//   c_q = norm(W_qa x), q = W_qb c_q  (or q = W_q x)         q = [q_nope; q_pe] for each head
//   [c_kv'; k_pe'] = W_kva x, c_kv = norm(c_kv'), k_pe = RoPE(k_pe')     cached: [c_kv; k_pe]
//   score = scale (W_uk,hᵀ q_nope,h · c_kv + RoPE(q_pe,h) · k_pe),  o_h = W_uv,h Σ p c_kv
//
// Absorbed everywhere, so that bits do not depend on how many rows a step has.
#pragma once

#include <string>

#include "models/model.h"

namespace hadal {

struct MlaSpec {
  int64_t num_attention_heads = 0;
  Share heads;              ///< this rank's; latents are made and kept on every rank
  int64_t q_lora_rank = 0;  ///< 0: q_proj is one matrix
  int64_t kv_lora_rank = 0;
  int64_t qk_nope_head_dim = 0;
  int64_t qk_rope_head_dim = 0;
  int64_t v_head_dim = 0;
  RopeSpec rope;
  PlaneHandle latent_plane;
  double scale = 0;  ///< of scores: (nope + rope)^-1/2 · m², m of YaRN's mscale_all_dim

  static Result<MlaSpec> from_config(const Config& config, ModelSpec& model);
  /// The latents of all layers, in a group of their own.
  void add_planes(ModelSpec& model);
  [[nodiscard]] int64_t cache_width() const { return kv_lora_rank + qk_rope_head_dim; }
};

/// Of this rank's heads, where they are by heads.
struct MlaWeights {
  Weight* q_proj = nullptr;              // [heads (nope + rope), hidden], without q_lora_rank
  Weight* q_a_proj = nullptr;            // [q_lora_rank, hidden]
  Weight* q_a_layernorm = nullptr;       // [q_lora_rank]
  Weight* q_b_proj = nullptr;            // [heads (nope + rope), q_lora_rank]
  Weight* kv_a_proj_with_mqa = nullptr;  // [kv_lora_rank + rope, hidden]
  Weight* kv_a_layernorm = nullptr;      // [kv_lora_rank]
  Weight* w_uk = nullptr;                // [heads, kv_lora_rank, nope], of kv_b_proj
  Weight* w_uv = nullptr;                // [heads, v, kv_lora_rank], of kv_b_proj
  Weight* o_proj = nullptr;              // [hidden, heads v]
};

/// `prefix` ends in a dot: "model.layers.0.self_attn.".
MlaWeights bind_mla(WeightBinder& binder, const std::string& prefix, const MlaSpec& spec,
                    int64_t hidden);

/// c_q = norm(W_qa h).   c_q [T, q_lora_rank]
void mla_query_latent(Ops& ops, const MlaWeights& w, Tensor h, Tensor c_q);

/// x += W_o Attn(h), with the queries made of c_q (h itself without q_lora_rank).   h and x [T,
/// hidden]
void mla_attention(Ops& ops, const MlaSpec& spec, const MlaWeights& w, Tensor inv_freq,
                   const LatentSegment& latents, Tensor h, Tensor c_q, Tensor x);
/// The same with c_q made on the way.
void mla_attention(Ops& ops, const MlaSpec& spec, const MlaWeights& w, Tensor inv_freq,
                   const LatentSegment& latents, Tensor h, Tensor x);

}  // namespace hadal
