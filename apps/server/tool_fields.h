// Tools as the APIs of functions declare them: OpenAI's two, DeepSeek's and Ollama's. What they
// have in common is read here; where a function stands in a tool is each API's own.
#pragma once

#include <string>
#include <vector>

#include "server/call.h"
#include "server/fields.h"

namespace hadal::server {

/// The name of a function: letters, digits, _, - and .; within its row. Errors: kUsage with its
/// path.
Result<std::string> read_function_name(Fields& function);
/// name, description, strict and parameters. A strict one must keep to DeepSeek's and OpenAI's
/// rule: every object lists all of its properties as required and takes no others. Errors: kUsage
/// with the path of the field.
Result<ToolSpec> read_function(Fields& function);

/// `tools` in the form [{"type": "function", "function": {…}}], each name once; empty where there
/// are none. Errors: kUsage with the path of the field.
Result<std::vector<ToolSpec>> read_function_tools(Fields& body);

}  // namespace hadal::server
