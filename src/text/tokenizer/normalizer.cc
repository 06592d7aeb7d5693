#include "text/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <stdexcept>

#include "text/tokenizer/unicode.h"
#include "text/tokenizer/utf8.h"

namespace hadal {
namespace {

const CodeSet& inert() {
  static const CodeSet set = *table_set("inert");
  return set;
}

/// One below the first trailing jamo. It composes with nothing; utf8proc would swallow it behind a
/// syllable.
constexpr char32_t kHangulTBase = 0x11A7;

/// Characters below this neither decompose canonically into something composed otherwise, nor
/// combine: NFC leaves them.
constexpr char32_t kFirstOfInterest = 0x300;

int combining_class(char32_t code) {
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(code))->combining_class;
}

/// Orders each run of combining characters by class, stably: a run of n costs n log n.
void order(std::vector<utf8proc_int32_t>& codes) {
  std::vector<uint64_t> keys;  // class, place, code
  for (size_t i = 0; i < codes.size(); ++i) {
    keys.clear();
    const size_t begin = i;
    for (; i < codes.size(); ++i) {
      const auto code = static_cast<uint32_t>(codes[i]);
      const auto combining = static_cast<uint64_t>(combining_class(code));
      if (combining == 0) break;
      keys.push_back(combining << 56 | uint64_t{i - begin} << 21 | code);
    }
    std::sort(keys.begin(), keys.end());
    for (size_t k = 0; k < keys.size(); ++k) codes[begin + k] = keys[k] & 0x1FFFFF;
  }
}

/// Brings `codes`, in which nothing is inert, into the form and appends it.
void flush(std::vector<utf8proc_int32_t>& codes, bool compose, std::string& out) {
  order(codes);
  auto count = static_cast<utf8proc_ssize_t>(codes.size());
  if (compose && count > 0) {
    count = utf8proc_normalize_utf32(
        codes.data(), count, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    if (count < 0) throw std::runtime_error(utf8proc_errmsg(count));
  }
  for (utf8proc_ssize_t i = 0; i < count; ++i)
    utf8_append(out, static_cast<char32_t>(codes[static_cast<size_t>(i)]));
  codes.clear();
}

}  // namespace

std::string unicode_form(std::string_view text, NormalizerStep::Kind form) {
  const bool compose = form == NormalizerStep::kNfc || form == NormalizerStep::kNfkc;
  const bool compatible = form == NormalizerStep::kNfkc || form == NormalizerStep::kNfkd;
  const char32_t first = form == NormalizerStep::kNfc ? kFirstOfInterest : 0x80;
  bool plain = true;
  for (size_t at = 0; plain && at < text.size();) plain = utf8_next(text, at) < first;
  if (plain) return std::string(text);
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE |
                                                      (compatible ? UTF8PROC_COMPAT : 0));
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> codes;
  std::array<utf8proc_int32_t, 32> parts{};
  for (size_t at = 0; at < text.size();) {
    const char32_t code = utf8_next(text, at);
    if (code == kHangulTBase || (code >= kFirstOfInterest && inert().contains(code))) {
      flush(codes, compose, out);
      utf8_append(out, code);
      continue;
    }
    int boundary = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(code), parts.data(), parts.size(), options, &boundary);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size()))
      throw std::runtime_error("utf8proc_decompose_char failed");
    codes.insert(codes.end(), parts.begin(), parts.begin() + count);
  }
  flush(codes, compose, out);
  return out;
}

std::string_view stripped(std::string_view text, bool left, bool right) {
  static const CodeSet space = *table_set("rust space");
  size_t begin = 0, end = text.size();
  for (size_t at = 0; left && begin < end && space.contains(utf8_next(text, at)); begin = at) {
  }
  while (right && end > begin) {
    const size_t back = utf8_back(text, end);
    size_t at = back;
    if (!space.contains(utf8_next(text, at))) break;
    end = back;
  }
  return text.substr(begin, end - begin);
}

std::string Normalizer::apply(std::string text, Pattern::Scratch& scratch, size_t limit) const {
  const auto check = [limit](size_t bytes) {
    if (bytes > limit) throw std::runtime_error("the normalizer makes too much of a text");
  };
  for (const NormalizerStep& step : steps) {
    if (text.empty()) break;
    switch (step.kind) {
      case NormalizerStep::kNfc:
      case NormalizerStep::kNfd:
      case NormalizerStep::kNfkc:
      case NormalizerStep::kNfkd:
        text = unicode_form(text, step.kind);
        break;
      case NormalizerStep::kPrepend:
        text.insert(0, step.text);
        break;
      case NormalizerStep::kReplace: {
        std::vector<Piece> found;
        step.pattern[0].find(text, {0, text.size()}, scratch, found);
        std::string out;
        size_t done = 0;
        for (const Piece& piece : found) {
          out.append(text, done, piece.begin - done).append(step.text);
          done = piece.end;
          check(out.size());
        }
        text = out.append(text, done);
        break;
      }
      case NormalizerStep::kStrip:
        text = std::string(stripped(text, step.left, step.right));
        break;
    }
    check(text.size());
  }
  return text;
}

}  // namespace hadal
