#include <algorithm>
#include <utility>

#include "models/deepseek_v41/deepseek_v41.h"

namespace hadal::deepseek_v41 {
namespace {

/// A block of every group covers so many tokens; a unit of reuse, so many that it holds a window.
constexpr int64_t kBlock = 128;

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
    if (r < 0 || (r > 0 && kBlock % r != 0))
      return failed(config.origin() + ": compress_ratios holds " + std::to_string(r) +
                    "; known are 0 and the divisors of " + std::to_string(kBlock));
  return ratios;
}

/// Who makes entries, who chooses among them, and inside what.
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
    if (layer.is_source) s.sources.emplace_back(0, 0);
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
  m.reuse_unit = (s.sliding_window + kBlock - 1) / kBlock * kBlock;
  const auto group = [&](std::string name, int64_t ratio, int64_t keep, int64_t at_boundary) {
    m.groups.push_back({.name = std::move(name),
                        .ratio = ratio,
                        .block_slots = kBlock / ratio,
                        .keep = keep,
                        .keep_at_boundary = at_boundary});
    return m.groups.size() - 1;
  };
  const auto plane = [&](std::string name, size_t in, int64_t layers, int64_t width, bool rows) {
    m.planes.push_back({.name = std::move(name),
                        .group = in,
                        .layers = layers,
                        .width = width,
                        .follows_option = !rows});
    return m.planes.size() - 1;
  };
  plane("window", group("window", 1, s.sliding_window, s.sliding_window), s.tail_from, s.head_dim,
        false);
  if (s.has_tail()) {
    s.tail_group = group("tail window", 1, s.sliding_window, s.sliding_window);
    m.groups.back().tail = true;
    plane("tail window", s.tail_group, m.num_hidden_layers - s.tail_from, s.head_dim, false);
  }
  for (const LayerSpec& layer : s.layers) {
    if (!layer.is_source) continue;
    auto at = std::find_if(s.planes.begin(), s.planes.end(),
                           [&](const SourcePlanes& p) { return p.ratio == layer.ratio; });
    if (at == s.planes.end()) at = s.planes.insert(at, {.ratio = layer.ratio});
    s.sources[static_cast<size_t>(layer.source)] = {static_cast<size_t>(at - s.planes.begin()),
                                                    at->count++};
  }
  for (SourcePlanes& p : s.planes) {
    const std::string of = " of " + std::to_string(p.ratio);
    if (p.ratio > 1) {
      p.rows_group = group("rows" + of, 1, p.ratio, 0);
      p.rows = plane("rows" + of, p.rows_group, p.count, 2 * s.head_dim, true);
    }
    p.entries_group = group("entries" + of, p.ratio, 0, 0);
    p.entries = plane("entries" + of, p.entries_group, p.count, s.head_dim, false);
    p.keys = plane("index keys" + of, p.entries_group, p.count, s.index_head_dim, false);
  }
}

std::string layer_names(const DeepSeekV41Spec& s, bool LayerSpec::* which) {
  std::string text;
  for (size_t i = 0; i < s.layers.size(); ++i)
    if (s.layers[i].*which) text += (text.empty() ? "" : ", ") + std::to_string(i);
  return text.empty() ? "none" : text;
}

}  // namespace

Result<DeepSeekV41Spec> DeepSeekV41Spec::from_config(const Config& config,
                                                     const ModelOptions& options) {
  DeepSeekV41Spec s;
  ModelSpec& m = s.model;
  HADAL_TRY(m, ModelSpec::from_config(config));
  HADAL_TRY(s.hyper, HyperSpec::from_config(config, m));
  HADAL_TRY(static_cast<SharedKvSpec&>(s), SharedKvSpec::from_config(config));
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
  add_planes(s);
  if (s.has_tail()) {
    // Each layer of the tail reaches window - 1 rows further back.
    const int64_t depth = m.num_hidden_layers - s.tail_from;
    m.tail_halo = s.sliding_window + (depth - 1) * (s.sliding_window - 1);
    if (options.v41_tail) {
      m.tail_exact = false;
      m.tail_halo = *options.v41_tail;
    }
    m.field("tail", "layers " + std::to_string(s.tail_from) + " to " +
                        std::to_string(m.num_hidden_layers - 1) + ", " +
                        std::to_string(m.tail_halo) + " rows of a prompt");
  }
  return s;
}

Result<std::unique_ptr<Model>> make(const Config& config, const ModelOptions& options) {
  HADAL_TRY(options.refuse_draft(config));
  HADAL_TRY(DeepSeekV41Spec spec, DeepSeekV41Spec::from_config(config, options));
  return std::unique_ptr<Model>(new DeepSeekV41Model(std::move(spec)));
}

}  // namespace hadal::deepseek_v41
