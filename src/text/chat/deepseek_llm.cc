// DeepSeek-LLM-Chat, MoE-Chat, V2-Chat, Coder-V2-Instruct: "User: …\n\nAssistant: …" behind BOS.
//
// No blank after the last "Assistant:": with one, the models answer badly.
#include "text/chat/format.h"

namespace hadal::chat {

bool recognises_deepseek_llm(std::string_view chat_template) {
  return contains_all(chat_template,
                      {"{{ bos_token }}", "'User: ' + message['content'] + '",
                       "'Assistant: ' + message['content'] + eos_token", "{{ 'Assistant:' }}"});
}

Result<Prompt> render_deepseek_llm(const ChatRequest& request, const Tokenizer* /*tokenizer*/) {
  HADAL_TRY(
      check_request(request, {.format = "deepseek-llm", .roles = {"system", "user", "assistant"}}));
  PromptBuilder out;
  out.control("<｜begin▁of▁sentence｜>");
  for (const ChatMessage& message : request.messages) {
    if (message.role == "system") out.plain(message.content).control("\n\n");
    if (message.role == "user") out.control("User: ").plain(message.content).control("\n\n");
    if (message.role == "assistant")
      out.control("Assistant: ").plain(message.content).control("<｜end▁of▁sentence｜>");
  }
  if (request.add_generation_prompt) out.control("Assistant:");
  return out.finish(false);
}

}  // namespace hadal::chat
