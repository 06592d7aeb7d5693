// Messages and their streams: that a client which adds up events holds the message, whatever the
// model writes, and what it sees of calls that come to nothing.
#include <gtest/gtest.h>

#include "server/anthropic_messages.h"

namespace hadal::server {
namespace {

const ReplyHead kHead = {.id = "msg_7", .created = 123, .model = "m", .fingerprint = "fp"};
const UsageCounts kUsage = {
    .prompt_tokens = 10, .completion_tokens = 5, .reasoning_tokens = 2, .cached_tokens = 8};

Json whole_of(const Choice& choice, const ChatCall& call = {}) {
  return Json::parse(make_messages_reply(kHead, call)->whole({choice}, kUsage));
}

/// What a client holds that adds up events, as strict as the API's order allows.
struct Client {
  Json message = {};
  std::string input = {};  ///< of the open block
  std::string names = {};  ///< of the events
  bool open = false, over = false;
  int errors = 0;

  void take(const std::string& bytes) {
    size_t at = 0;
    while (at < bytes.size()) {
      const size_t end = bytes.find("\n\n", at);
      ASSERT_NE(end, std::string::npos) << bytes;
      const std::string event = bytes.substr(at, end - at);
      at = end + 2;
      const size_t line = event.find("\ndata: ");
      ASSERT_EQ(event.find("event: "), 0U) << event;
      ASSERT_NE(line, std::string::npos) << event;
      const Json data = Json::parse(event.substr(line + 7));
      EXPECT_EQ(data["type"], event.substr(7, line - 7));
      take_event(data);
    }
  }

  void take_event(const Json& data) {
    const auto type = data["type"].get<std::string>();
    names += (names.empty() ? "" : " ") + type;
    EXPECT_FALSE(over) << "behind the end: " << data;
    if (type == "message_start") {
      message = data["message"];
      EXPECT_TRUE(message["content"].empty());
      EXPECT_TRUE(message["stop_reason"].is_null() && message["stop_sequence"].is_null());
    } else if (type == "content_block_start") {
      EXPECT_FALSE(open) << "blocks interleave";
      open = true;
      EXPECT_EQ(data["index"], message["content"].size());
      message["content"].push_back(data["content_block"]);
      input.clear();
    } else if (type == "content_block_delta") {
      EXPECT_TRUE(open);
      EXPECT_EQ(data["index"], message["content"].size() - 1);
      take_delta(data["delta"], message["content"].back());
    } else if (type == "content_block_stop") {
      EXPECT_TRUE(open);
      open = false;
      Json& block = message["content"].back();
      if (block["type"] == "tool_use" && !input.empty())
        block["input"] = Json::accept(input) ? Json::parse(input) : Json("broken: " + input);
      EXPECT_TRUE(block["type"] != "thinking" || block["signature"] != "");
    } else if (type == "message_delta") {
      EXPECT_FALSE(open) << "a block is left open";
      message["stop_reason"] = data["delta"]["stop_reason"];
      message["stop_sequence"] = data["delta"]["stop_sequence"];
      message["usage"] = data["usage"];
    } else if (type == "message_stop") {
      over = true;
    } else if (type == "error") {
      ++errors;
      EXPECT_TRUE(data["error"]["type"].is_string() && data["error"]["message"].is_string());
    }
  }

  void take_delta(const Json& delta, Json& block) {
    const auto type = delta["type"].get<std::string>();
    const auto add = [&](const char* key, const char* of) {
      EXPECT_EQ(block["type"], of);
      EXPECT_NE(delta[key], "") << "an empty delta";
      block[key] = block[key].get<std::string>() + delta[key].get<std::string>();
    };
    if (type == "text_delta") return add("text", "text");
    if (type == "thinking_delta") return add("thinking", "thinking");
    if (type == "signature_delta") return add("signature", "thinking");
    EXPECT_EQ(type, "input_json_delta");
    EXPECT_EQ(block["type"], "tool_use");
    input += delta["partial_json"].get<std::string>();
  }
};

/// The whole stream of these deltas, and of a choice that is their sum.
Client stream_of(const std::vector<OutputDelta>& deltas, const Choice& choice,
                 const ChatCall& call = {}) {
  const auto reply = make_messages_reply(kHead, call);
  Client client;
  client.take(reply->begin(kUsage));
  for (const OutputDelta& delta : deltas) {
    client.take(reply->ping());
    client.take(reply->push(0, {.text = delta}));
  }
  client.take(reply->end(choice, &kUsage));
  client.take(reply->finish(kUsage));
  EXPECT_TRUE(client.over);
  return client;
}

// ---- whole

TEST(AnthropicReply, HasTheShapeOfTheApi) {
  EXPECT_EQ(
      make_messages_reply(kHead, {})->whole({{.reasoning = "hm", .content = "Hi"}}, kUsage),
      R"({"id":"msg_7","type":"message","role":"assistant","model":"m","content":[)"
      R"({"type":"thinking","thinking":"hm","signature":"aGFkYWw="},{"type":"text","text":"Hi"}],)"
      R"("stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":2,)"
      R"("cache_creation_input_tokens":0,"cache_read_input_tokens":8,"output_tokens":5,)"
      R"("output_tokens_details":{"thinking_tokens":2}}})");
  EXPECT_EQ(whole_of({})["content"].dump(), "[]");
  EXPECT_NE(make_messages_reply(kHead, {})->whole({{.content = "\xff"}}, {}).find("\xEF\xBF\xBD"),
            std::string::npos);
}

TEST(AnthropicReply, CallsHaveObjectsAsInputs) {
  const Json message =
      whole_of({.content = "I look.",
                .tool_calls = {{.id = "given", .name = "f", .arguments = R"({"z":1,"a":[2]})"},
                               {.name = "g"},
                               {.name = "h", .arguments = "[1]"},
                               {.name = "i", .arguments = "{\"a\":"}}});
  EXPECT_EQ(message["stop_reason"], "tool_use");
  EXPECT_EQ(
      message["content"].dump(),
      R"([{"type":"text","text":"I look."},)"
      R"({"type":"tool_use","id":"given","name":"f","input":{"z":1,"a":[2]}},)"
      R"({"type":"tool_use","id":"call_7_0_1","name":"g","input":{}},)"
      R"({"type":"tool_use","id":"call_7_0_2","name":"h","input":{"INVALID_JSON":"[1]"}},)"
      R"({"type":"tool_use","id":"call_7_0_3","name":"i","input":{"INVALID_JSON":"{\"a\":"}}])");
  ChatCall one;
  one.options.parallel_tool_calls = false;
  EXPECT_EQ(whole_of({.tool_calls = {{.name = "f"}, {.name = "g"}}}, one)["content"].size(), 1U);
}

TEST(AnthropicReply, ReasonsOfTheEnd) {
  const std::vector<ToolCall> calls = {{.name = "f"}};
  EXPECT_EQ(whole_of({.end = AnswerEnd::kLength})["stop_reason"], "max_tokens");
  EXPECT_EQ(whole_of({.tool_calls = calls, .end = AnswerEnd::kLength})["stop_reason"],
            "max_tokens");
  EXPECT_EQ(whole_of({.end = AnswerEnd::kContext})["stop_reason"], "model_context_window_exceeded");
  EXPECT_EQ(whole_of({.end = AnswerEnd::kDeadline})["stop_reason"], "pause_turn");
  EXPECT_EQ(whole_of({.end = AnswerEnd::kInterrupted})["stop_reason"], "pause_turn");
  const Json stopped = whole_of({.tool_calls = calls, .stop = "\n\n"});
  EXPECT_EQ(stopped["stop_reason"], "stop_sequence");
  EXPECT_EQ(stopped["stop_sequence"], "\n\n");
  EXPECT_TRUE(whole_of({.end = AnswerEnd::kLength, .stop = "a"})["stop_sequence"].is_null());
}

// ---- streams

TEST(AnthropicStream, AddsUpToTheMessage) {
  const Choice choice = {
      .reasoning = "think",
      .content = "Hello",
      .tool_calls = {{.name = "f", .arguments = R"({"x":1})"}, {.id = "b", .name = "g"}}};
  const Client client = stream_of(
      {{.reasoning = "th"},
       {.reasoning = "ink", .content = "Hel"},
       {},
       {.content = "lo", .call_pieces = {{.index = 0, .name = "f"}}},
       {.call_pieces = {{.index = 0, .arguments = "{\"x\""}}},
       {.tool_calls = {choice.tool_calls[0]},
        .call_pieces = {{.index = 0, .arguments = ":1}", .completes = true},
                        {.index = 1, .id = "b", .name = "g"}}},
       {.tool_calls = {choice.tool_calls[1]}, .call_pieces = {{.index = 1, .completes = true}}}},
      choice);
  EXPECT_EQ(client.message, whole_of(choice));
  EXPECT_EQ(client.names,
            "message_start ping content_block_start content_block_delta ping content_block_delta "
            "content_block_delta content_block_stop content_block_start content_block_delta ping "
            "ping content_block_delta content_block_stop content_block_start ping "
            "content_block_delta ping content_block_delta content_block_stop content_block_start "
            "ping content_block_stop message_delta message_stop");
}

// One answer, cut into deltas at every byte of its texts, and joined again from each place on.
TEST(AnthropicStream, AddsUpHoweverItIsCut) {
  const std::string thought = "a b", text = "one two", arguments = R"({"k":"v"})";
  const Choice choice = {
      .reasoning = thought, .content = text, .tool_calls = {{.name = "f", .arguments = arguments}}};
  std::vector<OutputDelta> all;
  for (const char c : thought) all.push_back({.reasoning = std::string(1, c)});
  for (const char c : text) all.push_back({.content = std::string(1, c)});
  for (size_t i = 0; i < arguments.size(); ++i) {
    ToolCallPiece piece = {.arguments = arguments.substr(i, 1)};
    if (i == 0) piece.name = "f";
    piece.completes = i + 1 == arguments.size();
    all.push_back({.call_pieces = {piece}});
  }
  all.back().tool_calls = choice.tool_calls;
  const Json whole = whole_of(choice);
  for (size_t from = 0; from <= all.size(); ++from)
    for (size_t to = from; to <= all.size(); to += 5) {
      std::vector<OutputDelta> joined(all.begin(), all.begin() + static_cast<ptrdiff_t>(from));
      OutputDelta middle;
      for (size_t i = from; i < to; ++i) {
        middle.reasoning += all[i].reasoning;
        middle.content += all[i].content;
        for (const ToolCallPiece& piece : all[i].call_pieces) middle.call_pieces.push_back(piece);
      }
      joined.push_back(std::move(middle));
      joined.insert(joined.end(), all.begin() + static_cast<ptrdiff_t>(to), all.end());
      EXPECT_EQ(stream_of(joined, choice).message, whole) << from << " " << to;
    }
}

TEST(AnthropicStream, ABrokenCallGoesOnAsText) {
  const Choice choice = {.content = "before {\"x\": oops", .tool_calls = {{.name = "g"}}};
  const Client client =
      stream_of({{.content = "before "},
                 {.call_pieces = {{.index = 0, .name = "f", .arguments = "{\"x\":"}}},
                 {.content = "{\"x\": oops"},
                 {.tool_calls = choice.tool_calls,
                  .call_pieces = {{.index = 0, .arguments = "late"},
                                  {.index = 1, .name = "g", .completes = true}}}},
                choice);
  EXPECT_EQ(client.message["content"].dump(),
            R"([{"type":"text","text":"before "},)"
            R"({"type":"tool_use","id":"call_7_0_0","name":"f","input":"broken: {\"x\":"},)"
            R"({"type":"text","text":"{\"x\": oops"},)"
            R"({"type":"tool_use","id":"call_7_0_1","name":"g","input":{}}])");
  EXPECT_EQ(client.message["stop_reason"], "tool_use");
}

TEST(AnthropicStream, ACallThatNeverEndsIsClosedAndIsNoReasonToRunIt) {
  const Client client =
      stream_of({{.call_pieces = {{.index = 0, .name = "f", .arguments = "{\"x\":"}}}},
                {.content = "{\"x\":"});
  EXPECT_EQ(client.message["stop_reason"], "end_turn");
  EXPECT_EQ(client.message["content"].size(), 1U);
  const Client cut =
      stream_of({{.call_pieces = {{.index = 0, .name = "f"}}}}, {.end = AnswerEnd::kLength});
  EXPECT_EQ(cut.message["stop_reason"], "max_tokens");
}

// A call that is open takes its pieces before the text of the same delta: the text stands behind
// it.
TEST(AnthropicStream, TextBehindACallOfTheSameDelta) {
  const Choice choice = {.content = "after", .tool_calls = {{.name = "f", .arguments = "{}"}}};
  const Client client =
      stream_of({{.call_pieces = {{.index = 0, .name = "f", .arguments = "{"}}},
                 {.content = "after",
                  .tool_calls = choice.tool_calls,
                  .call_pieces = {{.index = 0, .arguments = "}", .completes = true}}}},
                choice);
  EXPECT_EQ(client.message["content"].dump(),
            R"([{"type":"tool_use","id":"call_7_0_0","name":"f","input":{}},)"
            R"({"type":"text","text":"after"}])");
}

// A client may run a call as soon as its block is closed, while the answer goes on.
TEST(AnthropicStream, AWholeCallIsClosedAtOnce) {
  const auto reply = make_messages_reply(kHead, {});
  (void)reply->begin({});
  const std::string begun = reply->push(0, {.text = {.call_pieces = {{.name = "f"}}}});
  EXPECT_EQ(begun.find("content_block_stop"), std::string::npos);
  const std::string ended = reply->push(
      0, {.text = {.tool_calls = {{.name = "f"}}, .call_pieces = {{.completes = true}}}});
  EXPECT_EQ(ended,
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n");
}

TEST(AnthropicStream, ThoughtsThatAreOmittedKeepTheirBlock) {
  ChatCall call;
  call.include_reasoning = false;
  const Choice choice = {.reasoning = "hm", .content = "x"};
  const Client client =
      stream_of({{.reasoning = "h"}, {.reasoning = "m", .content = "x"}}, choice, call);
  EXPECT_EQ(client.message, whole_of(choice, call));
  EXPECT_EQ(client.message["content"][0].dump(),
            R"({"type":"thinking","thinking":"","signature":"aGFkYWw="})");
}

TEST(AnthropicStream, OneCallIsAllThatIsShownWhereOneIsAskedFor) {
  ChatCall call;
  call.options.parallel_tool_calls = false;
  const Choice choice = {.tool_calls = {{.name = "f"}, {.name = "g"}}};
  const Client client = stream_of(
      {{.tool_calls = choice.tool_calls,
        .call_pieces = {{.index = 0, .name = "f", .completes = true},
                        {.index = 1, .name = "g", .arguments = "{}", .completes = true}}}},
      choice, call);
  EXPECT_EQ(client.message, whole_of(choice, call));
  // One that was begun and broke is none.
  const Client second =
      stream_of({{.call_pieces = {{.index = 0, .name = "f"}}},
                 {.content = "x", .call_pieces = {{.index = 1, .name = "g", .completes = true}}}},
                {.content = "x", .tool_calls = {{.name = "g"}}}, call);
  EXPECT_EQ(second.message["content"][2]["name"], "g");
}

TEST(AnthropicStream, TellsTheStopTextAndUsage) {
  const Client client = stream_of({{.content = "a"}}, {.content = "a", .stop = "END"});
  EXPECT_EQ(client.message["stop_reason"], "stop_sequence");
  EXPECT_EQ(client.message["stop_sequence"], "END");
  EXPECT_EQ(client.message["usage"]["input_tokens"], 2);
  EXPECT_EQ(client.message["usage"]["output_tokens"], 5);
  const auto reply = make_messages_reply(kHead, {});
  const std::string start = reply->begin({.prompt_tokens = 9, .cached_tokens = 4});
  EXPECT_NE(start.find(R"("input_tokens":5,"cache_creation_input_tokens":0,)"
                       R"("cache_read_input_tokens":4,"output_tokens":0)"),
            std::string::npos)
      << start;
  EXPECT_EQ(reply->ping(), "event: ping\ndata: {\"type\":\"ping\"}\n\n");
  EXPECT_EQ(reply->stream_type(), "text/event-stream");
}

TEST(AnthropicStream, FailsWithAnEvent) {
  const auto reply = make_messages_reply(kHead, {});
  Client client;
  client.take(reply->begin({}));
  client.take(reply->push(0, {.text = {.content = "a"}}));
  const std::string error = reply->fail({.status = 503, .message = "the server stops"});
  EXPECT_EQ(error,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\","
            "\"message\":\"the server stops\"}}\n\n");
  client.take(error);
  EXPECT_EQ(client.errors, 1);
}

// ---- errors

TEST(AnthropicErrors, TypesFollowTheStatus) {
  EXPECT_EQ(messages_error_body({.status = 404, .message = "model: \"x\" is not served"}, "req_1"),
            R"({"type":"error","error":{"type":"not_found_error",)"
            R"("message":"model: \"x\" is not served"},"request_id":"req_1"})");
  for (const auto& [status, type] :
       {std::pair{400, "invalid_request_error"}, std::pair{401, "authentication_error"},
        std::pair{403, "permission_error"}, std::pair{405, "invalid_request_error"},
        std::pair{413, "request_too_large"}, std::pair{429, "rate_limit_error"},
        std::pair{500, "api_error"}, std::pair{502, "api_error"},
        std::pair{503, "overloaded_error"}, std::pair{504, "timeout_error"},
        std::pair{529, "overloaded_error"}})
    EXPECT_EQ(Json::parse(messages_error_body({.status = status, .message = "x"}, ""))["error"],
              (Json{{"type", type}, {"message", "x"}}))
        << status;
  EXPECT_EQ(Json::parse(messages_error_body(api_error(memory_error("9 tokens, 8 fit")),
                                            ""))["error"]["message"],
            "prompt is too long: 9 tokens, 8 fit");
  EXPECT_TRUE(Json::accept(messages_error_body({.message = "\xff"}, "\xfe")));
}

}  // namespace
}  // namespace hadal::server
