// Grammars: what an answer's text may be, as a mask of the tokens that may come next.
//
// A source (a JSON schema, a regex, …) is compiled once for a tokenizer, off the engine's thread,
// into a CompiledGrammar that requests share; each answer has a GrammarMatcher of its own. What the
// kinds accept, and what of it is refused, is in docs/grammars.md; the limits are in limits.h.
// Matching and masks are xgrammar's, whose headers stay inside xgrammar_core.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "base/token_id.h"

namespace hadal {

class Tokenizer;

enum class GrammarKind {
  kJsonObject,  ///< any JSON object; the source's text is not looked at
  kJsonSchema,  ///< text: a JSON schema
  kRegex,       ///< text: a regex that the whole answer matches
  kEbnf,        ///< text: a grammar, see ebnf_check.h
  kTools        ///< text: a request's list of tools
};

struct GrammarSource {
  GrammarKind kind = GrammarKind::kJsonObject;
  std::string text = {};
  std::string format = {};       ///< kTools: a chat format or output parser that writes the calls
  std::string tool_choice = {};  ///< kTools: "auto", "required" or a tool's name; "" is "auto"

  bool operator==(const GrammarSource&) const = default;
};

/// What compiling made of a source: immutable, may be shared between threads.
class CompiledGrammar {
 public:
  virtual ~CompiledGrammar() = default;
  [[nodiscard]] virtual size_t bytes() const = 0;  ///< of memory, about
};

/// The state of one answer; for one thread at a time. A token that a mask allows is accepted, and
/// the other way round.
class GrammarMatcher {
 public:
  virtual ~GrammarMatcher() = default;
  /// False if the grammar does not allow the token here; nothing has changed then. Ending tokens
  /// are accepted once, when the text is complete.
  virtual bool accept(TokenId token) = 0;
  /// Clears the bits of tokens that may not come next: bit t % 32 of word t / 32. Bits beyond the
  /// vocabulary are cleared. Behind an ending token, ending tokens alone are left. False if nothing
  /// is left: the vocabulary cannot spell what the grammar wants.
  virtual bool fill(std::span<uint32_t> allowed) = 0;
  /// Takes back as many tokens as were accepted, at most; ending tokens count.
  virtual void rollback(int64_t tokens) = 0;
  /// The text is complete and only an ending token may follow, or has followed.
  virtual bool finished() = 0;
};

/// Compiles grammars for one tokenizer and keeps the last ones. May be used by several threads;
/// they wait for each other, for 2 s at most each. Needs the tokenizer no more once it is created.
class GrammarCompiler {
 public:
  virtual ~GrammarCompiler() = default;
  /// `ending`: tokens that end an answer. Errors: such a token outside the vocabulary.
  static Result<std::unique_ptr<GrammarCompiler>> create(const Tokenizer& tokenizer,
                                                         std::span<const TokenId> ending);
  /// Errors, all of the user's making, name the construct that is malformed, unknown or too large.
  virtual Result<std::shared_ptr<const CompiledGrammar>> compile(const GrammarSource& source) = 0;
  [[nodiscard]] virtual size_t cached() const = 0;        ///< grammars
  [[nodiscard]] virtual size_t cached_bytes() const = 0;  ///< of memory, about
};

std::unique_ptr<GrammarMatcher> make_matcher(std::shared_ptr<const CompiledGrammar> grammar);

}  // namespace hadal
