#include <gtest/gtest.h>

#include <sstream>

#include "server/ollama_requests.h"

namespace hadal::server {
namespace {

constexpr int64_t kMillisecond = 1'000'000;

/// Each look at it is a millisecond later.
OllamaClock ticking() {
  return {.since_1970 = [] { return int64_t{1738324800'123456789}; },
          .steady = [now = int64_t{0}]() mutable { return now += kMillisecond; }};
}

OllamaCall call_of(bool generates, bool logprobs = false) {
  ChatCall call;
  call.options.logprobs = logprobs;
  return {.call = call, .generates = generates};
}

std::unique_ptr<Reply> reply_to(const OllamaCall& call) {
  return make_ollama_reply({.id = "ollama-1f", .created = 1, .model = "m"}, call, ticking());
}

std::vector<Json> lines_of(const std::string& stream) {
  std::vector<Json> lines;
  std::istringstream in(stream);
  for (std::string line; std::getline(in, line);) {
    EXPECT_TRUE(Json::accept(line)) << line;
    lines.push_back(Json::parse(line, nullptr, false));
  }
  return lines;
}

const UsageCounts kUsage{.prompt_tokens = 7, .completion_tokens = 5, .reasoning_tokens = 2};

Choice choice() {
  return {
      .reasoning = "so it is",
      .content = "It is 5 °C.",
      .tool_calls = {{.name = "f", .arguments = R"({"z": 1, "a": [2]})"},
                     {.id = "own", .name = "g", .arguments = "{}"},
                     {.name = "h", .arguments = "[1]"},
                     {.name = "i", .arguments = "broken"}},
      .end = AnswerEnd::kStop,
      .reasoning_tokens = {{.bytes = "so it is", .logprob = -0.5F}},
      .content_tokens = {{.bytes = "It", .logprob = -1.0F, .top = {{"It", -1.0F}, {"\xC2", -2}}},
                         {.bytes = "\xC2", .logprob = -HUGE_VALF}}};
}

/// The answer as a parser cuts it, with calls told by pieces, one of which is never whole.
std::string stream_of(Reply& reply, const Choice& all) {
  std::string out = reply.begin({.prompt_tokens = 7});
  out += reply.push(0, {.text = {.reasoning = "so it"}});
  out += reply.push(0, {.text = {.reasoning = " is"}, .reasoning_tokens = all.reasoning_tokens});
  out += reply.push(0, {});
  out +=
      reply.push(0, {.text = {.content = "It is 5 °"}, .content_tokens = {all.content_tokens[0]}});
  out += reply.push(0, {.content_tokens = {all.content_tokens[1]}});
  out += reply.push(0, {.text = {.call_pieces = {{.index = 0, .name = "f", .arguments = "{\"z"}}}});
  out += reply.push(0, {.text = {.content = "C.",
                                 .tool_calls = {all.tool_calls[0]},
                                 .call_pieces = {{.index = 0, .completes = true}}}});
  out += reply.push(0, {.text = {.call_pieces = {{.index = 1, .name = "lost", .arguments = "{"}}}});
  out += reply.push(0, {.text = {.tool_calls = {all.tool_calls[1], all.tool_calls[2]}}});
  out += reply.push(0, {.text = {.tool_calls = {all.tool_calls[3]}}});
  out += reply.end(all, &kUsage);
  return out + reply.finish(kUsage);
}

/// What a client puts together of lines.
Json joined(const std::vector<Json>& lines, bool generates) {
  Json all = lines.back();
  const auto part = [&](Json& line) -> Json& { return generates ? line : line["message"]; };
  Json said = part(all);
  std::string thinking, content;
  Json calls = Json::array(), logprobs = Json::array();
  for (Json line : lines) {
    Json& piece = part(line);
    thinking += piece.value("thinking", "");
    content += piece.value(generates ? "response" : "content", "");
    for (const Json& call : piece.value("tool_calls", Json::array())) calls.push_back(call);
    for (const Json& token : line.value("logprobs", Json::array())) logprobs.push_back(token);
  }
  part(all)[generates ? "response" : "content"] = content;
  part(all)["thinking"] = thinking;
  part(all)["tool_calls"] = calls;
  if (!logprobs.empty()) all["logprobs"] = logprobs;
  return all;
}

TEST(OllamaReply, WholeIsTheStreamPutTogether) {
  for (const bool generates : {false, true})
    for (const bool logprobs : {false, true}) {
      const OllamaCall call = call_of(generates, logprobs);
      Json whole = Json::parse(reply_to(call)->whole({choice()}, kUsage));
      const std::vector<Json> lines = lines_of(stream_of(*reply_to(call), choice()));
      for (size_t i = 0; i < lines.size(); ++i)
        EXPECT_EQ(lines[i]["done"], i + 1 == lines.size()) << lines[i];
      Json stream = joined(lines, generates);
      EXPECT_EQ(stream["prompt_eval_duration"], kMillisecond);
      EXPECT_FALSE(whole.contains("prompt_eval_duration"));
      for (Json* json : {&whole, &stream})
        for (const char* time : {"total_duration", "prompt_eval_duration", "eval_duration"})
          json->erase(time);
      // The order of keys is not part of it.
      EXPECT_EQ(nlohmann::json::parse(whole.dump()), nlohmann::json::parse(stream.dump()));
    }
}

TEST(OllamaReply, ChatHasTheFormThatClientsKnow) {
  Choice said = choice();
  said.tool_calls.resize(1);
  EXPECT_EQ(reply_to(call_of(false))->whole({said}, kUsage),
            R"({"model":"m","created_at":"2025-01-31T12:00:00.123456789Z","message":)"
            R"({"role":"assistant","content":"It is 5 °C.","thinking":"so it is","tool_calls":)"
            R"([{"id":"call_1f_0_0","function":{"index":0,"name":"f","arguments":)"
            R"({"z":1,"a":[2]}}}]},"done":true,"done_reason":"stop","total_duration":1000000,)"
            R"("load_duration":0,"prompt_eval_count":7,"eval_count":5,"eval_duration":1000000})");
  const std::unique_ptr<Reply> reply = reply_to(call_of(true));
  EXPECT_EQ(reply->begin({}), "");
  EXPECT_EQ(reply->push(0, {.text = {.reasoning = "a", .content = "b"}}),
            R"({"model":"m","created_at":"2025-01-31T12:00:00.123456789Z","response":"b",)"
            R"("thinking":"a","done":false})"
            "\n");
  EXPECT_EQ(reply->end({}, nullptr), "");
  EXPECT_EQ(reply->finish(kUsage),
            R"({"model":"m","created_at":"2025-01-31T12:00:00.123456789Z","response":"",)"
            R"("done":true,"done_reason":"stop","total_duration":2000000,"load_duration":0,)"
            R"("prompt_eval_count":7,"prompt_eval_duration":1000000,"eval_count":5,)"
            R"("eval_duration":1000000})"
            "\n");
  EXPECT_EQ(reply->stream_type(), "application/x-ndjson");
  EXPECT_EQ(reply->ping(), "");
}

TEST(OllamaReply, CallsAreToldWholeWithObjectsAsArguments) {
  const std::vector<Json> lines = lines_of(stream_of(*reply_to(call_of(false)), choice()));
  std::vector<Json> calls;
  for (const Json& line : lines) {
    EXPECT_EQ(line.dump().find("lost"), std::string::npos);
    for (const Json& call : line["message"].value("tool_calls", Json::array()))
      calls.push_back(call);
  }
  ASSERT_EQ(calls.size(), 4U);
  for (size_t i = 0; i < calls.size(); ++i) {
    EXPECT_EQ(calls[i]["function"]["index"], i);
    EXPECT_TRUE(calls[i]["function"]["arguments"].is_object());
  }
  EXPECT_EQ(calls[0]["id"], "call_1f_0_0");
  EXPECT_EQ(calls[1]["id"], "own");
  EXPECT_EQ(calls[2]["id"], "call_1f_0_2");
  EXPECT_EQ(calls[2]["function"]["arguments"].dump(), R"({"arguments":[1]})");
  EXPECT_EQ(calls[3]["function"]["arguments"].dump(), R"({"arguments":"broken"})");
}

TEST(OllamaReply, LogprobsAreOneListOfThoughtAndContent) {
  const Json whole = Json::parse(reply_to(call_of(false, true))->whole({choice()}, kUsage));
  EXPECT_EQ(whole["logprobs"].dump(),
            R"([{"token":"so it is","logprob":-0.5,"bytes":[115,111,32,105,116,32,105,115]},)"
            R"({"token":"It","logprob":-1.0,"bytes":[73,116],"top_logprobs":[)"
            R"({"token":"It","logprob":-1.0,"bytes":[73,116]},)"
            R"({"token":"�","logprob":-2.0,"bytes":[194]}]},)"
            R"({"token":"�","logprob":-9999.0,"bytes":[194]}])");
  // A token that shows no text yet is a line all the same.
  const std::unique_ptr<Reply> reply = reply_to(call_of(false, true));
  const std::vector<Json> lines = lines_of(reply->push(0, {.content_tokens = {{.bytes = "\xC2"}}}));
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["logprobs"].size(), 1U);
  EXPECT_EQ(reply_to(call_of(false))->push(0, {.content_tokens = {{.bytes = "a"}}}), "");
}

TEST(OllamaReply, SaysHowItEnded) {
  const std::pair<AnswerEnd, const char*> ends[] = {{AnswerEnd::kStop, "stop"},
                                                    {AnswerEnd::kLength, "length"},
                                                    {AnswerEnd::kContext, "length"},
                                                    {AnswerEnd::kDeadline, "deadline"},
                                                    {AnswerEnd::kInterrupted, "interrupted"}};
  for (const auto& [end, reason] : ends) {
    const std::unique_ptr<Reply> reply = reply_to(call_of(false));
    EXPECT_EQ(Json::parse(reply->whole({{.end = end, .stop = "x"}}, kUsage))["done_reason"],
              reason);
    EXPECT_EQ(reply->end({.end = end}, &kUsage), "");
    EXPECT_EQ(lines_of(reply->finish(kUsage))[0]["done_reason"], reason);
  }
}

TEST(OllamaReply, ErrorsAreOneTextAndEndAStream) {
  const ApiError error{.status = 404, .message = "model: \"x\" is not served"};
  EXPECT_EQ(ollama_error_body(error), R"({"error":"model: \"x\" is not served"})");
  EXPECT_EQ(ollama_error_body({.message = "a\xFF"}), "{\"error\":\"a\xEF\xBF\xBD\"}");
  const std::unique_ptr<Reply> reply = reply_to(call_of(false));
  std::string stream = reply->push(0, {.text = {.content = "a\nb"}});
  stream += reply->fail(error);
  const std::vector<Json> lines = lines_of(stream);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0]["message"]["content"], "a\nb");
  EXPECT_EQ(lines[1]["error"], error.message);
}

TEST(OllamaReply, TimesAreRfc3339InUtc) {
  EXPECT_EQ(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(rfc3339(-1), "1969-12-31T23:59:59.999999999Z");
  EXPECT_EQ(rfc3339(951'782'400'000'000'001), "2000-02-29T00:00:00.000000001Z");
  EXPECT_EQ(rfc3339(INT64_MAX), "2262-04-11T23:47:16.854775807Z");
  // The machine's own clock, where none is given.
  const Json whole = Json::parse(
      make_ollama_reply({.model = "m"}, call_of(false))->whole({{.content = "a"}}, kUsage));
  EXPECT_GT(whole["created_at"].get<std::string>(), "2025");
  EXPECT_GE(whole["total_duration"], 0);
}

}  // namespace
}  // namespace hadal::server
