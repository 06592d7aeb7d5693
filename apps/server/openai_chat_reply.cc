// The response of /v1/chat/completions, and its stream.
#include <map>
#include <utility>

#include "server/openai_chat.h"
#include "server/openai_reply.h"

namespace hadal::server {
namespace {

class ChatReply final : public Reply {
 public:
  ChatReply(ReplyHead head, const ChatCall& call)
      : Reply(std::move(head)),
        reasoning_(call.include_reasoning),
        logprobs_(call.options.logprobs),
        usage_chunk_(call.include_usage) {}

  std::string whole(const std::vector<Choice>& choices, const UsageCounts& usage) override {
    Json reply;
    reply["id"] = head_.id;
    reply["object"] = "chat.completion";
    reply["created"] = head_.created;
    reply["model"] = head_.model;
    Json& list = reply["choices"] = Json::array();
    for (const Choice& choice : choices) list.push_back(choice_json(choice));
    reply["usage"] = usage_json(usage);
    reply["system_fingerprint"] = head_.fingerprint;
    return json_text(reply);
  }

  std::string begin(const UsageCounts&) override { return {}; }

  std::string push(int64_t choice, const ChoiceDelta& delta) override {
    std::string out = open(choice);
    const std::vector<ScoredToken> none;
    if (reasoning_ &&
        (!delta.text.reasoning.empty() || (logprobs_ && !delta.reasoning_tokens.empty())))
      out += chunk(choice, {{"content", nullptr}, {"reasoning_content", delta.text.reasoning}},
                   logprobs_json(delta.reasoning_tokens, none));
    if (!delta.text.content.empty() || (logprobs_ && !delta.content_tokens.empty()))
      out += chunk(choice, {{"content", delta.text.content}, {"reasoning_content", nullptr}},
                   logprobs_json(none, delta.content_tokens));
    for (const ToolCallPiece& piece : delta.text.call_pieces) out += call_chunk(choice, piece);
    return out;
  }

  std::string end(const Choice& choice, const UsageCounts* all) override {
    std::string out = open(choice.index);
    Json last = {{"content", ""}, {"reasoning_content", nullptr}};
    return out + chunk(choice.index, std::move(last), {},
                       finish_reason(choice.end, !choice.tool_calls.empty()), all);
  }

  std::string finish(const UsageCounts& usage) override {
    std::string out;
    if (usage_chunk_) {
      Json json = head_json();
      json["choices"] = Json::array();
      json["usage"] = usage_json(usage);
      out = server_sent_event("", json_text(json));
    }
    return out + server_sent_event("", "[DONE]");
  }

  std::string fail(const ApiError& error) override { return openai_stream_error(error); }

 private:
  /// The first chunk of an answer: its role.
  std::string open(int64_t choice) {
    if (!calls_.emplace(choice, std::map<size_t, size_t>()).second) return {};
    return chunk(choice, {{"role", "assistant"}, {"content", ""}, {"reasoning_content", nullptr}});
  }

  Json choice_json(const Choice& choice) const {
    const size_t calls = choice.tool_calls.size();
    Json message;
    message["role"] = "assistant";
    const bool silent = choice.content.empty() && calls > 0;
    message["content"] = silent ? Json() : Json(choice.content);
    message["reasoning_content"] =
        reasoning_ && !choice.reasoning.empty() ? Json(choice.reasoning) : Json();
    for (size_t i = 0; i < calls; ++i) {
      const ToolCall& call = choice.tool_calls[i];
      message["tool_calls"].push_back(
          {{"id", call.id.empty() ? tool_call_id(head_, choice.index, i) : call.id},
           {"type", "function"},
           {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
    }
    Json json;
    json["index"] = choice.index;
    json["message"] = std::move(message);
    json["logprobs"] = logprobs_json(choice.reasoning_tokens, choice.content_tokens);
    json["finish_reason"] = finish_reason(choice.end, calls > 0);
    return json;
  }

  /// DeepSeek's two lists; null where no log-probabilities were asked for.
  Json logprobs_json(const std::vector<ScoredToken>& reasoning,
                     const std::vector<ScoredToken>& content) const {
    if (!logprobs_) return {};
    Json json;
    json["content"] = chat_logprobs(content);
    json["reasoning_content"] =
        reasoning_ && !reasoning.empty() ? chat_logprobs(reasoning) : Json();
    return json;
  }

  Json head_json() const {
    Json json;
    json["id"] = head_.id;
    json["object"] = "chat.completion.chunk";
    json["created"] = head_.created;
    json["model"] = head_.model;
    json["system_fingerprint"] = head_.fingerprint;
    return json;
  }

  std::string chunk(int64_t choice, Json delta, Json logprobs = {}, Json finish_reason = {},
                    const UsageCounts* usage = nullptr) const {
    Json json = head_json();
    Json entry;
    entry["index"] = choice;
    entry["delta"] = std::move(delta);
    entry["logprobs"] = std::move(logprobs);
    entry["finish_reason"] = std::move(finish_reason);
    json["choices"] = Json::array({std::move(entry)});
    if (usage)
      json["usage"] = usage_json(*usage);
    else if (usage_chunk_)
      json["usage"] = nullptr;
    return server_sent_event("", json_text(json));
  }

  /// A call that grows: its name, then pieces of its arguments.
  std::string call_chunk(int64_t choice, const ToolCallPiece& piece) {
    std::map<size_t, size_t>& shown = calls_[choice];
    const auto [at, first] = shown.emplace(piece.index, shown.size());
    const size_t index = at->second;
    Json entry = {{"index", index}};
    if (first) {
      entry["id"] = piece.id.empty() ? tool_call_id(head_, choice, index) : piece.id;
      entry["type"] = "function";
      entry["function"] = {{"name", piece.name}, {"arguments", piece.arguments}};
    } else if (piece.arguments.empty()) {
      return {};
    } else {
      entry["function"] = {{"arguments", piece.arguments}};
    }
    return chunk(choice, {{"content", nullptr},
                          {"reasoning_content", nullptr},
                          {"tool_calls", Json::array({std::move(entry)})}});
  }

  bool reasoning_, logprobs_, usage_chunk_;
  /// Of the answers that were begun: the number shown of each call that was begun.
  std::map<int64_t, std::map<size_t, size_t>> calls_;
};

}  // namespace

std::unique_ptr<Reply> make_chat_reply(ReplyHead head, const ChatCall& call) {
  return std::make_unique<ChatReply>(std::move(head), call);
}

}  // namespace hadal::server
