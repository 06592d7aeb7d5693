// The response of /v1/responses, and its stream of events.
#include <optional>
#include <utility>

#include "server/openai_reply.h"
#include "server/openai_responses.h"
#include "server/responses_items.h"

namespace hadal::server {
namespace {

enum class Kind { kNone, kThought, kMessage, kCall };

/// An item that is being written, or is whole.
struct Item {
  Kind kind = Kind::kNone;
  std::string id = {};
  std::string text = {};  ///< of a call, its arguments
  Json logprobs = {};     ///< of a message: a list
  std::string call_id = {}, name = {};
  size_t piece = 0;  ///< the call's index among the pieces
};

Json thought_part(const std::string& text) { return {{"type", "reasoning_text"}, {"text", text}}; }

Json message_part(const std::string& text, const Json& logprobs) {
  Json part = {{"type", "output_text"}, {"text", text}};
  part["annotations"] = Json::array();
  part["logprobs"] = logprobs;
  return part;
}

Json part_of(const Item& item) {
  return item.kind == Kind::kThought ? thought_part(item.text)
                                     : message_part(item.text, item.logprobs);
}

/// `begun`: as it is announced, without its text.
Json item_json(const Item& item, std::string_view status, bool begun = false) {
  Json json = {{"id", item.id}};
  if (item.kind == Kind::kCall) {
    json["type"] = "function_call";
    json["status"] = status;
    json["call_id"] = item.call_id;
    json["name"] = item.name;
    json["arguments"] = begun ? std::string() : item.text;
    return json;
  }
  const bool thought = item.kind == Kind::kThought;
  json["type"] = thought ? "reasoning" : "message";
  json["status"] = status;
  if (thought)
    json["summary"] = Json::array();
  else
    json["role"] = "assistant";
  Json& content = json["content"] = Json::array();
  if (!begun) content.push_back(part_of(item));
  return json;
}

/// Tokens that the text consists of: those of the calls behind it are no part of it.
std::vector<ScoredToken> tokens_of_text(const Choice& choice) {
  if (choice.tool_calls.empty()) return choice.content_tokens;
  std::vector<ScoredToken> tokens;
  size_t bytes = 0;
  for (const ScoredToken& token : choice.content_tokens) {
    if (bytes >= choice.content.size()) break;
    bytes += token.bytes.size();
    tokens.push_back(token);
  }
  return tokens;
}

Json usage_of(const UsageCounts& usage) {
  Json json;
  json["input_tokens"] = usage.prompt_tokens;
  // No write to the cache is charged for.
  json["input_tokens_details"] = {{"cached_tokens", usage.cached_tokens},
                                  {"cache_write_tokens", 0}};
  json["output_tokens"] = usage.completion_tokens;
  json["output_tokens_details"] = {{"reasoning_tokens", usage.reasoning_tokens}};
  json["total_tokens"] = usage.prompt_tokens + usage.completion_tokens;
  return json;
}

/// How a response is over.
struct Ending {
  std::string_view status = "completed";
  Json incomplete = {}, error = {};
};

Ending ending_of(AnswerEnd end) {
  switch (end) {
    case AnswerEnd::kStop:
      return {};
    case AnswerEnd::kLength:
    case AnswerEnd::kContext:
      return {.status = "incomplete", .incomplete = {{"reason", "max_output_tokens"}}};
    case AnswerEnd::kDeadline:
      return {.status = "failed",
              .error = {{"code", "server_error"},
                        {"message", "timeout: the request's time is over before its answer is"}}};
    case AnswerEnd::kInterrupted:
      break;
  }
  return {.status = "failed",
          .error = {{"code", "server_error"}, {"message", "the server stopped the answer"}}};
}

/// The codes that a response's error may have.
std::string_view error_code(const ApiError& error) {
  if (error.status == 429) return "rate_limit_exceeded";
  return error.status >= 500 ? "server_error" : "invalid_prompt";
}

class ResponsesReply final : public Reply {
 public:
  ResponsesReply(ReplyHead head, const ResponsesCall& call, ResponseSink store)
      : Reply(std::move(head)),
        echo_(call.echo),
        logprobs_(call.options.logprobs),
        one_call_(!call.options.parallel_tool_calls) {
    if (!call.store || !store) return;
    store_ = std::move(store);
    items_ = call.items;
  }

  std::string whole(const std::vector<Choice>& choices, const UsageCounts& usage) override;
  std::string begin(const UsageCounts& usage) override;
  std::string push(int64_t choice, const ChoiceDelta& delta) override;
  std::string end(const Choice& choice, const UsageCounts* all) override;
  std::string finish(const UsageCounts& usage) override;
  std::string fail(const ApiError& error) override;

 private:
  [[nodiscard]] Json response_json(const Ending& ending, const Json* usage) const;
  std::string event(std::string_view type, Json fields);
  std::string response_event(std::string_view type, const Json& response) {
    return event(type, {{"response", response}});
  }
  /// The fields that tell which item, and which part of it, is meant.
  [[nodiscard]] Json place(bool part) const;
  std::string open(Kind kind);
  std::string close(std::string_view status);
  std::string add_thought(const std::string& text);
  std::string add_text(const std::string& text);
  std::string add_piece(const ToolCallPiece& piece);
  void add_whole(Kind kind, std::string text, std::string_view status);
  void add_call(const ToolCall& call);
  [[nodiscard]] bool answers_nothing(AnswerEnd end) const {
    return end == AnswerEnd::kStop && messages_ == 0 && calls_ == 0;
  }
  void keep(const Json& response);

  Json echo_;
  bool logprobs_, one_call_;
  ResponseSink store_;           ///< empty: nothing is to be stored
  Json items_;                   ///< what went in, of a response that is to be stored
  Json output_ = Json::array();  ///< items that are over
  Item open_;
  size_t calls_ = 0, whole_calls_ = 0, messages_ = 0;  ///< shown, broken ones too; whole; texts
  std::vector<ScoredToken> unsaid_;                    ///< tokens whose text is not certain yet
  Ending ending_;
  int64_t sequence_ = 0;
  bool begun_ = false;
};

Json ResponsesReply::response_json(const Ending& ending, const Json* usage) const {
  Json json;
  json["id"] = head_.id;
  json["object"] = "response";
  json["created_at"] = head_.created;
  json["status"] = ending.status;
  json["background"] = false;
  json["error"] = ending.error;
  json["incomplete_details"] = ending.incomplete;
  json["model"] = head_.model;
  json["output"] = output_;
  for (const auto& [key, value] : echo_.items()) json[key] = value;
  json["service_tier"] = "default";
  json["store"] = static_cast<bool>(store_);
  json["truncation"] = "disabled";
  json["usage"] = usage ? *usage : Json();
  json["system_fingerprint"] = head_.fingerprint;
  return json;
}

std::string ResponsesReply::event(std::string_view type, Json fields) {
  Json json = {{"type", type}, {"sequence_number", sequence_++}};
  for (auto& [key, value] : fields.items()) json[key] = std::move(value);
  return server_sent_event(type, json_text(json));
}

Json ResponsesReply::place(bool part) const {
  Json json = {{"item_id", open_.id}, {"output_index", output_.size()}};
  if (part) json["content_index"] = 0;
  return json;
}

void ResponsesReply::keep(const Json& response) {
  if (!store_) return;
  name_items(items_, head_.id);
  for (const Json& item : output_) items_.push_back(item);
  store_(head_.id,
         {.response = json_text(response), .items = json_text(items_), .created = head_.created});
}

// ---- whole

void ResponsesReply::add_whole(Kind kind, std::string text, std::string_view status) {
  output_.push_back(item_json({.kind = kind,
                               .id = item_id(kind == Kind::kThought ? "rs" : "msg", head_.id,
                                             std::to_string(output_.size())),
                               .text = std::move(text),
                               .logprobs = chat_logprobs(unsaid_)},
                              status));
}

void ResponsesReply::add_call(const ToolCall& call) {
  output_.push_back(
      item_json({.kind = Kind::kCall,
                 .id = item_id("fc", head_.id, std::to_string(output_.size())),
                 .text = call.arguments,
                 .call_id = call.id.empty() ? tool_call_id(head_, 0, calls_) : call.id,
                 .name = call.name},
                "completed"));
  ++calls_;
}

std::string ResponsesReply::whole(const std::vector<Choice>& choices, const UsageCounts& usage) {
  for (const Choice& choice : choices) {
    const bool over = choice.end == AnswerEnd::kStop || !choice.tool_calls.empty();
    const std::string_view last = over ? "completed" : "incomplete";
    if (!choice.reasoning.empty())
      add_whole(Kind::kThought, choice.reasoning, choice.content.empty() ? last : "completed");
    if (logprobs_) unsaid_ = tokens_of_text(choice);
    const bool nothing = choice.end == AnswerEnd::kStop && choice.tool_calls.empty();
    if (!choice.content.empty() || nothing) add_whole(Kind::kMessage, choice.content, last);
    for (const ToolCall& call : choice.tool_calls)
      if (!one_call_ || calls_ == 0) add_call(call);
    ending_ = ending_of(choice.end);
  }
  const Json counts = usage_of(usage);
  const Json response = response_json(ending_, &counts);
  keep(response);
  return json_text(response);
}

// ---- a stream

std::string ResponsesReply::begin(const UsageCounts&) {
  begun_ = true;
  const Json response = response_json({.status = "in_progress"}, nullptr);
  std::string out = response_event("response.created", response);
  return out += response_event("response.in_progress", response);
}

/// Begins an item; its call_id and name are set before.
std::string ResponsesReply::open(Kind kind) {
  open_.kind = kind;
  open_.id = item_id(kind == Kind::kThought   ? "rs"
                     : kind == Kind::kMessage ? "msg"
                                              : "fc",
                     head_.id, std::to_string(output_.size()));
  open_.logprobs = Json::array();
  std::string out =
      event("response.output_item.added",
            {{"output_index", output_.size()}, {"item", item_json(open_, "in_progress", true)}});
  if (kind == Kind::kCall) return out;
  if (kind == Kind::kMessage) ++messages_;
  Json fields = place(true);
  fields["part"] = part_of(open_);
  return out + event("response.content_part.added", std::move(fields));
}

std::string ResponsesReply::close(std::string_view status) {
  std::string out;
  if (open_.kind == Kind::kNone) return out;
  if (open_.kind == Kind::kCall) {
    if (status == "completed") {
      Json fields = place(false);
      fields["name"] = open_.name;
      fields["arguments"] = open_.text;
      out += event("response.function_call_arguments.done", std::move(fields));
    }
  } else {
    const bool thought = open_.kind == Kind::kThought;
    Json fields = place(true);
    fields["text"] = open_.text;
    if (!thought) fields["logprobs"] = open_.logprobs;
    out += event(thought ? "response.reasoning_text.done" : "response.output_text.done",
                 std::move(fields));
    fields = place(true);
    fields["part"] = part_of(open_);
    out += event("response.content_part.done", std::move(fields));
  }
  Json item = item_json(open_, status);
  out += event("response.output_item.done", {{"output_index", output_.size()}, {"item", item}});
  output_.push_back(std::move(item));
  open_ = {};
  return out;
}

std::string ResponsesReply::add_thought(const std::string& text) {
  std::string out;
  if (open_.kind != Kind::kThought) {
    out = close(open_.kind == Kind::kCall ? "incomplete" : "completed");
    out += open(Kind::kThought);
  }
  open_.text += text;
  Json fields = place(true);
  fields["delta"] = text;
  return out + event("response.reasoning_text.delta", std::move(fields));
}

/// Text, with all tokens that are not said yet.
std::string ResponsesReply::add_text(const std::string& text) {
  std::string out;
  if (open_.kind != Kind::kMessage) {
    out = close(open_.kind == Kind::kCall ? "incomplete" : "completed");
    out += open(Kind::kMessage);
  }
  open_.text += text;
  Json tokens = chat_logprobs(unsaid_);
  unsaid_.clear();
  Json fields = place(true);
  fields["delta"] = text;
  fields["logprobs"] = tokens;
  for (Json& token : tokens) open_.logprobs.push_back(std::move(token));
  return out + event("response.output_text.delta", std::move(fields));
}

std::string ResponsesReply::add_piece(const ToolCallPiece& piece) {
  std::string out;
  if (open_.kind != Kind::kCall || open_.piece != piece.index) {
    // With one call alone: the first that becomes whole.
    if (one_call_ && whole_calls_ > 0) return {};
    // Of a call whose item is over there is nothing to add.
    if (piece.name.empty()) return {};
    out = close(open_.kind == Kind::kCall ? "incomplete" : "completed");
    open_.piece = piece.index;
    open_.name = piece.name;
    open_.call_id = piece.id.empty() ? tool_call_id(head_, 0, calls_) : piece.id;
    ++calls_;
    out += open(Kind::kCall);
  }
  if (!piece.arguments.empty()) {
    open_.text += piece.arguments;
    Json fields = place(false);
    fields["delta"] = piece.arguments;
    out += event("response.function_call_arguments.delta", std::move(fields));
  }
  if (!piece.completes) return out;
  ++whole_calls_;
  unsaid_.clear();  // the call's tokens are no part of a text behind it
  return out + close("completed");
}

std::string ResponsesReply::push(int64_t, const ChoiceDelta& delta) {
  std::string out;
  if (logprobs_)
    unsaid_.insert(unsaid_.end(), delta.content_tokens.begin(), delta.content_tokens.end());
  const std::vector<ToolCallPiece>& pieces = delta.text.call_pieces;
  // The call that is open goes on first; text behind it says that it broke off, or is over.
  size_t next = 0;
  while (open_.kind == Kind::kCall && next < pieces.size() && pieces[next].index == open_.piece)
    out += add_piece(pieces[next++]);
  if (!delta.text.reasoning.empty()) out += add_thought(delta.text.reasoning);
  if (!delta.text.content.empty()) out += add_text(delta.text.content);
  for (; next < pieces.size(); ++next) out += add_piece(pieces[next]);
  return out;
}

std::string ResponsesReply::end(const Choice& choice, const UsageCounts*) {
  std::string out;
  ending_ = ending_of(choice.end);
  const bool broken = open_.kind == Kind::kCall || choice.end != AnswerEnd::kStop;
  // The last tokens may have no text of their own.
  if (open_.kind == Kind::kMessage && !unsaid_.empty()) out += add_text("");
  out += close(broken ? "incomplete" : "completed");
  if (!answers_nothing(choice.end)) return out;
  out += open(Kind::kMessage);
  return out + close("completed");
}

std::string ResponsesReply::finish(const UsageCounts& usage) {
  const Json counts = usage_of(usage);
  const Json response = response_json(ending_, &counts);
  keep(response);
  return response_event("response." + std::string(ending_.status), response);
}

std::string ResponsesReply::fail(const ApiError& error) {
  std::string out = event("error", {{"code", error.code},
                                    {"message", error.message},
                                    {"param", error.param.empty() ? Json() : Json(error.param)}});
  if (!begun_) return out;
  if (open_.kind != Kind::kNone) output_.push_back(item_json(open_, "incomplete"));
  open_ = {};
  store_ = nullptr;
  return out +
         response_event(
             "response.failed",
             response_json({.status = "failed",
                            .error = {{"code", error_code(error)}, {"message", error.message}}},
                           nullptr));
}

}  // namespace

std::unique_ptr<Reply> make_responses_reply(ReplyHead head, const ResponsesCall& call,
                                            ResponseSink store) {
  return std::make_unique<ResponsesReply>(std::move(head), call, std::move(store));
}

}  // namespace hadal::server
