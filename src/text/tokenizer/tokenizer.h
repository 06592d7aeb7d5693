// Tokenizer: byte-level BPE from tokenizer.json or from a GGUF's vocabulary.
//
// Equals the `tokenizers` library: added tokens are matched in the raw text first (leftmost,
// longest), then normaliser (NFC), pre-tokenizer patterns (PCRE2), merges by rank. Encoding is
// linear in the text (apart from a logarithm). Refuses, by name, what it does not know (another
// model than BPE, an unknown normaliser or pre-tokenizer, an unknown tokenizer.ggml.pre). Immutable
// after building: may be shared between threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/token_id.h"
#include "checkpoint/checkpoint.h"

namespace hadal {

class Tokenizer {
 public:
  struct Impl;
  struct EncodeOptions {
    bool added_tokens = true;  ///< recognise added tokens in the text; false: they stay text
    bool bos = false;          ///< put the BOS token in front, unless the text begins with it
    size_t most = SIZE_MAX;    ///< ends somewhere behind so many ids: the text has more
  };

  /// From a checkpoint's tokenizer data; `origin` names it in messages.
  static Result<std::unique_ptr<Tokenizer>> create(const TokenizerData& data, std::string origin);
  ~Tokenizer();

  /// UTF-8 in (invalid bytes are replaced by U+FFFD as the library's Python binding would have it),
  /// ids out. Throws std::runtime_error where a hostile tokenizer makes more work of the text than
  /// it is worth.
  [[nodiscard]] std::vector<TokenId> encode(std::string_view text, EncodeOptions options) const;
  [[nodiscard]] std::vector<TokenId> encode(std::string_view text) const {
    return encode(text, EncodeOptions{});
  }

  /// The bytes of the tokens; may end inside a character. Unknown ids give nothing. With
  /// `skip_special`, special tokens are left out.
  [[nodiscard]] std::string decode(std::span<const TokenId> ids, bool skip_special = false) const;
  /// The bytes of one token.
  [[nodiscard]] std::string token_bytes(TokenId id) const;

  /// The token as the vocabulary spells it, the library's id_to_token; "" for an id without one.
  [[nodiscard]] std::string token(TokenId id) const;
  /// What the decoder makes of one token so spelled. The library decodes added tokens like this
  /// too, and so loses those of which it makes invalid UTF-8; decode() keeps them as they are.
  [[nodiscard]] std::string decoded(std::string_view token) const;

  [[nodiscard]] std::optional<TokenId> id_of(
      std::string_view token) const;  ///< by its string, added tokens too
  [[nodiscard]] bool is_special(TokenId id) const;
  [[nodiscard]] bool is_ending(TokenId id) const;
  [[nodiscard]] int64_t vocab_size() const;  ///< largest id + 1
  /// A text of so many bytes has at least so many tokens, whatever it says.
  [[nodiscard]] int64_t least_tokens(size_t bytes) const;
  /// Tokens, added ones too: Python's len(tokenizer). Less than vocab_size() where ids
  /// are missing.
  [[nodiscard]] int64_t token_count() const;
  [[nodiscard]] std::optional<TokenId> bos() const;
  [[nodiscard]] std::optional<TokenId> eos() const;
  /// All ids that end a generation: EOS of the tokenizer, config.json and generation_config.json,
  /// and the ending tokens of the families we know (<|im_end|>, <|eot_id|>, <|EOT|>, …), whatever
  /// type the file gives them.
  [[nodiscard]] const std::vector<TokenId>& ending() const;
  /// What raw generation (`generate --text`) adds in front: what the tokenizer's configuration
  /// says.
  [[nodiscard]] bool add_bos() const;
  /// "byte-level BPE, 49152 tokens, pre-tokenizer smollm"
  [[nodiscard]] std::string description() const;
  /// What was wrong with the data and could be ignored, a sentence each.
  [[nodiscard]] const std::vector<std::string>& notes() const;

 private:
  Tokenizer();
  std::unique_ptr<Impl> impl_;
};

/// The names of tokenizer.ggml.pre that are known.
std::vector<std::string> pre_tokenizer_names();

/// Turns a stream of ids into text that never ends in half a character. Invalid sequences become
/// U+FFFD once they are certain. With `skip_special`, special and ending tokens are left out.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}
  /// The text that became certain through this id; often "".
  std::string push(TokenId id);
  /// What was held back; the stream is over.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::string held_;
};

}  // namespace hadal
