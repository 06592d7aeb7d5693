// The border to xgrammar: a vocabulary, and grammars in EBNF compiled for it.
//
// Everything that xgrammar throws or prints ends here: its messages begin with a time and a line of
// its own source, which nobody but its authors can use, and its warnings say that it ignored
// something, which counts as a refusal here. Its recursion is bounded, and runs on a stack that is
// large enough. Called by grammar.cc alone; and by tests/sample_grammars.cc, which compares.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/grammar/ebnf_check.h"
#include "text/grammar/grammar.h"

namespace hadal {

class GrammarCore {
 public:
  virtual ~GrammarCore() = default;
  /// `bytes`: of each token; "" for tokens that never come, such as control tokens.
  static Result<std::unique_ptr<GrammarCore>> create(const std::vector<std::string>& bytes,
                                                     std::span<const TokenId> ending);
  /// `ebnf` has been looked over. Errors: what xgrammar finds in it nevertheless.
  virtual Result<std::shared_ptr<const CompiledGrammar>> compile(const std::string& ebnf) = 0;
  /// xgrammar's own reading of a JSON schema, with what it ignores. For comparisons.
  virtual Result<std::shared_ptr<const CompiledGrammar>> compile_schema_as_it_is(
      const std::string& schema) = 0;
  [[nodiscard]] virtual const FirstBytes& first_bytes() const = 0;
  [[nodiscard]] virtual size_t cached_bytes() const = 0;
};

}  // namespace hadal
