// DeepSeek-R1 and R1-Distill-*: V3's turns, the answer starts in <think> where the template writes
// that, earlier answers lose
// their thoughts.
//
// As first shipped, R1's template did not open the thought itself: where it is the checkpoint's,
// neither do we.
#include "text/chat/deepseek_turns.h"

namespace hadal::chat {

bool recognises_deepseek_r1(std::string_view chat_template) {
  return has_deepseek_turns(chat_template) && contains(chat_template, "'</think>' in content") &&
         !contains(chat_template, "is_last_user");
}

Result<Prompt> render_deepseek_r1(const ChatRequest& request, const Tokenizer* /*tokenizer*/) {
  const std::string_view model = request.chat_template;
  const bool known = recognises_deepseek_r1(model);
  return render_deepseek_turns(
      request,
      {.format = "deepseek-r1",
       .joins_systems = !known || contains(model, "is_first_sp"),
       .newline_between_results = !known || contains_any(model, {"\\n<｜tool▁output▁begin｜>",
                                                                 "\n<｜tool▁output▁begin｜>"}),
       .cuts_thoughts = true,
       .opens_thought = !known || contains(model, "<｜Assistant｜><think>"),
       .thinks = true});
}

}  // namespace hadal::chat
