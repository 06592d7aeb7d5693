#include "checkpoint/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace hadal {
namespace {

/// Bytes of the well-formed UTF-8 character that starts `s`, 0 if there is none; its number in
/// `code`.
size_t utf8_char(std::string_view s, uint32_t& code) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  const uint8_t lead = byte(0);
  const size_t length = lead < 0x80   ? 1
                        : lead < 0xc2 ? 0
                        : lead < 0xe0 ? 2
                        : lead < 0xf0 ? 3
                        : lead < 0xf5 ? 4
                                      : 0;
  if (length == 0 || s.size() < length) return 0;
  code = length == 1 ? lead : lead & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3fu);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool outside = (code >= 0xd800 && code < 0xe000) || code > 0x10ffff;
  return overlong || outside ? 0 : length;
}

/// Characters that would act on a terminal or reorder what is read.
bool acts(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x061c || code == 0x200e ||
         code == 0x200f || (code >= 0x2028 && code <= 0x202e) ||
         (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
}

}  // namespace

std::string printable(std::string_view bytes, size_t limit) {
  std::string out;
  size_t at = 0;
  while (at < bytes.size()) {
    if (out.size() >= limit) return out + "…";
    uint32_t code = 0;
    const size_t length = utf8_char(bytes.substr(at, 4), code);
    if (length == 1 && (code == '\n' || code == '\t' || code == '\r' || code == '\\')) {
      out += code == '\n' ? "\\n" : code == '\t' ? "\\t" : code == '\r' ? "\\r" : "\\\\";
    } else if (length == 0 || acts(code)) {
      const size_t raw = length == 0 ? 1 : length;
      for (size_t i = 0; i < raw; ++i)
        out += fmt::format("\\x{:02x}", static_cast<uint8_t>(bytes[at + i]));
      at += raw;
      continue;
    } else {
      out += bytes.substr(at, length);
    }
    at += length;
  }
  return out;
}

std::string quote(std::string_view bytes, size_t limit) {
  return '"' + printable(bytes, limit) + '"';
}

std::string listed(const std::vector<std::string>& words) {
  constexpr size_t kShown = 8;
  std::string text;
  for (size_t i = 0; i < std::min(words.size(), kShown); ++i)
    text += (i > 0 ? ", " : "") + words[i];
  if (words.size() > kShown) text += fmt::format(", … and {} more", words.size() - kShown);
  return text;
}

bool is_printable(std::string_view bytes) {
  return printable(bytes, bytes.size() * 4 + 1) == bytes;
}

}  // namespace hadal
