// DeepSeek-Coder-Instruct (v1): "### Instruction:" and "### Response:" behind BOS; answers end in
// <|EOT|>.
#include "text/chat/format.h"

namespace hadal::chat {
namespace {

constexpr std::string_view kSystem =
    "You are an AI programming assistant, utilizing the Deepseek Coder model, developed by "
    "Deepseek Company, and you only answer "
    "questions related to computer science. For politically sensitive questions, security and "
    "privacy issues, and other non-computer "
    "science questions, you will refuse to answer\n";

}  // namespace

bool recognises_deepseek_coder(std::string_view chat_template) {
  return contains_all(chat_template, {"utilizing the Deepseek Coder model", "'### Instruction:",
                                      "'### Response:", "<|EOT|>", "ns.found"});
}

Result<Prompt> render_deepseek_coder(const ChatRequest& request, const Tokenizer* /*tokenizer*/) {
  HADAL_TRY(check_request(request,
                          {.format = "deepseek-coder", .roles = {"system", "user", "assistant"}}));
  bool has_system = false;
  for (const ChatMessage& message : request.messages)
    has_system = has_system || message.role == "system";
  PromptBuilder out;
  out.control("<｜begin▁of▁sentence｜>");
  if (!has_system) out.control(kSystem);
  for (const ChatMessage& message : request.messages) {
    if (message.role == "system") out.plain(message.content);
    if (message.role == "user")
      out.control("### Instruction:\n").plain(message.content).control("\n");
    if (message.role == "assistant")
      out.control("### Response:\n").plain(message.content).control("\n<|EOT|>\n");
  }
  if (request.add_generation_prompt) out.control("### Response:\n");
  return out.finish(false);
}

}  // namespace hadal::chat
