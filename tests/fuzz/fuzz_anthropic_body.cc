// Bodies of /v1/messages: any bytes give a call within the table of limits, or an error in words;
// what was read is written into a message, and a stream, of JSON.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "server/anthropic_messages.h"

namespace {

using namespace hadal;

/// Every event is "event: NAME\ndata: JSON\n\n".
void check_events(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t data = bytes.find("\ndata: "), end = bytes.find("\n\n");
    HADAL_CHECK(bytes.starts_with("event: ") && data < end && end != std::string_view::npos);
    HADAL_CHECK(server::Json::accept(bytes.substr(data + 7, end - data - 7)));
    bytes.remove_prefix(end + 2);
  }
}

void check_call(const server::ChatCall& call) {
  const AnswerOptions& options = call.options;
  HADAL_CHECK(!call.chat.messages.empty());
  HADAL_CHECK(options.n == 1 && !options.logprobs);
  HADAL_CHECK(check_limit(limit("temperature"), options.sampling.temperature.value_or(0)));
  HADAL_CHECK(check_limit(limit("stop"), static_cast<int64_t>(options.stop.size())));
  HADAL_CHECK(options.tool_use != ToolUse::kNamed || !call.tools.empty());
  HADAL_CHECK(call.tools.empty() == call.chat.tools_json.empty());
  for (size_t i = 0; i < call.chat.messages.size(); ++i) {
    const ChatMessage& message = call.chat.messages[i];
    HADAL_CHECK(!message.prefix || (i + 1 == call.chat.messages.size() &&
                                    message.role == "assistant" && message.tool_calls.empty()));
    HADAL_CHECK(message.tool_calls.empty() || message.role == "assistant");
  }
}

void check_reply(const server::ChatCall& call) {
  const ChatMessage& message = call.chat.messages.back();
  const server::Choice choice = {.reasoning = message.reasoning,
                                 .content = message.content,
                                 .tool_calls = {{.name = "f", .arguments = message.content}}};
  const server::ReplyHead head{.id = "msg_1", .model = call.model};
  const auto reply = server::make_messages_reply(head, call);
  HADAL_CHECK(server::Json::accept(reply->whole({choice}, {})));
  check_events(reply->begin({}));
  check_events(
      reply->push(0, {.text = {.reasoning = choice.reasoning,
                               .content = choice.content,
                               .call_pieces = {{.name = "f", .arguments = message.content}}}}));
  check_events(reply->end(choice, nullptr));
  check_events(reply->finish({}));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const Result<server::ChatCall> call = server::parse_messages_call(body);
  const Result<server::ChatCall> counted = server::parse_count_tokens_call(body);
  if (!call) {
    HADAL_CHECK(call.error().code == ErrorCode::kUsage && !call.error().message.empty());
    HADAL_CHECK(server::Json::accept(
        server::messages_error_body(server::api_error(call.error()), "req_1")));
    return 0;
  }
  HADAL_CHECK(counted && counted->chat.messages.size() == call->chat.messages.size());
  check_call(*call);
  check_reply(*call);
  return 0;
}
