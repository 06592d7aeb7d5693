// CodeSet: sets of code points, and the Unicode of the `tokenizers` library as named sets and case
// equivalents.
//
// Owns unicode_sets.inc, which tools/generate/make_unicode_sets.py derives by asking the library
// about every code point: it knows other versions of Unicode than PCRE2 and utf8proc do. Called by
// the pattern compiler, the normaliser, added tokens and the compression of ids.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hadal {

inline constexpr char32_t kLastCodePoint = 0x10FFFF;

class CodeSet {
 public:
  struct Range {
    char32_t first = 0, last = 0;
    bool operator==(const Range&) const = default;
  };
  CodeSet() = default;
  CodeSet(char32_t first, char32_t last) : ranges_{{first, last}} {}
  /// `ranges` in any order, overlapping as they like.
  explicit CodeSet(std::vector<Range> ranges);

  void add(const CodeSet& other);
  void add(char32_t first, char32_t last);
  [[nodiscard]] CodeSet intersected(const CodeSet& other) const;
  [[nodiscard]] CodeSet complement() const;
  [[nodiscard]] bool contains(char32_t code) const;
  [[nodiscard]] bool empty() const { return ranges_.empty(); }
  [[nodiscard]] const std::vector<Range>& ranges() const { return ranges_; }
  bool operator==(const CodeSet&) const = default;

 private:
  std::vector<Range> ranges_;  // sorted, disjoint, not adjacent
};

/// A set of the table: "lu", "han", "alphabetic", "[:alpha:]", "\\w", "rust numeric", … Empty
/// optional: unknown.
std::optional<CodeSet> table_set(std::string_view name);

/// What \p{NAME} means: general categories (short and long names, unions too), scripts, properties.
/// Case, blanks, _ and - in the name do not count.
std::optional<CodeSet> property_set(std::string_view name);

/// `set` and all that (?i) takes for one of its characters.
CodeSet with_case(const CodeSet& set);

/// The lower case of a character, itself if it has none. U+0130, whose lower case is two
/// characters, stays.
char32_t to_lower(char32_t code);

/// A character that (?i) takes for a string of two or three, as ß for ss.
struct SeveralFold {
  char32_t code;
  char32_t folded[3];  ///< 0 at the end of a shorter one
  [[nodiscard]] size_t size() const { return folded[2] != 0 ? 3 : 2; }
};
const std::vector<SeveralFold>& several_folds();

}  // namespace hadal
