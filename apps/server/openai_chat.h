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

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "server/openai_fields.h"
#include "server/openai_reply.h"
#include "text/chat/chat.h"

namespace hadal::server {

/// A function that the model may call.
struct ToolSpec {
  std::string name = {};
  std::string parameters = {};  ///< a JSON schema; "" if none
  bool strict = false;          ///< calls must match the schema
};

struct ChatCall : ApiCall {
  ChatRequest chat = {};
  std::vector<ToolSpec> tools = {};  ///< those that may be called: none with tool_choice "none"
  bool include_reasoning = true;     ///< false: the thought is left out of the response
};

/// Errors: kUsage with the path of the field.
Result<ChatCall> parse_chat_call(std::string_view body);
/// The same of a body that was read already (by parse_body, or as part of something larger).
Result<ChatCall> read_chat_call(const Json& body);

/// One answer.
struct ChatChoice {
  int64_t index = 0;
  std::string reasoning = {}, content = {};
  std::vector<ToolCall> tool_calls = {};
  AnswerEnd end = AnswerEnd::kStop;
  /// With options.logprobs: tokens of the thought and of the content.
  std::vector<ScoredToken> reasoning_tokens = {}, content_tokens = {};
};

/// The id of a call where the model gave none: the same in a response and in its stream.
std::string tool_call_id(const ReplyHead& head, int64_t choice, size_t call);

/// The response's body.
std::string chat_reply(const ReplyHead& head, const ChatCall& call,
                       const std::vector<ChatChoice>& choices, const UsageCounts& usage);

/// What became certain of one answer, with the tokens that it consists of.
struct ChatDelta {
  OutputDelta text = {};
  std::vector<ScoredToken> reasoning_tokens = {}, content_tokens = {};
};

/// The chunks of one streamed response: JSON texts, for the caller to put behind "data: ". A delta
/// has both keys, reasoning_content and content, one of them null: clients ask for either. A
/// thought and content are never in one chunk.
class ChatStream {
 public:
  /// Both must outlive the stream.
  ChatStream(const ReplyHead& head, const ChatCall& call) : head_(head), call_(call) {}

  /// The first chunk of an answer: its role.
  std::string begin(int64_t choice);
  /// Chunks of what is new; none if nothing of it is shown.
  std::vector<std::string> push(int64_t choice, const ChatDelta& delta);
  /// A call that grows: its name, then pieces of its arguments. push() does both of a whole call.
  std::string begin_call(int64_t choice, const ToolCall& call);
  std::string grow_call(int64_t choice, std::string_view arguments);
  /// The last chunk of an answer. DeepSeek puts the usage of the whole into the last of all.
  std::string end(int64_t choice, AnswerEnd end, const UsageCounts* usage = nullptr);
  /// stream_options.include_usage: a chunk without choices behind the last answer.
  std::string usage(const UsageCounts& usage);

 private:
  Json chunk() const;
  std::string with_delta(int64_t choice, Json delta, Json logprobs = {}, Json finish_reason = {},
                         const UsageCounts* usage = nullptr) const;

  const ReplyHead& head_;
  const ChatCall& call_;
  std::map<int64_t, size_t> calls_;  ///< begun, by answer
};

}  // namespace hadal::server
