// From tokenizer.json and tokenizer_config.json to the parts of a Tokenizer.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>

#include "checkpoint/json_scan.h"
#include "checkpoint/printable.h"
#include "text/tokenizer/tokenizer_impl.h"

namespace hadal {
namespace {

using Json = nlohmann::json;

/// The largest file known has some 700,000 strings, keys and merges together.
constexpr JsonLimits kLimits = {
    .depth = 64, .string_bytes = int64_t{1} << 20, .keys = int64_t{1} << 22};

/// `object`'s member, null if it is not there. `object` may be no object.
const Json& member(const Json& object, std::string_view key) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

/// Steps of a normaliser or a pre-tokenizer; the longest known has six. Each pattern costs a
/// millisecond and some 50 KiB.
constexpr size_t kMaxSteps = 64;

constexpr std::string_view kConfigFile = "tokenizer_config.json";

/// `where`: a place in tokenizer.json, or in the file that it begins with.
Error wrong(std::string_view where, std::string_view expected) {
  const std::string_view file = where.starts_with(kConfigFile) ? "" : "tokenizer.json: ";
  return failed(fmt::format("{}{}: expected {}", file, where, expected));
}

Result<std::string> text_of(const Json& object, std::string_view key, std::string_view where) {
  const Json& value = member(object, key);
  if (!value.is_string()) return wrong(fmt::format("{}.{}", where, key), "a string");
  return value.get<std::string>();
}

/// A string or nothing.
Result<std::string> optional_text(const Json& object, std::string_view key,
                                  std::string_view where) {
  if (member(object, key).is_null()) return std::string();
  return text_of(object, key, where);
}

Result<bool> flag(const Json& object, std::string_view key, std::string_view where,
                  bool otherwise = false) {
  const Json& value = member(object, key);
  if (value.is_null()) return otherwise;
  if (!value.is_boolean()) return wrong(fmt::format("{}.{}", where, key), "true or false");
  return value.get<bool>();
}

Result<std::string> type_of(const Json& part, std::string_view where) {
  if (!part.is_object()) return wrong(where, "an object");
  return text_of(part, "type", where);
}

/// The members of a Sequence.
Result<const Json*> list_of(const Json& part, std::string_view key, std::string_view where) {
  const Json& list = member(part, key);
  if (!list.is_array()) return wrong(fmt::format("{}.{}", where, key), "a list");
  return &list;
}

/// {"String": …} or {"Regex": …}
Result<Pattern> pattern_of(const Json& part, std::string_view where) {
  const Json& pattern = member(part, "pattern");
  if (const Json& text = member(pattern, "String"); text.is_string())
    return Pattern::literal(text.get_ref<const std::string&>());
  if (const Json& regex = member(pattern, "Regex"); regex.is_string())
    return Pattern::compile(regex.get_ref<const std::string&>());
  return wrong(fmt::format("{}.pattern", where), "{\"Regex\": …} or {\"String\": …}");
}

Status add_normalizer(const Json& part, Normalizer& out) {
  constexpr std::string_view where = "normalizer";
  if (part.is_null()) return {};
  HADAL_TRY(const std::string type, type_of(part, where));
  NormalizerStep step;
  if (out.steps.size() >= kMaxSteps)
    return failed(fmt::format("the normalizer has more than {} steps", kMaxSteps));
  if (type == "Sequence") {
    HADAL_TRY(const Json* list, list_of(part, "normalizers", where));
    for (const Json& inner : *list) HADAL_TRY(add_normalizer(inner, out));
    return {};
  }
  if (type == "NFC") {
    step.kind = NormalizerStep::kNfc;
  } else if (type == "NFD") {
    step.kind = NormalizerStep::kNfd;
  } else if (type == "NFKC") {
    step.kind = NormalizerStep::kNfkc;
  } else if (type == "NFKD") {
    step.kind = NormalizerStep::kNfkd;
  } else if (type == "Prepend") {
    step.kind = NormalizerStep::kPrepend;
    HADAL_TRY(step.text, text_of(part, "prepend", where));
  } else if (type == "Replace") {
    step.kind = NormalizerStep::kReplace;
    HADAL_TRY(step.text, text_of(part, "content", where));
    HADAL_TRY(Pattern pattern, pattern_of(part, where));
    step.pattern.push_back(std::move(pattern));
  } else if (type == "Strip") {
    step.kind = NormalizerStep::kStrip;
    HADAL_TRY(step.left, flag(part, "strip_left", where));
    HADAL_TRY(step.right, flag(part, "strip_right", where));
  } else {
    return failed(
        fmt::format("the normalizer {} is not supported; known are NFC, NFD, NFKC, NFKD, Prepend, "
                    "Replace, Strip and Sequence",
                    quote(type, 40)));
  }
  out.steps.push_back(std::move(step));
  return {};
}

Result<SplitBehavior> behavior_of(const Json& part, std::string_view where) {
  HADAL_TRY(const std::string name, text_of(part, "behavior", where));
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return wrong(fmt::format("{}.behavior", where),
               "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

Status add_pre_tokenizer(const Json& part, PreTokenizer& out) {
  constexpr std::string_view where = "pre_tokenizer";
  if (part.is_null()) return {};
  HADAL_TRY(const std::string type, type_of(part, where));
  PreTokenizerStep step;
  if (out.steps.size() >= kMaxSteps)
    return failed(fmt::format("the pre-tokenizer has more than {} steps", kMaxSteps));
  const auto with = [&](Result<Pattern> pattern, SplitBehavior behavior) -> Status {
    if (!pattern) return std::move(pattern).error();
    step.pattern.push_back(std::move(*pattern));
    step.behavior = behavior;
    return {};
  };
  if (type == "Sequence") {
    HADAL_TRY(const Json* list, list_of(part, "pretokenizers", where));
    for (const Json& inner : *list) HADAL_TRY(add_pre_tokenizer(inner, out));
    return {};
  }
  if (type == "Split") {
    HADAL_TRY(const SplitBehavior behavior, behavior_of(part, where));
    HADAL_TRY(with(pattern_of(part, where), behavior));
    HADAL_TRY(step.invert, flag(part, "invert", where));
  } else if (type == "ByteLevel") {
    step.byte_level = true;
    HADAL_TRY(step.prefix_space, flag(part, "add_prefix_space", where, true));
    HADAL_TRY(const bool use_regex, flag(part, "use_regex", where, true));
    if (use_regex) HADAL_TRY(with(Pattern::compile(kGpt2Pattern), SplitBehavior::kIsolated));
  } else if (type == "Digits") {
    HADAL_TRY(const bool individual, flag(part, "individual_digits", where));
    HADAL_TRY(with(Pattern::one_of(*table_set("rust numeric")),
                   individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous));
  } else if (type == "Punctuation") {
    SplitBehavior behavior = SplitBehavior::kIsolated;
    if (!member(part, "behavior").is_null()) {
      HADAL_TRY(behavior, behavior_of(part, where));
    }
    HADAL_TRY(with(Pattern::one_of(*table_set("rust punctuation")), behavior));
  } else if (type == "Whitespace") {
    HADAL_TRY(with(Pattern::words(*table_set("regex word"), *table_set("regex space")),
                   SplitBehavior::kRemoved));
    step.invert = true;
  } else if (type == "WhitespaceSplit") {
    HADAL_TRY(with(Pattern::one_of(*table_set("rust space")), SplitBehavior::kRemoved));
  } else if (type == "CharDelimiterSplit") {
    HADAL_TRY(const std::string delimiter, text_of(part, "delimiter", where));
    HADAL_TRY(with(Pattern::literal(delimiter), SplitBehavior::kRemoved));
  } else {
    return failed(
        fmt::format("the pre-tokenizer {} is not supported; known are Split, ByteLevel, Digits, "
                    "Punctuation, Whitespace, "
                    "WhitespaceSplit, CharDelimiterSplit and Sequence",
                    quote(type, 40)));
  }
  out.steps.push_back(std::move(step));
  return {};
}

Status add_decoder(const Json& part, Tokenizer::Impl& impl) {
  constexpr std::string_view where = "decoder";
  HADAL_TRY(const std::string type, type_of(part, where));
  if (type == "Sequence") {
    HADAL_TRY(const Json* list, list_of(part, "decoders", where));
    for (const Json& inner : *list) HADAL_TRY(add_decoder(inner, impl));
  } else if (type == "ByteLevel") {
    impl.byte_level = true;
  } else if (type == "Replace") {
    const Json& from = member(member(part, "pattern"), "String");
    HADAL_TRY(std::string to, text_of(part, "content", where));
    if (!from.is_string() || from.get_ref<const std::string&>().empty())
      return wrong("decoder.pattern", "{\"String\": …}");
    if (to.size() > from.get_ref<const std::string&>().size() ||
        impl.decode_replacements.size() >= kMaxSteps)
      return wrong(
          "decoder",
          fmt::format("at most {} replacements, none of which lengthens a token", kMaxSteps));
    impl.decode_replacements.emplace_back(from.get<std::string>(), std::move(to));
  } else if (type != "ByteFallback" && type != "Fuse") {
    return failed(
        fmt::format("the decoder {} is not supported; known are ByteLevel, Replace, ByteFallback, "
                    "Fuse and Sequence",
                    quote(type, 40)));
  }
  return {};
}

Status add_vocabulary(const Json& model, BpeModel& out) {
  const Json& vocab = member(model, "vocab");
  if (!vocab.is_object()) return wrong("model.vocab", "an object of tokens and their ids");
  size_t bytes = 0;
  for (const auto& [token, id] : vocab.items()) bytes += token.size();
  out.vocab.reserve(vocab.size(), bytes);
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_integer())
      return wrong(fmt::format("model.vocab: {}", quote(token, 40)), "an id");
    const bool too_large =
        id.is_number_unsigned() && id.get<uint64_t>() > static_cast<uint64_t>(kMaxTokenId);
    if (auto added = out.vocab.add(token, too_large ? kMaxTokenId + 1 : id.get<int64_t>()); !added)
      return failed("tokenizer.json: model.vocab: " + added.error().message);
  }
  return {};
}

Status add_merges(const Json& model, BpeModel& out) {
  const Json& merges = member(model, "merges");
  if (!merges.is_array()) return wrong("model.merges", "a list");
  out.reserve_merges(merges.size());
  size_t at = 0;
  for (const Json& merge : merges) {
    std::string_view left, right;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get_ref<const std::string&>();
      right = merge[1].get_ref<const std::string&>();
    } else if (merge.is_string()) {
      const std::string_view both = merge.get_ref<const std::string&>();
      if (both.starts_with("#version")) continue;
      const size_t space = both.find(' ');
      if (space == std::string_view::npos || both.find(' ', space + 1) != std::string_view::npos)
        return wrong(fmt::format("model.merges[{}]", at), "two tokens with one space between them");
      left = both.substr(0, space);
      right = both.substr(space + 1);
    } else {
      return wrong(fmt::format("model.merges[{}]", at), "a string or a list of two strings");
    }
    if (auto added = out.add_merge(left, right); !added)
      return failed("tokenizer.json: model.merges: " + added.error().message);
    ++at;
  }
  return {};
}

Status add_model(const Json& model, BpeModel& out) {
  if (!model.is_object()) return wrong("model", "an object");
  HADAL_TRY(const std::string type, optional_text(model, "type", "model"));
  const bool bpe = type == "BPE" || (type.empty() && model.contains("merges"));
  if (!bpe)
    return failed(
        fmt::format("the model {} is not supported; the one known is BPE", quote(type, 40)));
  const Json& dropout = member(model, "dropout");
  if (dropout.is_number() ? dropout.get<double>() != 0 : !dropout.is_null())
    return failed("model.dropout is not supported: the same text must always give the same tokens");
  HADAL_TRY(out.continuing_subword_prefix,
            optional_text(model, "continuing_subword_prefix", "model"));
  HADAL_TRY(out.end_of_word_suffix, optional_text(model, "end_of_word_suffix", "model"));
  HADAL_TRY(out.fuse_unk, flag(model, "fuse_unk", "model"));
  HADAL_TRY(out.byte_fallback, flag(model, "byte_fallback", "model"));
  HADAL_TRY(out.ignore_merges, flag(model, "ignore_merges", "model"));
  HADAL_TRY(add_vocabulary(model, out));
  HADAL_TRY(add_merges(model, out));
  HADAL_TRY(const std::string unk, optional_text(model, "unk_token", "model"));
  if (unk.empty()) return {};
  out.unk = out.vocab.find(unk);
  if (!out.unk)
    return failed(
        fmt::format("tokenizer.json: model.unk_token {} is not in the vocabulary", quote(unk, 40)));
  return {};
}

Result<AddedToken> added_token(const Json& entry, std::string_view where) {
  AddedToken token;
  HADAL_TRY(token.content, text_of(entry, "content", where));
  HADAL_TRY(token.single_word, flag(entry, "single_word", where));
  HADAL_TRY(token.lstrip, flag(entry, "lstrip", where));
  HADAL_TRY(token.rstrip, flag(entry, "rstrip", where));
  HADAL_TRY(token.special, flag(entry, "special", where));
  HADAL_TRY(token.normalized, flag(entry, "normalized", where, !token.special));
  return token;
}

/// Added tokens by the ids that a file gives them. The library numbers them anew (add_token); but
/// an id that is none, or that two of them have, means that the file is broken.
using TokensById = std::map<int64_t, AddedToken>;

Status give(TokensById& tokens, std::optional<int64_t> id, const AddedToken& token,
            std::string_view where) {
  const std::string place = fmt::format("{}: {}", where, quote(token.content, 40));
  if (!id || *id < 0 || *id > kMaxTokenId)
    return wrong(place, fmt::format("an id from 0 to {}", kMaxTokenId));
  const auto [known, fresh] = tokens.try_emplace(*id, token);
  if (!fresh && known->second.content != token.content)
    return wrong(place, fmt::format("an id of its own; {} is also that of {}", *id,
                                    quote(known->second.content, 40)));
  return {};
}

Status add_added_tokens(const Json& list, Tokenizer::Impl& impl) {
  constexpr std::string_view where = "added_tokens";
  if (list.is_null()) return {};
  if (!list.is_array()) return wrong(where, "a list");
  TokensById given;
  for (const Json& entry : list) {
    HADAL_TRY(AddedToken token, added_token(entry, where));
    if (const Json& id = member(entry, "id"); !id.is_null()) {
      const bool whole = id.is_number_integer() &&
                         !(id.is_number_unsigned() && id.get<uint64_t>() > uint64_t{INT64_MAX});
      HADAL_TRY(give(given, whole ? std::optional(id.get<int64_t>()) : std::nullopt, token, where));
    }
    HADAL_TRY(add_token(impl, std::move(token)));
  }
  return {};
}

/// tokenizer_config.json's added_tokens_decoder: {"ID": {"content": …, flags}, …}, added in the
/// order of the ids. A token that is there takes these flags.
Status add_config_tokens(const Json& tokens, Tokenizer::Impl& impl) {
  const std::string where = fmt::format("{}: added_tokens_decoder", kConfigFile);
  if (tokens.is_null()) return {};
  if (!tokens.is_object()) return wrong(where, "an object of ids and tokens");
  TokensById given;
  for (const auto& [key, entry] : tokens.items()) {
    HADAL_TRY(const AddedToken token, added_token(entry, where));
    int64_t id = 0;
    const char* const end = key.data() + key.size();
    const auto [rest, error] = std::from_chars(key.data(), end, id);
    const bool whole = error == std::errc() && rest == end;
    HADAL_TRY(give(given, whole ? std::optional(id) : std::nullopt, token, where));
  }
  for (auto& [id, token] : given) HADAL_TRY(add_token(impl, std::move(token)));
  return {};
}

/// The special token that a member of tokenizer_config.json names; "" where it names none.
Result<AddedToken> special_token(const Json& value) {
  AddedToken token;
  if (value.is_object()) {
    HADAL_TRY(token, added_token(value, fmt::format("{}: a special token", kConfigFile)));
  } else if (value.is_string()) {
    token.content = value.get<std::string>();
  }
  token.special = true;
  return token;
}

/// What transformers adds to the tokens of tokenizer.json, in its order: added_tokens_decoder, then
/// the special tokens that are named and none of those so far. Of one named twice the last flags
/// count.
Status add_tokens_of_config(const Json& config, Tokenizer::Impl& impl) {
  HADAL_TRY(add_config_tokens(member(config, "added_tokens_decoder"), impl));
  std::vector<AddedToken> more;
  const auto name = [&](const Json& value) -> Status {
    HADAL_TRY(AddedToken token, special_token(value));
    if (!impl.added.id_of(token.content)) more.push_back(std::move(token));
    return {};
  };
  for (const char* key :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
    HADAL_TRY(name(member(config, key)));
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"})
    if (const Json& extra = member(config, key); extra.is_structured())
      for (const Json& token : extra) HADAL_TRY(name(token));
  for (AddedToken& token : more) HADAL_TRY(add_token(impl, std::move(token)));
  return {};
}

/// The token a configuration names: "<s>" or {"content": "<s>", …}.
std::optional<TokenId> named_token(const Json& config, std::string_view key,
                                   const Tokenizer::Impl& impl) {
  const Json& value = member(config, key);
  const Json& text = value.is_object() ? member(value, "content") : value;
  if (!text.is_string()) return std::nullopt;
  const std::string& content = text.get_ref<const std::string&>();
  if (const auto id = impl.added.id_of(content)) return id;
  return impl.model.vocab.find(content);
}

/// Whether the post-processor puts a special token in front of a single text.
bool template_begins_with_token(const Json& processor) {
  const Json& type = member(processor, "type");
  if (type == "Sequence") {
    const Json& list = member(processor, "processors");
    return list.is_array() && std::any_of(list.begin(), list.end(), template_begins_with_token);
  }
  const Json& single = member(processor, "single");
  return type == "TemplateProcessing" && single.is_array() && !single.empty() &&
         member(single[0], "SpecialToken").is_object();
}

Result<Json> parsed(const std::string& text, const std::string& name) {
  HADAL_TRY(scan_json(text, name, kLimits));
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return failed(name + ": no JSON object");
  return json;
}

}  // namespace

Status load_tokenizer_json(const TokenizerData& data, Tokenizer::Impl& impl) {
  HADAL_TRY(const Json json, parsed(data.tokenizer_json, "tokenizer.json"));
  HADAL_TRY(add_model(member(json, "model"), impl.model));
  HADAL_TRY(add_normalizer(member(json, "normalizer"), impl.normalizer));
  HADAL_TRY(add_pre_tokenizer(member(json, "pre_tokenizer"), impl.pre_tokenizer));
  impl.byte_level = false;
  if (const Json& decoder = member(json, "decoder"); !decoder.is_null()) {
    HADAL_TRY(add_decoder(decoder, impl));
  } else {
    for (const PreTokenizerStep& step : impl.pre_tokenizer.steps)
      impl.byte_level = impl.byte_level || step.byte_level;
  }
  HADAL_TRY(add_added_tokens(member(json, "added_tokens"), impl));
  impl.pre_name = "of tokenizer.json";
  Json config = Json::object();
  if (!data.tokenizer_config_json.empty()) {
    HADAL_TRY(config, parsed(data.tokenizer_config_json, std::string(kConfigFile)));
  }
  HADAL_TRY(add_tokens_of_config(config, impl));
  impl.bos = named_token(config, "bos_token", impl);
  impl.eos = named_token(config, "eos_token", impl);
  const Json& add_bos = member(config, "add_bos_token");
  impl.add_bos = impl.bos && (add_bos.is_boolean()
                                  ? add_bos.get<bool>()
                                  : template_begins_with_token(member(json, "post_processor")));
  return {};
}

}  // namespace hadal
