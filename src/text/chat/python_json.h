// JSON as Python's json.dumps(x, ensure_ascii=False) writes it: what `tojson` means in the official
// templates.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/chat/chat.h"

namespace hadal::chat {

using OrderedJson = nlohmann::ordered_json;

/// JSON text; `what` names it. Of a key that occurs twice the last value counts, as in Python.
/// Errors: see read_json (json_reader.h).
Result<OrderedJson> parse_json(std::string_view text, std::string_view what);

/// `indent` < 0: one line with ", " and ": ".
std::string python_json(const OrderedJson& value, int indent = -1);

/// A request's tools: a list of objects.
Result<OrderedJson> parse_tools(std::string_view tools_json);

/// The functions of a request's tools: tools[i].function, an object with a name.
Result<std::vector<OrderedJson>> parse_functions(std::string_view tools_json);

/// A call's arguments; `where` names the call. Errors: no JSON object.
Result<OrderedJson> parse_arguments(const ToolCall& call, std::string_view where);

/// A call's arguments rewritten by python_json; `where` names the call. Errors: no JSON object.
Result<std::string> reformat_arguments(const ToolCall& call, std::string_view where);

}  // namespace hadal::chat
