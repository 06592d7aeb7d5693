// Bodies of Ollama's /api/chat, /api/generate and /api/show: any bytes give a call within the table
// of limits, or an error in words; what was read is written into responses that are JSON.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "server/ollama_models.h"
#include "server/ollama_requests.h"

namespace {

using namespace hadal;
using server::Json;

constexpr int64_t kContext = 4096;

bool is_json(std::string_view text) { return Json::accept(text); }

void check_error(const Error& error) {
  HADAL_CHECK(error.code == ErrorCode::kUsage && !error.message.empty());
  HADAL_CHECK(is_json(server::ollama_error_body(server::api_error(error))));
}

void check_call(const server::OllamaCall& call) {
  const server::ApiCall& both = server::common(call.call);
  const server::ReplyHead head{.id = "ollama-1", .model = both.model};
  HADAL_CHECK(!both.model.empty());
  if (call.task != server::OllamaTask::kAnswer) {
    HADAL_CHECK(is_json(server::ollama_load_body(head, call)));
    return;
  }
  const AnswerOptions& options = both.options;
  HADAL_CHECK(options.n == 1 && options.max_new_tokens >= 0);
  HADAL_CHECK(options.logprobs || options.top_logprobs == 0);
  HADAL_CHECK(check_limit(limit("top_logprobs"), options.top_logprobs));
  HADAL_CHECK(check_limit(limit("temperature"), options.sampling.temperature.value_or(0)));
  HADAL_CHECK(
      check_limit(limit("repetition_penalty"), options.sampling.repetition_penalty.value_or(1)));
  ChatMessage message;
  if (const auto* chat = std::get_if<server::ChatCall>(&call.call))
    message = chat->chat.messages.back();
  else
    message.content = std::get<server::CompletionCall>(call.call).prompts.at(0).text;
  const auto reply = server::make_ollama_reply(head, call);
  HADAL_CHECK(is_json(reply->whole({{.reasoning = message.reasoning,
                                     .content = message.content,
                                     .tool_calls = message.tool_calls}},
                                   {})));
  const std::string line =
      reply->push(0, {.text = {.content = message.content, .tool_calls = message.tool_calls}});
  HADAL_CHECK(line.empty() || (is_json(line) && line.find('\n') == line.size() - 1));
  HADAL_CHECK(is_json(reply->finish({})));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const Result<Json> json = server::parse_body(body);
  if (!json) {
    check_error(json.error());
    return 0;
  }
  for (const auto& call :
       {server::read_ollama_chat(*json, kContext), server::read_ollama_generate(*json, kContext)}) {
    if (call)
      check_call(*call);
    else
      check_error(call.error());
  }
  if (const auto show = server::read_ollama_show(*json); !show) check_error(show.error());
  return 0;
}
