#include "text/chat/request_json.h"

#include <nlohmann/json.hpp>

#include "checkpoint/printable.h"
#include "text/chat/python_json.h"

namespace hadal {
namespace {

using chat::OrderedJson;

Error wrong(const std::string& path, std::string_view expected, const OrderedJson& found) {
  return usage_error(path + ": " + std::string(expected) + " is expected, " + found.type_name() +
                     " was found");
}

/// The member, or null where it is missing or JSON's null.
const OrderedJson* member(const OrderedJson& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

Result<std::string> text_of(const OrderedJson& object, const char* key, const std::string& path) {
  const OrderedJson* value = member(object, key);
  if (!value) return std::string();
  if (!value->is_string()) return wrong(path.empty() ? key : path + "." + key, "a text", *value);
  return value->get<std::string>();
}

Result<bool> flag_of(const OrderedJson& object, const char* key, const std::string& path,
                     bool missing = false) {
  const OrderedJson* value = member(object, key);
  if (!value) return missing;
  if (!value->is_boolean()) return wrong(path, "true or false", *value);
  return value->get<bool>();
}

Result<std::string> content_of(const OrderedJson& message, const std::string& path) {
  const OrderedJson* content = member(message, "content");
  if (!content || content->is_string()) return text_of(message, "content", path);
  if (!content->is_array()) return wrong(path + ".content", "a text or a list of parts", *content);
  std::string all;
  for (size_t i = 0; i < content->size(); ++i) {
    const OrderedJson& part = (*content)[i];
    const std::string where = path + ".content[" + std::to_string(i) + "]";
    if (!part.is_object()) return wrong(where, "an object with type and text", part);
    HADAL_TRY(const std::string type, text_of(part, "type", where));
    if (type != "text")
      return usage_error(where + ".type: only \"text\" is known, " + quote(type) + " was found");
    if (!member(part, "text")) return usage_error(where + ".text: is missing");
    HADAL_TRY(const std::string text, text_of(part, "text", where));
    all += text;
  }
  return all;
}

Result<ToolCall> call_of(const OrderedJson& value, const std::string& path) {
  if (!value.is_object()) return wrong(path, "an object", value);
  ToolCall call;
  HADAL_TRY(call.id, text_of(value, "id", path));
  const OrderedJson* function = member(value, "function");
  if (!function) return usage_error(path + ".function: is missing");
  if (!function->is_object()) return wrong(path + ".function", "an object", *function);
  HADAL_TRY(call.name, text_of(*function, "name", path + ".function"));
  if (call.name.empty()) return usage_error(path + ".function.name: is missing or empty");
  const OrderedJson* arguments = member(*function, "arguments");
  if (!arguments) return usage_error(path + ".function.arguments: is missing");
  if (!arguments->is_string() && !arguments->is_object())
    return wrong(path + ".function.arguments", "a JSON text or an object", *arguments);
  call.arguments =
      arguments->is_string() ? arguments->get<std::string>() : chat::python_json(*arguments);
  return call;
}

Result<ChatMessage> message_of(const OrderedJson& value, const std::string& path) {
  if (!value.is_object()) return wrong(path, "an object", value);
  ChatMessage message;
  HADAL_TRY(message.role, text_of(value, "role", path));
  if (message.role.empty()) return usage_error(path + ".role: is missing or empty");
  HADAL_TRY(message.content, content_of(value, path));
  HADAL_TRY(
      message.reasoning,
      text_of(value, member(value, "reasoning_content") ? "reasoning_content" : "reasoning", path));
  HADAL_TRY(message.tool_call_id, text_of(value, "tool_call_id", path));
  HADAL_TRY(message.name, text_of(value, "name", path));
  HADAL_TRY(message.prefix, flag_of(value, "prefix", path + ".prefix"));
  const OrderedJson* calls = member(value, "tool_calls");
  if (!calls) {
    // Empty content is an answer; none at all is a mistake, unless the message calls tools.
    if (!member(value, "content")) return usage_error(path + ".content: is missing");
    return message;
  }
  if (!calls->is_array()) return wrong(path + ".tool_calls", "a list", *calls);
  for (size_t i = 0; i < calls->size(); ++i) {
    HADAL_TRY(ToolCall call, call_of((*calls)[i], path + ".tool_calls[" + std::to_string(i) + "]"));
    message.tool_calls.push_back(std::move(call));
  }
  return message;
}

Result<std::optional<bool>> thinking_of(const OrderedJson& request) {
  const OrderedJson* value = member(request, "thinking");
  if (!value) return std::optional<bool>();
  if (value->is_boolean()) return std::optional<bool>(value->get<bool>());
  if (!value->is_object()) return wrong("thinking", "true, false or {\"type\": …}", *value);
  HADAL_TRY(const std::string type, text_of(*value, "type", "thinking"));
  if (type != "enabled" && type != "disabled")
    return usage_error("thinking.type: \"enabled\" or \"disabled\" is expected, " + quote(type) +
                       " was found");
  return std::optional<bool>(type == "enabled");
}

/// A name, or a number of DeepSeek-V4.1's scale.
Result<std::string> effort_of(const OrderedJson& request, const char* key) {
  const OrderedJson* value = member(request, key);
  if (value && value->is_number_integer()) return value->dump();
  return text_of(request, key, "");
}

Status read_response_format(const OrderedJson& root, ChatRequest& request) {
  const OrderedJson* value = member(root, "response_format");
  if (!value) return {};
  if (!value->is_object()) return wrong("response_format", "an object", *value);
  HADAL_TRY(const std::string type, text_of(*value, "type", "response_format"));
  if (type == "text") return {};
  if (type != "json_object" && type != "json_schema")
    return usage_error(
        "response_format.type: \"text\", \"json_object\" or \"json_schema\" is expected, " +
        quote(type) + " was found");
  request.response_format = ResponseFormat::kJsonObject;
  if (type == "json_object") return {};
  request.response_format = ResponseFormat::kJsonSchema;
  const OrderedJson* outer = member(*value, "json_schema");
  if (!outer) return usage_error("response_format.json_schema: is missing");
  if (!outer->is_object()) return wrong("response_format.json_schema", "an object", *outer);
  const OrderedJson* schema = member(*outer, "schema");
  if (!schema) return usage_error("response_format.json_schema.schema: is missing");
  if (!schema->is_object())
    return wrong("response_format.json_schema.schema", "an object", *schema);
  request.response_schema = schema->dump();
  return {};
}

}  // namespace

Result<ChatRequest> parse_chat_request(std::string_view json) {
  HADAL_TRY(const OrderedJson root, chat::parse_json(json, "request"));
  return read_chat_request(root);
}

Result<ChatRequest> read_chat_request(const OrderedJson& root) {
  if (!root.is_object()) return wrong("request", "an object", root);
  ChatRequest request;
  const OrderedJson* messages = member(root, "messages");
  if (!messages) return usage_error("messages: is missing");
  if (!messages->is_array()) return wrong("messages", "a list", *messages);
  if (messages->empty())
    return usage_error("messages: the list is empty; give at least one message");
  for (size_t i = 0; i < messages->size(); ++i) {
    HADAL_TRY(ChatMessage message,
              message_of((*messages)[i], "messages[" + std::to_string(i) + "]"));
    request.messages.push_back(std::move(message));
  }
  if (const OrderedJson* tools = member(root, "tools");
      tools && !(tools->is_array() && tools->empty())) {
    request.tools_json = tools->dump();
    HADAL_TRY(chat::parse_tools(request.tools_json));
  }
  HADAL_TRY(request.thinking, thinking_of(root));
  HADAL_TRY(request.effort,
            effort_of(root, member(root, "effort") ? "effort" : "reasoning_effort"));
  HADAL_TRY(read_response_format(root, request));
  HADAL_TRY(request.add_generation_prompt,
            flag_of(root, "add_generation_prompt", "add_generation_prompt", true));
  return request;
}

}  // namespace hadal
