// The inside of Tokenizer: what the builders (load_json.cc, load_gguf.cc) fill and tokenizer.cc
// runs.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/pretokenizer.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal {

struct Tokenizer::Impl {
  BpeModel model;
  AddedTokens added;
  int32_t new_ids = 0;  ///< ids that went to added tokens unknown to the vocabulary
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  bool byte_level = true;  ///< tokens are spelled in the byte alphabet
  std::vector<std::pair<std::string, std::string>>
      decode_replacements;  ///< of a tokenizer that is not
  std::optional<TokenId> bos, eos;
  std::vector<TokenId> ending;
  bool add_bos = false;
  size_t longest = 0;    ///< bytes of text that one token stands for, at most; 0: without a bound
  std::string pre_name;  ///< for description()
  std::vector<std::string> notes;
};

/// Fill `impl`, whose `added` is left without its tries. Errors: what is unknown, broken or too
/// large, without the origin.
Status load_tokenizer_json(const TokenizerData& data, Tokenizer::Impl& impl);
Status load_gguf_vocabulary(const TokenizerData& data, Tokenizer::Impl& impl);

/// Adds a token as the library does: one that the vocabulary knows keeps its id, another gets the
/// next behind as many ids as the vocabulary has tokens, even where ids are missing among those and
/// the vocabulary gave this one away. Errors: longer than kMaxAddedToken.
Status add_token(Tokenizer::Impl& impl, AddedToken token);

/// Ids that end a generation: EOS, those of config.json and generation_config.json, and known
/// ending tokens. Ids outside the vocabulary become notes.
void find_ending(const TokenizerData& data, Tokenizer::Impl& impl);

}  // namespace hadal
