#include "models/blocks/gqa.h"

#include <cmath>

namespace hadal {
namespace {

Result<Share> kv_share(const Config& config, const GqaSpec& s, const Shard& shard) {
  const int64_t kv = s.num_key_value_heads;
  if (shard.ranks % kv != 0) return equal_share(config, "num_key_value_heads", kv, shard);
  return Share(shard.rank * kv / shard.ranks, 1, kv);
}

}  // namespace

Result<GqaSpec> GqaSpec::from_config(const Config& config, ModelSpec& model, const GqaKind& kind) {
  GqaSpec s;
  HADAL_TRY(s.num_attention_heads, config.integer("num_attention_heads", 1, 4096));
  HADAL_TRY(s.num_key_value_heads,
            config.integer("num_key_value_heads", 1, s.num_attention_heads, s.num_attention_heads));
  if (s.num_attention_heads % s.num_key_value_heads != 0)
    return failed(
        config.origin() + ": num_attention_heads " + std::to_string(s.num_attention_heads) +
        " is no multiple of num_key_value_heads " + std::to_string(s.num_key_value_heads));
  std::optional<int64_t> default_head_dim;
  if (model.hidden_size % s.num_attention_heads == 0)
    default_head_dim = model.hidden_size / s.num_attention_heads;
  HADAL_TRY(s.head_dim, config.integer("head_dim", 1, 4096, default_head_dim));
  s.rms_norm_eps = model.rms_norm_eps;
  s.qk_norm = kind.qk_norm;
  HADAL_TRY(s.attention_bias, config.boolean("attention_bias", false));
  s.attention_bias = s.attention_bias || kind.qkv_bias;
  HADAL_TRY(s.rope, RopeSpec::from_config(config, s.head_dim));
  HADAL_TRY(s.heads,
            equal_share(config, "num_attention_heads", s.num_attention_heads, model.shard));
  HADAL_TRY(s.kv_heads, kv_share(config, s, model.shard));
  model.field("num_attention_heads", s.num_attention_heads);
  model.field("num_key_value_heads", s.num_key_value_heads);
  model.field("head_dim", s.head_dim);
  model.field("rope", s.rope.text());
  model.field("qk_norm", s.qk_norm);
  model.field("attention_bias", s.attention_bias);
  return s;
}

void GqaSpec::add_planes(ModelSpec& model) {
  const GroupHandle group = model.add_group({.name = "kv"});
  const int64_t layers = model.num_hidden_layers, width = kv_heads.count * head_dim;
  key_plane = model.add_plane(group, PlaneRole::kKey, layers, width, kv_heads.count);
  value_plane = model.add_plane(group, PlaneRole::kValue, layers, width, kv_heads.count);
}

GqaWeights bind_gqa(WeightBinder& b, const std::string& p, const GqaSpec& s, int64_t hidden) {
  const Share q_width = s.heads.times(s.head_dim), kv_width = s.kv_heads.times(s.head_dim);
  GqaWeights w;
  w.q_proj = b.matrix(p + "q_proj.weight", q_width, hidden);
  w.k_proj = b.matrix(p + "k_proj.weight", kv_width, hidden);
  w.v_proj = b.matrix(p + "v_proj.weight", kv_width, hidden);
  w.o_proj = b.matrix(p + "o_proj.weight", hidden, q_width);
  // Whoever turns pairs of neighbours in grouped attention has a GGUF, whose writer has put them
  // so.
  if (s.rope.interleaved && b.of_gguf())
    for (Weight* turned : {w.q_proj, w.k_proj})
      if (turned) turned->paired_rows = s.head_dim;
  if (s.attention_bias) {
    w.q_bias = b.vector(p + "q_proj.bias", q_width);
    w.k_bias = b.vector(p + "k_proj.bias", kv_width);
    w.v_bias = b.vector(p + "v_proj.bias", kv_width);
    w.o_bias = b.optional_summand(p + "o_proj.bias", hidden);
  }
  if (s.qk_norm) {
    w.q_norm = b.vector(p + "q_norm.weight", s.head_dim);
    w.k_norm = b.vector(p + "k_norm.weight", s.head_dim);
  }
  b.known_unused(p + "rotary_emb.inv_freq");  // stored by old versions of transformers
  return w;
}

void gqa_attention(Ops& ops, const GqaSpec& s, const GqaWeights& w, Tensor inv_freq,
                   const StepPlanes& planes, int64_t layer, Tensor h, Tensor x, int64_t window) {
  const PlaneLayer &keys = planes.of(s.key_plane, layer), &values = planes.of(s.value_plane, layer);
  const Rope rope = s.rope.op(inv_freq);
  Scratch scratch(ops);
  Tensor q = scratch.rows(HADAL_DIM_T, s.heads.count * s.head_dim);
  Tensor k = scratch.rows(HADAL_DIM_T, s.kv_heads.count * s.head_dim);
  Tensor v = scratch.rows(HADAL_DIM_T, s.kv_heads.count * s.head_dim);
  ops.matmul(h, *w.q_proj, q, optional(w.q_bias));
  ops.matmul(h, *w.k_proj, k, optional(w.k_bias));
  ops.matmul(h, *w.v_proj, v, optional(w.v_bias));
  Tensor q_heads = heads_view(q, s.heads.count), k_heads = heads_view(k, s.kv_heads.count);
  if (s.qk_norm) {
    ops.rms_norm(q_heads, *w.q_norm, s.rms_norm_eps, q_heads);
    ops.rms_norm(k_heads, *w.k_norm, s.rms_norm_eps, k_heads);
  }
  ops.rope(q_heads, rope);
  ops.rope(k_heads, rope);
  ops.kv_write(k, keys);
  ops.kv_write(v, values);
  Tensor o = scratch.like(q);
  ops.gqa_attention(q_heads, keys, values, s.kv_heads.count,
                    1.0 / std::sqrt(static_cast<double>(s.head_dim)), heads_view(o, s.heads.count),
                    window);
  ops.sum_of_ranks(x, x, [&](Tensor to, std::optional<Tensor> add) {
    ops.matmul(o, *w.o_proj, to, optional(w.o_bias), add);
  });
}

}  // namespace hadal
