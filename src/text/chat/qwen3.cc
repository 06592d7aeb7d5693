// Qwen3 with its switchable thought: ChatML, thoughts in <think>, tools as in Qwen2.5.
//
// Reasoning is kept only after the last question of the user: tool results travel as user turns and
// do not count as one.
#include "text/chat/format.h"
#include "text/chat/python_json.h"
#include "text/chat/qwen_tools.h"

namespace hadal::chat {
namespace {

/// Index of the last question; of the last message if there is none.
size_t last_question(const std::vector<ChatMessage>& messages) {
  for (size_t i = messages.size(); i-- > 0;) {
    const std::string& content = messages[i].content;
    if (messages[i].role == "user" &&
        !(content.starts_with("<tool_response>") && content.ends_with("</tool_response>")))
      return i;
  }
  return messages.size() - 1;
}

struct Answer {
  std::string_view reasoning, content;
};

/// What the message says: a thought inside the content counts where no reasoning is given by
/// itself.
Answer split_thought(const ChatMessage& message) {
  constexpr std::string_view kOpen = "<think>";
  constexpr std::string_view kClose = "</think>";
  const std::string_view text = message.content;
  if (!message.reasoning.empty()) return {message.reasoning, text};
  const size_t end = text.find(kClose);
  if (end == std::string_view::npos) return {"", text};
  return {strip_newlines_left(after_last(strip_newlines_right(text.substr(0, end)), kOpen)),
          strip_newlines_left(after_last(text, kClose))};
}

Status assistant_turn(PromptBuilder& out, const std::vector<ChatMessage>& messages, size_t index,
                      size_t question) {
  const ChatMessage& message = messages[index];
  const Answer answer = split_thought(message);
  const bool last = index + 1 == messages.size();
  out.control("<|im_start|>assistant\n");
  if (index > question && (last || !answer.reasoning.empty())) {
    out.control("<think>\n")
        .plain(strip_newlines_left(strip_newlines_right(answer.reasoning)))
        .control("\n</think>\n\n");
    out.plain(strip_newlines_left(answer.content));
  } else {
    out.plain(answer.content);
  }
  for (size_t i = 0; i < message.tool_calls.size(); ++i) {
    const ToolCall& call = message.tool_calls[i];
    const std::string where =
        "messages[" + std::to_string(index) + "].tool_calls[" + std::to_string(i) + "]";
    HADAL_TRY(const std::string arguments, reformat_arguments(call, where));
    if (i > 0 || !answer.content.empty()) out.control("\n");
    write_qwen_call(out, call.name, arguments);
  }
  out.control("<|im_end|>\n");
  return {};
}

Status system_turn(PromptBuilder& out, const ChatRequest& request) {
  const ChatMessage& first = request.messages[0];
  const bool own = first.role == "system";
  if (!own && request.tools_json.empty()) return {};
  out.control("<|im_start|>system\n");
  if (own) out.plain(first.content);
  if (!request.tools_json.empty()) {
    if (own) out.control("\n\n");
    HADAL_TRY(write_qwen_tools(out, request));
  }
  out.control("<|im_end|>\n");
  return {};
}

}  // namespace

bool recognises_qwen3(std::string_view chat_template) {
  return has_qwen_tools(chat_template) &&
         contains_all(chat_template, {"ns.last_query_index", "reasoning_content",
                                      "enable_thinking is defined and enable_thinking is false",
                                      "<think>\\n\\n</think>\\n\\n"});
}

Result<Prompt> render_qwen3(const ChatRequest& request, const Tokenizer* /*tokenizer*/) {
  HADAL_TRY(check_request(request, {.format = "qwen3",
                                    .roles = {"system", "user", "assistant", "tool"},
                                    .tools = true,
                                    .tool_calls = true,
                                    .may_think = true}));
  PromptBuilder out;
  const std::vector<ChatMessage>& messages = request.messages;
  HADAL_TRY(system_turn(out, request));
  const size_t question = last_question(messages);
  for (size_t i = messages[0].role == "system" ? 1 : 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (message.role == "tool") {
      write_qwen_result(out, messages, i);
    } else if (message.role == "assistant") {
      HADAL_TRY(assistant_turn(out, messages, i, question));
    } else {
      out.control("<|im_start|>" + message.role + "\n")
          .plain(message.content)
          .control("<|im_end|>\n");
    }
  }
  if (request.add_generation_prompt) {
    out.control("<|im_start|>assistant\n");
    if (request.thinking == false) out.control("<think>\n\n</think>\n\n");
  }
  return out.finish(false);
}

}  // namespace hadal::chat
