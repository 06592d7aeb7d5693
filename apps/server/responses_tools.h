// The tools of a body of the Responses API, and which of them may or must be called.
//
// Only functions are tools here: hosted ones (web_search, file_search, code_interpreter, mcp, …)
// are refused by their type. `strict` counts as given: where it is left out it is false, while
// OpenAI's own service makes a schema strict if it can.
#pragma once

#include "server/call.h"
#include "server/fields.h"

namespace hadal::server {

/// tools, tool_choice and parallel_tool_calls into the call, and into `echo` as the response
/// repeats them. Errors: kUsage with the path.
Status read_response_tools(Fields& fields, ChatCall& call, Json& echo);

}  // namespace hadal::server
