// Looks over a grammar in EBNF before xgrammar sees it: what it would do badly is refused by name.
//
// The dialect, which is GBNF's (llama.cpp's) as far as both go:
//   rules    name ::= alternatives, each on a line of its own; the first to match is `root`
//   parts    "text"  [class]  [^class]  name  (group)  (), alternatives by |, comments from # on
//   times    ? * + {m} {m,} {m,n}
//   escapes  \" \\ \/ \' \? \n \r \t \b \f \a \v \0 \e \xH… \uHHHH \UHHHHHHHH; in classes also
//            \^ \$ \. \* \+ \? \( \) \[ \] \{ \} \| \/ \-
// Names are letters, digits, _ - and ., no digit first.
// Refused: left recursion, also through rules that may be empty; rules that are missing, given
// twice, or cannot end; nesting, repetitions, rules and bytes beyond limits.h; more work for the
// compiler than limits.h allows; xgrammar's own rule options and macros.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace hadal {

/// Tokens by the byte they begin with.
using FirstBytes = std::array<int64_t, 256>;

struct EbnfLimits {
  size_t bytes = 0, rules = 0;
  bool ours = false;  ///< a grammar of our own making, in which rules may have `[max_chars=N]`
};

/// Errors begin with "grammar: ".
Status check_ebnf(std::string_view text, const FirstBytes& tokens, const EbnfLimits& limits);

}  // namespace hadal
