// POST /v1/chat/completions without HTTP: a body becomes a ChatCall, answers become a response or
// the chunks of a stream. The API is DeepSeek's in OpenAI's form, with vLLM's names for what
// neither has (openai_fields.h says what is obeyed, refused and ignored).
//
// Of the chat: messages (role developer is OpenAI's newer name of system), tools with strict,
// tool_choice, parallel_tool_calls, thinking {type, budget_tokens}, enable_thinking,
// reasoning_effort, thinking_token_budget, include_reasoning, response_format, logprobs and
// top_logprobs, `prefix` of the last message and vLLM's continue_final_message,
// chat_template_kwargs {thinking, enable_thinking, reasoning_effort}. Refused: images, audio,
// files, the legacy functions, the hosted search, templates that a request brings.
//
// reasoning_content may come back in any turn, or not: the chat formats drop what they do not show
// the model. DeepSeek's 400 for a turn with tool calls that lacks it is not copied: it depends on
// what another program left out, and the answer loses little.
#pragma once

#include <memory>
#include <string_view>

#include "server/call.h"
#include "server/fields.h"
#include "server/reply.h"

namespace hadal::server {

/// Errors: kUsage with the path of the field.
Result<ChatCall> parse_chat_call(std::string_view body);
/// The same of a body that was read already (by parse_body, or as part of something larger).
Result<ChatCall> read_chat_call(const Json& body);

/// The response, or its stream of chunks. Each delta of a chunk has both keys, reasoning_content
/// and content, one of them null: clients ask for either. A thought and content are never in one
/// chunk. A stream ends with "data: [DONE]".
std::unique_ptr<Reply> make_chat_reply(ReplyHead head, const ChatCall& call);

}  // namespace hadal::server
