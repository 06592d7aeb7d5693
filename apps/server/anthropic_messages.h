// POST /v1/messages and /v1/messages/count_tokens without HTTP: a body becomes a ChatCall, an
// answer becomes a message or the events of a stream. The API is Anthropic's.
//
// Obeyed: model, max_tokens, messages, system (anthropic_blocks.h says what becomes of the blocks),
// stop_sequences, temperature (beyond 1 as well: the ranges are those of base/limits.h), top_p,
// top_k, stream, tools with strict, tool_choice with disable_parallel_tool_use, thinking {type,
// budget_tokens, display}, output_config {effort, format} and the older output_format; of Hadal's
// own min_p, the penalties, seed, logit_bias, structured_outputs, include_reasoning and the fields
// of read_extensions.
//   * thinking "adaptive" and a missing one leave it to the model's format whether it thinks. The
//     API's least budget of 1024 is not copied. display "omitted" keeps the block and empties it.
//   * effort "high" is the API's word for what holds anyway, and so the same as none.
//   * A last message of the assistant's is a prefill: the answer goes on with it, and has only what
//     is new. Where thinking is enabled, it must begin with a thinking block: the thought would
//     otherwise stand behind the text.
//
// Refused by name: tools that the API's own servers run or know (web_search_…, bash_…), deferred
// tools, containers, MCP servers, edits of the context that would take something away, threads,
// log-probabilities, and other APIs' names for what has another name here. Let pass: what changes
// no answer (cache_control, metadata, service_tier, betas, …), and what is unknown. The API itself
// refuses unknown fields; clients are updated more often than servers of one's own, so they are
// listed in ApiCall::ignored, and whoever answers may refuse them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "server/api_error.h"
#include "server/call.h"
#include "server/fields.h"
#include "server/reply.h"

namespace hadal::server {

/// Errors: kUsage with the path of the field.
Result<ChatCall> parse_messages_call(std::string_view body);
/// The same of a body that was read already.
Result<ChatCall> read_messages_call(const Json& body);

/// The body of count_tokens: the same, where max_tokens may be missing and nothing is generated.
Result<ChatCall> parse_count_tokens_call(std::string_view body);
Result<ChatCall> read_count_tokens_call(const Json& body);
/// Its answer: {"input_tokens": N}.
std::string count_tokens_body(int64_t tokens);

/// The message, or its stream of events. head.id is "msg_…". One answer: `n` is refused.
///
/// Blocks come one after the other. A call that is written piece by piece and turns out to be none
/// cannot be taken back: its tool_use block is closed with the input that was written, which may be
/// no whole JSON, and what was held back of it follows in a text block. stop_reason says "tool_use"
/// only where a call is whole, so that a client that goes by it runs nothing. An input that is no
/// JSON object is shown as {"INVALID_JSON": text}, as the API does, in a whole message.
///
/// An answer that was stopped from outside, or by its deadline, ends with "pause_turn": sent back
/// as it is, it goes on.
std::unique_ptr<Reply> make_messages_reply(ReplyHead head, const ChatCall& call);

/// {"type": "error", "error": {"type", "message"}, "request_id"}; without the last where it is "".
/// The type follows the status. A context that is too small says "prompt is too long: …", by which
/// clients know that they must shorten the conversation.
std::string messages_error_body(const ApiError& error, std::string_view request_id);

}  // namespace hadal::server
