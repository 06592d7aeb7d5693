// EbnfWriter: writes a grammar, rule by rule, in the EBNF that ebnf_check.h describes.
//
// Owns the spelling of literals, classes and names, and how an automaton becomes rules: as plain
// text, or as what stands between the quotes of a JSON string. Called by the compilers of JSON
// schemas, regexes and tools.
#pragma once

#include <string>
#include <string_view>

#include "text/grammar/automaton.h"

namespace hadal {

enum class Spelling { kPlain, kInJsonString };

class EbnfWriter {
 public:
  /// A name for a rule that is still to be written.
  std::string name(std::string_view hint) {
    return std::string(hint) + "-" + std::to_string(names_++);
  }
  void rule(std::string_view name, std::string_view body) {
    text_.append(name).append(" ::= ").append(body) += '\n';
    ++rules_;
  }
  /// Rules for `automaton`, which is not empty; the name of the first.
  std::string automaton(const Automaton& automaton, Spelling spelling, std::string_view hint);

  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] size_t rules() const { return rules_; }
  [[nodiscard]] bool too_large() const;

  static std::string literal(std::string_view text);
  /// A class with the brackets; `chars` is not empty.
  static std::string chars(const CharSet& chars);

 private:
  std::string text_;
  size_t names_ = 0, rules_ = 0;
};

}  // namespace hadal
