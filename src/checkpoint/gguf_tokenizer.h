// tokenizer.ggml.* and the sampling recommendation of a GGUF file as TokenizerData.
//
// Owns the bounds of a vocabulary and the checks that keep ids inside it: an ending or beginning id
// beyond the tokens, a byte token that is no <0xNN>, lists of different lengths are refused here,
// so that nobody behind needs to ask again. An id that nobody uses (padding, unknown, …) and that
// is beyond the tokens is left out, with a note.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"

namespace hadal {

/// Empty data (gguf_model "") for a file without tokenizer.ggml.model.
Result<TokenizerData> gguf_tokenizer(const GgufFile& file, const std::string& origin,
                                     std::vector<std::string>& notes);

/// The keys of general.sampling.* and what generation_config.json calls them.
struct SamplingKey {
  std::string_view gguf, official;
};
std::span<const SamplingKey> gguf_sampling_keys();

}  // namespace hadal
