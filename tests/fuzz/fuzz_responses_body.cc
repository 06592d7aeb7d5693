// Bodies of /v1/responses: any bytes give a call within the table of limits, or an error in words;
// what was read is answered in JSON, whole and as a stream, and what is stored of it goes on.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "server/api_error.h"
#include "server/openai_responses.h"

namespace {

using namespace hadal;
using server::Json;

/// What "resp_1" is, for bodies that refer to it.
constexpr const char* kMessage =
    R"({"id":"msg_1_in0","type":"message","status":"completed","role":"user","content":)"
    R"([{"type":"input_text","text":"hi"}]})";
constexpr const char* kCall =
    R"({"id":"fc_1_0","type":"function_call","status":"completed","call_id":"c","name":"f",)"
    R"("arguments":"{}"})";

Result<server::StoredResponse> find(const std::string& id) {
  if (id != "resp_1") return not_found("no response");
  return server::StoredResponse{.response = std::string(R"({"output":[)") + kCall + "]}",
                                .items = std::string("[") + kMessage + "," + kCall + "]"};
}

void check_stream(const std::string& stream) {
  size_t at = 0;
  while (at < stream.size()) {
    const size_t data = stream.find("\ndata: ", at), end = stream.find("\n\n", at);
    HADAL_CHECK(data < end && end != std::string::npos);
    HADAL_CHECK(Json::accept(stream.substr(data + 7, end - data - 7)));
    at = end + 2;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const Result<server::ResponsesCall> call = server::parse_responses_call(body, find);
  if (!call) {
    const ErrorCode code = call.error().code;
    HADAL_CHECK(code == ErrorCode::kUsage || code == ErrorCode::kNotFound);
    HADAL_CHECK(!call.error().message.empty());
    HADAL_CHECK(Json::accept(server::error_body(server::api_error(call.error()))));
    return 0;
  }
  const AnswerOptions& options = call->options;
  HADAL_CHECK(!call->chat.messages.empty());
  HADAL_CHECK(options.n == 1 && options.max_new_tokens >= 0);
  HADAL_CHECK(check_limit(limit("top_logprobs"), options.top_logprobs));
  HADAL_CHECK(check_limit(limit("temperature"), options.sampling.temperature.value_or(0)));
  HADAL_CHECK(options.tool_use != ToolUse::kNamed || !call->tools.empty());
  const ChatMessage& message = call->chat.messages.back();
  const server::Choice choice{
      .reasoning = message.reasoning, .content = message.content, .tool_calls = message.tool_calls};
  const server::ReplyHead head{.id = "resp_2", .model = call->model};
  server::StoredResponse stored;
  const auto keep = [&](const std::string&, server::StoredResponse kept) { stored = kept; };
  const auto reply = server::make_responses_reply(head, *call, keep);
  HADAL_CHECK(Json::accept(reply->whole({choice}, {})));
  if (call->store) HADAL_CHECK(server::list_input_items(stored, {}));

  const auto stream = server::make_responses_reply(head, *call, {});
  std::string all = stream->begin({});
  all += stream->push(0, {.text = {.reasoning = message.reasoning, .content = message.content}});
  for (size_t i = 0; i < message.tool_calls.size(); ++i) {
    const ToolCall& one = message.tool_calls[i];
    all += stream->push(0, {.text = {.call_pieces = {{.index = i,
                                                      .id = one.id,
                                                      .name = one.name,
                                                      .arguments = one.arguments,
                                                      .completes = i % 2 == 0}}}});
  }
  all += stream->end(choice, nullptr);
  all += stream->finish({});
  check_stream(all);
  return 0;
}
