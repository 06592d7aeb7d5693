// Regexes, as JSON Schema and requests write them: the common part of ECMA-262's and Python's.
//
// Literals, `.`, classes, \d \w (ASCII), \s \S (which knows all of Unicode's blanks), \t \n \r \f
// \v \0
// \xHH \uHHHH \u{H…}, groups with or without a name, alternatives, `* + ? {m} {m,} {m,n}` with or
// without a second `?`, `^` and `$` anywhere. Refused by name: \D and \W, which readers take
// differently beyond ASCII; look-around, references to groups, \b, \B, \cX, \p{…}, flags,
// possessive quantifiers; and what is too large.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/grammar/automaton.h"

namespace hadal {

enum class RegexScope {
  kWhole,     ///< the whole text matches
  kSomewhere  ///< some part of it does, as JSON Schema's pattern means it
};

/// Errors begin with "regex: ".
Result<Automaton> read_regex(std::string_view regex, RegexScope scope);

}  // namespace hadal
