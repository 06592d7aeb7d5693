#include "text/chat/qwen_tools.h"

#include <nlohmann/json.hpp>

#include "text/chat/python_json.h"

namespace hadal::chat {

bool has_qwen_tools(std::string_view chat_template) {
  return contains_all(chat_template, {"<|im_start|>", "within <tools></tools> XML tags",
                                      "within <tool_call></tool_call> XML tags",
                                      "tool_call.arguments | tojson", "\\n<tool_response>\\n"});
}

Status write_qwen_tools(PromptBuilder& out, const ChatRequest& request) {
  HADAL_TRY(const OrderedJson tools, parse_tools(request.tools_json));
  out.control(
      "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
      "You are provided with function signatures within <tools></tools> XML tags:\n<tools>");
  for (const OrderedJson& tool : tools) out.control("\n").plain(python_json(tool));
  out.control(
      "\n</tools>\n\nFor each function call, return a json object with function name and arguments "
      "within "
      "<tool_call></tool_call> XML tags:\n<tool_call>\n");
  // The first templates of Qwen2.5 double the braces.
  const bool doubled = contains(request.chat_template, R"({{\"name\": <function-name>)");
  out.control(doubled ? "{" : "")
      .control(R"({"name": <function-name>, "arguments": <args-json-object>})")
      .control(doubled ? "}" : "");
  out.control("\n</tool_call>");
  return {};
}

void write_qwen_call(PromptBuilder& out, std::string_view name, std::string_view arguments) {
  out.control("<tool_call>\n{\"name\": \"")
      .plain(name)
      .control("\", \"arguments\": ")
      .plain(arguments)
      .control("}\n</tool_call>");
}

void write_qwen_result(PromptBuilder& out, const std::vector<ChatMessage>& messages, size_t index) {
  if (index == 0 || messages[index - 1].role != "tool") out.control("<|im_start|>user");
  out.control("\n<tool_response>\n").plain(messages[index].content).control("\n</tool_response>");
  if (index + 1 == messages.size() || messages[index + 1].role != "tool")
    out.control("<|im_end|>\n");
}

}  // namespace hadal::chat
