#include "models/blocks/shared_kv.h"

#include <cmath>

namespace hadal {
namespace {

/// One of the two rotations: a flat rope_theta and rope_scaling, or an entry of rope_parameters.
Result<RopeSpec> rope_of(const Config& config, const char* kind, int64_t dims) {
  HADAL_TRY(const Config parameters, config.object("rope_parameters"));
  HADAL_TRY(const Config own, parameters.object(kind));
  const bool compress = std::string_view(kind) == "compress";
  HADAL_TRY(Config flat, Config::parse("{}", config.origin()));
  flat.copy(config, "max_position_embeddings", "max_position_embeddings");
  if (!own.keys().empty()) {
    flat.copy(own, "rope_theta", "rope_theta");
    flat.copy(parameters, kind, "rope_scaling");
  } else {
    flat.copy(config, compress ? "compress_rope_theta" : "rope_theta", "rope_theta");
    if (compress) flat.copy(config, "rope_scaling", "rope_scaling");
    if (compress && !config.has("compress_rope_theta")) flat.set("rope_theta", "160000.0");
  }
  HADAL_TRY(RopeSpec rope, RopeSpec::from_config(flat, dims));
  rope.interleaved = true;
  // cos and sin keep their size, whatever YaRN's factor, unless the file says otherwise.
  HADAL_TRY(const Config scaling, flat.object("rope_scaling"));
  if (!scaling.has("attention_factor")) rope.amplitude = 1;
  return rope;
}

}  // namespace

Result<SharedKvSpec> SharedKvSpec::from_config(const Config& config, const ModelSpec& model) {
  SharedKvSpec s;
  s.rms_norm_eps = model.rms_norm_eps;
  HADAL_TRY(s.num_attention_heads, config.integer("num_attention_heads", 1, 4096));
  HADAL_TRY(s.head_dim, config.integer("head_dim", 2, 65536));
  HADAL_TRY(s.q_lora_rank, config.integer("q_lora_rank", 1, 65536));
  HADAL_TRY(s.o_groups, config.integer("o_groups", 1, s.num_attention_heads));
  HADAL_TRY(s.o_lora_rank, config.integer("o_lora_rank", 1, 65536));
  HADAL_TRY(s.sliding_window, config.integer("sliding_window", 1, 65536));
  if (s.num_attention_heads % s.o_groups != 0)
    return failed(config.origin() + ": num_attention_heads " +
                  std::to_string(s.num_attention_heads) + " is no multiple of o_groups " +
                  std::to_string(s.o_groups));
  HADAL_TRY(s.groups, equal_share(config, "o_groups", s.o_groups, model.shard));
  s.heads = s.groups.times(s.num_attention_heads / s.o_groups);
  HADAL_TRY(const double part, config.real("partial_rotary_factor", 0.125));
  if (!(part > 0 && part <= 1))
    return failed(config.origin() + ": partial_rotary_factor must be above 0 and at most 1");
  HADAL_TRY(const int64_t rope_dims,
            config.integer("qk_rope_head_dim", 2, s.head_dim,
                           static_cast<int64_t>(part * static_cast<double>(s.head_dim))));
  if (rope_dims < 2 || rope_dims % 2 != 0)
    return failed(config.origin() + ": " + std::to_string(rope_dims) +
                  " dimensions of a head turn (qk_rope_head_dim, or partial_rotary_factor of "
                  "head_dim); expected an even number from 2 on");
  HADAL_TRY(s.index_n_heads, config.integer("index_n_heads", 1, 4096));
  HADAL_TRY(s.index_head_dim, config.integer("index_head_dim", rope_dims, 65536));
  HADAL_TRY(s.index_topk, config.integer("index_topk", 1, 65536));
  HADAL_TRY(s.main_rope, rope_of(config, "main", rope_dims));
  HADAL_TRY(s.compress_rope, rope_of(config, "compress", rope_dims));
  return s;
}

void SharedKvSpec::add_fields(ModelSpec& model, const std::string& layers) const {
  model.field("num_attention_heads", num_attention_heads);
  model.field("head_dim", head_dim);
  model.field("q_lora_rank", q_lora_rank);
  model.field("o_groups", o_groups);
  model.field("o_lora_rank", o_lora_rank);
  model.field("sliding_window", sliding_window);
  model.field("compress_ratios", layers);
  model.field("index_n_heads", index_n_heads);
  model.field("index_head_dim", index_head_dim);
  model.field("index_topk", index_topk);
  model.field("rope", main_rope.text());
  model.field("rope of compressed layers", compress_rope.text());
}

PlaneHandle SharedKvSpec::add_window(ModelSpec& model, PlaneGroup group, int64_t layers) const {
  model.reuse_unit = (sliding_window + kBlockTokens - 1) / kBlockTokens * kBlockTokens;
  group.block_slots = kBlockTokens;
  group.keep = group.keep_at_boundary = sliding_window;
  return model.add_plane(model.add_group(std::move(group)), PlaneRole::kWindow, layers, head_dim);
}

InvFreqWeights bind_inv_freq(WeightBinder& b, const SharedKvSpec& s) {
  return {.main = b.table("inv_freq", s.main_rope.inv_freq()),
          .compress = b.table("inv_freq of compressed layers", s.compress_rope.inv_freq())};
}

Rope end_rope(const SharedKvSpec& s, const InvFreqWeights& inv_freq, bool compressed,
              int64_t width) {
  Rope rope = compressed ? s.compress_rope.op(*inv_freq.compress) : s.main_rope.op(*inv_freq.main);
  rope.first = width - rope.dims;
  return rope;
}

SharedKvWeights bind_shared_kv(WeightBinder& b, const std::string& p, const SharedKvSpec& s,
                               int64_t hidden, bool chooses) {
  const int64_t group_width = s.num_attention_heads / s.o_groups * s.head_dim;
  SharedKvWeights w;
  w.wq_a = b.matrix(p + "wq_a.weight", s.q_lora_rank, hidden);
  w.q_norm = b.vector(p + "q_norm.weight", s.q_lora_rank);
  w.wq_b = b.matrix(p + "wq_b.weight", s.heads.times(s.head_dim), s.q_lora_rank);
  w.wkv = b.matrix(p + "wkv.weight", s.head_dim, hidden);
  w.kv_norm = b.vector(p + "kv_norm.weight", s.head_dim);
  w.attn_sink = b.vector(p + "attn_sink", s.heads);
  w.wo_a =
      b.head_rows(p + "wo_a.weight", s.groups, s.o_lora_rank, 0, s.o_lora_rank, group_width, false);
  w.wo_b = b.matrix(p + "wo_b.weight", hidden, s.groups.times(s.o_lora_rank));
  if (!chooses) return w;
  w.index_wq_b =
      b.matrix(p + "indexer.wq_b.weight", s.index_n_heads * s.index_head_dim, s.q_lora_rank);
  w.index_weights_proj = b.matrix(p + "indexer.weights_proj.weight", s.index_n_heads, hidden);
  return w;
}

void shared_kv_queries(Ops& ops, const SharedKvSpec& s, const SharedKvWeights& w, const Rope& rope,
                       Tensor h, Tensor c_q, Tensor q) {
  ops.matmul(h, *w.wq_a, c_q);
  ops.rms_norm(c_q, *w.q_norm, s.rms_norm_eps, c_q);
  ops.matmul(c_q, *w.wq_b, q);
  const Tensor heads = heads_view(q, s.heads.count);
  if (s.norm_query_heads) ops.rms_norm(heads, std::nullopt, s.rms_norm_eps, heads);
  ops.rope(heads, rope);
}

void shared_kv_window(Ops& ops, const SharedKvSpec& s, const SharedKvWeights& w, const Rope& rope,
                      const PlaneLayer& window, Tensor h) {
  Scratch scratch(ops);
  const Tensor kv = scratch.rows(static_cast<hadal_dim>(h.row_dim), s.head_dim);
  ops.matmul(h, *w.wkv, kv);
  ops.rms_norm(kv, *w.kv_norm, s.rms_norm_eps, kv);
  ops.rope(heads_view(kv, 1), rope);
  ops.kv_write(kv, window);
}

IndexQueries index_queries(Ops& ops, Scratch& scratch, const SharedKvSpec& s,
                           const SharedKvWeights& w, const Rope& rope, Tensor h, Tensor c_q) {
  const auto rows = static_cast<hadal_dim>(h.row_dim);
  const Tensor q = scratch.rows(rows, s.index_n_heads * s.index_head_dim);
  const Tensor weight = scratch.rows(rows, s.index_n_heads);
  ops.matmul(c_q, *w.index_wq_b, q);
  ops.rope(heads_view(q, s.index_n_heads), rope);
  ops.matmul(h, *w.index_weights_proj, weight);
  return {.q = heads_view(q, s.index_n_heads), .weight = weight};
}

void shared_kv_output(Ops& ops, const SharedKvSpec& s, const SharedKvWeights& w, Rope rope,
                      Tensor q, const LatentSegment& window,
                      const std::optional<LatentSegment>& entries, Tensor f) {
  Scratch scratch(ops);
  const Tensor o = scratch.like(q);
  const Tensor heads = heads_view(o, s.heads.count);
  ops.latent_attention(heads_view(q, s.heads.count), {}, window,
                       1.0 / std::sqrt(static_cast<double>(s.head_dim)), heads, *w.attn_sink,
                       entries ? &*entries : nullptr);
  // The values carry the rotation of the keys: it is taken back at the query's position.
  rope.inverse = true;
  ops.rope(heads, rope);
  const Tensor u = scratch.rows(static_cast<hadal_dim>(q.row_dim), s.groups.count * s.o_lora_rank);
  ops.matmul(heads_view(o, s.groups.count), *w.wo_a, heads_view(u, s.groups.count));
  ops.matmul(u, *w.wo_b, f);
  ops.all_reduce(f);
}

void shared_kv_window_attention(Ops& ops, const SharedKvSpec& s, const SharedKvWeights& w,
                                const Rope& rope, const PlaneLayer& window, int64_t block, Tensor h,
                                Tensor f) {
  const auto rows = static_cast<hadal_dim>(h.row_dim);
  Scratch scratch(ops);
  const Tensor c_q = scratch.rows(rows, s.q_lora_rank), q = scratch.rows(rows, s.query_width());
  shared_kv_queries(ops, s, w, rope, h, c_q, q);
  shared_kv_window(ops, s, w, rope, window, h);
  shared_kv_output(ops, s, w, rope, q,
                   {.plane = window, .window = s.sliding_window + block, .to_horizon = block > 0},
                   {}, f);
}

}  // namespace hadal
