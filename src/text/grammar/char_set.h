// CharSet: a set of code points, as sorted ranges. What regexes, string constraints and the check
// of EBNF are made of. Surrogates are in no set: no text holds them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hadal {

struct CharRange {
  char32_t first = 0, last = 0;
  bool operator==(const CharRange&) const = default;
  auto operator<=>(const CharRange&) const = default;
};

class CharSet {
 public:
  CharSet() = default;
  CharSet(std::initializer_list<CharRange> ranges) {
    for (const CharRange& range : ranges) add(range.first, range.last);
  }
  static CharSet all() { return {{0, 0xD7FF}, {0xE000, 0x10FFFF}}; }
  static CharSet one(char32_t c) { return {{c, c}}; }

  void add(char32_t first, char32_t last);
  void add(const CharSet& other) {
    for (const CharRange& range : other.ranges_) add(range.first, range.last);
  }
  [[nodiscard]] CharSet complement() const;
  [[nodiscard]] CharSet without(const CharSet& other) const;
  [[nodiscard]] CharSet both(const CharSet& other) const;
  [[nodiscard]] bool has(char32_t c) const;
  [[nodiscard]] bool empty() const { return ranges_.empty(); }
  [[nodiscard]] const std::vector<CharRange>& ranges() const { return ranges_; }
  /// The one code point of a set that has no other; -1 otherwise.
  [[nodiscard]] int64_t single() const;

 private:
  std::vector<CharRange> ranges_;
};

/// Code points of valid UTF-8; what is not becomes U+FFFD.
std::u32string code_points(std::string_view text);

}  // namespace hadal
