#include "text/chat/python_json.h"

#include <charconv>
#include <cmath>

#include "text/chat/json_reader.h"

namespace hadal::chat {
namespace {

/// Python's repr(float): shortest digits; scientific below 1e-4 and from 1e16.
std::string python_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  char buffer[400];
  const double size = std::fabs(value);
  const bool scientific = size != 0 && (size < 1e-4 || size >= 1e16);
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value,
                    scientific ? std::chars_format::scientific : std::chars_format::fixed);
  std::string text(buffer, end.ptr);
  if (!scientific && text.find('.') == std::string::npos) text += ".0";
  return text;
}

/// A string in quotes; only what JSON must escape is escaped.
std::string quoted(const std::string& text) {
  return OrderedJson(text).dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

void write(const OrderedJson& value, int indent, int level, std::string& out) {
  if (value.is_number_float()) {
    out += python_float(value.get<double>());
    return;
  }
  if (value.is_string()) {
    out += quoted(value.get_ref<const std::string&>());
    return;
  }
  if (!value.is_structured()) {
    out += value.dump();
    return;
  }
  const auto new_line = [&](int levels) {
    out += "\n" + std::string(static_cast<size_t>(indent * levels), ' ');
  };
  out += value.is_array() ? '[' : '{';
  bool first = true;
  for (auto it = value.begin(); it != value.end(); ++it) {
    if (!first) out += indent < 0 ? ", " : ",";
    if (indent >= 0) new_line(level + 1);
    if (value.is_object()) out += quoted(it.key()) + ": ";
    write(*it, indent, level + 1, out);
    first = false;
  }
  if (indent >= 0 && !first) new_line(level);
  out += value.is_array() ? ']' : '}';
}

}  // namespace

Result<OrderedJson> parse_json(std::string_view text, std::string_view what) {
  return read_json(text, what, JsonKeys::kLastCounts);
}

std::string python_json(const OrderedJson& value, int indent) {
  std::string out;
  write(value, indent, 0, out);
  return out;
}

Result<OrderedJson> parse_tools(std::string_view tools_json) {
  HADAL_TRY(OrderedJson tools, parse_json(tools_json, "tools"));
  if (!tools.is_array())
    return usage_error("tools: a list is expected, " + std::string(tools.type_name()) +
                       " was found");
  for (size_t i = 0; i < tools.size(); ++i)
    if (!tools[i].is_object())
      return usage_error("tools[" + std::to_string(i) + "]: an object is expected, " +
                         tools[i].type_name() + " was found");
  return tools;
}

Result<std::vector<OrderedJson>> parse_functions(std::string_view tools_json) {
  HADAL_TRY(const OrderedJson tools, parse_tools(tools_json));
  std::vector<OrderedJson> functions;
  for (size_t i = 0; i < tools.size(); ++i) {
    const auto function = tools[i].find("function");
    const bool named = function != tools[i].end() && function->is_object() &&
                       function->contains("name") && (*function)["name"].is_string();
    if (!named)
      return usage_error("tools[" + std::to_string(i) + "].function: an object with a name is " +
                         "expected");
    functions.push_back(*function);
  }
  return functions;
}

Result<OrderedJson> parse_arguments(const ToolCall& call, std::string_view where) {
  const std::string what = std::string(where) + ".function.arguments";
  HADAL_TRY(OrderedJson arguments, parse_json(call.arguments, what));
  if (!arguments.is_object())
    return usage_error(what + ": a JSON object is expected, " + arguments.type_name() +
                       " was found");
  return arguments;
}

Result<std::string> reformat_arguments(const ToolCall& call, std::string_view where) {
  HADAL_TRY(const OrderedJson arguments, parse_arguments(call, where));
  return python_json(arguments);
}

}  // namespace hadal::chat
