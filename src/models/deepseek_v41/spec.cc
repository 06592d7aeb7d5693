#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "models/deepseek_v41/deepseek_v41.h"

namespace hadal::deepseek_v41 {
namespace {

constexpr auto kDefaults = std::to_array<Default>({
    {"n_shared_experts", "1"},
    {"scoring_func", "\"sqrtsoftplus\""},
    {"routed_scaling_factor", "1.5"},
    {"swiglu_limit", "10.0"},
});

bool holds(const std::vector<int64_t>& list, int64_t value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

/// A list of layers, each of which must have entries.
Result<std::vector<int64_t>> layer_list(const Config& config, const char* key,
                                        const std::vector<int64_t>& ratios,
                                        std::vector<int64_t> otherwise) {
  if (!config.has(key)) return otherwise;
  HADAL_TRY(std::vector<int64_t> layers, config.integers(key));
  std::sort(layers.begin(), layers.end());
  if (std::adjacent_find(layers.begin(), layers.end()) != layers.end())
    return failed(config.origin() + ": " + key + " names a layer twice");
  for (const int64_t layer : layers)
    if (layer < 0 || layer >= static_cast<int64_t>(ratios.size()) ||
        ratios[static_cast<size_t>(layer)] == 0)
      return failed(config.origin() + ": " + key + " holds " + std::to_string(layer) +
                    ", which is no layer with a compress_ratio above 0");
  return layers;
}

Result<std::vector<int64_t>> ratios_of(const Config& config, int64_t layers) {
  HADAL_TRY(std::vector<int64_t> ratios, config.integers("compress_ratios"));
  if (static_cast<int64_t>(ratios.size()) < layers)
    return failed(config.origin() + ": compress_ratios names " + std::to_string(ratios.size()) +
                  " layers, num_hidden_layers is " + std::to_string(layers));
  ratios.resize(static_cast<size_t>(layers));  // it may go on for DSpark's stages
  for (const int64_t r : ratios)
    if (r < 0 || (r > 0 && kBlockTokens % r != 0))
      return failed(config.origin() + ": compress_ratios holds " + std::to_string(r) +
                    "; known are 0 and the divisors of " + std::to_string(kBlockTokens));
  return ratios;
}

/// Which layers make entries, which choose among them, and which choose inside candidate blocks.
Status read_layers(const Config& config, DeepSeekV41Spec& s) {
  const int64_t n = s.model.num_hidden_layers;
  HADAL_TRY(const std::vector<int64_t> ratios, ratios_of(config, n));
  // As the published configuration class fills what is missing.
  std::vector<int64_t> first_of_runs;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t r = ratios[static_cast<size_t>(i)];
    if (r > 0 && (i == 0 || ratios[static_cast<size_t>(i - 1)] != r)) first_of_runs.push_back(i);
  }
  HADAL_TRY(const std::vector<int64_t> sources,
            layer_list(config, "kv_source_layer_ids", ratios, first_of_runs));
  if (sources.empty())
    return failed(config.origin() + ": kv_source_layer_ids names no layer: nothing makes entries");
  HADAL_TRY(const std::vector<int64_t> choosers,
            layer_list(config, "index_source_layer_ids", ratios, sources));
  HADAL_TRY(const int64_t blocks_from,
            config.integer("candidate_source_layer_id", -1, n - 1, sources.back()));
  s.blocks_from = n;
  if (blocks_from >= 0) {
    if (!holds(choosers, blocks_from))
      return failed(config.origin() + ": candidate_source_layer_id " + std::to_string(blocks_from) +
                    " is not among index_source_layer_ids");
    s.blocks_from = blocks_from;
    HADAL_TRY(s.candidate_topk_blocks, config.integer("candidate_topk_blocks", 1, 1 << 20, 2048));
    HADAL_TRY(s.candidate_block_size, config.integer("candidate_block_size", 1, 1 << 20, 8));
  }
  bool chosen = false;
  int64_t made = 0;  // the ratio of the entries that are read
  for (int64_t i = 0; i < n; ++i) {
    LayerSpec layer;
    layer.ratio = ratios[static_cast<size_t>(i)];
    layer.is_source = holds(sources, i);
    layer.chooses = holds(choosers, i);
    // A choice among entries of another ratio says nothing about these.
    if (layer.is_source && std::exchange(made, layer.ratio) != layer.ratio) chosen = false;
    layer.makes_blocks = blocks_from == i;
    layer.searches_blocks = layer.chooses && blocks_from >= 0 && i > blocks_from;
    if (layer.is_source) s.sources.emplace_back();
    layer.source = static_cast<int64_t>(s.sources.size()) - 1;
    chosen = chosen || layer.chooses;
    if (layer.ratio > 0 && (layer.source < 0 || !chosen))
      return failed(config.origin() + ": layer " + std::to_string(i) +
                    " reads entries, and no layer up to it " +
                    (layer.source < 0 ? "makes any (kv_source_layer_ids)"
                                      : "chooses among them (index_source_layer_ids)"));
    if (layer.ratio > 0 && layer.ratio != made)
      return failed(config.origin() + ": compress_ratios of layer " + std::to_string(i) + " is " +
                    std::to_string(layer.ratio) + ", its source's is " + std::to_string(made));
    // Blocks are runs of one source's entries.
    if (layer.is_source && blocks_from >= 0 && i > blocks_from)
      return failed(config.origin() + ": layer " + std::to_string(i) +
                    " makes entries behind candidate_source_layer_id");
    s.layers.push_back(layer);
  }
  s.tail_from = sources.back() + 1;
  return {};
}

/// Windows on every layer; rows, entries and index keys of the sources.
void add_planes(DeepSeekV41Spec& s) {
  ModelSpec& m = s.model;
  s.window_plane = s.add_window(m, {.name = "window"}, s.tail_from);
  if (s.has_tail())
    s.tail_window_plane =
        s.add_window(m, {.name = "tail window", .tail = true}, m.num_hidden_layers - s.tail_from);
  if (m.draft.is_dspark())
    s.dspark.window_plane = m.add_plane((s.has_tail() ? s.tail_window_plane : s.window_plane).group,
                                        PlaneRole::kWindow, s.dspark.stages, s.head_dim);
  struct Groups {
    GroupHandle rows, entries;
  };
  std::map<int64_t, Groups> groups;  // of the sources of one ratio
  for (const LayerSpec& layer : s.layers) {
    if (!layer.is_source) continue;
    const int64_t ratio = layer.ratio;
    const auto [at, fresh] = groups.try_emplace(ratio);
    Groups& in = at->second;
    const std::string of = " of " + std::to_string(ratio);
    if (fresh && ratio > 1)
      in.rows = m.add_group({.name = "rows" + of, .block_slots = kBlockTokens, .keep = ratio});
    if (fresh)
      in.entries = m.add_group(
          {.name = "entries" + of, .ratio = ratio, .block_slots = kBlockTokens / ratio});
    SourcePlanes& p = s.sources[static_cast<size_t>(layer.source)];
    if (ratio > 1) p.rows = m.add_plane(in.rows, PlaneRole::kCompressorRow, 1, 2 * s.head_dim);
    p.entries = m.add_plane(in.entries, PlaneRole::kEntry, 1, s.head_dim);
    p.keys = m.add_plane(in.entries, PlaneRole::kIndexKey, 1, s.index_head_dim);
  }
}

std::string layer_names(const DeepSeekV41Spec& s, bool LayerSpec::* which) {
  std::string text;
  for (size_t i = 0; i < s.layers.size(); ++i)
    if (s.layers[i].*which) text += (text.empty() ? "" : ", ") + std::to_string(i);
  return text.empty() ? "none" : text;
}

}  // namespace

Result<DeepSeekV41Spec> DeepSeekV41Spec::from_config(const Config& given,
                                                     const FamilyOptions& options) {
  DeepSeekV41Spec s;
  const Config config = with_defaults(given, kDefaults);
  ModelSpec& m = s.model;
  HADAL_TRY(m, ModelSpec::from_config(config, options.shard));
  HADAL_TRY(s.hyper, HyperSpec::from_config(config, m));
  HADAL_TRY(static_cast<SharedKvSpec&>(s), SharedKvSpec::from_config(config, m));
  HADAL_TRY(read_layers(config, s));
  std::string ratios;
  for (size_t i = 0, run = 0; i < s.layers.size(); i += run) {
    for (run = 1; i + run < s.layers.size() && s.layers[i + run].ratio == s.layers[i].ratio;) ++run;
    ratios += (ratios.empty() ? "" : ", ") + std::to_string(s.layers[i].ratio) + " (" +
              std::to_string(run) + (run == 1 ? " layer)" : " layers)");
  }
  s.add_fields(m, ratios);
  m.field("kv_source_layer_ids", layer_names(s, &LayerSpec::is_source));
  m.field("index_source_layer_ids", layer_names(s, &LayerSpec::chooses));
  m.field("candidate_source_layer_id", layer_names(s, &LayerSpec::makes_blocks));
  m.field("candidate_topk_blocks", s.candidate_topk_blocks);
  m.field("candidate_block_size", s.candidate_block_size);
  HADAL_TRY(s.engram, EngramSpec::from_config(config, m));
  HADAL_TRY(const double temperature, config.real("gate_temp", 1.0));
  if (temperature != 1)
    return failed(config.origin() + ": gate_temp " + std::to_string(temperature) +
                  " is not known; published models have 1");
  HADAL_TRY(s.moe, MoeSpec::from_config(config, m));
  if (options.draft && config.has("dspark_block_size")) {
    HADAL_TRY(const int64_t stages, config.integer("num_nextn_predict_layers", 0, 4096, 0));
    HADAL_TRY(s.dspark, DsparkSpec::from_config(config, s.moe, stages, m));
  }
  add_planes(s);
  if (s.has_tail()) {
    // Each layer of the tail reaches window - 1 rows further back.
    const int64_t depth = m.num_hidden_layers - s.tail_from;
    m.tail_halo = s.sliding_window + (depth - 1) * (s.sliding_window - 1);
    if (options.tail_rows) {
      m.tail_exact = false;
      m.tail_halo = *options.tail_rows;
    }
    m.field("tail", "layers " + std::to_string(s.tail_from) + " to " +
                        std::to_string(m.num_hidden_layers - 1) + ", " +
                        std::to_string(m.tail_halo) + " rows of a prompt");
  }
  return s;
}

}  // namespace hadal::deepseek_v41
