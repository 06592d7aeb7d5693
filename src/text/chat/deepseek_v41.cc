// DeepSeek-V4.1: V4's turns with <｜System｜>, an effort line with a number, and other DSML tags.
#include "text/chat/deepseek_v4_turns.h"

namespace hadal::chat {
namespace {

std::string effort_text(int effort) {
  return "Reasoning Effort: " + std::to_string(effort) +
         " (range 1-100, the higher the value, the more thorough the reasoning)\n\n";
}

}  // namespace

bool recognises_deepseek_v41(std::string_view chat_template) {
  return contains_all(chat_template, {"｜DSML｜", "<｜System｜>"});
}

Result<Prompt> render_deepseek_v41(const ChatRequest& request, const Tokenizer* /*tokenizer*/) {
  return render_deepseek_v4_turns(request, {.format = "deepseek-v4.1",
                                            .tags = kDsmlV41,
                                            .system_turns = true,
                                            .effort_text = effort_text,
                                            .numeric_effort = true});
}

}  // namespace hadal::chat
