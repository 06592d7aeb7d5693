#include <algorithm>
#include <nlohmann/json.hpp>

#include "text/output/parsers.h"

namespace hadal {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";
constexpr std::string_view kDigits = "0123456789";

/// Bytes of the JSON number at the front of `text`, 0 where none is.
size_t number_bytes(std::string_view text) {
  const auto digits = [text](size_t at) {
    return std::min(text.find_first_not_of(kDigits, at), text.size());
  };
  const size_t first = text.starts_with('-') ? 1 : 0;
  size_t at = text.substr(first).starts_with('0') ? first + 1 : digits(first);
  if (at == first) return 0;
  if (text.substr(at).starts_with('.') && digits(at + 1) > at + 1) at = digits(at + 1);
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    const bool sign = at + 1 < text.size() && (text[at + 1] == '+' || text[at + 1] == '-');
    const size_t exponent = at + (sign ? 2 : 1);
    if (digits(exponent) > exponent) at = digits(exponent);
  }
  return at;
}

/// Bytes of the string at the front of `text`, with its quotes; 0 where it is not closed, npos
/// where a line end or the like stands in it.
size_t string_bytes(std::string_view text) {
  for (size_t at = 1; at < text.size(); at += text[at] == '\\' ? 2 : 1) {
    if (text[at] == '"') return at + 1;
    if (static_cast<unsigned char>(text[at]) < 0x20) return std::string_view::npos;
  }
  return 0;
}

/// Where a JSON value ends, told by quotes and brackets alone.
struct JsonExtent {
  bool open = false;  ///< the text ends before the value does
  size_t bytes = 0;   ///< 0 and not open: no value
  std::string
      numbered;  ///< the value with 0 for each number: also one that no double holds is valid
};

JsonExtent json_extent(std::string_view text) {
  JsonExtent found;
  int64_t depth = 0;
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    size_t bytes = 1;
    const bool number = c == '-' || kDigits.find(c) != std::string_view::npos;
    if (c == '"') {
      bytes = string_bytes(text.substr(at));
      if (bytes == std::string_view::npos) return found;
      if (bytes == 0) break;
    } else if (number) {
      if (text.find_first_not_of("0123456789.eE+-", at) == std::string_view::npos) break;
      bytes = number_bytes(text.substr(at));
      if (bytes == 0) return found;
    } else if (c >= 'a' && c <= 'z') {
      while (at + bytes < text.size() && text[at + bytes] >= 'a' && text[at + bytes] <= 'z')
        ++bytes;
      if (at + bytes == text.size()) break;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      --depth;
    } else if (depth == 0 || (c != ',' && c != ':' && kBlanks.find(c) == std::string_view::npos)) {
      return found;
    }
    found.numbered += number ? "0" : text.substr(at, bytes);
    at += bytes;
    if (depth <= 0) {
      found.bytes = at;
      return found;
    }
  }
  found.open = true;
  return found;
}

}  // namespace

void Cursor::move(size_t bytes) {
  at_ += bytes;
  short_ = false;
}

void Cursor::fail_for_now(std::string_view awaited, size_t offset) {
  // Where two steps wait at one place, any text may decide.
  awaited_ = short_ ? "" : awaited;
  from_ = at_ + offset;
  short_ = true;
}

CallScan Cursor::failure() const {
  using Kind = CallScan::Kind;
  return {.kind = short_ ? Kind::kIncomplete : Kind::kNoCall, .awaited = awaited_, .from = from_};
}

void Cursor::skip_blanks() { move(std::min(rest().find_first_not_of(kBlanks), rest().size())); }

bool Cursor::take(std::string_view marker) {
  const bool there = rest().starts_with(marker);
  if (there)
    move(marker.size());
  else if (marker.starts_with(rest()))
    fail_for_now();
  return there;
}

std::optional<std::string_view> Cursor::take_until(std::string_view end,
                                                   std::string_view forbidden) {
  const std::string_view text = rest();
  const size_t at = text.find(end);
  if (!forbidden.empty() && text.substr(0, at).find(forbidden) != std::string_view::npos)
    return std::nullopt;
  if (at == std::string_view::npos) {
    fail_for_now();
    return std::nullopt;
  }
  move(at + end.size());
  return text.substr(0, at);
}

std::optional<std::string_view> Cursor::take_name(std::string_view end) {
  const std::string_view text = rest();
  const size_t at = text.find(end);
  const bool there = at != std::string_view::npos;
  // What may be the beginning of `end` is no part of the name yet.
  const std::string_view name = text.substr(0, there ? at : text.size() - held_back(text, end));
  if (name.find_first_of(kBlanks) != std::string_view::npos || (there && name.empty()))
    return std::nullopt;
  if (!there) {
    fail_for_now();
    return std::nullopt;
  }
  move(at + end.size());
  return name;
}

std::optional<std::string_view> Cursor::take_json(std::string_view end) {
  const JsonExtent found = json_extent(rest());
  if (found.open) {
    fail_for_now(end);
  } else if (found.bytes > 0 && nlohmann::json::accept(found.numbered)) {
    const std::string_view value = rest().substr(0, found.bytes);
    move(found.bytes);
    return value;
  }
  return std::nullopt;
}

std::string_view strip_blanks(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

}  // namespace hadal
