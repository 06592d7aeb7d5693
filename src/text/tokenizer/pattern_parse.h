// The inside of Pattern: a regular expression as a tree over sets of code points, and that tree as
// a PCRE2 pattern.
//
// Owns the syntax of Oniguruma as the `tokenizers` library uses it (ONIG_SYNTAX_RUBY, UTF-8): ^ and
// $ at every line, (?m) lets the dot match a newline, {n,m}+ repeats, (?i) inside a branch reaches
// to the end of the group, \w differs inside and outside brackets by six characters. Depth of
// nesting is counted. Called by pattern.cc alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/unicode.h"

namespace hadal::pattern {

struct Node {
  enum Kind : uint8_t {
    kEmpty,
    kSet,
    kConcat,
    kAlternate,
    kRepeat,
    kAtomic,
    kAhead,
    kNotAhead,
    kBehind,
    kNotBehind,
    kTextBegin,
    kTextEnd,
    kSearchBegin,
    kNever,
  };
  enum Greed : uint8_t { kGreedy, kLazy, kPossessive };

  Kind kind = kEmpty;
  Greed greed = kGreedy;
  bool folded = false;       ///< a set that stands for one letter under (?i)
  int64_t min = 0, max = 0;  ///< of kRepeat; max -1: no bound
  CodeSet set = {};
  std::vector<Node> children = {};
};

Node set_node(CodeSet set);
Node concat(std::vector<Node> parts);
Node alternate(std::vector<Node> parts);
Node repeat(Node child, int64_t min, int64_t max, Node::Greed greed = Node::kGreedy);

/// The tree of `regex`, which is valid UTF-8; the error says what is not supported, without the
/// pattern.
Result<Node> parse(std::string_view regex);

}  // namespace hadal::pattern
