// Llama 3 and 3.1: <|start_header_id|>role<|end_header_id|>\n\n…<|eot_id|>.
//
// 3.1, 3.2 and 3.3 begin with a system turn that holds two dates; today's date is the template's
// fixed one, so that a prompt depends on nothing but the request. Llama 3's template has no such
// header and no tools.
#include <nlohmann/json.hpp>

#include "text/chat/format.h"
#include "text/chat/python_json.h"

namespace hadal::chat {
namespace {

constexpr std::string_view kEnd = "<|eot_id|>";

void header(PromptBuilder& out, std::string_view role) {
  out.control("<|start_header_id|>").control(role).control("<|end_header_id|>\n\n");
}

bool is_llama30(std::string_view text) {
  return contains_all(text, {"'<|start_header_id|>' + message['role'] + '<|end_header_id|>",
                             "message['content'] | trim + '<|eot_id|>'", "bos_token + content"}) &&
         !contains_any(text, {"tool", "Cutting Knowledge Date"});
}

bool is_llama31(std::string_view text) {
  return contains_all(text,
                      {"<|start_header_id|>", "<|eot_id|>", "Cutting Knowledge Date: December 2023",
                       "26 Jul 2024", "tools_in_user_message"}) &&
         !contains(text, "image");
}

/// The tools, in the first user message.
Status tools_turn(PromptBuilder& out, const ChatRequest& request, size_t first) {
  if (first >= request.messages.size() || request.messages[first].role != "user")
    return usage_error(
        "tools: the chat format llama3 puts them into the first user message, but no user message "
        "comes first");
  HADAL_TRY(const OrderedJson tools, parse_tools(request.tools_json));
  header(out, "user");
  out.control(
      "Given the following functions, please respond with a JSON for a function call with its "
      "proper arguments that best answers "
      "the given prompt.\n\nRespond in the format {\"name\": function name, \"parameters\": "
      "dictionary of argument name and its "
      "value}.Do not use variables.\n\n");
  for (const OrderedJson& tool : tools) out.plain(python_json(tool, 4)).control("\n\n");
  out.plain(strip(request.messages[first].content)).control(kEnd);
  return {};
}

Status call_turn(PromptBuilder& out, const ChatMessage& message, const std::string& where) {
  if (message.tool_calls.size() != 1)
    return usage_error(where + ".tool_calls: the chat format llama3 has one call a message, " +
                       std::to_string(message.tool_calls.size()) + " were given");
  HADAL_TRY(const std::string arguments,
            reformat_arguments(message.tool_calls[0], where + ".tool_calls[0]"));
  header(out, "assistant");
  out.control("{\"name\": \"")
      .plain(message.tool_calls[0].name)
      .control("\", \"parameters\": ")
      .plain(arguments)
      .control("}");
  out.control(kEnd);
  return {};
}

}  // namespace

bool recognises_llama3(std::string_view chat_template) {
  return is_llama30(chat_template) || is_llama31(chat_template);
}

Result<Prompt> render_llama3(const ChatRequest& request, const Tokenizer* /*tokenizer*/) {
  const bool dated = !is_llama30(request.chat_template);
  if (dated) {
    HADAL_TRY(check_request(request, {.format = "llama3",
                                      .roles = {"system", "user", "assistant", "tool", "ipython"},
                                      .tools = true,
                                      .tool_calls = true}));
  } else {
    HADAL_TRY(
        check_request(request, {.format = "llama3", .roles = {"system", "user", "assistant"}}));
  }
  PromptBuilder out;
  out.control("<|begin_of_text|>");
  const std::vector<ChatMessage>& messages = request.messages;
  size_t next = 0;
  if (dated) {
    header(out, "system");
    if (!request.tools_json.empty()) out.control("Environment: ipython\n");
    out.control("Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
    if (messages[0].role == "system") out.plain(strip(messages[next++].content));
    out.control(kEnd);
  }
  if (!request.tools_json.empty()) HADAL_TRY(tools_turn(out, request, next++));
  for (; next < messages.size(); ++next) {
    const ChatMessage& message = messages[next];
    if (!message.tool_calls.empty()) {
      HADAL_TRY(call_turn(out, message, "messages[" + std::to_string(next) + "]"));
      continue;
    }
    const bool result = message.role == "tool" || message.role == "ipython";
    header(out, result ? "ipython" : message.role);
    // The template writes a tool's result as JSON, a text therefore in quotes.
    out.plain(result ? python_json(OrderedJson(message.content))
                     : std::string(strip(message.content)))
        .control(kEnd);
  }
  if (request.add_generation_prompt) header(out, "assistant");
  return out.finish(false);
}

}  // namespace hadal::chat
