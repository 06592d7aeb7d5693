// Bodies of /v1/chat/completions: any bytes give a call within the table of limits, or an error in
// words; what was read is written into a response that is JSON.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "server/api_error.h"
#include "server/openai_chat.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hadal;
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const Result<server::ChatCall> call = server::parse_chat_call(body);
  if (!call) {
    HADAL_CHECK(call.error().code == ErrorCode::kUsage && !call.error().message.empty());
    HADAL_CHECK(server::Json::accept(server::error_body(server::api_error(call.error()))));
    return 0;
  }
  const AnswerOptions& options = call->options;
  HADAL_CHECK(!call->chat.messages.empty());
  HADAL_CHECK(check_limit(limit("n"), options.n));
  HADAL_CHECK(check_limit(limit("top_logprobs"), options.top_logprobs));
  HADAL_CHECK(options.logprobs || options.top_logprobs == 0);
  HADAL_CHECK(check_limit(limit("temperature"), options.sampling.temperature.value_or(0)));
  HADAL_CHECK(options.max_new_tokens >= 0);
  HADAL_CHECK(options.tool_use != ToolUse::kNamed || !call->tools.empty());
  const server::ReplyHead head{.id = "chatcmpl-1", .model = call->model};
  const ChatMessage& message = call->chat.messages.back();
  HADAL_CHECK(server::Json::accept(server::chat_reply(
      head, *call, {{.content = message.content, .tool_calls = message.tool_calls}}, {})));
  server::ChatStream stream(head, *call);
  for (const std::string& chunk :
       stream.push(0, {.text = {.content = message.content, .tool_calls = message.tool_calls}}))
    HADAL_CHECK(server::Json::accept(chunk));
  return 0;
}
