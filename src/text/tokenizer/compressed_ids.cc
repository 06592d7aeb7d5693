#include "text/tokenizer/compressed_ids.h"

#include <unordered_map>
#include <utility>

#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/unicode.h"
#include "text/tokenizer/utf8.h"

namespace hadal {
namespace {

/// Stands in the official pipeline for a text of one blank while Strip runs; where a text has it of
/// its own, it becomes a blank too.
constexpr char32_t kSentinel = 0xE000;

/// Without accents, in lower case, each run of blanks one blank.
std::string folded(std::string_view text) {
  static const CodeSet accents = *table_set("rust accent");
  std::string out;
  bool blank = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t code = utf8_next(text, at);
    if (accents.contains(code)) continue;
    const bool was = blank;
    blank = code == ' ' || code == '\t' || code == '\r' || code == '\n';
    if (blank && was) continue;
    utf8_append(out, blank ? U' ' : to_lower(code));
  }
  return out;
}

}  // namespace

std::string compression_key(std::string_view text) {
  const std::string composed = unicode_form(text, NormalizerStep::kNfkc);
  std::string key = folded(unicode_form(composed, NormalizerStep::kNfd));
  // "^ $" of the official pipeline would match a line too, but of the line ends none is left.
  if (key == " ") return key;
  const std::string_view bare = stripped(key, true, true);
  std::string out;
  for (size_t at = 0; at < bare.size();) {
    const char32_t code = utf8_next(bare, at);
    utf8_append(out, code == kSentinel ? U' ' : code);
  }
  return out;
}

CompressedIds compressed_ids(const Tokenizer& tokenizer) {
  CompressedIds out;
  const auto tokens = static_cast<size_t>(tokenizer.token_count());
  out.by_id.reserve(tokens);
  std::unordered_map<std::string, int32_t> known;
  known.reserve(tokens);
  for (size_t id = 0; id < tokens; ++id) {
    std::string token = tokenizer.token(static_cast<TokenId>(id));
    const std::string text = utf8_repaired(tokenizer.decoded(token));
    // Half a character has no case and no accents: such a token counts as it is spelled.
    std::string key;
    if (text.find(kReplacement) != std::string::npos) {
      key = std::move(token);
    } else if (key = compression_key(text); key.empty()) {
      key = text;
    }
    out.by_id.push_back(known.try_emplace(std::move(key), out.count).first->second);
    out.count = static_cast<int32_t>(known.size());
  }
  return out;
}

}  // namespace hadal
