#include "server/responses_tools.h"

#include <algorithm>
#include <set>
#include <utility>

#include "checkpoint/printable.h"
#include "server/tool_fields.h"

namespace hadal::server {
namespace {

/// A tool as it is called, as chats declare it, and as the response repeats it.
struct Tool {
  ToolSpec spec;
  Json declared, echo;
};

Result<Tool> read_tool(const Json& value, const std::string& path) {
  if (!value.is_object()) return wrong_type(path, "an object", value);
  Fields fields(value, path);
  HADAL_TRY(const std::string type, fields.text("type"));
  if (type != "function")
    return usage_error(
        path + ".type: only \"function\" is supported, " + quote(type) + " was found" +
        (type.empty() ? "" : "; give a function that does it, and call it yourself"));
  if (fields.find("function"))
    return usage_error(path +
                       ".function: is the form of chat completions: here name, parameters and "
                       "strict stand in the tool itself");
  Tool tool;
  HADAL_TRY(tool.spec, read_function(fields));
  HADAL_TRY(const std::string description, fields.text("description"));
  const Json* strict = fields.find("strict");
  const Json* parameters = fields.find("parameters");

  Json function = {{"name", tool.spec.name}};
  if (fields.find("description")) function["description"] = description;
  if (parameters) function["parameters"] = *parameters;
  if (strict) function["strict"] = *strict;
  tool.declared = {{"type", "function"}, {"function", std::move(function)}};
  tool.echo = {{"type", "function"}, {"name", tool.spec.name}};
  tool.echo["description"] = fields.find("description") ? Json(description) : Json();
  tool.echo["parameters"] = parameters ? *parameters : Json();
  tool.echo["strict"] = tool.spec.strict;
  return tool;
}

Result<std::vector<Tool>> read_tools(Fields& fields) {
  std::vector<Tool> all;
  const Json* tools = fields.find("tools");
  if (!tools) return all;
  if (!tools->is_array()) return wrong_type("tools", "a list", *tools);
  HADAL_TRY(check_limit(limit("tools"), static_cast<int64_t>(tools->size())));
  std::set<std::string> names;
  for (size_t i = 0; i < tools->size(); ++i) {
    const std::string path = "tools[" + std::to_string(i) + "]";
    HADAL_TRY(Tool tool, read_tool((*tools)[i], path));
    if (!names.insert(tool.spec.name).second)
      return usage_error(path + ".name: " + quote(tool.spec.name) + " occurs twice");
    all.push_back(std::move(tool));
  }
  return all;
}

bool declares(const std::vector<Tool>& tools, const std::string& name) {
  return std::any_of(tools.begin(), tools.end(),
                     [&](const Tool& tool) { return tool.spec.name == name; });
}

/// {"type": "function", "name": …}, of the tools.
Result<std::string> chosen_name(Fields& choice, const std::vector<Tool>& tools) {
  if (!choice.find("name")) return usage_error(choice.path_of("name") + ": is missing");
  HADAL_TRY(std::string name, choice.text("name"));
  if (!declares(tools, name))
    return usage_error(choice.path_of("name") + ": " + quote(name) + " is none of the tools");
  return name;
}

/// {"type": "allowed_tools", "mode", "tools"}: the others are not declared.
Status read_allowed(Fields& choice, AnswerOptions& options, std::vector<Tool>& tools) {
  HADAL_TRY(const std::string mode, choice.text("mode"));
  if (mode != "auto" && mode != "required")
    return usage_error("tool_choice.mode: \"auto\" or \"required\" is expected, " + quote(mode) +
                       " was found");
  const Json* list = choice.find("tools");
  if (!list || !list->is_array() || list->empty())
    return usage_error("tool_choice.tools: a list of tools is expected");
  HADAL_TRY(check_limit(limit("tools"), static_cast<int64_t>(list->size()), "tool_choice.tools"));
  std::set<std::string> allowed;
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string path = "tool_choice.tools[" + std::to_string(i) + "]";
    if (!(*list)[i].is_object()) return wrong_type(path, "an object", (*list)[i]);
    Fields entry((*list)[i], path);
    HADAL_TRY(const std::string type, entry.text("type"));
    if (type != "function")
      return usage_error(path + ".type: only \"function\" is supported, " + quote(type) +
                         " was found");
    HADAL_TRY(std::string name, chosen_name(entry, tools));
    allowed.insert(std::move(name));
  }
  std::erase_if(tools, [&](const Tool& tool) { return !allowed.contains(tool.spec.name); });
  if (mode == "required") options.tool_use = ToolUse::kRequired;
  return {};
}

Status read_choice(const Json& value, AnswerOptions& options, std::vector<Tool>& tools) {
  if (value.is_object()) {
    Fields choice(value, "tool_choice");
    HADAL_TRY(const std::string type, choice.text("type"));
    if (type == "allowed_tools") return read_allowed(choice, options, tools);
    if (type != "function")
      return usage_error("tool_choice.type: \"function\" or \"allowed_tools\" is expected, " +
                         quote(type) + " was found; there are no hosted tools");
    HADAL_TRY(options.tool_name, chosen_name(choice, tools));
    options.tool_use = ToolUse::kNamed;
    return {};
  }
  if (value == "auto") return {};
  if (value == "required") {
    if (tools.empty()) return usage_error("tool_choice: \"required\" needs tools");
    options.tool_use = ToolUse::kRequired;
    return {};
  }
  if (value != "none")
    return usage_error(
        "tool_choice: \"none\", \"auto\", \"required\" or {\"type\": \"function\", \"name\": …} "
        "is expected, " +
        (value.is_string() ? quote(value.get<std::string>()) : std::string(value.type_name())) +
        " was found");
  // What is not declared is not called.
  options.tool_use = ToolUse::kNone;
  tools.clear();
  return {};
}

}  // namespace

Status read_response_tools(Fields& fields, ChatCall& call, Json& echo) {
  AnswerOptions& options = call.options;
  HADAL_TRY(options.parallel_tool_calls, fields.flag("parallel_tool_calls", true));
  HADAL_TRY(std::vector<Tool> tools, read_tools(fields));
  echo["parallel_tool_calls"] = options.parallel_tool_calls;
  const Json* choice = fields.find("tool_choice");
  echo["tool_choice"] = choice ? *choice : Json("auto");
  Json& repeated = echo["tools"] = Json::array();
  for (const Tool& tool : tools) repeated.push_back(tool.echo);
  if (choice) HADAL_TRY(read_choice(*choice, options, tools));
  Json declared = Json::array();
  for (Tool& tool : tools) {
    options.strict_tools = options.strict_tools || tool.spec.strict;
    declared.push_back(std::move(tool.declared));
    call.tools.push_back(std::move(tool.spec));
  }
  if (!declared.empty()) call.chat.tools_json = declared.dump();
  return {};
}

}  // namespace hadal::server
