// DeepSeek-R1 and R1-Distill-*: V3's turns, the answer starts in <think>, earlier answers lose their thoughts.
#include "text/chat/deepseek_turns.h"

namespace hadal::chat {

bool recognises_deepseek_r1(std::string_view chat_template) {
  return has_deepseek_turns(chat_template) && contains_all(chat_template, {"<｜Assistant｜><think>", "'</think>' in content"});
}

Result<Prompt> render_deepseek_r1(const ChatRequest& request, const Tokenizer* /*tokenizer*/) {
  const std::string_view model = request.chat_template;
  return render_deepseek_turns(request, {.format = "deepseek-r1",
                                         .joins_systems = !recognises_deepseek_r1(model) || contains(model, "is_first_sp"),
                                         .cuts_thoughts = true,
                                         .opens_thought = true,
                                         .thinks = true});
}

}  // namespace hadal::chat
