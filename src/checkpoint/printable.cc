#include "checkpoint/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "base/text.h"

namespace hadal {

std::string printable(std::string_view bytes, size_t limit) {
  std::string out;
  size_t at = 0;
  while (at < bytes.size()) {
    if (out.size() >= limit) return out + "…";
    uint32_t code = 0;
    const size_t length = utf8_char(bytes.substr(at, 4), code);
    if (length == 1 && (code == '\n' || code == '\t' || code == '\r' || code == '\\')) {
      out += code == '\n' ? "\\n" : code == '\t' ? "\\t" : code == '\r' ? "\\r" : "\\\\";
    } else if (length == 0 || acts_on_terminals(code)) {
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
