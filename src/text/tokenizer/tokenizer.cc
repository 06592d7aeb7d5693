#include "text/tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <exception>
#include <new>
#include <nlohmann/json.hpp>

#include "checkpoint/json_scan.h"
#include "checkpoint/printable.h"
#include "text/tokenizer/tokenizer_impl.h"
#include "text/tokenizer/utf8.h"

namespace hadal {
namespace {

/// Tokens that end an answer in the families we know. The last three stand between the files of a
/// repository as Qwen's coders write it: what fills in the middle of a file ends before them.
constexpr std::array<std::string_view, 11> kEndingTokens = {"<|im_end|>",
                                                            "<|eot_id|>",
                                                            "<|eom_id|>",
                                                            "<|EOT|>",
                                                            "<|end_of_text|>",
                                                            "<|endoftext|>",
                                                            "<｜end▁of▁sentence｜>",
                                                            "<|end|>",
                                                            "<|fim_pad|>",
                                                            "<|file_sep|>",
                                                            "<|repo_name|>"};

/// generation_config.json's eos_token_id: a number or a list.
std::vector<int64_t> generation_eos(const std::string& text) {
  std::vector<int64_t> ids;
  if (text.empty() || !scan_json(text, "generation_config.json", {})) return ids;
  const auto config = nlohmann::json::parse(text, nullptr, false);
  if (!config.is_object() || !config.contains("eos_token_id")) return ids;
  const auto take = [&](const nlohmann::json& id) {
    if (id.is_number_integer()) ids.push_back(id.get<int64_t>());
  };
  const auto& eos = config["eos_token_id"];
  take(eos);
  if (eos.is_array()) std::for_each(eos.begin(), eos.end(), take);
  return ids;
}

Status load(const TokenizerData& data, Tokenizer::Impl& impl) {
  if (!data.tokenizer_json.empty()) return load_tokenizer_json(data, impl);
  if (!data.gguf_model.empty()) return load_gguf_vocabulary(data, impl);
  return failed(
      "has no tokenizer: expected a tokenizer.json or the tokenizer.ggml fields of a GGUF");
}

}  // namespace

Tokenizer::Tokenizer() : impl_(std::make_unique<Impl>()) {}
Tokenizer::~Tokenizer() = default;

namespace {

/// Where text can vanish (white space at a strip or beside an added token, a replaced pattern),
/// nothing bounds what a token stands for.
void find_longest(const Tokenizer& tokenizer, Tokenizer::Impl& impl) {
  for (const NormalizerStep& step : impl.normalizer.steps)
    if (step.kind == NormalizerStep::kReplace || step.kind == NormalizerStep::kStrip) return;
  for (const auto& [id, token] : impl.added.by_id())
    if (token.lstrip || token.rstrip) return;
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id)
    impl.longest = std::max(impl.longest, tokenizer.token_bytes(id).size());
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::create(const TokenizerData& data,
                                                     std::string origin) {
  const auto refused = [&](const std::string& why) {
    return failed(origin + ": tokenizer: " + why);
  };
  try {
    std::unique_ptr<Tokenizer> out(new Tokenizer());
    Impl& impl = *out->impl_;
    if (auto loaded = load(data, impl); !loaded) return refused(loaded.error().message);
    impl.model.hidden.resize(static_cast<size_t>(impl.model.vocab.size()));
    for (const auto& [id, token] : impl.added.by_id())
      if (token.special && id < impl.model.vocab.size())
        impl.model.hidden[static_cast<size_t>(id)] = true;
    impl.model.finish();
    {
      Pattern::Scratch scratch;
      impl.added.finish([&](const std::string& content) {
        return impl.normalizer.apply(content, scratch, kMaxAddedToken);
      });
    }
    find_ending(data, impl);
    find_longest(*out, impl);
    return out;
  } catch (const std::bad_alloc&) {
    return memory_error(origin + ": tokenizer: not enough memory");
  } catch (const std::exception& e) {
    return refused(e.what());
  }
}

Status add_token(Tokenizer::Impl& impl, AddedToken token) {
  if (token.content.empty()) return {};
  if (token.content.size() > kMaxAddedToken)
    return failed(fmt::format("the added token {} is longer than {} bytes",
                              quote(token.content, 40), kMaxAddedToken));
  std::optional<int32_t> id = impl.added.id_of(token.content);
  if (!id) id = impl.model.vocab.find(token.content);
  if (!id) id = static_cast<int32_t>(impl.model.vocab.count()) + impl.new_ids++;
  impl.added.add(std::move(token), *id);
  return {};
}

void find_ending(const TokenizerData& data, Tokenizer::Impl& impl) {
  std::vector<TokenId>& ids = impl.ending;
  const int64_t size =
      std::max<int64_t>(impl.model.vocab.size(), int64_t{impl.added.largest_id()} + 1);
  const auto put = [&](int64_t id, std::string_view where) {
    if (id < 0 || id >= size) {
      if (id == -1) return;  // some writers' word for none
      impl.notes.push_back(
          fmt::format("{} {} is ignored: the vocabulary has {} tokens", where, id, size));
    } else if (std::find(ids.begin(), ids.end(), id) == ids.end()) {
      ids.push_back(static_cast<TokenId>(id));
    }
  };
  if (impl.eos) put(*impl.eos, "");
  for (const int64_t id : data.extra_eos_token_ids)
    put(id, "tokenizer.ggml.eot_token_id or eom_token_id");
  for (const int64_t id : data.config_eos_token_ids) put(id, "config.json: eos_token_id");
  for (const int64_t id : generation_eos(data.generation_config_json))
    put(id, "generation_config.json: eos_token_id");
  for (const std::string_view token : kEndingTokens) {
    std::optional<TokenId> id = impl.added.id_of(token);
    if (!id) id = impl.model.vocab.find(token);
    if (id) put(*id, token);
  }
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  const Impl& impl = *impl_;
  std::vector<TokenId> out;
  const std::string repaired = utf8_valid(text) ? std::string() : utf8_repaired(text);
  if (!repaired.empty()) text = repaired;
  Pattern::Scratch patterns;
  // Text that is to stay text must not become a special token by standing alone in a piece.
  BpeModel::Scratch words_scratch(text.size(), !options.added_tokens);
  const auto plain = [&](std::string part) {
    const PreTokenizer::Words words = impl.pre_tokenizer.split(std::move(part), patterns);
    for (const Piece& piece : words.pieces) {
      if (out.size() > options.most) return;
      const std::string_view word =
          std::string_view(words.text).substr(piece.begin, piece.end - piece.begin);
      words.bytes ? impl.model.encode_bytes(word, words_scratch, out)
                  : impl.model.encode(word, words_scratch, out);
    }
  };
  const auto sections = [&](std::string_view part, bool normalized, const auto& rest) {
    if (!options.added_tokens || !impl.added.has_any(normalized)) return rest(std::string(part));
    for (const AddedTokens::Section& section : impl.added.sections(part, normalized)) {
      if (section.id >= 0) {
        out.push_back(section.id);
      } else {
        rest(
            std::string(part.substr(section.piece.begin, section.piece.end - section.piece.begin)));
      }
    }
  };
  size_t room = (size_t{1} << 20) + 32 * text.size();  // for what the normaliser makes of all parts
  sections(text, false, [&](std::string part) {
    const std::string normal = impl.normalizer.apply(std::move(part), patterns, room);
    room -= normal.size();
    sections(normal, true, plain);
  });
  const bool begins = !out.empty() && out.front() == impl.bos;
  if (options.bos && impl.bos && !begins) out.insert(out.begin(), *impl.bos);
  return out;
}

std::string Tokenizer::token(TokenId id) const {
  if (const AddedToken* added = impl_->added.find(id)) return added->content;
  return std::string(impl_->model.vocab.token(id));
}

std::string Tokenizer::token_bytes(TokenId id) const {
  if (const AddedToken* added = impl_->added.find(id)) return added->content;
  return decoded(impl_->model.vocab.token(id));
}

std::string Tokenizer::decoded(std::string_view token) const {
  const Impl& impl = *impl_;
  if (impl.byte_level) return ByteAlphabet::get().bytes(token);
  if (const int byte = impl.model.byte_fallback ? fallback_byte(token) : -1; byte >= 0)
    return {static_cast<char>(byte)};
  std::string text(token);
  for (const auto& [from, to] : impl.decode_replacements) {
    std::string replaced;
    size_t done = 0;
    for (size_t at = 0; (at = text.find(from, done)) != std::string::npos; done = at + from.size())
      replaced.append(text, done, at - done).append(to);
    text = replaced.append(text, done);
  }
  return text;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string out;
  for (const TokenId id : ids)
    if (!(skip_special && is_special(id))) out += token_bytes(id);
  return out;
}

std::optional<TokenId> Tokenizer::id_of(std::string_view token) const {
  if (const auto id = impl_->added.id_of(token)) return id;
  return impl_->model.vocab.find(token);
}

bool Tokenizer::is_special(TokenId id) const { return impl_->added.is_special(id); }

bool Tokenizer::is_ending(TokenId id) const {
  return std::find(impl_->ending.begin(), impl_->ending.end(), id) != impl_->ending.end();
}

int64_t Tokenizer::vocab_size() const {
  return std::max<int64_t>(impl_->model.vocab.size(), int64_t{impl_->added.largest_id()} + 1);
}

int64_t Tokenizer::least_tokens(size_t bytes) const {
  // What the normaliser makes of a text has a quarter of its bytes at least: a composed character
  // has 2 or 3, and is made of no more than 4 code points in what is known.
  constexpr size_t kShrinks = 4;
  return impl_->longest == 0 ? 0 : static_cast<int64_t>(bytes / (kShrinks * impl_->longest));
}

int64_t Tokenizer::token_count() const { return impl_->model.vocab.count() + impl_->new_ids; }

std::optional<TokenId> Tokenizer::bos() const { return impl_->bos; }
std::optional<TokenId> Tokenizer::eos() const { return impl_->eos; }
const std::vector<TokenId>& Tokenizer::ending() const { return impl_->ending; }
bool Tokenizer::add_bos() const { return impl_->add_bos; }

const std::vector<std::string>& Tokenizer::notes() const { return impl_->notes; }

std::string Tokenizer::description() const {
  return fmt::format("{}BPE, {} tokens, pre-tokenizer {}", impl_->byte_level ? "byte-level " : "",
                     vocab_size(), impl_->pre_name);
}

std::string StreamDecoder::push(TokenId id) {
  if (skip_special_ && (tokenizer_.is_special(id) || tokenizer_.is_ending(id))) return "";
  held_ += tokenizer_.token_bytes(id);
  std::string out;
  std::string_view rest = held_;
  while (!rest.empty()) {
    const Utf8Step step = utf8_step(rest);
    if (step.kind == Utf8Step::kIncomplete) break;
    out += step.kind == Utf8Step::kValid ? rest.substr(0, step.bytes) : kReplacement;
    rest.remove_prefix(step.bytes);
  }
  held_ = std::string(rest);
  return out;
}

std::string StreamDecoder::finish() {
  std::string out = utf8_repaired(held_);
  held_.clear();
  return out;
}

}  // namespace hadal
