// Compressed ids: DeepSeek-V4.1 hashes not a token but what is left of its text when case, accents
// and kinds of blanks no longer count.
//
// Equals what the official code makes of a tokenizer with the `tokenizers` library (Engram,
// arXiv 2601.07372, §2.2 "tokenizer compression"): NFKC, NFD, StripAccents, Lowercase, Replace,
// Strip, each with that library's Unicode. Called when a model with an Engram table is loaded.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace hadal {

struct CompressedIds {
  std::vector<int32_t> by_id;  ///< token_count() of them, numbered in order of first sight
  int32_t count = 0;           ///< different ones
};

CompressedIds compressed_ids(const Tokenizer& tokenizer);

/// What is compared of valid UTF-8; may be "".
std::string compression_key(std::string_view text);

}  // namespace hadal
