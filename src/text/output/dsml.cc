// Tool calls in DSML (text/chat/dsml.h), as DeepSeek-V3.2 and later write them behind a blank line.
//
// Values with string="true" are raw text, others must be JSON and are kept as they are. A parameter
// given twice, an unknown attribute or text between the tags make a call broken.
#include <algorithm>
#include <vector>

#include "text/chat/dsml.h"
#include "text/chat/python_json.h"
#include "text/output/parsers.h"

namespace hadal {
namespace {

using chat::DsmlTags;

std::string json_string(std::string_view text) {
  return chat::python_json(chat::OrderedJson(std::string(text)));
}

bool take_tag(std::string_view& text, std::string_view tag) {
  return take(text, "<") && take(text, tag) && take(text, " name=\"");
}

/// "KEY": VALUE of the parameter that `text` begins with, and its key.
struct Parameter {
  std::string_view key;
  std::string json;
};
std::optional<Parameter> take_parameter(std::string_view& text, const DsmlTags& tags) {
  if (!take_tag(text, tags.parameter)) return std::nullopt;
  const std::optional<std::string_view> key = take_until(text, "\" string=\"");
  if (!key) return std::nullopt;
  const bool is_string = take(text, "true\">");
  if (!is_string && !take(text, "false\">")) return std::nullopt;
  const std::optional<std::string_view> value =
      take_until(text, "</" + std::string(tags.parameter) + ">");
  if (!value || (!is_string && !nlohmann::json::accept(*value))) return std::nullopt;
  return Parameter{
      *key, json_string(*key) + ": " + (is_string ? json_string(*value) : std::string(*value))};
}

std::optional<ToolCall> parse_invoke(std::string_view text, const DsmlTags& tags) {
  text = strip_blanks(text);
  if (!take_tag(text, tags.invoke)) return std::nullopt;
  const std::optional<std::string_view> name = take_until(text, "\">");
  if (!name || name->empty() || has_blanks(*name)) return std::nullopt;
  std::string arguments;
  std::vector<std::string_view> keys;
  for (text = strip_blanks(text); !text.empty(); text = strip_blanks(text)) {
    const std::optional<Parameter> parameter = take_parameter(text, tags);
    if (!parameter || std::find(keys.begin(), keys.end(), parameter->key) != keys.end())
      return std::nullopt;
    arguments += (keys.empty() ? "" : ", ") + parameter->json;
    keys.push_back(parameter->key);
  }
  return ToolCall{.name = std::string(*name), .arguments = "{" + arguments + "}"};
}

/// `tags`: those that parse_invoke reads.
template <const DsmlTags& tags>
constexpr CallSyntax syntax(std::string_view list_begin, std::string_view list_end,
                            std::string_view call_end) {
  return {.list_begin = list_begin,
          .list_end = list_end,
          .call_end = call_end,
          .newlines_before = true,
          .ends_thought = true,
          .parse = [](std::string_view text) { return parse_invoke(text, tags); }};
}

}  // namespace

constexpr CallSyntax kDsmlV32Calls = syntax<chat::kDsmlV32>(
    "<｜DSML｜function_calls>", "</｜DSML｜function_calls>", "</｜DSML｜invoke>");
constexpr CallSyntax kDsmlV4Calls =
    syntax<chat::kDsmlV4>("<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>", "</｜DSML｜invoke>");
constexpr CallSyntax kDsmlV41Calls =
    syntax<chat::kDsmlV41>("<｜DSML｜ calls>", "</｜DSML｜ calls>", "</｜DSML｜ invoke>");

}  // namespace hadal
