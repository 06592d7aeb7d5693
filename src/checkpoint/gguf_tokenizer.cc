#include "checkpoint/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "checkpoint/config.h"
#include "checkpoint/printable.h"

namespace hadal {
namespace {

// The largest vocabularies have 262,144 tokens of up to some hundred bytes and 500,000 merges.
constexpr int64_t kMaxTokens = int64_t{1} << 20;
constexpr int64_t kMaxMerges = int64_t{1} << 20;
constexpr size_t kMaxTokenBytes = size_t{64} << 10;
constexpr size_t kMaxListBytes = size_t{32} << 20;

class Reader {
 public:
  Reader(const GgufFile& file, const std::string& origin) : file_(file), origin_(origin) {}

  [[nodiscard]] const GgufValue* find(std::string_view key) const { return file_.find(key); }
  [[nodiscard]] Error wrong(std::string_view key, std::string_view expected,
                            std::string_view found) const {
    return failed(
        fmt::format("{}: key {}: expected {}, found {}", origin_, quote(key), expected, found));
  }

  Result<std::string> text(std::string_view key) const {
    const GgufValue* value = find(key);
    if (!value) return std::string();
    const auto text = value->text();
    if (!text) return wrong(key, "a string", value->description());
    return std::string(*text);
  }

  Result<std::optional<bool>> boolean(std::string_view key) const {
    const GgufValue* value = find(key);
    if (!value) return std::optional<bool>();
    const auto truth = value->boolean();
    if (!truth) return wrong(key, "a bool", value->description());
    return truth;
  }

  /// An id below `limit`. Some writers store "none" as 2^32-1 or -1: that counts as absent.
  Result<std::optional<int64_t>> id(std::string_view key, int64_t limit) const {
    const GgufValue* value = find(key);
    if (!value) return std::optional<int64_t>();
    const auto number = value->integer();
    if (number == -1 || (number == int64_t{UINT32_MAX} && value->type == GgufType::kU32))
      return std::optional<int64_t>();
    if (!number || *number < 0 || *number >= limit)
      return wrong(key, fmt::format("a token id below the {} of the vocabulary", limit),
                   value->description());
    return number;
  }

  /// As id(), for a token that generation does not need: one out of range counts as absent, with a
  /// note.
  std::optional<int64_t> unused_id(std::string_view name, int64_t limit,
                                   std::vector<std::string>& notes) const {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
    const Result<std::optional<int64_t>> found = id(key, limit);
    if (found) return *found;
    notes.push_back(
        fmt::format("key {} is ignored: expected a token id below the {} of the "
                    "vocabulary, found {}",
                    quote(key), limit, find(key)->description()));
    return std::nullopt;
  }

  Result<std::vector<std::string>> strings(std::string_view key, int64_t most) const {
    std::vector<std::string> out;
    const GgufValue* value = find(key);
    if (!value) return out;
    if (!value->is_array || (value->type != GgufType::kString && value->count > 0))
      return wrong(key, "an array of strings", value->description());
    if (value->count > most)
      return wrong(key, fmt::format("at most {} strings", most), value->description());
    if (value->payload.size() - static_cast<size_t>(value->count) * 8 > kMaxListBytes)
      return wrong(key, fmt::format("at most {} MiB of strings", kMaxListBytes >> 20),
                   value->description());
    out.reserve(static_cast<size_t>(value->count));
    size_t too_long = 0;
    value->for_each_string([&](std::string_view s) {
      if (s.size() > kMaxTokenBytes) too_long = s.size();
      if (too_long == 0) out.emplace_back(s);
      return too_long == 0;
    });
    if (too_long != 0)
      return wrong(fmt::format("{}[{}]", key, out.size()),
                   fmt::format("at most {} bytes", kMaxTokenBytes),
                   fmt::format("{} bytes", too_long));
    return out;
  }

 private:
  const GgufFile& file_;
  const std::string& origin_;
};

/// "<0x" two hexadecimal digits ">", and nothing else.
bool is_byte_token(std::string_view token) {
  const auto hex = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f');
  };
  return token.size() == 6 && token.starts_with("<0x") && hex(token[3]) && hex(token[4]) &&
         token[5] == '>';
}

Status read_types(const Reader& in, TokenizerData& data) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  const GgufValue* value = in.find(kKey);
  if (!value) return {};
  if (!value->is_array || value->count != static_cast<int64_t>(data.tokens.size()))
    return in.wrong(kKey,
                    fmt::format("a list of {} whole numbers, one a token", data.tokens.size()),
                    value->description());
  const auto types = value->integers();
  if (!types) return in.wrong(kKey, "a list of whole numbers", value->description());
  data.token_types.reserve(types->size());
  for (size_t i = 0; i < types->size(); ++i) {
    const int64_t type = (*types)[i];
    if (type < 0 || type > 6)
      return in.wrong(fmt::format("{}[{}]", kKey, i), "a type from 0 to 6",
                      fmt::format("{}", type));
    if (type == 6 && !is_byte_token(data.tokens[i]))
      return in.wrong(fmt::format("tokenizer.ggml.tokens[{}]", i),
                      "a byte token from <0x00> to <0xFF>", quote(data.tokens[i], 40));
    data.token_types.push_back(static_cast<int32_t>(type));
  }
  return {};
}

constexpr auto kSampling =
    std::to_array<SamplingKey>({{"general.sampling.temp", "temperature"},
                                {"general.sampling.top_k", "top_k"},
                                {"general.sampling.top_p", "top_p"},
                                {"general.sampling.min_p", "min_p"},
                                {"general.sampling.penalty_repeat", "repetition_penalty"}});

/// general.sampling.* under the names of generation_config.json.
Result<std::string> read_sampling(const Reader& in) {
  Config config;
  bool any = false;
  for (const SamplingKey& row : kSampling) {
    const GgufValue* value = in.find(row.gguf);
    if (!value) continue;
    const auto number = value->real();
    if (!number) return in.wrong(row.gguf, "a finite number", value->description());
    config.set(row.official, fmt::format("{}", *number));
    any = true;
  }
  return any ? config.dump() : std::string();
}

}  // namespace

std::span<const SamplingKey> gguf_sampling_keys() { return kSampling; }

Result<TokenizerData> gguf_tokenizer(const GgufFile& file, const std::string& origin,
                                     std::vector<std::string>& notes) {
  const Reader in(file, origin);
  TokenizerData data;
  HADAL_TRY(data.generation_config_json, read_sampling(in));
  HADAL_TRY(data.chat_template, in.text("tokenizer.chat_template"));
  HADAL_TRY(data.gguf_model, in.text("tokenizer.ggml.model"));
  if (data.gguf_model.empty()) return data;
  HADAL_TRY(data.gguf_pre, in.text("tokenizer.ggml.pre"));
  HADAL_TRY(data.tokens, in.strings("tokenizer.ggml.tokens", kMaxTokens));
  if (data.tokens.empty())
    return in.wrong("tokenizer.ggml.tokens", "at least one token",
                    in.find("tokenizer.ggml.tokens") ? "an empty list" : "no such key");
  HADAL_TRY(data.merges, in.strings("tokenizer.ggml.merges", kMaxMerges));
  HADAL_TRY(read_types(in, data));

  const auto limit = static_cast<int64_t>(data.tokens.size());
  HADAL_TRY(data.bos_token_id, in.id("tokenizer.ggml.bos_token_id", limit));
  HADAL_TRY(data.eos_token_id, in.id("tokenizer.ggml.eos_token_id", limit));
  for (const std::string_view key :
       {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    HADAL_TRY(const std::optional<int64_t> extra, in.id(key, limit));
    if (extra && extra != data.eos_token_id &&
        std::find(data.extra_eos_token_ids.begin(), data.extra_eos_token_ids.end(), *extra) ==
            data.extra_eos_token_ids.end())
      data.extra_eos_token_ids.push_back(*extra);
  }
  data.padding_token_id = in.unused_id("padding", limit, notes);
  for (const std::string_view name :
       {"unknown", "seperator", "mask", "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep",
        "fim_sep", "prefix", "suffix", "middle"})
    in.unused_id(name, limit, notes);
  HADAL_TRY(data.add_bos_token, in.boolean("tokenizer.ggml.add_bos_token"));
  HADAL_TRY(data.add_eos_token, in.boolean("tokenizer.ggml.add_eos_token"));
  return data;
}

}  // namespace hadal
