// DeepSeek-R1-0528 and R1-0528-Qwen3-8B: V3-0324's turns; the model opens its thought itself,
// earlier answers lose theirs.
#include "text/chat/deepseek_turns.h"

namespace hadal::chat {

bool recognises_deepseek_r1_0528(std::string_view chat_template) {
  return has_deepseek_turns(chat_template) &&
         contains_all(chat_template,
                      {"is_last_user", "'</think>' in content", "+ '<｜Assistant｜>'}}"}) &&
         !contains(chat_template, "<｜Assistant｜><think>");
}

Result<Prompt> render_deepseek_r1_0528(const ChatRequest& request, const Tokenizer* /*tokenizer*/) {
  return render_deepseek_turns(request, {.format = "deepseek-r1-0528",
                                         .assistant_after_user = true,
                                         .cuts_thoughts = true,
                                         .thinks = true});
}

}  // namespace hadal::chat
