#include <algorithm>
#include <array>

#include "checkpoint/printable.h"
#include "models/deepseek_v4/deepseek_v4.h"

namespace hadal::deepseek_v4 {
namespace {

constexpr auto kDefaults = std::to_array<Default>({
    {"n_shared_experts", "1"},
    {"scoring_func", "\"sqrtsoftplus\""},
    {"routed_scaling_factor", "1.5"},
    {"swiglu_limit", "10.0"},
});

/// compress_ratios (which may go on for MTP layers), or the layer_types of newer files.
Result<std::vector<int64_t>> ratios_of(const Config& config, int64_t layers) {
  HADAL_TRY(std::vector<int64_t> ratios, config.integers("compress_ratios"));
  HADAL_TRY(const std::vector<std::string> types, config.texts("layer_types"));
  if (ratios.empty())
    for (const std::string& type : types) {
      const bool known = type == "sliding_attention" || type == "compressed_sparse_attention" ||
                         type == "heavily_compressed_attention";
      if (!known)
        return failed(config.origin() + ": layer_types: " + quote(type) +
                      " is not known; known are sliding_attention, compressed_sparse_attention "
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

/// The caches: window rows on every layer; rows and entries of the compressors.
void add_planes(DeepSeekV4Spec& s) {
  ModelSpec& m = s.model;
  const auto group = [&](const char* name, int64_t ratio, int64_t keep, int64_t at_boundary) {
    return m.add_group({.name = name,
                        .ratio = ratio,
                        .block_slots = kBlockTokens / ratio,
                        .keep = keep,
                        .keep_at_boundary = at_boundary});
  };
  const auto count = [&](int64_t ratio) {
    return std::count(s.compress_ratios.begin(), s.compress_ratios.end(), ratio);
  };
  s.window_plane = s.add_window(m, {.name = "window"}, m.num_hidden_layers);
  const GroupHandle sparse_rows = group("rows of 4", 1, 2 * kSparse, kSparse),
                    sparse = group("entries of 4", kSparse, 0, 0);
  s.sparse.add_planes(m, sparse_rows, sparse, PlaneRole::kEntry, count(kSparse));
  s.index.add_planes(m, sparse_rows, sparse, PlaneRole::kIndexKey, count(kSparse));
  const GroupHandle heavy_rows = group("rows of 128", 1, kHeavy, 0),
                    heavy = group("entries of 128", kHeavy, 0, 0);
  s.heavy.add_planes(m, heavy_rows, heavy, PlaneRole::kEntry, count(kHeavy));
  const GroupHandle windows = s.window_plane.group;
  if (m.draft.is_mtp()) {
    s.mtp_window = m.add_plane(windows, PlaneRole::kWindow, 1, s.head_dim);
    // Behind a reused prefix its last row is run again, whose entry is complete there.
    m.groups[sparse_rows.index].keep_at_boundary = 2 * kSparse;
    m.groups[heavy_rows.index].keep_at_boundary = kHeavy;
  }
  if (m.draft.is_dspark())
    s.dspark.window_plane = m.add_plane(windows, PlaneRole::kWindow, s.dspark.stages, s.head_dim);
}

/// MTP, or DSpark's stages: as many as compress_ratios goes on for, since num_nextn_predict_layers
/// of published files counts the layer of the preview.
Status read_drafts(const Config& config, DeepSeekV4Spec& s) {
  ModelSpec& m = s.model;
  if (!config.has("dspark_block_size")) {
    if (s.num_nextn_predict_layers > 0)
      m.draft = {.kind = DraftSpec::Kind::kMtp, .hidden = s.hyper.streams * m.hidden_size};
    return {};
  }
  HADAL_TRY(const std::vector<int64_t> ratios, config.integers("compress_ratios"));
  const int64_t behind = static_cast<int64_t>(ratios.size()) - m.num_hidden_layers;
  HADAL_TRY(s.dspark, DsparkSpec::from_config(config, s.moe,
                                              behind > 0 ? behind : s.num_nextn_predict_layers, m));
  return {};
}

}  // namespace

int64_t DeepSeekV4Spec::number_of(int64_t layer) const {
  return std::count(compress_ratios.begin(), compress_ratios.begin() + layer,
                    compress_ratios[static_cast<size_t>(layer)]);
}

Result<DeepSeekV4Spec> DeepSeekV4Spec::from_config(const Config& given,
                                                   const FamilyOptions& options) {
  DeepSeekV4Spec s;
  const Config config = with_defaults(given, kDefaults);
  ModelSpec& m = s.model;
  HADAL_TRY(m, ModelSpec::from_config(config, options.shard));
  HADAL_TRY(s.hyper, HyperSpec::from_config(config, m));
  HADAL_TRY(s.num_nextn_predict_layers, config.integer("num_nextn_predict_layers", 0, 64, 0));
  HADAL_TRY(static_cast<SharedKvSpec&>(s), SharedKvSpec::from_config(config, m));
  s.norm_query_heads = true;
  HADAL_TRY(s.compress_ratios, ratios_of(config, m.num_hidden_layers));
  HADAL_TRY(const Config rates, config.object("compress_rates"));
  HADAL_TRY(int64_t sparse, rates.integer("compressed_sparse_attention", 1, 1 << 20, kSparse));
  HADAL_TRY(int64_t heavy, rates.integer("heavily_compressed_attention", 1, 1 << 20, kHeavy));
  // Their names at the top, which count if they are there.
  HADAL_TRY(sparse, config.integer("compress_rate_csa", 1, 1 << 20, sparse));
  HADAL_TRY(heavy, config.integer("compress_rate_hca", 1, 1 << 20, heavy));
  if (sparse != kSparse || heavy != kHeavy)
    return failed(config.origin() + ": compress_rates " + std::to_string(sparse) + " and " +
                  std::to_string(heavy) + " are not known; known are 4 and 128");
  HADAL_TRY(s.num_hash_layers, hash_layers_of(config, m.num_hidden_layers));
  s.sparse = {.ratio = kSparse, .overlap = true, .width = s.head_dim};
  s.index = {.ratio = kSparse, .overlap = true, .width = s.index_head_dim};
  s.heavy = {.ratio = kHeavy, .overlap = false, .width = s.head_dim};

  const auto layers_of = [&](int64_t ratio) {
    return std::to_string(std::count(s.compress_ratios.begin(), s.compress_ratios.end(), ratio));
  };
  s.add_fields(m, layers_of(kWindowOnly) + " layers without, " + layers_of(kSparse) +
                      " of ratio 4, " + layers_of(kHeavy) + " of ratio 128");
  m.field("num_hash_layers", s.num_hash_layers);
  Config experts = config;
  experts.set("norm_topk_prob", "true");   // the published code knows no other way
  experts.set("mlp_layer_types", "null");  // of other kinds than those of a router's layers
  HADAL_TRY(s.moe, MoeSpec::from_config(experts, m));
  if (options.draft) HADAL_TRY(read_drafts(config, s));
  add_planes(s);
  return s;
}

}  // namespace hadal::deepseek_v4
