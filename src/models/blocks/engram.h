// Engram, the conditional memory of DeepSeek-V4.1: what the last few tokens, hashed, look up in a
// table enters every residual stream by how well it matches.
//
//   rows = T[hash of the last 2 … N tokens, each by several heads]       read from the file
//   [key_1 … key_n; value] = W_kv rows,   X_i += gate(X_i, key_i) value
#pragma once

#include <string>
#include <vector>

#include "models/blocks/engram_hash.h"
#include "models/model.h"

namespace hadal {

struct EngramSpec {
  std::vector<int64_t> layers;          ///< engram_layer_ids, ascending; empty: none
  std::vector<int64_t> num_embeddings;  ///< rows of each layer's table
  int64_t vocab_size = 0;               ///< primes are sought from here on
  int64_t max_ngram_size = 0, n_heads = 0, head_dim = 0;
  int64_t pad_id = 0;  ///< a token
  int64_t compressed_vocab_size = 0;
  /// Tables that some files state although the rest implies them; each may be empty. Layer by
  /// layer.
  std::vector<int64_t> multipliers, primes, offsets, token_map;

  /// Refuses stated tables that are not those of the hash: the rows looked up would be other ones.
  [[nodiscard]] Status check_stated(const EngramHash& hash, std::span<const int32_t> ids) const;
  /// The keys engram_…; writes the fields for people to `model`.
  static Result<EngramSpec> from_config(const Config& config, ModelSpec& model);
  /// Numbers that one layer looks up for a token.
  [[nodiscard]] int64_t looked_up() const { return (max_ngram_size - 1) * n_heads * head_dim; }
};

struct EngramWeights {
  FileTable embed;             // [num_embeddings, head_dim], in the file
  Weight* wkv = nullptr;       // [(n + 1) hidden, looked_up]
  Weight* q_weight = nullptr;  // [n hidden]
  Weight* k_weight = nullptr;  // [n hidden]
};

/// `prefix` ends in a dot: "layers.1.engram.".
EngramWeights bind_engram(WeightBinder& binder, const std::string& prefix, const EngramSpec& spec,
                          size_t table, int64_t streams, int64_t hidden);

/// The numbers that a step's rows look up: extra [T, layers looked_up].
void look_up(const EngramSpec& spec, const EngramHash& hash,
             std::span<const EngramWeights* const> tables, std::span<const SequenceRows> step,
             float* extra);

/// X_i += gate_i value.   looked_up [T, looked_up], x [T, n hidden]
void engram(Ops& ops, const EngramWeights& w, int64_t streams, double eps, Tensor looked_up,
            Tensor x);

}  // namespace hadal
