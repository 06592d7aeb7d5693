// A folder's tokenizer under the keys of a GGUF.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "checkpoint/gguf_tokenizer.h"
#include "quantize/metadata.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal::quantize {
namespace {

using Json = nlohmann::json;

enum TokenType : int32_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };

/// Text that the known pre-tokenizers split differently: runs of digits, contractions in both
/// cases, blanks and line ends, scripts, marks that compose, symbols.
constexpr std::string_view kProbe =
    "Hello, WORLD!  It's 3.14159 or 1234567\n\n\n  we'LL  see\tI'VE_been  here…\r\n \n"
    "int main(){return a[i]+=0x1F;} // ok?!\n  x = 'y';   \n"
    "中文字符123四五六 ひらがなカタカナ漢字 한국어 텍스트 ไทย ภาษา  Привет мир ΑΒΓ e\u0301 n\u0303 "
    "ＡＢＣ１２３ ½ Ⅷ ٣٤٥ 🙂👍🏽 «»— “quoted” \u00a0\u3000end   ";

/// "a b" for every merge, as the file has them.
Result<std::vector<std::string>> merges_of(const std::string& tokenizer_json,
                                           const std::string& origin) {
  std::vector<std::string> merges;
  // Tokenizer::create has parsed it before: it is valid, and so are its parts.
  const Json json = Json::parse(tokenizer_json);
  for (const Json& merge : json["model"]["merges"]) {
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      if (!text.starts_with("#version")) merges.push_back(text);
      continue;
    }
    const auto left = merge[0].get<std::string>(), right = merge[1].get<std::string>();
    if (left.find(' ') != std::string::npos || right.find(' ') != std::string::npos)
      return failed(fmt::format("{}: a merge of a token with a blank cannot be written", origin));
    merges.push_back(left + " " + right);
  }
  return merges;
}

/// The vocabulary by id, `rows` entries: ids without a token, and rows beyond the last, are unused.
TokenizerData vocabulary_of(const Tokenizer& tokenizer, const Json& added, int64_t rows) {
  TokenizerData data;
  data.gguf_model = "gpt2";
  for (int64_t id = 0; id < rows; ++id) {
    const auto token = static_cast<TokenId>(id);
    data.tokens.push_back(tokenizer.token(token));
    int32_t type = kNormal;
    if (data.tokens.back().empty()) {
      data.tokens.back() = fmt::format("[PAD{}]", id);
      type = kUnused;
    }
    data.token_types.push_back(type);
  }
  for (const Json& entry : added) {
    const auto id = tokenizer.id_of(entry["content"].get<std::string>());
    if (id && *id < rows)
      data.token_types[static_cast<size_t>(*id)] =
          tokenizer.is_special(*id) ? kControl : kUserDefined;
  }
  return data;
}

/// Both make the same ids of the probe and of every token's own text.
bool same_ids(const Tokenizer& a, const Tokenizer& b) {
  if (a.encode(kProbe) != b.encode(kProbe)) return false;
  for (int64_t id = 0; id < a.vocab_size(); ++id) {
    const std::string text = a.token_bytes(static_cast<TokenId>(id));
    if (a.encode(text) != b.encode(text)) return false;
  }
  return true;
}

/// The pre-tokenizer name under which the vocabulary does what `tokenizer` does.
Result<std::string> pre_name_of(const Tokenizer& tokenizer, TokenizerData data,
                                const std::string& origin) {
  std::string tried;
  for (const std::string& name : pre_tokenizer_names()) {
    data.gguf_pre = name;
    const auto candidate = Tokenizer::create(data, origin);
    if (candidate && same_ids(tokenizer, **candidate)) return data.gguf_pre;
    tried += (tried.empty() ? "" : ", ") + data.gguf_pre;
  }
  return failed(fmt::format(
      "{}: its tokenizer cannot be written: none of the pre-tokenizers that a GGUF can name splits "
      "text as it does (tried {})",
      origin, tried));
}

/// The token that tokenizer_config.json pads with: "<pad>" or {"content": "<pad>", …}.
std::optional<TokenId> padding_of(const TokenizerData& data, const Tokenizer& tokenizer) {
  const Json config = Json::parse(data.tokenizer_config_json, nullptr, false);
  if (!config.is_object() || !config.contains("pad_token")) return std::nullopt;
  const Json& named = config["pad_token"];
  const Json text = named.is_object() ? named.value("content", Json()) : named;
  return text.is_string() ? tokenizer.id_of(text.get_ref<const std::string&>()) : std::nullopt;
}

Status add_sampling(const TokenizerData& data, const std::string& origin, GgufWriter& out) {
  if (data.generation_config_json.empty()) return {};
  HADAL_TRY(const Config config, Config::parse(data.generation_config_json, origin));
  for (const SamplingKey& key : gguf_sampling_keys()) {
    if (!config.has(key.official)) continue;
    HADAL_TRY(const double value, config.real(key.official));
    if (key.official == "top_k" && value >= 0)
      out.add_u32(key.gguf, static_cast<int64_t>(value));
    else if (key.official != "top_k")
      out.add_f32(key.gguf, value);
  }
  return {};
}

}  // namespace

Status add_vocabulary(const Checkpoint& checkpoint, int64_t rows, GgufWriter& out) {
  const TokenizerData& source = checkpoint.tokenizer();
  const std::string origin = checkpoint.path().string();
  HADAL_TRY(add_sampling(source, origin, out));
  if (source.tokenizer_json.empty()) return {};
  HADAL_TRY(const std::unique_ptr<Tokenizer> tokenizer, Tokenizer::create(source, origin));
  if (tokenizer->vocab_size() > rows)
    return failed(fmt::format("{}: the tokenizer has {} tokens, the embedding {} rows", origin,
                              tokenizer->vocab_size(), rows));
  const Json json = Json::parse(source.tokenizer_json);
  TokenizerData data = vocabulary_of(*tokenizer, json.value("added_tokens", Json::array()), rows);
  HADAL_TRY(data.merges, merges_of(source.tokenizer_json, origin));
  HADAL_TRY(data.gguf_pre, pre_name_of(*tokenizer, data, origin));

  out.add_text("tokenizer.ggml.model", data.gguf_model);
  out.add_text("tokenizer.ggml.pre", data.gguf_pre);
  out.add_texts("tokenizer.ggml.tokens", data.tokens);
  const std::vector<int64_t> types(data.token_types.begin(), data.token_types.end());
  out.add_i32s("tokenizer.ggml.token_type", types);
  out.add_texts("tokenizer.ggml.merges", data.merges);
  if (tokenizer->bos()) out.add_u32("tokenizer.ggml.bos_token_id", *tokenizer->bos());
  if (tokenizer->eos()) out.add_u32("tokenizer.ggml.eos_token_id", *tokenizer->eos());
  for (const TokenId id : tokenizer->ending())
    if (id != tokenizer->eos()) {
      out.add_u32("tokenizer.ggml.eot_token_id", id);
      break;
    }
  if (const auto pad = padding_of(source, *tokenizer))
    out.add_u32("tokenizer.ggml.padding_token_id", *pad);
  out.add_bool("tokenizer.ggml.add_bos_token", tokenizer->add_bos());
  if (!source.chat_template.empty()) out.add_text("tokenizer.chat_template", source.chat_template);
  return {};
}

}  // namespace hadal::quantize
