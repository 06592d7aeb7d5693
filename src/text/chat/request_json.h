// A chat request from JSON, in the form of the OpenAI and DeepSeek APIs.
//
//   {"messages": [{"role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name",
//    "prefix"}…],
//    "tools": […], "thinking": true | {"type": "enabled"}, "effort": "high" | 75,
//    "add_generation_prompt": true}
//
// `content` is a text, a list of {"type": "text", "text": …}, or null. `reasoning` is another name
// of reasoning_content, and reasoning_effort of effort. A call is {"id", "function": {"name",
// "arguments"}}, its arguments a JSON text or an object. Keys that are not listed are ignored, as
// the APIs have many more.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "base/result.h"
#include "text/chat/chat.h"

namespace hadal {

/// Errors: kUsage with the path of the field, "messages[3].content: …".
Result<ChatRequest> parse_chat_request(std::string_view json);

/// The same of JSON that was read already.
Result<ChatRequest> read_chat_request(const nlohmann::ordered_json& root);

}  // namespace hadal
