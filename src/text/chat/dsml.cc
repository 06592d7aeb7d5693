#include "text/chat/dsml.h"

#include <fmt/format.h>

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

}  // namespace hadal::chat
