// Responses and their streams, and what is stored of them.
#include <gtest/gtest.h>

#include <map>

#include "server/api_error.h"
#include "server/openai_responses.h"

namespace hadal::server {
namespace {

ResponsesCall call_of(const std::string& body, const ResponseFinder& find = {}) {
  Result<ResponsesCall> call = parse_responses_call(body, find);
  EXPECT_TRUE(call) << call.error().message << "\n" << body;
  return call ? *std::move(call) : ResponsesCall{};
}
Error failure(const std::string& body, const ResponseFinder& find = {}) {
  const Result<ResponsesCall> call = parse_responses_call(body, find);
  return call ? Error{.message = "none"} : call.error();
}
std::string with(const std::string& fields) { return R"({"input":"hi",)" + fields + "}"; }
std::string items(const std::string& list) { return R"({"input":[)" + list + "]}"; }

/// Turns in one line: "user: hi | assistant(thought): text [f({}) #id] | tool #id: out"
std::string told(const std::vector<ChatMessage>& messages) {
  std::string all;
  for (const ChatMessage& message : messages) {
    all += (all.empty() ? "" : " | ") + message.role;
    if (!message.reasoning.empty()) all += "(" + message.reasoning + ")";
    if (!message.tool_call_id.empty()) all += " #" + message.tool_call_id;
    all += ": " + message.content;
    for (const ToolCall& call : message.tool_calls)
      all += " [" + call.name + "(" + call.arguments + ") #" + call.id + "]";
  }
  return all;
}
// ---- replies

const UsageCounts kUsage = {
    .prompt_tokens = 10, .completion_tokens = 4, .reasoning_tokens = 3, .cached_tokens = 8};
const ReplyHead kHead = {.id = "resp_4f", .created = 7, .model = "m", .fingerprint = "fp"};

std::string whole(const std::string& body, const Choice& choice, const ResponseSink& store = {}) {
  return make_responses_reply(kHead, call_of(body), store)->whole({choice}, kUsage);
}

struct Event {
  std::string name;
  Json data;
};

/// The events of a stream, held to what holds for each: its name, its number, whole items that do
/// not interleave, texts that are the sum of their pieces.
std::vector<Event> events_of(const std::string& stream) {
  std::vector<Event> events;
  std::string open, text;
  size_t at = 0, items = 0;
  while (at < stream.size()) {
    const size_t end = stream.find("\n\n", at);
    const std::string one = stream.substr(at, end - at);
    at = end + 2;
    const size_t line = one.find("\ndata: ");
    Event event{one.substr(7, line - 7), Json::parse(one.substr(line + 7))};
    const Json& data = event.data;
    EXPECT_EQ(data["type"], event.name);
    EXPECT_EQ(data["sequence_number"], events.size());
    if (data.contains("output_index")) {
      EXPECT_EQ(data["output_index"], items) << data;
    }
    if (data.contains("item_id")) {
      EXPECT_EQ(data["item_id"], open) << data;
    }
    if (event.name == "response.output_item.added") {
      EXPECT_EQ(open, "");
      open = data["item"]["id"];
      text.clear();
    }
    if (data.contains("delta")) text += data["delta"].get<std::string>();
    if (data.contains("text")) {
      EXPECT_EQ(data["text"], text);
    }
    if (data.contains("arguments")) {
      EXPECT_EQ(data["arguments"], text);
    }
    if (event.name == "response.output_item.done") {
      EXPECT_EQ(data["item"]["id"], open);
      open.clear();
      ++items;
    }
    events.push_back(std::move(event));
  }
  return events;
}

std::string streamed(Reply& reply, const std::vector<ChoiceDelta>& deltas, const Choice& choice) {
  std::string all = reply.begin({.prompt_tokens = 10});
  for (const ChoiceDelta& delta : deltas) all += reply.push(0, delta);
  all += reply.end(choice, &kUsage);
  return all + reply.finish(kUsage);
}
std::vector<Event> stream_of(const std::string& body, const std::vector<ChoiceDelta>& deltas,
                             const Choice& choice, const ResponseSink& store = {}) {
  return events_of(streamed(*make_responses_reply(kHead, call_of(body), store), deltas, choice));
}
/// Names without "response.", repetitions once.
std::string names(const std::vector<Event>& events) {
  std::string all, last;
  for (const Event& event : events) {
    const std::string name =
        event.name.rfind("response.", 0) == 0 ? event.name.substr(9) : event.name;
    if (name != last) all += (all.empty() ? "" : " ") + name;
    last = name;
  }
  return all;
}
/// Items in one line: "reasoning(completed): text"
std::string output_of(const Json& response) {
  std::string all;
  for (const Json& item : response["output"]) {
    const std::string type = item["type"];
    all += (all.empty() ? "" : " | ") + type + "(" + item["status"].get<std::string>() + "): ";
    if (type == "function_call")
      all += item["name"].get<std::string>() + item["arguments"].get<std::string>();
    else
      for (const Json& part : item["content"]) all += part["text"].get<std::string>();
  }
  return all;
}
ChoiceDelta thought(const std::string& text) { return {.text = {.reasoning = text}}; }
ChoiceDelta text(const std::string& text) { return {.text = {.content = text}}; }
ChoiceDelta pieces(std::vector<ToolCallPiece> list) {
  return {.text = {.call_pieces = std::move(list)}};
}
const std::vector<ChoiceDelta> kDeltas = {
    thought("Hm"),
    thought("m."),
    text("Let "),
    text("me."),
    pieces({{.index = 0, .name = "f", .arguments = "{\"a\""}}),
    pieces({{.index = 0, .arguments = ":1"}}),
    pieces({{.index = 0, .arguments = "}", .completes = true},
            {.index = 1, .id = "own", .name = "g"}}),
    pieces({{.index = 1, .arguments = "{}", .completes = true}}),
};
const Choice kChoice = {.reasoning = "Hmm.",
                        .content = "Let me.",
                        .tool_calls = {{.name = "f", .arguments = "{\"a\":1}"},
                                       {.id = "own", .name = "g", .arguments = "{}"}}};

TEST(ResponsesReply, Whole) {
  const Json response = Json::parse(whole(with(R"("metadata":{"k":"v"})"), kChoice));
  EXPECT_EQ(response["id"], "resp_4f");
  EXPECT_EQ(response["object"], "response");
  EXPECT_EQ(response["created_at"], 7);
  EXPECT_EQ(response["status"], "completed");
  EXPECT_EQ(response["error"], nullptr);
  EXPECT_EQ(response["incomplete_details"], nullptr);
  EXPECT_EQ(response["model"], "m");
  EXPECT_EQ(response["metadata"]["k"], "v");
  EXPECT_EQ(response["store"], false);
  EXPECT_EQ(response["system_fingerprint"], "fp");
  EXPECT_EQ(
      response["usage"].dump(),
      R"({"input_tokens":10,"input_tokens_details":{"cached_tokens":8,"cache_write_tokens":0},)"
      R"("output_tokens":4,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":14})");
  EXPECT_EQ(
      response["output"].dump(),
      R"([{"id":"rs_4f_0","type":"reasoning","status":"completed","summary":[],"content":)"
      R"([{"type":"reasoning_text","text":"Hmm."}]},)"
      R"({"id":"msg_4f_1","type":"message","status":"completed","role":"assistant","content":)"
      R"([{"type":"output_text","text":"Let me.","annotations":[],"logprobs":[]}]},)"
      R"({"id":"fc_4f_2","type":"function_call","status":"completed","call_id":"call_4f_0_0","name":"f",)"
      R"("arguments":"{\"a\":1}"},{"id":"fc_4f_3","type":"function_call","status":"completed",)"
      R"("call_id":"own","name":"g","arguments":"{}"}])");
}

TEST(ResponsesReply, TheStreamTellsTheSame) {
  const std::vector<Event> events = stream_of(with("\"user\":\"u\""), kDeltas, kChoice);
  EXPECT_EQ(names(events),
            "created in_progress "
            "output_item.added content_part.added reasoning_text.delta reasoning_text.done "
            "content_part.done output_item.done "
            "output_item.added content_part.added output_text.delta output_text.done "
            "content_part.done output_item.done "
            "output_item.added function_call_arguments.delta function_call_arguments.done "
            "output_item.done "
            "output_item.added function_call_arguments.delta function_call_arguments.done "
            "output_item.done completed");
  EXPECT_EQ(events[0].data["response"]["status"], "in_progress");
  EXPECT_EQ(events[0].data["response"]["output"].size(), 0U);
  EXPECT_EQ(events[0].data["response"]["usage"], nullptr);
  const Json& response = events.back().data["response"];
  EXPECT_EQ(response.dump(), Json::parse(whole(with("\"user\":\"u\""), kChoice)).dump());
  size_t next = 0;
  for (const Event& event : events)
    if (event.name == "response.output_item.done") {
      EXPECT_EQ(event.data["item"], response["output"][next++]);
    }
  EXPECT_EQ(next, 4U);
}

TEST(ResponsesReply, EndsInItsStatus) {
  struct Case {
    Choice choice;
    std::vector<ChoiceDelta> deltas;
    std::string status, output;
  };
  const Case cases[] = {
      {{}, {}, "completed", "message(completed): "},
      {{.reasoning = "t"},
       {thought("t")},
       "completed",
       "reasoning(completed): t | message(completed): "},
      {{.reasoning = "t", .end = AnswerEnd::kLength},
       {thought("t")},
       "incomplete",
       "reasoning(incomplete): t"},
      {{.reasoning = "t", .content = "c", .end = AnswerEnd::kContext},
       {thought("t"), text("c")},
       "incomplete",
       "reasoning(completed): t | message(incomplete): c"},
      {{.content = "c",
        .tool_calls = {{.name = "f", .arguments = "{}"}},
        .end = AnswerEnd::kLength},
       {text("c"), pieces({{.name = "f", .arguments = "{}", .completes = true}})},
       "incomplete",
       "message(completed): c | function_call(completed): f{}"},
      {{.end = AnswerEnd::kLength}, {}, "incomplete", ""},
      {{.content = "c", .end = AnswerEnd::kDeadline},
       {text("c")},
       "failed",
       "message(incomplete): c"},
      {{.content = "c", .end = AnswerEnd::kInterrupted},
       {text("c")},
       "failed",
       "message(incomplete): c"},
      {{.content = "c", .stop = "x"}, {text("c")}, "completed", "message(completed): c"},
  };
  for (const auto& [choice, deltas, status, output] : cases) {
    const Json response = Json::parse(whole(with("\"user\":\"u\""), choice));
    EXPECT_EQ(response["status"], status);
    EXPECT_EQ(output_of(response), output);
    EXPECT_EQ(response["incomplete_details"].is_null(), status != "incomplete");
    EXPECT_EQ(response["error"].is_null(), status != "failed");
    const std::vector<Event> events = stream_of(with("\"user\":\"u\""), deltas, choice);
    EXPECT_EQ(events.back().name, "response." + status);
    EXPECT_EQ(events.back().data["response"].dump(), response.dump());
  }
}

TEST(ResponsesReply, ABrokenCallIsIncompleteAndItsTextFollows) {
  const std::vector<Event> events =
      stream_of(with("\"user\":\"u\""),
                {text("a"), pieces({{.index = 0, .name = "f", .arguments = "{\"x"}}),
                 text("<call>f{\"x"), text("!"), pieces({{.index = 0, .arguments = "late"}}),
                 pieces({{.index = 1, .name = "g", .arguments = "{}", .completes = true}})},
                {.content = "a<call>f{\"x!", .tool_calls = {{.name = "g", .arguments = "{}"}}});
  const Json& response = events.back().data["response"];
  EXPECT_EQ(output_of(response),
            "message(completed): a | function_call(incomplete): f{\"x | "
            "message(completed): <call>f{\"x! | function_call(completed): g{}");
  // The number of a call among those shown.
  EXPECT_EQ(response["output"][3]["call_id"], "call_4f_0_1");
  EXPECT_EQ(response["status"], "completed");
  size_t done = 0;
  for (const Event& event : events) done += event.name == "response.function_call_arguments.done";
  EXPECT_EQ(done, 1U);
}

TEST(ResponsesReply, ACallThatNeverCompletes) {
  const std::vector<ToolCallPiece> begun = {{.index = 0, .name = "f", .arguments = "{"}};
  auto events = stream_of(with("\"user\":\"u\""), {pieces(begun)}, {.end = AnswerEnd::kLength});
  EXPECT_EQ(output_of(events.back().data["response"]), "function_call(incomplete): f{");
  // Its text comes with the end of the answer, or another call does, or in one delta with it.
  events = stream_of(with("\"user\":\"u\""), {pieces(begun), text("f{")}, {.content = "f{"});
  EXPECT_EQ(output_of(events.back().data["response"]),
            "function_call(incomplete): f{ | message(completed): f{");
  events = stream_of(with("\"user\":\"u\""),
                     {pieces(begun), pieces({{.index = 1, .name = "g", .completes = true}})}, {});
  EXPECT_EQ(output_of(events.back().data["response"]),
            "function_call(incomplete): f{ | function_call(completed): g");
  ChoiceDelta both = pieces({{.index = 0, .arguments = "}", .completes = true}});
  both.text.content = "behind";
  events = stream_of(with("\"user\":\"u\""), {pieces(begun), both}, {});
  EXPECT_EQ(output_of(events.back().data["response"]),
            "function_call(completed): f{} | message(completed): behind");
}

TEST(ResponsesReply, OneCallAlone) {
  const std::string body = with("\"parallel_tool_calls\":false");
  const Json one = Json::parse(whole(body, kChoice));
  EXPECT_EQ(output_of(one),
            "reasoning(completed): Hmm. | message(completed): Let me. | function_call(completed): "
            "f{\"a\":1}");
  EXPECT_EQ(stream_of(body, kDeltas, kChoice).back().data["response"].dump(), one.dump());
}

TEST(ResponsesReply, Logprobs) {
  const std::string body = with(R"("include":["message.output_text.logprobs"],"top_logprobs":1)");
  const auto token = [](const std::string& bytes) {
    return ScoredToken{.bytes = bytes, .logprob = -0.5F, .top = {{.bytes = "z", .logprob = -0.1F}}};
  };
  Choice choice = {.content = "ab", .content_tokens = {token("a"), token("b"), token("")}};
  const Json response = Json::parse(whole(body, choice));
  const Json& list = response["output"][0]["content"][0]["logprobs"];
  ASSERT_EQ(list.size(), 3U);
  EXPECT_EQ(list[0].dump(), R"({"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":)"
                            R"([{"token":"z","logprob":-0.1,"bytes":[122]}]})");
  // A token whose text is held back is told with the text.
  const auto events = stream_of(body,
                                {{.text = {}, .content_tokens = {token("a")}},
                                 {.text = {.content = "ab"}, .content_tokens = {token("b")}},
                                 {.text = {}, .content_tokens = {token("")}}},
                                choice);
  EXPECT_EQ(events.back().data["response"].dump(), response.dump());
  size_t told = 0;
  for (const Event& event : events)
    if (event.name == "response.output_text.delta") told += event.data["logprobs"].size();
  EXPECT_EQ(told, 3U);
  // Tokens of a call are none of the text's.
  choice.tool_calls = {{.name = "f", .arguments = "{}"}};
  choice.content_tokens = {token("a"), token("b"), token("<call>"), token("f{}")};
  EXPECT_EQ(Json::parse(whole(body, choice))["output"][0]["content"][0]["logprobs"].size(), 2U);
}

TEST(ResponsesReply, FailsInAStream) {
  const auto reply = make_responses_reply(kHead, call_of(with("\"user\":\"u\"")), {});
  std::string all = reply->begin({});
  all += reply->push(0, text("half"));
  all += reply->fail(api_error(failed("disk: full")));
  const size_t at = all.find("event: error");
  ASSERT_NE(at, std::string::npos);
  const auto events = events_of(all);
  EXPECT_EQ(events[events.size() - 2].data.dump(),
            R"({"type":"error","sequence_number":5,"code":"server_error","message":"disk: full",)"
            R"("param":null})");
  const Json& response = events.back().data["response"];
  EXPECT_EQ(events.back().name, "response.failed");
  EXPECT_EQ(response["error"].dump(), R"({"code":"server_error","message":"disk: full"})");
  EXPECT_EQ(output_of(response), "message(incomplete): half");
  const auto early = make_responses_reply(kHead, call_of(with("\"user\":\"u\"")), {});
  EXPECT_EQ(names(events_of(early->fail(api_error(failed("x"))))), "error");
  EXPECT_EQ(early->ping(), ": keep-alive\n\n");
}

TEST(ResponsesReply, WhatIsNoUtf8IsReplaced) {
  EXPECT_TRUE(Json::accept(whole(with("\"user\":\"u\""), {.content = "\xff"})));
}

// ---- what is stored

/// A store of one client's responses.
struct Kept {
  std::map<std::string, StoredResponse> all;
  ResponseSink sink() {
    return [this](const std::string& id, StoredResponse stored) { all[id] = std::move(stored); };
  }
  ResponseFinder finder() {
    return [this](const std::string& id) -> Result<StoredResponse> {
      const auto it = all.find(id);
      if (it == all.end()) return not_found("no response");
      return it->second;
    };
  }
};

TEST(StoredResponses, AConversationGoesOn) {
  Kept kept;
  const auto answer = [&](const std::string& id, const std::string& body, const Choice& choice) {
    ReplyHead head = kHead;
    head.id = id;
    return make_responses_reply(head, call_of(body, kept.finder()), kept.sink())
        ->whole({choice}, kUsage);
  };
  const std::string first = answer("resp_1", R"({"instructions":"i","input":"one"})", kChoice);
  ASSERT_TRUE(kept.all.contains("resp_1"));
  EXPECT_EQ(kept.all["resp_1"].response, first);
  EXPECT_EQ(kept.all["resp_1"].created, 7);
  EXPECT_EQ(Json::parse(first)["store"], true);
  // Instructions are of one response; all else goes on.
  const std::string next =
      R"({"previous_response_id":"resp_1","input":[{"type":"function_call_output",
          "call_id":"call_1_0_0","output":"x"},{"type":"function_call_output","call_id":"own","output":"y"}]})";
  EXPECT_EQ(told(call_of(next, kept.finder()).chat.messages),
            "user: one | assistant(Hmm.): Let me. [f({\"a\":1}) #call_1_0_0] [g({}) #own] | "
            "tool #call_1_0_0: x | tool #own: y");
  answer("resp_2", next, {.content = "two"});
  const ResponsesCall third =
      call_of(R"({"previous_response_id":"resp_2","input":"three"})", kept.finder());
  EXPECT_EQ(told(third.chat.messages),
            "user: one | assistant(Hmm.): Let me. [f({\"a\":1}) #call_1_0_0] [g({}) #own] | "
            "tool #call_1_0_0: x | tool #own: y | assistant: two | user: three");
  EXPECT_EQ(third.echo["previous_response_id"], "resp_2");
  // The same by references to items, and one that nobody has.
  EXPECT_EQ(told(call_of(items(R"({"type":"item_reference","id":"rs_1_0"},{"id":"msg_1_1"},
                                  {"role":"user","content":"z"},{"id":"msg_2_0"})"),
                         kept.finder())
                     .chat.messages),
            "assistant(Hmm.): Let me. | user: z | assistant: two");
  EXPECT_EQ(
      told(call_of(items(R"({"id":"msg_1_in0"},{"id":"fco_2_in6"})"), kept.finder()).chat.messages),
      "user: one | tool #own: y");
  for (const char* id : {"msg_1_9", "msg_9_0", "msg_1_in9", "x", "", "__", "_in"}) {
    const Error none = failure(
        items(R"({"type":"item_reference","id":")" + std::string(id) + R"("})"), kept.finder());
    EXPECT_EQ(none.code, ErrorCode::kNotFound);
    EXPECT_EQ(none.message.find("input[0].id: no item"), 0U);
  }
  const Error unknown = failure(R"({"previous_response_id":"resp_9","input":"x"})", kept.finder());
  EXPECT_EQ(unknown.code, ErrorCode::kNotFound);
  EXPECT_EQ(unknown.message, "previous_response_id: no response \"resp_9\" is stored here");
  EXPECT_EQ(api_error(unknown).status, 404);
  const std::string sound = kept.all["resp_1"].response;
  kept.all["resp_1"].response = std::string((size_t{64} << 20) + 1, ' ');
  EXPECT_NE(failure(items(R"({"id":"msg_1_1"})"), kept.finder()).message.find("very large ones"),
            std::string::npos);
  kept.all["resp_1"].response = "[";
  EXPECT_EQ(failure(items(R"({"id":"msg_1_1"})"), kept.finder()).code, ErrorCode::kFailed);
  kept.all["resp_1"].response = sound;
  std::string many;
  for (int i = 0; i < 257; ++i) {
    kept.all["resp_x" + std::to_string(i)].response =
        R"({"output":[{"type":"message","role":"user","id":"msg_x)" + std::to_string(i) +
        R"(_0","content":[]}]})";
    many += (i ? "," : "") + (R"({"id":"msg_x)" + std::to_string(i) + R"(_0"})");
  }
  EXPECT_EQ(
      failure(items(many), kept.finder()).message.find("input[256].id: items of more than 256"),
      0U);
  kept.all["resp_1"].items = "{";
  EXPECT_EQ(failure(next, kept.finder()).code, ErrorCode::kFailed);
}

TEST(StoredResponses, OnlyThoseThatMayAre) {
  Kept kept;
  Json response = Json::parse(whole(with(R"("store":false)"), kChoice, kept.sink()));
  EXPECT_EQ(response["store"], false);
  EXPECT_TRUE(kept.all.empty());
  const auto reply = make_responses_reply(kHead, call_of(with("\"user\":\"u\"")), kept.sink());
  EXPECT_EQ(events_of(reply->begin({}))[0].data["response"]["store"], true);
  const std::string error = reply->fail(api_error(failed("x")));
  EXPECT_NE(error.find("\"store\":false"), std::string::npos);
  EXPECT_TRUE(kept.all.empty());
  const auto events = stream_of(with("\"user\":\"u\""), kDeltas, kChoice, kept.sink());
  ASSERT_EQ(kept.all.size(), 1U);
  EXPECT_EQ(kept.all["resp_4f"].response, events.back().data["response"].dump());
}

TEST(StoredResponses, ListsTheInput) {
  Kept kept;
  whole(items(R"({"role":"user","content":"a"},{"role":"assistant","content":"b","id":"mine"},
                 {"type":"function_call","call_id":"1","name":"f","arguments":"{}"},
                 {"type":"function_call_output","call_id":"1","output":"o"},
                 {"type":"reasoning","summary":[]})"),
        kChoice, kept.sink());
  const StoredResponse& stored = kept.all["resp_4f"];
  const auto ids = [&](const ItemsQuery& query) {
    const Json list = Json::parse(list_input_items(stored, query).value());
    EXPECT_EQ(list["object"], "list");
    std::string all;
    for (const Json& item : list["data"]) all += item["id"].get<std::string>() + " ";
    EXPECT_EQ(list["first_id"], list["data"].empty() ? Json("") : list["data"].front()["id"]);
    EXPECT_EQ(list["last_id"], list["data"].empty() ? Json("") : list["data"].back()["id"]);
    return all + (list["has_more"].get<bool>() ? "…" : ".");
  };
  EXPECT_EQ(ids({}), "rs_4f_in4 fco_4f_in3 fc_4f_in2 mine msg_4f_in0 .");
  EXPECT_EQ(ids({.limit = "2"}), "rs_4f_in4 fco_4f_in3 …");
  EXPECT_EQ(ids({.limit = "2", .order = "asc"}), "msg_4f_in0 mine …");
  EXPECT_EQ(ids({.limit = "3", .order = "asc", .after = "mine"}),
            "fc_4f_in2 fco_4f_in3 rs_4f_in4 .");
  EXPECT_EQ(ids({.order = "asc", .after = "rs_4f_in4"}), ".");
  for (const char* bad : {"0", "101", "-1", "x", "1x", "99999999999999999999"})
    EXPECT_EQ(list_input_items(stored, {.limit = bad}).error().message.find("limit: "), 0U);
  EXPECT_EQ(list_input_items(stored, {.order = "up"}).error().message.find("order: "), 0U);
  EXPECT_EQ(list_input_items(stored, {.after = "no"}).error().message.find("after: "), 0U);
  EXPECT_EQ(list_input_items({.response = "{}", .items = "[]"}, {}).error().code,
            ErrorCode::kFailed);
  EXPECT_EQ(list_input_items({.response = R"({"output":[1]})", .items = "[]"}, {}).error().code,
            ErrorCode::kFailed);
  EXPECT_EQ(deleted_response("resp_1"), R"({"id":"resp_1","object":"response","deleted":true})");
}

}  // namespace
}  // namespace hadal::server
