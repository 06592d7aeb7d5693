// What the responses of both APIs share: head, usage, log-probabilities, the reason of the end.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "session/session.h"

namespace hadal::server {

using Json = nlohmann::ordered_json;

/// The same in all parts of one response.
struct ReplyHead {
  std::string id = {};           ///< "chatcmpl-…", "cmpl-…"
  int64_t created = 0;           ///< seconds since 1970
  std::string model = {};        ///< what answered
  std::string fingerprint = {};  ///< under which the same request has the same bits
};

/// One of a token's rivals.
struct TokenChance {
  std::string bytes = {};
  float logprob = 0;
};

/// A token with its log-probability.
struct ScoredToken {
  std::string bytes = {};             ///< its text; may be part of a character
  std::optional<float> logprob = {};  ///< none: the first token of a prompt
  std::vector<TokenChance> top = {};  ///< most likely first
};

/// Tokens of all choices together; the prompt counts once.
struct UsageCounts {
  int64_t prompt_tokens = 0, completion_tokens = 0;
  int64_t reasoning_tokens = 0;  ///< of completion_tokens
  int64_t cached_tokens = 0;     ///< of prompt_tokens: found in the prefix cache
};

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

/// JSON text; what is no UTF-8 is replaced.
std::string json_text(const Json& value);

}  // namespace hadal::server
