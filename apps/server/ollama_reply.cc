// The responses of /api/chat and /api/generate, and their streams of lines.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <optional>
#include <utility>

#include "server/ollama_requests.h"
#include "server/openai_reply.h"
#include "text/chat/json_reader.h"

namespace hadal::server {
namespace {

/// JSON on a line of its own. What Unicode calls ends of lines is escaped: the official client
/// reads lines by a library that cuts there.
std::string json_line(const Json& json) {
  std::string line = json_text(json);
  for (const auto& [end, escape] :
       {std::pair<std::string_view, std::string_view>{"\xC2\x85", "\\u0085"},
        {"\xE2\x80\xA8", "\\u2028"},
        {"\xE2\x80\xA9", "\\u2029"}})
    for (size_t at = 0; (at = line.find(end, at)) != std::string::npos; at += escape.size())
      line.replace(at, end.size(), escape);
  return line += '\n';
}

int64_t nanoseconds(std::chrono::nanoseconds time) { return time.count(); }

OllamaClock complete(OllamaClock clock) {
  if (!clock.since_1970)
    clock.since_1970 = [] {
      return nanoseconds(std::chrono::system_clock::now().time_since_epoch());
    };
  if (!clock.steady)
    clock.steady = [] { return nanoseconds(std::chrono::steady_clock::now().time_since_epoch()); };
  return clock;
}

std::string_view done_reason(AnswerEnd end) {
  return end == AnswerEnd::kContext ? name_of(AnswerEnd::kLength) : name_of(end);
}

/// Ollama's clients take an object and nothing else. Arguments of another form are its one member.
Json arguments_json(const std::string& text) {
  auto read = chat::read_json(text, "arguments", chat::JsonKeys::kLastCounts);
  if (read && read->is_object()) return *std::move(read);
  return {{"arguments", read ? *std::move(read) : Json(text)}};
}

/// OpenAI's form without the list of rivals where there is none.
Json logprobs_json(const std::vector<ScoredToken>& thought, const std::vector<ScoredToken>& said) {
  Json list = Json::array();
  for (const std::vector<ScoredToken>* tokens : {&thought, &said})
    for (Json& entry : chat_logprobs(*tokens)) {
      if (entry["top_logprobs"].empty()) entry.erase("top_logprobs");
      list.push_back(std::move(entry));
    }
  return list;
}

class OllamaReply final : public Reply {
 public:
  OllamaReply(ReplyHead head, const OllamaCall& call, OllamaClock clock)
      : Reply(std::move(head)),
        generates_(call.generates),
        logprobs_(common(call.call).options.logprobs),
        clock_(complete(std::move(clock))),
        start_(clock_.steady()) {}

  std::string whole(const std::vector<Choice>& choices, const UsageCounts& usage) override {
    HADAL_CHECK(choices.size() == 1);  // the API asks for one answer
    const Choice& choice = choices[0];
    Json json = part(choice.reasoning, choice.content, choice.tool_calls);
    finish_json(json, choice.end, usage);
    if (logprobs_) json["logprobs"] = logprobs_json(choice.reasoning_tokens, choice.content_tokens);
    return json_text(json);
  }

  std::string begin(const UsageCounts&) override {
    if (!first_) first_ = clock_.steady();
    return {};
  }

  std::string push(int64_t, const ChoiceDelta& delta) override {
    if (!first_) first_ = clock_.steady();
    const OutputDelta& text = delta.text;
    Json logprobs =
        logprobs_ ? logprobs_json(delta.reasoning_tokens, delta.content_tokens) : Json();
    if (text.reasoning.empty() && text.content.empty() && text.tool_calls.empty() &&
        logprobs.empty())
      return {};
    Json json = part(text.reasoning, text.content, text.tool_calls);
    json["done"] = false;
    if (!logprobs.empty()) json["logprobs"] = std::move(logprobs);
    return json_line(json);
  }

  /// The last line has the numbers of the whole: finish() writes it.
  std::string end(const Choice& choice, const UsageCounts*) override {
    end_ = choice.end;
    return {};
  }

  std::string finish(const UsageCounts& usage) override {
    Json json = part("", "", {});
    finish_json(json, end_, usage);
    return json_line(json);
  }

  std::string fail(const ApiError& error) override { return ollama_error_body(error) + "\n"; }
  [[nodiscard]] std::string ping() const override { return {}; }
  [[nodiscard]] std::string_view stream_type() const override { return "application/x-ndjson"; }

 private:
  /// A response's head with what is said; calls are counted on.
  Json part(std::string_view reasoning, std::string_view content,
            const std::vector<ToolCall>& calls) {
    Json json;
    json["model"] = head_.model;
    json["created_at"] = rfc3339(clock_.since_1970());
    Json message;
    if (!generates_) message["role"] = "assistant";
    message[generates_ ? "response" : "content"] = content;
    if (!reasoning.empty()) message["thinking"] = reasoning;
    for (const ToolCall& call : calls) {
      const size_t index = calls_++;
      message["tool_calls"].push_back(
          {{"id", call.id.empty() ? tool_call_id(head_, 0, index) : call.id},
           {"function",
            {{"index", index},
             {"name", call.name},
             {"arguments", arguments_json(call.arguments)}}}});
    }
    if (generates_)
      json.update(message);
    else
      json["message"] = std::move(message);
    return json;
  }

  void finish_json(Json& json, AnswerEnd end, const UsageCounts& usage) const {
    const int64_t now = clock_.steady(), first = first_.value_or(start_);
    json["done"] = true;
    json["done_reason"] = done_reason(end);
    json["total_duration"] = now - start_;
    json["load_duration"] = 0;  // the model is there before the server is
    json["prompt_eval_count"] = usage.prompt_tokens;
    if (first_) json["prompt_eval_duration"] = first - start_;
    json["eval_count"] = usage.completion_tokens;
    json["eval_duration"] = now - first;
  }

  bool generates_, logprobs_;
  OllamaClock clock_;
  int64_t start_;
  std::optional<int64_t> first_ = {};  ///< when the first token was there
  size_t calls_ = 0;                   ///< that were told
  AnswerEnd end_ = AnswerEnd::kStop;
};

}  // namespace

std::string rfc3339(int64_t nanoseconds) {
  using std::chrono::floor;
  constexpr int64_t kSecond = 1'000'000'000;
  const int64_t rest = ((nanoseconds % kSecond) + kSecond) % kSecond;
  const std::chrono::sys_seconds time{std::chrono::seconds((nanoseconds - rest) / kSecond)};
  const auto day = floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02d.%09dZ",
                static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                static_cast<unsigned>(date.day()), static_cast<int>(clock.hours().count()),
                static_cast<int>(clock.minutes().count()),
                static_cast<int>(clock.seconds().count()), static_cast<int>(rest));
  return text.data();
}

std::string ollama_load_body(const ReplyHead& head, const OllamaCall& call) {
  HADAL_CHECK(call.task != OllamaTask::kAnswer);
  Json json;
  json["model"] = head.model;
  json["created_at"] = rfc3339(head.created * 1'000'000'000);
  if (call.generates)
    json["response"] = "";
  else
    json["message"] = {{"role", "assistant"}, {"content", ""}};
  json["done"] = true;
  json["done_reason"] = call.task == OllamaTask::kUnload ? "unload" : "load";
  return json_text(json);
}

std::string ollama_error_body(const ApiError& error) {
  return json_text({{"error", error.message}});
}

std::unique_ptr<Reply> make_ollama_reply(ReplyHead head, const OllamaCall& call,
                                         OllamaClock clock) {
  return std::make_unique<OllamaReply>(std::move(head), call, std::move(clock));
}

}  // namespace hadal::server
