#include "checkpoint/gguf_v41.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "checkpoint/gguf_published.h"
#include "checkpoint/printable.h"

namespace hadal {
namespace {

using Kind = GgufKind;

constexpr auto kV41Keys = std::to_array<GgufKeyRow>({
    {"attention.kv_source_layer_ids", "kv_source_layer_ids", Kind::kIntegers},
    {"attention.index_source_layer_ids", "index_source_layer_ids", Kind::kIntegers},
    {"attention.candidate_source_layer_id", "candidate_source_layer_id", Kind::kInteger},
    {"attention.candidate_topk_blocks", "candidate_topk_blocks", Kind::kInteger},
    {"attention.candidate_block_size", "candidate_block_size", Kind::kInteger},
    {"engram.layer_ids", "engram_layer_ids", Kind::kIntegers},
    {"engram.head_count", "engram_n_heads", Kind::kInteger},
    {"engram.key_length", "engram_head_dim", Kind::kInteger},
    {"engram.max_ngram_size", "engram_max_ngram_size", Kind::kInteger},
    {"engram.vocab_size", "engram_vocab_size", Kind::kInteger},
    {"engram.pad_token_id", "engram_pad_id", Kind::kInteger},
    {"engram.compressed_vocab_size", "engram_compressed_vocab_size", Kind::kInteger},
    {"engram.multipliers", "engram_multipliers", Kind::kIntegers},
    {"engram.hash_multipliers", "engram_multipliers", Kind::kIntegers},
    {"engram.primes", "engram_primes", Kind::kIntegers},
    {"engram.offsets", "engram_offsets", Kind::kIntegers},
    {"engram.token_map", "engram_token_map", Kind::kIntegers},
});

void set_list(Config& config, std::string_view key, const std::vector<int64_t>& values) {
  config.set(key, fmt::format("[{}]", fmt::join(values, ", ")));
}

/// Sets `official` to what the tensors show, and says so; nothing where they show nothing.
void take_from_tensors(const GgufKeys& keys, std::string_view key, std::string_view official,
                       const std::vector<int64_t>& layers, Config& config,
                       std::vector<std::string>& notes) {
  if (config.has(official) || layers.empty()) return;
  set_list(config, official, layers);
  notes.push_back(fmt::format("key {} is missing: taken as [{}], the layers with such tensors",
                              quote(keys.full(key)), fmt::join(layers, ", ")));
}

/// The sizes that Engram's tables show, where no key says them.
Status set_implied_sizes(const GgufTensorFacts& facts, Config& config) {
  const auto imply = [&](std::string_view key, int64_t value) {
    if (!config.has(key) && value > 0) config.set(key, fmt::format("{}", value));
  };
  HADAL_TRY(const std::vector<int64_t> layers, config.integers("engram_layer_ids"));
  HADAL_TRY(const std::vector<int64_t> multipliers, config.integers("engram_multipliers"));
  HADAL_TRY(const std::vector<int64_t> primes, config.integers("engram_primes"));
  HADAL_TRY(const std::vector<int64_t> map, config.integers("engram_token_map"));
  const auto count = static_cast<int64_t>(layers.size());
  imply("engram_max_ngram_size", static_cast<int64_t>(multipliers.size()) / count);
  HADAL_TRY(const int64_t size, config.integer("engram_max_ngram_size", 2, INT32_MAX, 2));
  imply("engram_n_heads", static_cast<int64_t>(primes.size()) / count / (size - 1));
  HADAL_TRY(const int64_t heads, config.integer("engram_n_heads", 1, INT32_MAX, 1));
  imply("engram_head_dim", facts.engram_columns / ((size - 1) * heads));
  // The search for primes begins at the vocabulary's size: at the first of them it finds the same.
  if (!primes.empty()) imply("engram_vocab_size", primes.front());
  if (!map.empty())
    imply("engram_compressed_vocab_size", *std::max_element(map.begin(), map.end()) + 1);
  if (!config.has("engram_num_embeddings") && !facts.engram_rows.empty()) {
    std::vector<int64_t> rows;
    for (const int64_t layer : layers) {
      const auto it = facts.engram_rows.find(layer);
      rows.push_back(it == facts.engram_rows.end() ? 0 : it->second);
    }
    set_list(config, "engram_num_embeddings", rows);
  }
  return {};
}

/// engram.pad_id is a compressed id, config.json's a token: any that compresses to it will do.
Status set_pad_token(const GgufKeys& keys, Config& config) {
  HADAL_TRY(const auto pad, keys.integer("engram.pad_id", 0, INT32_MAX));
  HADAL_TRY(const std::vector<int64_t> map, config.integers("engram_token_map"));
  if (!pad || map.empty() || config.has("engram_pad_id")) return {};
  const auto token = std::find(map.begin(), map.end(), *pad);
  if (token == map.end())
    return keys.error("engram.pad_id",
                      fmt::format("{}, to which engram.token_map maps no token", *pad));
  config.set("engram_pad_id", fmt::format("{}", token - map.begin()));
  return {};
}

Result<std::string> plain_json(const GgufKeys& keys, std::string_view key, const GgufValue& value) {
  if (value.is_array) return keys.json(key, Kind::kIntegers);
  if (value.boolean()) return keys.json(key, Kind::kBool);
  return keys.json(key, value.integer() ? Kind::kInteger : Kind::kReal);
}

/// deepseek41.hidden_size, …, and rope_scaling.* as an object.
Result<Config> flat_keys_config(const GgufKeys& keys) {
  constexpr std::string_view kScaling = "rope_scaling.";
  HADAL_TRY(Config config, Config::parse("{}", keys.origin()));
  Config scaling;
  for (const auto& [name, value] : keys.file().metadata) {
    if (!name.starts_with(keys.full(""))) continue;
    const std::string_view key = name.substr(keys.full("").size());
    const bool scales = key.starts_with(kScaling);
    const std::string_view official = scales ? key.substr(kScaling.size()) : key;
    if (official.find('.') != std::string_view::npos) continue;
    Config& to = scales ? scaling : config;
    if (const auto text = value.text()) {
      to.set_text(official, *text);
    } else {
      HADAL_TRY(const std::string json, plain_json(keys, key, value));
      to.set(official, json);
    }
  }
  if (scaling.has("factor")) {
    if (!scaling.has("rope_type")) scaling.set_text("rope_type", "yarn");
    config.set("rope_scaling", scaling.dump());
  }
  return config;
}

}  // namespace

bool has_official_keys(const GgufKeys& keys) {
  return keys.has("config") || keys.has("num_hidden_layers");
}

Result<Config> official_keys_config(const GgufKeys& keys) {
  if (!keys.has("config")) return flat_keys_config(keys);
  const auto text = keys.find("config")->text();
  if (!text) return keys.error("config", "expected the text of a config.json");
  HADAL_TRY(Config config,
            Config::parse(*text, fmt::format("{}: {}", keys.origin(), quote(keys.full("config")))));
  HADAL_TRY(normalise_config(config));
  config.set("quantization_config", "null");  // the file's tensors have types of their own
  return config;
}

Status set_v41_keys(const GgufKeys& keys, const GgufTensorFacts& facts, Config& config,
                    std::vector<std::string>& notes) {
  HADAL_TRY(keys.copy(kV41Keys, config));
  take_from_tensors(keys, "attention.kv_source_layer_ids", "kv_source_layer_ids",
                    facts.compressor_layers, config, notes);
  take_from_tensors(keys, "attention.index_source_layer_ids", "index_source_layer_ids",
                    facts.indexer_layers, config, notes);
  if (!config.has("engram_layer_ids")) return {};
  HADAL_TRY(const std::vector<int64_t> layers, config.integers("engram_layer_ids"));
  if (layers.empty()) return {};
  HADAL_TRY(set_implied_sizes(facts, config));
  HADAL_TRY(set_pad_token(keys, config));
  HADAL_TRY(PublishedValues published, PublishedValues::of(keys, config, notes));
  struct Row {
    std::string_view key, official;
    std::optional<double> PublishedModel::* which;
  };
  for (const Row& row : std::to_array<Row>(
           {{"engram.vocab_size", "engram_vocab_size", &PublishedModel::engram_vocab_size},
            {"engram.pad_token_id", "engram_pad_id", &PublishedModel::engram_pad_token_id},
            {"engram.compressed_vocab_size", "engram_compressed_vocab_size",
             &PublishedModel::engram_compressed_vocab_size}})) {
    if (config.has(row.official)) continue;
    HADAL_TRY(const double value, published.take(row.key, row.which));
    config.set(row.official, fmt::format("{}", static_cast<int64_t>(value)));
  }
  return {};
}

}  // namespace hadal
