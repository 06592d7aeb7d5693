// DeepSeek-V3 and V3-0324. The latter writes <｜Assistant｜> after each user message, not before
// each answer.
#include "text/chat/deepseek_turns.h"

namespace hadal::chat {

bool recognises_deepseek_v3(std::string_view chat_template) {
  return has_deepseek_turns(chat_template) && contains(chat_template, "is_first_sp") &&
         !contains_any(chat_template, {"</think>", "<think>"});
}

Result<Prompt> render_deepseek_v3(const ChatRequest& request, const Tokenizer* /*tokenizer*/) {
  const std::string_view model = request.chat_template;
  return render_deepseek_turns(request, {.format = "deepseek-v3",
                                         .assistant_after_user = recognises_deepseek_v3(model) &&
                                                                 contains(model, "is_last_user")});
}

}  // namespace hadal::chat
