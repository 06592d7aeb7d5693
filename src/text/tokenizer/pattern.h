// Pattern: a regular expression of a pre-tokenizer, as Oniguruma (Ruby's syntax) would run it, run
// by PCRE2 with JIT.
//
// PCRE2 never sees a character. All sets of characters in the pattern divide Unicode into a few
// kinds (rarely more than 30); text is turned into one byte per character, its kind, and the
// pattern into one over these bytes. So the Unicode of the `tokenizers` library holds (unicode.h),
// a class costs one bit test whatever its size, and nested classes, && and (?i) need nothing of
// PCRE2. Owns the translation (pattern_parse.cc) and the matching (pattern.cc). Refuses by name:
// what Oniguruma refuses, back-references, \X, \K, conditions, absent operators, extended mode, a
// repetition without bound inside another (time without bound), more than 255 kinds. Immutable;
// what a call needs lies in its Scratch.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/unicode.h"

namespace hadal {

/// A stretch of a text, in bytes.
struct Piece {
  size_t begin = 0, end = 0;
  bool operator==(const Piece&) const = default;
};

class Pattern {
 public:
  struct Code;
  /// Working memory of one encode call; any pattern may use it.
  class Scratch {
   public:
    Scratch();
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

   private:
    friend class Pattern;
    struct Memory;
    std::unique_ptr<Memory> memory_;
  };

  static Result<Pattern> compile(std::string_view regex);
  /// The text itself, letter by letter.
  static Result<Pattern> literal(std::string_view text);
  /// One character of `set`.
  static Result<Pattern> one_of(const CodeSet& set);
  /// \w+|[^\w\s]+ with these sets: the pre-tokenizer Whitespace.
  static Result<Pattern> words(const CodeSet& word, const CodeSet& space);
  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) noexcept;
  ~Pattern();

  /// All matches in text[piece], leftmost first, not overlapping, empty ones too (one never stands
  /// right behind the last match), appended to `out` as bytes of `text`. `text` is valid UTF-8.
  /// Throws std::runtime_error when the pattern needs more than 200 steps a character: the caller's
  /// border turns that into an error.
  void find(std::string_view text, Piece piece, Scratch& scratch, std::vector<Piece>& out) const;

 private:
  Pattern();
  std::unique_ptr<Code> code_;
};

}  // namespace hadal
