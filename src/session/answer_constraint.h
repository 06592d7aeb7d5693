// AnswerConstraint: the two rules under which an answer may stand while it is generated: how long
// its thought may be, and what grammar holds behind the thought.
//
// A thought is over where the text `</think>` is complete. One that reaches its budget is closed:
// the model's own end mark is all that may come until it is complete, and the model answers. The
// grammar begins behind the mark (newlines that models write there are let pass), or with the first
// token where there is no thought. Lives on the engine's thread, one for each answer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "engine/request.h"
#include "text/grammar/grammar.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal {

/// How an answer begins.
enum class ThoughtAt : uint8_t {
  kNone,   ///< the answer itself
  kMaybe,  ///< the model may open a thought of its own
  kOpen,   ///< in a thought that the prompt opened
};

struct AnswerRules {
  ThoughtAt thought = ThoughtAt::kNone;
  std::optional<int64_t> thinking_budget;          ///< most tokens of the thought
  std::shared_ptr<const CompiledGrammar> grammar;  ///< of what is behind it; null: anything
};

/// The tokenizer must outlive the constraint.
std::unique_ptr<Constraint> make_answer_constraint(const Tokenizer& tokenizer,
                                                   const AnswerRules& rules);

}  // namespace hadal
