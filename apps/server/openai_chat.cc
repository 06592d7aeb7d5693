#include "server/openai_chat.h"

#include <algorithm>
#include <set>
#include <utility>

#include "checkpoint/printable.h"
#include "server/call_fields.h"
#include "server/openai_fields.h"
#include "server/tool_fields.h"
#include "text/chat/request_json.h"

namespace hadal::server {
namespace {

constexpr RefusedField kRefused[] = {
    {"functions", "[]", "give tools instead"},
    {"function_call", "\"none\"", "give tool_choice instead"},
    {"audio", "", "answers are text"},
    {"modalities", "[\"text\"]", "answers are text"},
    {"web_search_options", "", "nothing is searched here; give a tool that searches"},
    {"verbosity", "\"medium\"", "say it in a message"},
    {"echo", "false", "use a last message with \"prefix\": true"},
    {"add_special_tokens", "false", "the chat format writes them"},
    {"chat_template", "", "the model's own format is used"},
    {"documents", "[]", "put them into a message"},
    {"mm_processor_kwargs", "{}", "the model reads text alone"},
    {"best_of", "1", "ask for several answers by n"},
};
constexpr const char* kHarmless[] = {"prediction", "reasoning_format", "stream_reasoning"};

// ---- messages

Status check_part(const Json& part, const std::string& where) {
  if (!part.is_object() || !part.contains("type") || !part["type"].is_string()) return {};
  const auto& type = part["type"].get_ref<const std::string&>();
  for (const auto& [name, what] : {std::pair{"image", "images"}, std::pair{"audio", "audio"},
                                   std::pair{"video", "videos"}, std::pair{"file", "files"}})
    if (type.find(name) != std::string::npos)
      return usage_error(where + ": " + quote(type) + " was found; the model reads text, no " +
                         what + ": leave the part out");
  return {};
}

/// What is bounded, and what is no part of a chat here; the rest is read_chat_request's.
Status check_messages(const Json& body) {
  const auto messages = body.find("messages");
  if (messages == body.end() || !messages->is_array()) return {};
  HADAL_TRY(check_limit(limit("messages"), static_cast<int64_t>(messages->size())));
  for (size_t i = 0; i < messages->size(); ++i) {
    const Json& message = (*messages)[i];
    const std::string path = "messages[" + std::to_string(i) + "]";
    if (!message.is_object()) continue;
    Fields fields(message, path);
    for (const char* name : {"audio", "function_call"})
      if (fields.find(name))
        return usage_error(fields.path_of(name) + ": is not supported: " +
                           (*name == 'a' ? "the model reads text" : "give tool_calls instead"));
    if (const Json* role = fields.find("role"); role && *role == "function")
      return usage_error(path + ".role: \"function\" is not supported: give \"tool\" instead");
    if (const Json* calls = fields.find("tool_calls"); calls && calls->is_array())
      HADAL_TRY(check_limit(limit("messages[].tool_calls"), static_cast<int64_t>(calls->size()),
                            path + ".tool_calls"));
    const Json* content = fields.find("content");
    if (!content || !content->is_array()) continue;
    HADAL_TRY(check_limit(limit("messages[].content"), static_cast<int64_t>(content->size()),
                          path + ".content"));
    for (size_t p = 0; p < content->size(); ++p)
      HADAL_TRY(check_part((*content)[p], path + ".content[" + std::to_string(p) + "].type"));
  }
  return {};
}

// ---- tools

Status read_tools(Fields& fields, ChatCall& call) {
  HADAL_TRY(call.tools, read_function_tools(fields));
  call.options.strict_tools = std::any_of(call.tools.begin(), call.tools.end(),
                                          [](const ToolSpec& tool) { return tool.strict; });
  return {};
}

Status read_tool_choice(Fields& fields, ChatCall& call) {
  AnswerOptions& options = call.options;
  HADAL_TRY(options.parallel_tool_calls, fields.flag("parallel_tool_calls", true));
  const Json* value = fields.find("tool_choice");
  if (!value) return {};
  if (value->is_object()) {
    Fields choice(*value, "tool_choice");
    HADAL_TRY(const std::string type, choice.text("type"));
    if (type != "function")
      return usage_error("tool_choice.type: only \"function\" is supported, " + quote(type) +
                         " was found");
    HADAL_TRY(std::optional<Fields> function, choice.object("function"));
    if (!function) return usage_error("tool_choice.function: is missing");
    HADAL_TRY(options.tool_name, function->text("name"));
    options.tool_use = ToolUse::kNamed;
    if (std::none_of(call.tools.begin(), call.tools.end(),
                     [&](const ToolSpec& tool) { return tool.name == options.tool_name; }))
      return usage_error("tool_choice.function.name: " + quote(options.tool_name) +
                         " is none of the tools");
    return {};
  }
  if (*value == "auto") return {};
  if (*value == "required") {
    if (call.tools.empty()) return usage_error("tool_choice: \"required\" needs tools");
    options.tool_use = ToolUse::kRequired;
    return {};
  }
  if (*value != "none")
    return usage_error(
        "tool_choice: \"none\", \"auto\", \"required\" or {\"type\": \"function\", "
        "\"function\": {\"name\": …}} is expected, " +
        (value->is_string() ? quote(value->get<std::string>()) : std::string(value->type_name())) +
        " was found");
  // What is not declared is not called.
  options.tool_use = ToolUse::kNone;
  call.tools.clear();
  call.chat.tools_json.clear();
  return {};
}

// ---- thinking

Status read_switch(Fields& fields, const char* name, ChatRequest& chat) {
  const Json* value = fields.find(name);
  if (!value) return {};
  if (!value->is_boolean()) return wrong_type(fields.path_of(name), "true or false", *value);
  return set_thinking(chat, value->get<bool>(), fields.path_of(name));
}

Status read_thinking(Fields& fields, ChatCall& call) {
  ChatRequest& chat = call.chat;
  const Limit& budget = limit("thinking_token_budget");
  if (const Json* thinking = fields.find("thinking"); thinking && thinking->is_object()) {
    Fields inner(*thinking, "thinking");
    HADAL_TRY(const auto tokens, inner.whole("budget_tokens", budget));
    HADAL_TRY(set_budget(call.options, tokens, "thinking.budget_tokens"));
  }
  HADAL_TRY(const auto tokens, fields.whole("thinking_token_budget", budget));
  HADAL_TRY(set_budget(call.options, tokens, "thinking_token_budget"));
  HADAL_TRY(read_switch(fields, "enable_thinking", chat));
  for (const char* name : {"reasoning_effort", "effort"})
    if (const Json* effort = fields.find(name); effort && effort->is_number())
      HADAL_TRY(whole_of(*effort, limit("reasoning_effort"), name));
  HADAL_TRY(std::optional<Fields> arguments, fields.object("chat_template_kwargs"));
  if (arguments) {
    for (const char* name : {"thinking", "enable_thinking"})
      HADAL_TRY(read_switch(*arguments, name, chat));
    HADAL_TRY(const std::string effort, arguments->text("reasoning_effort"));
    if (!effort.empty() && !chat.effort.empty() && effort != chat.effort)
      return usage_error("chat_template_kwargs.reasoning_effort: is " + quote(effort) +
                         ", and reasoning_effort is " + quote(chat.effort) + "; give one");
    if (!effort.empty()) chat.effort = effort;
    if (const auto unknown = arguments->unknown(); !unknown.empty())
      return usage_error(unknown[0] +
                         ": is not supported: known are thinking, enable_thinking and "
                         "reasoning_effort");
  }
  // For formats that know no effort, "none" is the switch alone.
  if (chat.effort == "none" && !chat.thinking.value_or(false)) {
    chat.thinking = false;
    chat.effort.clear();
  }
  return {};
}

// ---- the rest of a chat

Status read_continuation(Fields& fields, ChatRequest& chat) {
  HADAL_TRY(const bool continues, fields.flag("continue_final_message", false));
  fields.find("add_generation_prompt");  // read_chat_request's
  if (!continues) return {};
  const bool given = fields.find("add_generation_prompt") != nullptr;
  if (given && chat.add_generation_prompt)
    return usage_error(
        "continue_final_message: and add_generation_prompt exclude each other; give one");
  if (chat.messages.back().role != "assistant")
    return usage_error("continue_final_message: the last message is " +
                       quote(chat.messages.back().role) + "'s, the assistant's is expected");
  chat.messages.back().prefix = true;
  chat.add_generation_prompt = true;
  return {};
}

Status read_logprobs(Fields& fields, AnswerOptions& options) {
  HADAL_TRY(options.logprobs, fields.flag("logprobs", false));
  HADAL_TRY(const auto top, fields.whole("top_logprobs", limit("top_logprobs")));
  options.top_logprobs = top.value_or(0);
  if (options.top_logprobs > 0 && !options.logprobs)
    return usage_error("top_logprobs: needs \"logprobs\": true");
  return {};
}

}  // namespace

Result<ChatCall> parse_chat_call(std::string_view body) {
  HADAL_TRY(const Json root, parse_body(body));
  return read_chat_call(root);
}

Result<ChatCall> read_chat_call(const Json& body) {
  if (!body.is_object()) return wrong_type("", "an object", body);
  Fields fields(body, "");
  ChatCall call;
  HADAL_TRY(check_messages(body));
  fields.find("messages");
  HADAL_TRY(read_tools(fields, call));
  HADAL_TRY(call.chat, read_chat_request(body));
  for (ChatMessage& message : call.chat.messages)
    if (message.role == "developer") message.role = "system";
  HADAL_TRY(read_tool_choice(fields, call));
  HADAL_TRY(read_thinking(fields, call));
  HADAL_TRY(read_continuation(fields, call.chat));
  HADAL_TRY(read_logprobs(fields, call.options));
  HADAL_TRY(const auto most, read_max_tokens(fields));
  call.options.max_new_tokens = most.value_or(0);
  HADAL_TRY(call.include_reasoning, fields.flag("include_reasoning", true));
  HADAL_TRY(read_common(fields, call));
  HADAL_TRY(refuse(fields, kRefused));
  pass(fields, kHarmless);
  call.ignored = fields.unknown();
  return call;
}

}  // namespace hadal::server
