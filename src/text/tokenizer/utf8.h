// UTF-8: one code point at a time, and the replacement of what is no UTF-8.
//
// Owns the definition of valid (RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF)
// and of how many bytes one U+FFFD replaces: the maximal part of a sequence that could still have
// become valid (Unicode 15, section 3.9, as Python has it).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hadal {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

/// What stands at the front of a text.
struct Utf8Step {
  enum Kind : uint8_t { kValid, kInvalid, kIncomplete };
  Kind kind = kInvalid;
  char32_t code = 0;  ///< of a valid one
  size_t bytes = 0;   ///< of the character; of the invalid part; of the incomplete sequence, which
                      ///< ends the text
};

/// `text` must not be empty.
Utf8Step utf8_step(std::string_view text);

/// The first code point of `text`, which must be valid and not empty; `bytes` is advanced by its
/// length.
inline char32_t utf8_next(std::string_view text, size_t& at) {
  const auto b = [&](size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[at + i]));
  };
  const char32_t lead = b(0);
  if (lead < 0x80) return at += 1, lead;
  if (lead < 0xE0) {
    const char32_t code = ((lead & 0x1F) << 6) | (b(1) & 0x3F);
    return at += 2, code;
  }
  if (lead < 0xF0) {
    const char32_t code = ((lead & 0x0F) << 12) | ((b(1) & 0x3F) << 6) | (b(2) & 0x3F);
    return at += 3, code;
  }
  const char32_t code =
      ((lead & 0x07) << 18) | ((b(1) & 0x3F) << 12) | ((b(2) & 0x3F) << 6) | (b(3) & 0x3F);
  return at += 4, code;
}

/// Where the last code point of text[0, end) begins; end > 0, text valid.
inline size_t utf8_back(std::string_view text, size_t end) {
  do --end;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  return end;
}

void utf8_append(std::string& out, char32_t code);

[[nodiscard]] bool utf8_valid(std::string_view text);

/// `text` with every invalid part replaced by U+FFFD.
[[nodiscard]] std::string utf8_repaired(std::string_view text);

}  // namespace hadal
