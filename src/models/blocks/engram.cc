#include "models/blocks/engram.h"

#include <algorithm>
#include <functional>

namespace hadal {

Result<EngramSpec> EngramSpec::from_config(const Config& config, ModelSpec& model) {
  EngramSpec s;
  HADAL_TRY(s.layers, config.integers("engram_layer_ids"));
  if (s.layers.empty()) return s;
  const bool ascending = std::adjacent_find(s.layers.begin(), s.layers.end(),
                                            std::greater_equal<>()) == s.layers.end();
  if (!ascending || s.layers.front() < 0 || s.layers.back() >= model.num_hidden_layers)
    return failed(config.origin() + ": engram_layer_ids must be layers, in ascending order");
  HADAL_TRY(s.num_embeddings, config.integers("engram_num_embeddings"));
  if (s.num_embeddings.size() != s.layers.size())
    return failed(config.origin() + ": engram_num_embeddings has " +
                  std::to_string(s.num_embeddings.size()) + " numbers, engram_layer_ids " +
                  std::to_string(s.layers.size()));
  HADAL_TRY(s.vocab_size, config.integer("engram_vocab_size", 1, INT32_MAX));
  HADAL_TRY(s.max_ngram_size, config.integer("engram_max_ngram_size", 2, 16));
  HADAL_TRY(s.n_heads, config.integer("engram_n_heads", 1, 1024));
  HADAL_TRY(s.head_dim, config.integer("engram_head_dim", 1, 65536));
  HADAL_TRY(s.pad_id, config.integer("engram_pad_id", 0, model.vocab_size - 1));
  HADAL_TRY(s.compressed_vocab_size, config.integer("engram_compressed_vocab_size", 1, INT32_MAX));
  HADAL_TRY(s.multipliers, config.integers("engram_multipliers"));
  HADAL_TRY(s.primes, config.integers("engram_primes"));
  HADAL_TRY(s.offsets, config.integers("engram_offsets"));
  HADAL_TRY(s.token_map, config.integers("engram_token_map"));
  std::string layers;
  for (const int64_t layer : s.layers)
    layers += (layers.empty() ? "" : ", ") + std::to_string(layer);
  model.field("engram_layer_ids", layers);
  model.field("engram_max_ngram_size", s.max_ngram_size);
  model.field("engram_n_heads", s.n_heads);
  model.field("engram_head_dim", s.head_dim);
  model.extra_width = static_cast<int64_t>(s.layers.size()) * s.looked_up();
  return s;
}

Status EngramSpec::check_stated(const EngramHash& hash, std::span<const int32_t> ids) const {
  const auto check = [&](const char* key, const std::vector<int64_t>& stated,
                         const std::vector<int64_t>& own) -> Status {
    const auto [here, there] = std::mismatch(stated.begin(), stated.end(), own.begin(), own.end());
    if (stated.empty() || (here == stated.end() && there == own.end())) return {};
    const auto text = [](auto at, auto end) { return at == end ? "none" : std::to_string(*at); };
    return failed(std::string(key) + "[" + std::to_string(here - stated.begin()) + "] is " +
                  text(here, stated.end()) + " in the file, expected " + text(there, own.end()) +
                  ": the rows of the Engram tables would be other ones");
  };
  std::vector<int64_t> all_multipliers, all_primes, all_offsets;
  const auto append = [](std::vector<int64_t>& to, std::span<const int64_t> values) {
    to.insert(to.end(), values.begin(), values.end());
  };
  for (size_t k = 0; k < layers.size(); ++k) {
    append(all_multipliers, hash.multipliers(k));
    append(all_primes, hash.primes(k));
    append(all_offsets, hash.offsets(k));
  }
  HADAL_TRY(check("engram_multipliers", multipliers, all_multipliers));
  HADAL_TRY(check("engram_primes", primes, all_primes));
  HADAL_TRY(check("engram_offsets", offsets, all_offsets));
  return check("engram_token_map", token_map, std::vector<int64_t>(ids.begin(), ids.end()));
}

EngramWeights bind_engram(WeightBinder& b, const std::string& p, const EngramSpec& s, size_t table,
                          int64_t streams, int64_t hidden) {
  EngramWeights w;
  w.embed = b.file_table(p + "embed.weight", s.num_embeddings[table], s.head_dim);
  w.wkv = b.matrix(p + "wkv.weight", (streams + 1) * hidden, s.looked_up());
  w.q_weight = b.vector(p + "q_weight", {streams, hidden});
  w.k_weight = b.vector(p + "k_weight", {streams, hidden});
  return w;
}

void look_up(const EngramSpec& s, const EngramHash& hash,
             std::span<const EngramWeights* const> tables, std::span<const SequenceRows> step,
             float* extra) {
  const auto columns = static_cast<size_t>((s.max_ngram_size - 1) * s.n_heads);
  std::vector<int64_t> rows;  // of a token and layer, one after the other
  for (const SequenceRows& part : step)
    for (int64_t t = part.begin; t < part.begin + part.rows; ++t)
      for (size_t k = 0; k < tables.size(); ++k) {
        rows.resize(rows.size() + columns);
        hash.rows(part.tokens, t, k, std::span(rows).last(columns));
      }
  // All are asked for before the first is read: the disk works on many at once.
  const auto each = [&](auto&& body) {
    for (size_t i = 0; i < rows.size(); ++i)
      body(tables[i / columns % tables.size()]->embed, rows[i], i);
  };
  each([](const FileTable& table, int64_t row, size_t) { table.fetch_ahead(row); });
  each([&](const FileTable& table, int64_t row, size_t i) {
    table.read(row, extra + static_cast<int64_t>(i) * s.head_dim);
  });
}

void engram(Ops& ops, const EngramWeights& w, int64_t streams, double eps, Tensor looked_up,
            Tensor x) {
  const int64_t hidden = x.extents[1] / streams;
  Scratch scratch(ops);
  const Tensor kv = scratch.rows(static_cast<hadal_dim>(x.row_dim), (streams + 1) * hidden);
  ops.matmul(looked_up, *w.wkv, kv);
  ops.engram_gate(heads_view(x, streams), heads_view(columns(kv, 0, streams * hidden), streams),
                  columns(kv, streams * hidden, hidden), *w.q_weight, *w.k_weight, eps);
}

}  // namespace hadal
