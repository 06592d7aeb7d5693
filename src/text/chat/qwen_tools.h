// Tools as Qwen2.5 and Qwen3 write them: declared in the system text, called in <tool_call>,
// answered in <tool_response>.
#pragma once

#include "text/chat/format.h"

namespace hadal::chat {

/// Whether a template declares tools this way.
bool has_qwen_tools(std::string_view chat_template);
/// "# Tools … </tool_call>", without the line before and the end of the turn. Errors: the request's
/// tools are no list of objects.
Status write_qwen_tools(PromptBuilder& out, const ChatRequest& request);
/// "<tool_call>\n{…}\n</tool_call>"
void write_qwen_call(PromptBuilder& out, std::string_view name, std::string_view arguments);
/// messages[index], a tool's; neighbouring results share one user turn.
void write_qwen_result(PromptBuilder& out, const std::vector<ChatMessage>& messages, size_t index);

}  // namespace hadal::chat
