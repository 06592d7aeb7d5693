// What the responses of OpenAI's two APIs share: usage, log-probabilities, the reason of the end.
#pragma once

#include <string_view>
#include <vector>

#include "server/reply.h"

namespace hadal::server {

/// OpenAI's numbers and DeepSeek's next to each other.
Json usage_json(const UsageCounts& usage);

/// "stop"; "length", for a full context too; "tool_calls"; and for one that was stopped from
/// outside DeepSeek's "insufficient_system_resource". "content_filter" never.
std::string_view finish_reason(AnswerEnd end, bool calls_tools);

/// The shortest decimal that reads back as this float; JSON has no infinity: below -9999 is that.
double json_logprob(float logprob);

/// [{token, logprob, bytes, top_logprobs}], of chat.
Json chat_logprobs(const std::vector<ScoredToken>& tokens);

/// {tokens, token_logprobs, top_logprobs, text_offset}, of completions. `offset` is the number of
/// characters before the first of these tokens, and becomes that behind the last.
Json legacy_logprobs(const std::vector<ScoredToken>& tokens, int64_t& offset);

/// The error of a stream: an object {"error": …} as an event.
std::string openai_stream_error(const ApiError& error);

}  // namespace hadal::server
