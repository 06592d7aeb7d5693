// DeepSeek-V4.1 in GGUF: what its files say in more than one form.
//
// The hash of Engram is stored as tables (engram.multipliers, primes, offsets, token_map and
// pad_id, which is a compressed id), or, later, as the numbers they are made of (engram.vocab_size,
// compressed_vocab_size and pad_token_id, which is a token). One writer keeps the official names
// instead of GGUF's (deepseek41.num_hidden_layers, …) and the whole config.json
// (deepseek41.config). All become the keys of config.json; tables are passed on, and checked by the
// model.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/config.h"
#include "checkpoint/gguf_keys.h"
#include "checkpoint/names.h"

namespace hadal {

/// The file has the keys of config.json under their official names.
bool has_official_keys(const GgufKeys& keys);
/// Its config.json, or what its keys give of one.
Result<Config> official_keys_config(const GgufKeys& keys);

/// V4.1's own keys, and what the tensors say where a writer left one out.
Status set_v41_keys(const GgufKeys& keys, const GgufTensorFacts& facts, Config& config,
                    std::vector<std::string>& notes);

}  // namespace hadal
