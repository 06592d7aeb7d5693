// From a GGUF's tokenizer.ggml fields to the parts of a Tokenizer.
//
// A GGUF names its pre-tokenizer instead of holding it, so the patterns stand here, as the models'
// own tokenizer.json has them.
#include <fmt/format.h>

#include <array>

#include "checkpoint/printable.h"
#include "text/tokenizer/tokenizer_impl.h"

namespace hadal {
namespace {

#define HADAL_WORDS(digits)                                          \
  R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" digits \
  R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"
constexpr std::string_view kLlama3 = HADAL_WORDS(R"(\p{N}{1,3})");
constexpr std::string_view kQwen2 = HADAL_WORDS(R"(\p{N})");
#undef HADAL_WORDS

constexpr std::string_view kNewline = R"([\r\n])";
constexpr std::string_view kDigit = R"(\p{N})";
// Han, and by its middle range (U+0800 to U+4E00) most scripts of Asia; Hangul
constexpr std::string_view kAsian = R"([\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+)";

// The cased letters of Unicode 11, as the file lists them.
constexpr std::string_view kDeepSeekLetters =
    R"(\s?[A-Za-z)"
    R"(\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}\x{370}-\x{373}\x{376})"
    R"(\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F})"
    R"(\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B})"
    R"(\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D})"
    R"(\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4})"
    R"(\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107})"
    R"(\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139})"
    R"(\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2})"
    R"(\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF})"
    R"(\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3})"
    R"(\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943})"
    R"(]+)";
constexpr std::string_view kDeepSeekPunctuation =
    R"(\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+)";

constexpr std::string_view kDeepSeekV3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct PreTokenizerName {
  std::string_view name;
  std::array<std::string_view, 6> patterns;  ///< each isolates its matches, in this order
  bool nfc = false, ignore_merges = false, add_bos = false;
};

constexpr PreTokenizerName kNames[] = {
    {.name = "llama-bpe", .patterns = {kLlama3}, .ignore_merges = true, .add_bos = true},
    {.name = "qwen2", .patterns = {kQwen2}, .nfc = true},
    {.name = "deepseek-r1-qwen", .patterns = {kQwen2}, .nfc = true},
    {.name = "deepseek-llm",
     .patterns = {kNewline, kDeepSeekLetters, kDeepSeekPunctuation, R"(\s+$)", kAsian, kDigit}},
    {.name = "deepseek-coder",
     .patterns = {kNewline, R"(\s?\p{L}+)", R"(\s?\p{P}+)", kAsian, kDigit}},
    {.name = "deepseek-v3",
     .patterns = {R"(\p{N}{1,3})", R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)",
                  kDeepSeekV3}},
    {.name = "joyai-llm",  // what files of DeepSeek-V4 say
     .patterns = {R"(\p{N}{1,3})", R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)",
                  kDeepSeekV3}},
    {.name = "gpt-2", .patterns = {kGpt2Pattern}},
    {.name = "smollm", .patterns = {kDigit, kGpt2Pattern}},
};

Result<const PreTokenizerName*> find_name(std::string_view name) {
  for (const PreTokenizerName& row : kNames)
    if (row.name == name) return &row;
  return failed(fmt::format(
      "tokenizer.ggml.pre is {}; known are {}; the right one can be given by name",
      name.empty() ? "missing" : quote(name, 40), fmt::join(pre_tokenizer_names(), ", ")));
}

enum TokenType : int32_t { kNormal = 1, kControl = 3, kUserDefined = 4 };

/// Some files call their markers normal tokens, or give no types. No pre-tokenizer above leaves
/// such a word whole: a vocabulary can have it only as a token that is recognised in the text.
bool is_marker(std::string_view token) {
  const auto framed = [token](std::string_view begin, std::string_view end) {
    return token.size() > begin.size() + end.size() && token.starts_with(begin) &&
           token.ends_with(end) && token.find_first_of(" \n") == std::string_view::npos;
  };
  return framed("<|", "|>") || framed("<｜", "｜>") || token == "<think>" || token == "</think>" ||
         token == "｜DSML｜";
}

Status add_markers(const TokenizerData& data, Tokenizer::Impl& impl) {
  int64_t normal = 0;
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    const int32_t type = data.token_types.empty() ? kNormal : data.token_types[id];
    const bool marker = type == kNormal && is_marker(data.tokens[id]);
    normal += marker ? 1 : 0;
    if (marker || type == kControl || type == kUserDefined)
      HADAL_TRY(add_token(impl, {.content = data.tokens[id], .special = type == kControl}));
  }
  if (normal > 0)
    impl.notes.push_back(fmt::format(
        "{} markers that tokenizer.ggml.token_type calls normal tokens are taken as markers",
        normal));
  return {};
}

}  // namespace

std::vector<std::string> pre_tokenizer_names() {
  std::vector<std::string> names;
  for (const PreTokenizerName& row : kNames) names.emplace_back(row.name);
  return names;
}

Status load_gguf_vocabulary(const TokenizerData& data, Tokenizer::Impl& impl) {
  if (data.gguf_model != "gpt2")
    return failed(fmt::format(
        "tokenizer.ggml.model {} is not supported; the one known is gpt2 (byte-level BPE)",
        quote(data.gguf_model, 40)));
  HADAL_TRY(const PreTokenizerName* name, find_name(data.gguf_pre));
  if (data.tokens.empty()) return failed("tokenizer.ggml.tokens is missing or empty");
  if (data.merges.empty()) return failed("tokenizer.ggml.merges is missing or empty");
  if (!data.token_types.empty() && data.token_types.size() != data.tokens.size())
    return failed(fmt::format("tokenizer.ggml.token_type has {} entries for {} tokens",
                              data.token_types.size(), data.tokens.size()));

  size_t bytes = 0;
  for (const std::string& token : data.tokens) bytes += token.size();
  BpeModel& model = impl.model;
  model.vocab.reserve(data.tokens.size(), bytes);
  for (size_t id = 0; id < data.tokens.size(); ++id)
    HADAL_TRY(model.vocab.add(data.tokens[id], static_cast<int64_t>(id), true));
  model.reserve_merges(data.merges.size());
  for (size_t at = 0; at < data.merges.size(); ++at) {
    const std::string_view merge = data.merges[at];
    const size_t space = merge.find(' ');
    if (space == std::string_view::npos)
      return failed(fmt::format("tokenizer.ggml.merges[{}] is {}; expected two tokens", at,
                                quote(merge, 40)));
    if (auto added = model.add_merge(merge.substr(0, space), merge.substr(space + 1)); !added)
      return failed("tokenizer.ggml.merges: " + added.error().message);
  }
  model.ignore_merges = name->ignore_merges;
  HADAL_TRY(add_markers(data, impl));

  if (name->nfc) impl.normalizer.steps.push_back({.kind = NormalizerStep::kNfc});
  for (const std::string_view regex : name->patterns) {
    if (regex.empty()) break;
    HADAL_TRY(Pattern pattern, Pattern::compile(regex));
    impl.pre_tokenizer.steps.emplace_back().pattern.push_back(std::move(pattern));
  }
  impl.pre_tokenizer.steps.push_back({.byte_level = true});
  impl.pre_name = name->name;

  const auto id_in_range = [&](std::optional<int64_t> id,
                               std::string_view key) -> Result<std::optional<TokenId>> {
    if (!id) return std::optional<TokenId>();
    if (*id >= 0 && *id < static_cast<int64_t>(data.tokens.size()))
      return std::optional<TokenId>(static_cast<TokenId>(*id));
    return failed(fmt::format("tokenizer.ggml.{} is {}; the vocabulary has {} tokens", key, *id,
                              data.tokens.size()));
  };
  HADAL_TRY(impl.bos, id_in_range(data.bos_token_id, "bos_token_id"));
  HADAL_TRY(impl.eos, id_in_range(data.eos_token_id, "eos_token_id"));
  impl.add_bos = impl.bos && data.add_bos_token.value_or(name->add_bos);
  return {};
}

}  // namespace hadal
