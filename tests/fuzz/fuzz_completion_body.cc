// Bodies of /v1/completions: any bytes give a call within the table of limits, or an error in
// words; what was read is written into a response that is JSON.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "server/api_error.h"
#include "server/openai_completion.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hadal;
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const Result<server::CompletionCall> call = server::parse_completion_call(body);
  if (!call) {
    HADAL_CHECK(call.error().code == ErrorCode::kUsage && !call.error().message.empty());
    HADAL_CHECK(server::Json::accept(server::error_body(server::api_error(call.error()))));
    return 0;
  }
  HADAL_CHECK(!call->prompts.empty());
  HADAL_CHECK(
      check_limit(limit("choices"), static_cast<int64_t>(call->prompts.size()) * call->options.n));
  HADAL_CHECK(call->options.max_new_tokens > 0);
  for (const server::CompletionPrompt& prompt : call->prompts) {
    HADAL_CHECK(prompt.ids.empty() || prompt.text.empty());
    for (const TokenId id : prompt.ids) HADAL_CHECK(id >= 0);
  }
  const std::string& text = call->prompts[0].text;
  HADAL_CHECK(server::Json::accept(server::completion_reply(
      {.id = "cmpl-1", .model = call->model}, *call,
      {{.text = text, .tokens = {{.bytes = text.substr(0, text.size() / 2), .logprob = -1.0F}}}},
      {})));
  return 0;
}
