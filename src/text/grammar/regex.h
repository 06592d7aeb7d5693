// Regexes, as JSON Schema and requests write them: the common part of ECMA-262's and Python's.
//
// Literals, `.`, classes, \d \w \s and their capitals (ASCII, but \s and \S know all of Unicode's
// blanks), \t \n \r \f \v \0 \xHH \uHHHH \u{H…} \cX, groups with or without a name, alternatives,
// `* + ? {m} {m,} {m,n}` with or without a second `?`, `^` and `$` anywhere. Refused by name: look-
// around, references to groups, \b, \B, \p{…}, flags, possessive quantifiers; and what is too
// large.
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
