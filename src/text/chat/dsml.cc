#include "text/chat/dsml.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "text/chat/python_json.h"

namespace hadal::chat {

Status write_dsml_calls(PromptBuilder& out, const std::vector<ChatMessage>& messages, size_t index,
                        const DsmlTags& tags) {
  const std::vector<ToolCall>& calls = messages[index].tool_calls;
  if (calls.empty()) return {};
  out.control(fmt::format("\n\n<{}>\n", tags.calls));
  for (size_t i = 0; i < calls.size(); ++i) {
    HADAL_TRY(const OrderedJson arguments,
              parse_arguments(calls[i], fmt::format("messages[{}].tool_calls[{}]", index, i)));
    out.control(fmt::format("<{} name=\"", tags.invoke)).plain(calls[i].name).control("\">\n");
    for (const auto& [key, value] : arguments.items()) {
      out.control(fmt::format("<{} name=\"", tags.parameter)).plain(key);
      out.control(fmt::format("\" string=\"{}\">", value.is_string()));
      out.plain(value.is_string() ? value.get<std::string>() : python_json(value));
      out.control(fmt::format("</{}>\n", tags.parameter));
    }
    if (arguments.empty() && tags.blank_line_for_none) out.control("\n");
    out.control(fmt::format("</{}>\n", tags.invoke));
  }
  out.control(fmt::format("</{}>", tags.calls));
  return {};
}

void write_response_format(PromptBuilder& out, const ChatRequest& request, bool object_as_schema) {
  if (request.response_format == ResponseFormat::kText) return;
  const bool object = request.response_format == ResponseFormat::kJsonObject;
  if (object && !object_as_schema) {
    out.control(
        "\n\nYou are a helpful assistant designed to output JSON.\n## Response Format:\n\nReply "
        "with "
        "JSON object ONLY.");
    return;
  }
  out.control(
      "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n");
  out.plain(python_json(
      OrderedJson::parse(object ? R"({"type": "json_object"})" : request.response_schema)));
}

}  // namespace hadal::chat
