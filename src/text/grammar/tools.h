// A request's tools as a grammar: what a model may write when it calls them, in the form of its
// family, so that our own parser (text/output) makes calls of it whose arguments satisfy
// `parameters`.
//
// Of DeepSeek's families: tokens around a name and JSON (V2.5 to R1-0528 with type word and fence,
// V3.1 without), and DSML with an element for each parameter (V3.2, V4, V4.1). Text may stand
// before the calls, and calls may be missing, unless tool_choice asks for one. A tool that is not
// `strict` has its names and the form of its arguments held, not their schema. Called by
// grammar.cc.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/grammar/grammar.h"

namespace hadal {

struct ToolsGrammar {
  std::string ebnf;
  std::vector<std::string> tokens;  ///< control tokens of the format that the grammar needs
};

/// Errors begin with "tools: ".
Result<ToolsGrammar> tools_grammar(const GrammarSource& source);

}  // namespace hadal
