// DeepSeek-V2.5: V3's turns; of several system messages the last one counts.
#include "text/chat/deepseek_turns.h"

namespace hadal::chat {

bool recognises_deepseek_v25(std::string_view chat_template) {
  return has_deepseek_turns(chat_template) &&
         !contains_any(chat_template, {"is_first_sp", "is_last_user", "</think>", "<think>"});
}

Result<Prompt> render_deepseek_v25(const ChatRequest& request, const Tokenizer* /*tokenizer*/) {
  return render_deepseek_turns(request, {.format = "deepseek-v2.5", .joins_systems = false});
}

}  // namespace hadal::chat
