#include "server/api.h"

#include <utility>

#include "server/anthropic_messages.h"
#include "server/ollama_requests.h"
#include "server/openai_chat.h"
#include "server/openai_completion.h"

namespace hadal::server {
namespace {

ApiCall& common_of(ApiCall& call) { return call; }
ApiCall& common_of(OllamaCall& call) { return common(call.call); }
template <typename T>
Call call_of(T& call) {
  return std::move(call);
}
Call call_of(OllamaCall& call) { return std::move(call.call); }
Call call_of(ResponsesCall& call) { return std::move(static_cast<ChatCall&>(call)); }
template <typename T>
std::optional<std::string> at_once_of(const ReplyHead&, const T&) {
  return std::nullopt;
}
std::optional<std::string> at_once_of(const ReplyHead& head, const OllamaCall& call) {
  if (call.task == OllamaTask::kAnswer) return std::nullopt;
  return ollama_load_body(head, call);
}

/// A call as its API reads it, with what tells its answers.
template <typename T>
class Read final : public ReadCall {
 public:
  using MakeReply = std::function<std::unique_ptr<Reply>(ReplyHead head, const T& call)>;
  Read(T call, MakeReply make_reply) : call_(std::move(call)), make_reply_(std::move(make_reply)) {}
  ApiCall& common() override { return common_of(call_); }
  [[nodiscard]] std::optional<std::string> at_once(const ReplyHead& head) const override {
    return at_once_of(head, call_);
  }
  [[nodiscard]] std::unique_ptr<Reply> reply(ReplyHead head) const override {
    return make_reply_(std::move(head), call_);
  }
  Call take() override { return call_of(call_); }

 private:
  T call_;
  MakeReply make_reply_;
};

template <typename T>
Result<std::unique_ptr<ReadCall>> read_as(Result<T> call, typename Read<T>::MakeReply make_reply) {
  if (!call) return std::move(call).error();
  return std::unique_ptr<ReadCall>(
      std::make_unique<Read<T>>(*std::move(call), std::move(make_reply)));
}

std::unique_ptr<Reply> ollama_reply(ReplyHead head, const OllamaCall& call) {
  return make_ollama_reply(std::move(head), call);
}

constexpr Api kApis[] = {
    {Endpoint::kChat, "chatcmpl-",
     [](const Json& body, const ApiContext&) {
       return read_as(read_chat_call(body), make_chat_reply);
     }},
    {Endpoint::kCompletions, "cmpl-",
     [](const Json& body, const ApiContext&) {
       return read_as(read_completion_call(body), make_completion_reply);
     }},
    {Endpoint::kResponses, "resp_",
     [](const Json& body, const ApiContext& context) {
       return read_as<ResponsesCall>(
           read_responses_call(body, context.find),
           [store = context.store](ReplyHead head, const ResponsesCall& call) {
             return make_responses_reply(std::move(head), call, store);
           });
     }},
    {Endpoint::kMessages, "msg_",
     [](const Json& body, const ApiContext&) {
       return read_as(read_messages_call(body), make_messages_reply);
     }},
    {Endpoint::kOllamaChat, "ollama-",
     [](const Json& body, const ApiContext& context) {
       return read_as(read_ollama_chat(body, context.context), ollama_reply);
     }},
    {Endpoint::kOllamaGenerate, "ollama-",
     [](const Json& body, const ApiContext& context) {
       return read_as(read_ollama_generate(body, context.context), ollama_reply);
     }},
};

}  // namespace

const Api* find_api(Endpoint endpoint) {
  for (const Api& api : kApis)
    if (api.endpoint == endpoint) return &api;
  return nullptr;
}

std::string error_body_of(ApiKind api, const ApiError& error, std::string_view request_id) {
  switch (api) {
    case ApiKind::kAnthropic:
      return messages_error_body(error, request_id);
    case ApiKind::kOllama:
      return ollama_error_body(error);
    case ApiKind::kOpenAi:
      break;
  }
  return error_body(error);
}

}  // namespace hadal::server
