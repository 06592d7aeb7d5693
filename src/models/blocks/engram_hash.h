// EngramHash: which rows of the Engram tables (DeepSeek-V4.1; arXiv 2601.07372, §2.2) the tokens up
// to a position mean.
//
//   h = c_0 m_0 ^ c_1 m_1 ^ … ^ c_i m_i,   row = h mod prime + offset       i = 1 … N - 1
//
// c_i is the compressed id (text/tokenizer/compressed_ids.h) i tokens back, m_i an odd number drawn
// for the layer as numpy.random.default_rng draws it (NEP 19: PCG64, seeded by SeedSequence). Every
// n-gram size has n_heads tables, each as long as a prime that no other table of the model has; a
// layer's tables lie one behind the other, sizes outermost. Knows neither text nor tables.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"

namespace hadal {

class EngramHash {
 public:
  struct Config {
    std::vector<int64_t> layer_ids;  ///< from 0, none twice
    int64_t vocab_size = 0;          ///< the first prime is sought from here on
    int64_t max_ngram_size = 0;      ///< N
    int64_t n_heads = 0;
    int64_t pad_id = 0;  ///< a compressed id: stands for what lies before the text
    int64_t compressed_vocab_size = 0;
    /// The compressed id of each token; a token outside of it, or one that has -1, is dead.
    std::vector<int32_t> token_map;
  };

  /// Errors: a number out of its range (see engram_hash.cc), more than 2^20 tables in all.
  static Result<EngramHash> make(Config config);

  /// The row numbers of the token at `position` in a layer's tables, written to `out`
  /// [max_ngram_size - 1, n_heads]. From the first dead token or the text's beginning on, looking
  /// back, every id is pad_id. `layer` counts in layer_ids.
  void rows(std::span<const int32_t> tokens, int64_t position, size_t layer,
            std::span<int64_t> out) const;

  [[nodiscard]] size_t rows_per_token() const;
  /// Of all tables of a layer: how many rows it has.
  [[nodiscard]] int64_t total_rows(size_t layer) const { return layers_.at(layer).total_rows; }
  /// m [max_ngram_size]
  [[nodiscard]] std::span<const int64_t> multipliers(size_t layer) const {
    return layers_.at(layer).multipliers;
  }
  /// Rows of each table [max_ngram_size - 1, n_heads]
  [[nodiscard]] std::span<const int64_t> primes(size_t layer) const {
    return layers_.at(layer).primes;
  }
  /// First row of each table [max_ngram_size - 1, n_heads]
  [[nodiscard]] std::span<const int64_t> offsets(size_t layer) const {
    return layers_.at(layer).offsets;
  }

 private:
  struct Layer {
    std::vector<int64_t> multipliers, primes, offsets;
    int64_t total_rows = 0;
  };
  explicit EngramHash(Config config) : config_(std::move(config)) {}
  [[nodiscard]] int64_t compressed(std::span<const int32_t> tokens, int64_t position) const;

  Config config_;
  std::vector<Layer> layers_;
};

}  // namespace hadal
