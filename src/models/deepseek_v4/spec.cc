#include <algorithm>

#include "models/deepseek_v4/deepseek_v4.h"

namespace hadal::deepseek_v4 {
namespace {

/// compress_ratios (which may go on for MTP layers), or the layer_types of newer files.
Result<std::vector<int64_t>> ratios_of(const Config& config, int64_t layers) {
  HADAL_TRY(std::vector<int64_t> ratios, config.integers("compress_ratios"));
  HADAL_TRY(const std::vector<std::string> types, config.texts("layer_types"));
  if (ratios.empty())
    for (const std::string& type : types) {
      const bool known = type == "sliding_attention" || type == "compressed_sparse_attention" ||
                         type == "heavily_compressed_attention";
      if (!known)
        return failed(config.origin() + ": layer_types: '" + type +
                      "' is not known; known are sliding_attention, compressed_sparse_attention "
                      "and heavily_compressed_attention");
      ratios.push_back(type == "sliding_attention"             ? kWindowOnly
                       : type == "compressed_sparse_attention" ? kSparse
                                                               : kHeavy);
    }
  if (static_cast<int64_t>(ratios.size()) < layers)
    return failed(config.origin() + ": compress_ratios names " + std::to_string(ratios.size()) +
                  " layers, num_hidden_layers is " + std::to_string(layers));
  ratios.resize(static_cast<size_t>(layers));
  for (const int64_t r : ratios)
    if (r != kWindowOnly && r != kSparse && r != kHeavy)
      return failed(config.origin() + ": compress_ratios holds " + std::to_string(r) +
                    "; known are 0, 4 and 128");
  return ratios;
}

/// Layers that choose experts by token: num_hash_layers, or the mlp_layer_types of newer files.
Result<int64_t> hash_layers_of(const Config& config, int64_t layers) {
  HADAL_TRY(const std::vector<std::string> types, config.texts("mlp_layer_types"));
  int64_t count = 0;
  while (count < static_cast<int64_t>(types.size()) &&
         types[static_cast<size_t>(count)] == "hash_moe")
    ++count;
  const int64_t otherwise = types.empty() ? std::min<int64_t>(3, layers) : count;
  HADAL_TRY(const int64_t given, config.integer("num_hash_layers", 0, 4096, otherwise));
  return std::min(given, layers);
}

/// One of the two rotations: a flat rope_theta and rope_scaling, or an entry of rope_parameters.
Result<RopeSpec> rope_of(const Config& config, const char* kind, int64_t dims) {
  HADAL_TRY(const Config parameters, config.object("rope_parameters"));
  HADAL_TRY(const Config own, parameters.object(kind));
  const bool compress = std::string_view(kind) == "compress";
  HADAL_TRY(Config flat, Config::parse("{}", config.origin()));
  flat.set("max_position_embeddings", config.value_text("max_position_embeddings", SIZE_MAX));
  const auto copy = [&](const Config& from, const char* key, const char* as) {
    if (from.has(key)) flat.set(as, from.value_text(key, SIZE_MAX));
  };
  if (!own.keys().empty()) {
    copy(own, "rope_theta", "rope_theta");
    if (compress) flat.set("rope_scaling", own.dump());
  } else {
    copy(config, compress ? "compress_rope_theta" : "rope_theta", "rope_theta");
    if (compress) copy(config, "rope_scaling", "rope_scaling");
    if (compress && !config.has("compress_rope_theta")) flat.set("rope_theta", "160000.0");
  }
  HADAL_TRY(RopeSpec rope, RopeSpec::from_config(flat, dims));
  rope.interleaved = true;
  rope.amplitude = 1;  // cos and sin keep their size, whatever YaRN's factor
  return rope;
}

/// The caches: window rows on every layer; rows and entries of the compressors.
void add_planes(DeepSeekV4Spec& s) {
  // A block of every group covers the same tokens: a unit of reuse.
  constexpr int64_t kBlock = 128;
  ModelSpec& m = s.model;
  m.reuse_unit = kBlock;
  const auto group = [&](const char* name, int64_t ratio, int64_t keep, int64_t at_boundary) {
    m.groups.push_back({.name = name,
                        .ratio = ratio,
                        .block_slots = kBlock / ratio,
                        .keep = keep,
                        .keep_at_boundary = at_boundary});
    return m.groups.size() - 1;
  };
  const auto plane = [&](const char* name, size_t in, int64_t layers, int64_t width, bool rows) {
    m.planes.push_back(
        {.name = name, .group = in, .layers = layers, .width = width, .follows_option = !rows});
  };
  const auto count = [&](int64_t ratio) {
    return std::count(s.compress_ratios.begin(), s.compress_ratios.end(), ratio);
  };
  plane("window", group("window", 1, s.sliding_window, s.sliding_window), m.num_hidden_layers,
        s.head_dim, false);
  const size_t sparse_rows = group("rows of 4", 1, 2 * kSparse, kSparse),
               sparse = group("entries of 4", kSparse, 0, 0);
  plane("rows of 4", sparse_rows, count(kSparse), 2 * s.sparse.row_width(), true);
  plane("entries of 4", sparse, count(kSparse), s.head_dim, false);
  plane("index rows", sparse_rows, count(kSparse), 2 * s.index.row_width(), true);
  plane("index keys", sparse, count(kSparse), s.index_head_dim, false);
  const size_t heavy_rows = group("rows of 128", 1, kHeavy, 0),
               heavy = group("entries of 128", kHeavy, 0, 0);
  plane("rows of 128", heavy_rows, count(kHeavy), 2 * s.heavy.row_width(), true);
  plane("entries of 128", heavy, count(kHeavy), s.head_dim, false);
}

}  // namespace

Result<DeepSeekV4Spec> DeepSeekV4Spec::from_config(const Config& config) {
  DeepSeekV4Spec s;
  ModelSpec& m = s.model;
  HADAL_TRY(m, ModelSpec::from_config(config));
  HADAL_TRY(s.hyper, HyperSpec::from_config(config, m));
  HADAL_TRY(s.num_nextn_predict_layers, config.integer("num_nextn_predict_layers", 0, 64, 0));
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
  HADAL_TRY(const int64_t rope_dims,
            config.integer("qk_rope_head_dim", 2, s.head_dim,
                           static_cast<int64_t>(part * static_cast<double>(s.head_dim))));
  HADAL_TRY(s.index_n_heads, config.integer("index_n_heads", 1, 4096));
  HADAL_TRY(s.index_head_dim, config.integer("index_head_dim", rope_dims, 65536));
  HADAL_TRY(s.index_topk, config.integer("index_topk", 1, 65536));
  HADAL_TRY(s.compress_ratios, ratios_of(config, m.num_hidden_layers));
  HADAL_TRY(s.num_hash_layers, hash_layers_of(config, m.num_hidden_layers));
  HADAL_TRY(s.main_rope, rope_of(config, "main", rope_dims));
  HADAL_TRY(s.compress_rope, rope_of(config, "compress", rope_dims));
  s.sparse = {.ratio = kSparse, .overlap = true, .width = s.head_dim, .rope = s.compress_rope};
  s.index = {.ratio = kSparse, .overlap = true, .width = s.index_head_dim, .rope = s.compress_rope};
  s.heavy = {.ratio = kHeavy, .overlap = false, .width = s.head_dim, .rope = s.compress_rope};

  m.field("num_attention_heads", s.num_attention_heads);
  m.field("head_dim", s.head_dim);
  m.field("q_lora_rank", s.q_lora_rank);
  m.field("o_groups", s.o_groups);
  m.field("o_lora_rank", s.o_lora_rank);
  m.field("sliding_window", s.sliding_window);
  const auto layers_of = [&](int64_t ratio) {
    return std::to_string(std::count(s.compress_ratios.begin(), s.compress_ratios.end(), ratio));
  };
  m.field("compress_ratios", layers_of(kWindowOnly) + " layers without, " + layers_of(kSparse) +
                                 " of ratio 4, " + layers_of(kHeavy) + " of ratio 128");
  m.field("index_n_heads", s.index_n_heads);
  m.field("index_head_dim", s.index_head_dim);
  m.field("index_topk", s.index_topk);
  m.field("rope", s.main_rope.text());
  m.field("rope of compressed layers", s.compress_rope.text());
  m.field("num_hash_layers", s.num_hash_layers);
  HADAL_TRY(s.moe, MoeSpec::from_config(config, m));
  add_planes(s);
  return s;
}

Result<std::unique_ptr<Model>> make(const Config& config, const ModelOptions& options) {
  HADAL_TRY(options.refuse_draft(config));
  HADAL_TRY(DeepSeekV4Spec spec, DeepSeekV4Spec::from_config(config));
  return std::unique_ptr<Model>(new DeepSeekV4Model(std::move(spec)));
}

}  // namespace hadal::deepseek_v4
