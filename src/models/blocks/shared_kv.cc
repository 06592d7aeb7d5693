#include "models/blocks/shared_kv.h"

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

Result<SharedKvSpec> SharedKvSpec::from_config(const Config& config) {
  SharedKvSpec s;
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

SharedKvWeights bind_shared_kv(WeightBinder& b, const std::string& p, const SharedKvSpec& s,
                               int64_t hidden, bool chooses) {
  const int64_t width = s.query_width();
  SharedKvWeights w;
  w.wq_a = b.matrix(p + "wq_a.weight", s.q_lora_rank, hidden);
  w.q_norm = b.vector(p + "q_norm.weight", s.q_lora_rank);
  w.wq_b = b.matrix(p + "wq_b.weight", width, s.q_lora_rank);
  w.wkv = b.matrix(p + "wkv.weight", s.head_dim, hidden);
  w.kv_norm = b.vector(p + "kv_norm.weight", s.head_dim);
  w.attn_sink = b.vector(p + "attn_sink", s.num_attention_heads);
  w.wo_a = b.head_rows(p + "wo_a.weight", s.o_groups, s.o_lora_rank, 0, s.o_lora_rank,
                       width / s.o_groups, false);
  w.wo_b = b.matrix(p + "wo_b.weight", hidden, s.o_groups * s.o_lora_rank);
  if (!chooses) return w;
  w.index_wq_b =
      b.matrix(p + "indexer.wq_b.weight", s.index_n_heads * s.index_head_dim, s.q_lora_rank);
  w.index_weights_proj = b.matrix(p + "indexer.weights_proj.weight", s.index_n_heads, hidden);
  return w;
}

}  // namespace hadal
