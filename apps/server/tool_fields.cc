#include "server/tool_fields.h"

#include <algorithm>
#include <set>

#include "checkpoint/printable.h"

namespace hadal::server {
namespace {

bool is_object_schema(const Json& schema) {
  const auto type = schema.find("type");
  if (type == schema.end()) return schema.contains("properties");
  return *type == "object" ||
         (type->is_array() && std::find(type->begin(), type->end(), "object") != type->end());
}

Status check_strict(const Json& schema, const std::string& path);

/// Of an object: it lists all of its properties as required, and takes no others.
Status check_strict_object(const Json& schema, const std::string& path) {
  const auto more = schema.find("additionalProperties");
  if (more == schema.end() || *more != false)
    return usage_error(path +
                       ": a strict tool needs \"additionalProperties\": false in every object of "
                       "its schema");
  std::set<std::string> required;
  if (const auto list = schema.find("required"); list != schema.end() && list->is_array())
    for (const Json& name : *list)
      if (name.is_string()) required.insert(name.get<std::string>());
  if (const auto all = schema.find("properties"); all != schema.end() && all->is_object())
    for (const auto& [name, property] : all->items())
      if (!required.contains(name))
        return usage_error(path + ".required: a strict tool needs every property there; " +
                           quote(name) + " is missing");
  return {};
}

/// DeepSeek's and OpenAI's rule of strict tools. What else a schema may hold is the grammar's to
/// refuse.
Status check_strict(const Json& schema, const std::string& path) {
  if (!schema.is_object()) return {};
  if (is_object_schema(schema)) HADAL_TRY(check_strict_object(schema, path));
  for (const char* key : {"properties", "$defs", "$def", "definitions"})
    if (const auto inner = schema.find(key); inner != schema.end() && inner->is_object())
      for (const auto& [name, property] : inner->items())
        HADAL_TRY(check_strict(property, path + "." + key + "." + printable(name, 40)));
  for (const char* key : {"anyOf", "allOf", "oneOf"})
    if (const auto inner = schema.find(key); inner != schema.end() && inner->is_array())
      for (size_t i = 0; i < inner->size(); ++i)
        HADAL_TRY(check_strict((*inner)[i], path + "." + key + "[" + std::to_string(i) + "]"));
  if (const auto items = schema.find("items"); items != schema.end())
    HADAL_TRY(check_strict(*items, path + ".items"));
  return {};
}

}  // namespace

Result<std::string> read_function_name(Fields& function) {
  if (!function.find("name")) return usage_error(function.path_of("name") + ": is missing");
  HADAL_TRY(std::string name, function.text("name", limit("tools[].function.name")));
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
  });
  if (!plain)
    return usage_error(function.path_of("name") + ": letters, digits, _, - and . are expected, " +
                       quote(name) + " was found");
  return name;
}

Result<ToolSpec> read_function(Fields& function) {
  ToolSpec spec;
  HADAL_TRY(spec.name, read_function_name(function));
  HADAL_TRY(function.text("description"));
  HADAL_TRY(spec.strict, function.flag("strict", false));
  const Json* parameters = function.find("parameters");
  if (!parameters) return spec;
  const std::string path = function.path_of("parameters");
  if (!parameters->is_object()) return wrong_type(path, "a JSON schema", *parameters);
  spec.parameters = parameters->dump();
  if (spec.strict) HADAL_TRY(check_strict(*parameters, path));
  return spec;
}

namespace {

Result<ToolSpec> read_tool(const Json& value, const std::string& path) {
  if (!value.is_object()) return wrong_type(path, "an object", value);
  Fields tool(value, path);
  HADAL_TRY(const std::string type, tool.text("type"));
  if (type != "function" && !type.empty())
    return usage_error(path + ".type: only \"function\" is supported, " + quote(type) +
                       " was found");
  HADAL_TRY(std::optional<Fields> function, tool.object("function"));
  if (!function) return usage_error(path + ".function: is missing");
  return read_function(*function);
}

}  // namespace

Result<std::vector<ToolSpec>> read_function_tools(Fields& body) {
  std::vector<ToolSpec> all;
  const Json* tools = body.find("tools");
  if (!tools) return all;
  if (!tools->is_array()) return wrong_type("tools", "a list", *tools);
  HADAL_TRY(check_limit(limit("tools"), static_cast<int64_t>(tools->size())));
  std::set<std::string> names;
  for (size_t i = 0; i < tools->size(); ++i) {
    const std::string path = "tools[" + std::to_string(i) + "]";
    HADAL_TRY(ToolSpec spec, read_tool((*tools)[i], path));
    if (!names.insert(spec.name).second)
      return usage_error(path + ".function.name: " + quote(spec.name) + " occurs twice");
    all.push_back(std::move(spec));
  }
  return all;
}

}  // namespace hadal::server
