#include "models/blocks/mla.h"

#include <cmath>

namespace hadal {
namespace {

constexpr double kLatentNormEps = 1e-6;  // of the norms of latents, whatever rms_norm_eps is

/// m of DeepSeek's YaRN: the softmax scale is multiplied by its square, with any kind of scaling.
Result<double> mscale_of(const Config& config, const RopeSpec& rope) {
  if (rope.type == "default") return 1.0;
  HADAL_TRY(const Config scaling, config.object("rope_scaling"));
  HADAL_TRY(const double all_dim, scaling.real("mscale_all_dim", 0.0));
  return rope.factor <= 1 || all_dim == 0 ? 1.0 : 0.1 * all_dim * std::log(rope.factor) + 1.0;
}

}  // namespace

Result<MlaSpec> MlaSpec::from_config(const Config& config, ModelSpec& model) {
  MlaSpec s;
  HADAL_TRY(s.num_attention_heads, config.integer("num_attention_heads", 1, 4096));
  HADAL_TRY(s.q_lora_rank, config.integer("q_lora_rank", 0, 65536, 0));
  HADAL_TRY(s.kv_lora_rank, config.integer("kv_lora_rank", 1, 65536));
  HADAL_TRY(s.qk_nope_head_dim, config.integer("qk_nope_head_dim", 1, 4096));
  HADAL_TRY(s.qk_rope_head_dim, config.integer("qk_rope_head_dim", 2, 4096));
  HADAL_TRY(s.v_head_dim, config.integer("v_head_dim", 1, 4096));
  HADAL_TRY(const bool bias, config.boolean("attention_bias", false));
  if (bias) return failed(config.origin() + ": attention_bias is true; no such model is known");
  HADAL_TRY(s.rope, RopeSpec::from_config(config, s.qk_rope_head_dim));
  if (!config.has("rope_interleave")) s.rope.interleaved = true;
  HADAL_TRY(const double m, mscale_of(config, s.rope));
  s.scale = m * m / std::sqrt(static_cast<double>(s.qk_nope_head_dim + s.qk_rope_head_dim));
  HADAL_TRY(s.heads,
            equal_share(config, "num_attention_heads", s.num_attention_heads, model.shard));
  model.field("num_attention_heads", s.num_attention_heads);
  if (s.q_lora_rank > 0) model.field("q_lora_rank", s.q_lora_rank);
  model.field("kv_lora_rank", s.kv_lora_rank);
  model.field("qk_nope_head_dim", s.qk_nope_head_dim);
  model.field("qk_rope_head_dim", s.qk_rope_head_dim);
  model.field("v_head_dim", s.v_head_dim);
  model.field("rope", s.rope.text());
  if (m != 1) model.field("mscale of YaRN", std::to_string(m));
  return s;
}

void MlaSpec::add_planes(ModelSpec& model) {
  latent_plane = model.add_plane(model.add_group({.name = "kv"}), PlaneRole::kLatent,
                                 model.num_hidden_layers, cache_width());
}

MlaWeights bind_mla(WeightBinder& b, const std::string& p, const MlaSpec& s, int64_t hidden) {
  const int64_t nope = s.qk_nope_head_dim, v = s.v_head_dim, rank = s.kv_lora_rank;
  const Share heads = s.heads, q_width = heads.times(nope + s.qk_rope_head_dim);
  MlaWeights w;
  if (s.q_lora_rank > 0) {
    w.q_a_proj = b.matrix(p + "q_a_proj.weight", s.q_lora_rank, hidden);
    w.q_a_layernorm = b.vector(p + "q_a_layernorm.weight", s.q_lora_rank);
    w.q_b_proj = b.matrix(p + "q_b_proj.weight", q_width, s.q_lora_rank);
  } else {
    w.q_proj = b.matrix(p + "q_proj.weight", q_width, hidden);
  }
  w.kv_a_proj_with_mqa = b.matrix(p + "kv_a_proj_with_mqa.weight", s.cache_width(), hidden);
  w.kv_a_layernorm = b.vector(p + "kv_a_layernorm.weight", rank);
  if (b.has(p + "k_b_proj.weight")) {  // GGUF: the two halves, the keys' already turned
    w.w_uk = b.matrices(p + "k_b_proj.weight", heads, rank, nope);
    w.w_uv = b.matrices(p + "v_b_proj.weight", heads, v, rank);
    b.known_unused(p + "kv_b_proj.weight");  // some files keep the whole beside them
  } else {
    w.w_uk = b.head_rows(p + "kv_b_proj.weight", heads, nope + v, 0, nope, rank, true);
    w.w_uv = b.head_rows(p + "kv_b_proj.weight", heads, nope + v, nope, v, rank, false);
  }
  w.o_proj = b.matrix(p + "o_proj.weight", hidden, heads.times(v));
  b.known_unused(p + "rotary_emb.inv_freq");
  return w;
}

void mla_query_latent(Ops& ops, const MlaWeights& w, Tensor h, Tensor c_q) {
  ops.matmul(h, *w.q_a_proj, c_q);
  ops.rms_norm(c_q, *w.q_a_layernorm, kLatentNormEps, c_q);
}

void mla_attention(Ops& ops, const MlaSpec& s, const MlaWeights& w, Tensor inv_freq,
                   const LatentSegment& latents, Tensor h, Tensor c_q, Tensor x) {
  const Rope rope = s.rope.op(inv_freq);
  const int64_t heads = s.heads.count, nope = s.qk_nope_head_dim, pe = s.qk_rope_head_dim;
  Scratch scratch(ops);
  Tensor q = scratch.rows(HADAL_DIM_T, heads * (nope + pe));
  ops.matmul(c_q, s.q_lora_rank > 0 ? *w.q_b_proj : *w.q_proj, q);
  const Tensor q_heads = heads_view(q, heads);
  const Tensor q_nope = inner(q_heads, 0, nope), q_pe = inner(q_heads, nope, pe);
  ops.rope(q_pe, rope);

  Tensor kv = scratch.rows(HADAL_DIM_T, s.cache_width());
  ops.matmul(h, *w.kv_a_proj_with_mqa, kv);
  const Tensor c_kv = columns(kv, 0, s.kv_lora_rank), k_pe = columns(kv, s.kv_lora_rank, pe);
  ops.rms_norm(c_kv, *w.kv_a_layernorm, kLatentNormEps, c_kv);
  ops.rope(heads_view(k_pe, 1), rope);
  ops.kv_write(kv, latents.plane);

  Tensor o = scratch.rows(HADAL_DIM_T, heads * s.v_head_dim);
  ops.mla_attention(q_nope, q_pe, *w.w_uk, *w.w_uv, latents, s.scale, heads_view(o, heads));
  ops.sum_of_ranks(
      x, x, [&](Tensor to, std::optional<Tensor> add) { ops.matmul(o, *w.o_proj, to, {}, add); });
}

void mla_attention(Ops& ops, const MlaSpec& s, const MlaWeights& w, Tensor inv_freq,
                   const LatentSegment& latents, Tensor h, Tensor x) {
  if (s.q_lora_rank == 0) return mla_attention(ops, s, w, inv_freq, latents, h, h, x);
  Scratch scratch(ops);
  Tensor c_q = scratch.rows(HADAL_DIM_T, s.q_lora_rank);
  mla_query_latent(ops, w, h, c_q);
  mla_attention(ops, s, w, inv_freq, latents, h, c_q, x);
}

}  // namespace hadal
