#include "checkpoint/json_scan.h"

#include <fmt/format.h>

namespace hadal {

Status scan_json(std::string_view text, const std::string& origin, const JsonLimits& limits) {
  int64_t depth = 0;
  int64_t keys = 0;
  const auto too_much = [&](size_t at, std::string_view what, int64_t limit) {
    return failed(
        fmt::format("{}: byte {}: JSON with {}, at most {} allowed", origin, at, what, limit));
  };
  for (size_t at = 0; at < text.size(); ++at) {
    switch (text[at]) {
      case '"': {
        const size_t begin = at;
        for (++at; at < text.size() && text[at] != '"'; ++at)
          if (text[at] == '\\') ++at;
        if (static_cast<int64_t>(at - begin) - 1 > limits.string_bytes)
          return too_much(begin, "a string that is too long (bytes)", limits.string_bytes);
        break;
      }
      case '[':
      case '{':
        if (++depth > limits.depth) return too_much(at, "too many levels of nesting", limits.depth);
        break;
      case ']':
      case '}':
        --depth;
        break;
      case ':':
        if (++keys > limits.keys) return too_much(at, "too many keys", limits.keys);
        break;
      default:
        break;
    }
  }
  return {};
}

}  // namespace hadal
