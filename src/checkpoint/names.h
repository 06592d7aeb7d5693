// From GGUF's names to the official ones: tensors, and metadata to config.json's keys.
//
// The only place that knows what GGUF calls things. One table of tensor names (names.cc) and one of
// metadata keys (gguf_config.cc) for each group of architectures; a new architecture is rows, not
// code. Also brings config.json of a folder into one form, whichever version of transformers wrote
// it, and checks the core numbers of either. Called by the two readers.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/config.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_keys.h"

namespace hadal {

/// "blk.0.attn_q.weight" → "model.layers.0.self_attn.q_proj.weight"; a name that the tables do not
/// know stays what it is.
std::string official_name(std::string_view architecture, std::string_view gguf_name);

/// A folder's tensor under the name that the published checkpoints of its model_type have: a V4
/// that transformers saved begins with "model." and calls a few tensors differently.
std::string published_name(std::string_view model_type, std::string_view name);

/// The official name of the matrix that an adapter's module adapts, in a model of this type.
/// "model.layers.0.self_attn.q_proj", or without "model." as transformers' headless models call it,
/// → "model.layers.0.self_attn.q_proj.weight". V4's modules are called otherwise in transformers
/// than in the published files: either name is understood.
std::string adapted_name(std::string_view model_type, std::string_view module);

/// What the tensors say about the model, for keys that a file may leave out.
struct GgufTensorFacts {
  bool has_output = false;     ///< output.weight is there: the head is not tied to the embedding
  int64_t embedding_rows = 0;  ///< of token_embd.weight, 0 without one
  int64_t mtp_layers = 0;      ///< layers of multi-token prediction whose weights are there
  bool has_dspark = false;     ///< DSpark's stages lie behind the model's layers
  // DeepSeek-V4.1
  std::vector<int64_t> compressor_layers, indexer_layers;  ///< those that have such weights
  std::map<int64_t, int64_t> engram_rows;                  ///< of each layer's table
  int64_t engram_columns = 0;                              ///< numbers that a layer looks up
};

/// The metadata as a config.json. An architecture that the tables do not know gets the keys all
/// have in common. What a file does not say, and what is taken instead, is added to `notes`.
Result<Config> gguf_config(const GgufFile& file, const GgufTensorFacts& facts,
                           const std::string& origin, std::vector<std::string>& notes);

/// A folder's config.json with the language model's keys, rope_theta, rope_scaling (and in it
/// rope_type) and torch_dtype where the models look for them, though transformers 4 and 5 write
/// them in different places. Refuses a quantisation that is not known.
Status normalise_config(Config& config);

/// The way back of official_name; "" for a name that the tables do not know.
std::string gguf_name(const Architecture& architecture, std::string_view official);

/// Scaling is often added to a model whose max_position_embeddings stays the original context: then
/// the context becomes `factor` times as long. Either way rope_scaling names the original.
Status extend_context(Config& config);

/// Refuses impossible values of the keys that are there (layers, heads, widths, vocabulary,
/// epsilon, theta).
Status check_config(const Config& config);

}  // namespace hadal
