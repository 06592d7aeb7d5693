// The message of /v1/messages, its stream of events, the count of tokens, and errors.
#include <utility>

#include "server/anthropic_messages.h"
#include "text/chat/json_reader.h"

namespace hadal::server {
namespace {

/// Clients demand a signature, and some drop thoughts without one. Nothing here reads it.
constexpr const char* kSignature = "aGFkYWw=";

std::string event(const Json& json) {
  return server_sent_event(json["type"].get_ref<const std::string&>(), json_text(json));
}

/// input_tokens are those that no cache held; the cache's upkeep costs the caller nothing.
Json usage_json(const UsageCounts& usage) {
  Json json;
  json["input_tokens"] = usage.prompt_tokens - usage.cached_tokens;
  json["cache_creation_input_tokens"] = 0;
  json["cache_read_input_tokens"] = usage.cached_tokens;
  json["output_tokens"] = usage.completion_tokens;
  json["output_tokens_details"] = {{"thinking_tokens", usage.reasoning_tokens}};
  return json;
}

std::string_view stop_reason(AnswerEnd end, bool stopped, bool calls_tools) {
  switch (end) {
    case AnswerEnd::kStop:
      return stopped ? "stop_sequence" : calls_tools ? "tool_use" : "end_turn";
    case AnswerEnd::kLength:
      return "max_tokens";
    case AnswerEnd::kContext:
      return "model_context_window_exceeded";
    case AnswerEnd::kDeadline:
    case AnswerEnd::kInterrupted:
      break;
  }
  return "pause_turn";
}

/// stop_reason and stop_sequence, into a message or a delta.
void set_stop(Json& json, const Choice* choice) {
  json["stop_reason"] =
      choice ? Json(stop_reason(choice->end, !choice->stop.empty(), !choice->tool_calls.empty()))
             : Json();
  const bool stopped = choice && choice->end == AnswerEnd::kStop && !choice->stop.empty();
  json["stop_sequence"] = stopped ? Json(choice->stop) : Json();
}

/// A call's arguments; none are an empty object.
Json input_of(const std::string& arguments) {
  if (arguments.empty()) return Json::object();
  Result<Json> input = chat::read_json(arguments, "input", chat::JsonKeys::kLastCounts);
  if (input && input->is_object()) return *std::move(input);
  return {{"INVALID_JSON", arguments}};
}

class MessagesReply final : public Reply {
 public:
  MessagesReply(ReplyHead head, const ChatCall& call)
      : Reply(std::move(head)),
        thoughts_(call.include_reasoning),
        one_call_(!call.options.parallel_tool_calls) {}

  std::string whole(const std::vector<Choice>& choices, const UsageCounts& usage) override {
    HADAL_CHECK(choices.size() == 1);
    return json_text(message(&choices[0], usage));
  }

  std::string begin(const UsageCounts& usage) override {
    return event({{"type", "message_start"}, {"message", message(nullptr, usage)}});
  }

  std::string push(int64_t, const ChoiceDelta& delta) override {
    const OutputDelta& text = delta.text;
    std::string out;
    // What belongs to the open call goes first: a block that was closed is not opened again.
    size_t piece = 0;
    while (open_ == Block::kCall && piece < text.call_pieces.size() &&
           text.call_pieces[piece].index == call_)
      out += write_piece(text.call_pieces[piece++]);
    if (!text.reasoning.empty()) {
      out += open(Block::kThinking, {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}});
      if (thoughts_) out += delta_event("thinking_delta", "thinking", text.reasoning);
    }
    if (!text.content.empty()) {
      out += open(Block::kText, {{"type", "text"}, {"text", ""}});
      out += delta_event("text_delta", "text", text.content);
    }
    while (piece < text.call_pieces.size()) out += write_piece(text.call_pieces[piece++]);
    return out;
  }

  std::string end(const Choice& choice, const UsageCounts*) override {
    Json delta;
    set_stop(delta, &choice);
    stop_ = std::move(delta);
    return close();
  }

  std::string finish(const UsageCounts& usage) override {
    Json last = {{"type", "message_delta"}, {"delta", stop_}, {"usage", usage_json(usage)}};
    return event(last) + event({{"type", "message_stop"}});
  }

  std::string fail(const ApiError& error) override {
    return server_sent_event("error", messages_error_body(error, ""));
  }

  [[nodiscard]] std::string ping() const override { return event({{"type", "ping"}}); }

 private:
  enum class Block { kNone, kThinking, kText, kCall };

  /// The whole message; without a choice the one that a stream begins with.
  [[nodiscard]] Json message(const Choice* choice, const UsageCounts& usage) const {
    Json json;
    json["id"] = head_.id;
    json["type"] = "message";
    json["role"] = "assistant";
    json["model"] = head_.model;
    json["content"] = choice ? content(*choice) : Json::array();
    set_stop(json, choice);
    json["usage"] = usage_json(usage);
    return json;
  }

  [[nodiscard]] Json content(const Choice& choice) const {
    Json blocks = Json::array();
    if (!choice.reasoning.empty())
      blocks.push_back({{"type", "thinking"},
                        {"thinking", thoughts_ ? choice.reasoning : std::string()},
                        {"signature", kSignature}});
    if (!choice.content.empty()) blocks.push_back({{"type", "text"}, {"text", choice.content}});
    for (size_t i = 0; i < choice.tool_calls.size() && (i == 0 || !one_call_); ++i) {
      const ToolCall& call = choice.tool_calls[i];
      blocks.push_back(call_block(call.id, call.name, i, input_of(call.arguments)));
    }
    return blocks;
  }

  [[nodiscard]] Json call_block(const std::string& id, const std::string& name, size_t number,
                                Json input) const {
    Json json;
    json["type"] = "tool_use";
    json["id"] = id.empty() ? tool_call_id(head_, 0, number) : id;
    json["name"] = name;
    json["input"] = std::move(input);
    return json;
  }

  std::string delta_event(const char* type, const char* key, const std::string& text) const {
    return event({{"type", "content_block_delta"},
                  {"index", index_},
                  {"delta", {{"type", type}, {key, text}}}});
  }

  /// Of kThinking and kText the open block is gone on with.
  std::string open(Block kind, Json block) {
    if (open_ == kind && kind != Block::kCall) return {};
    std::string out = close();
    open_ = kind;
    return out + event({{"type", "content_block_start"},
                        {"index", index_},
                        {"content_block", std::move(block)}});
  }

  std::string close() {
    if (open_ == Block::kNone) return {};
    std::string out;
    if (open_ == Block::kThinking) out = delta_event("signature_delta", "signature", kSignature);
    out += event({{"type", "content_block_stop"}, {"index", index_}});
    open_ = Block::kNone;
    ++index_;
    return out;
  }

  std::string write_piece(const ToolCallPiece& piece) {
    std::string out;
    if (open_ != Block::kCall || call_ != piece.index) {
      // Of a call that was given up nothing more is shown.
      if (piece.index < next_call_ || (one_call_ && whole_calls_ > 0)) return {};
      out = open(Block::kCall, call_block(piece.id, piece.name, shown_calls_, Json::object()));
      ++shown_calls_;
      call_ = piece.index;
      next_call_ = piece.index + 1;
    }
    if (!piece.arguments.empty())
      out += delta_event("input_json_delta", "partial_json", piece.arguments);
    if (!piece.completes) return out;
    ++whole_calls_;
    return out + close();
  }

  bool thoughts_, one_call_;
  // Of the stream.
  Block open_ = Block::kNone;
  int64_t index_ = 0;     ///< of the open block, or of the next one
  size_t call_ = 0;       ///< where a call is open, its number as its pieces have it
  size_t next_call_ = 0;  ///< behind all that were begun
  size_t shown_calls_ = 0, whole_calls_ = 0;
  Json stop_ = {{"stop_reason", nullptr}, {"stop_sequence", nullptr}};
};

std::string_view error_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 402:
      return "billing_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
    case 529:
      return "overloaded_error";
    case 504:
      return "timeout_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

}  // namespace

std::unique_ptr<Reply> make_messages_reply(ReplyHead head, const ChatCall& call) {
  return std::make_unique<MessagesReply>(std::move(head), call);
}

std::string count_tokens_body(int64_t tokens) { return json_text({{"input_tokens", tokens}}); }

/// What the official client's runner of tools looks for: it asks every server for threads first,
/// and goes on without them where it is told so in these words.
Json details_of(const ApiError& error) {
  if (error.param != "thread") return {};
  if (error.status == 404) return {{"error_code", "thread_not_found"}};
  return {{"error_code", "thread_unsupported_request"}, {"unsupported", {"thread"}}};
}

std::string messages_error_body(const ApiError& error, std::string_view request_id) {
  const bool too_long = error.code == "context_length_exceeded";
  Json json;
  json["type"] = "error";
  json["error"] = {{"type", error_type(error.status)},
                   {"message", (too_long ? "prompt is too long: " : "") + error.message}};
  if (Json details = details_of(error); !details.is_null())
    json["error"]["details"] = std::move(details);
  if (!request_id.empty()) json["request_id"] = request_id;
  return json_text(json);
}

}  // namespace hadal::server
