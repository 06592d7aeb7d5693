// DeepSeek-V4 (as of 0731: Flash-0731, Pro-0813). Effort is a paragraph before everything.
//
// The first V4 checkpoints knew the first paragraph as "max" and nothing below it: with these, ask
// for "low" to have none, and for "high" to have it.
#include "text/chat/deepseek_v4_turns.h"

namespace hadal::chat {
namespace {

std::string effort_text(int effort) {
  if (effort < 75) return "";
  if (effort < 100)
    return "Reasoning Effort: Absolute maximum with no shortcuts permitted.\nYou MUST be very "
           "thorough in your thinking and comprehensively decompose the problem to resolve the "
           "root cause, rigorously stress-testing your logic against all potential paths, edge "
           "cases, and adversarial scenarios.\nExplicitly write out your entire deliberation "
           "process, documenting every intermediate step, considered alternative, and rejected "
           "hypothesis to ensure absolutely no assumption is left unchecked.\n\n";
  return "Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\nYou MUST "
         "reason with the utmost depth and rigor, leaving absolutely nothing to chance: "
         "exhaustively decompose the problem into its most fundamental components, trace every "
         "causal chain to its root, and resolve the underlying cause rather than any surface "
         "symptom.\nDo not stop reasoning until you have independently verified the solution from "
         "multiple angles and are certain that no assumption remains unchecked and no error "
         "remains undiscovered.\n\n";
}

}  // namespace

bool recognises_deepseek_v4(std::string_view chat_template) {
  return contains_all(chat_template, {"｜DSML｜", "tool_calls"}) &&
         !recognises_deepseek_v32(chat_template) && !recognises_deepseek_v41(chat_template);
}

Result<Prompt> render_deepseek_v4(const ChatRequest& request, const Tokenizer* /*tokenizer*/) {
  return render_deepseek_v4_turns(
      request, {.format = "deepseek-v4", .tags = kDsmlV4, .effort_text = effort_text});
}

}  // namespace hadal::chat
