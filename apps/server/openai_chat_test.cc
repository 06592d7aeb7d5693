#include "server/openai_chat.h"

#include <gtest/gtest.h>

#include "server/api_error.h"

namespace hadal::server {
namespace {

ChatCall call_of(const std::string& body) {
  Result<ChatCall> call = parse_chat_call(body);
  EXPECT_TRUE(call) << call.error().message << "\n" << body;
  return call ? *std::move(call) : ChatCall{};
}
std::string with(const std::string& fields) {
  return R"({"messages":[{"role":"user","content":"hi"}])" + (fields.empty() ? "" : "," + fields) +
         "}";
}
std::string error_of(const std::string& body) {
  const Result<ChatCall> call = parse_chat_call(body);
  return call ? "none" : call.error().message;
}

TEST(OpenAiChat, ReadsEveryFieldThatIsObeyed) {
  const ChatCall call = call_of(R"({
    "model": "m", "messages": [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"}],
    "temperature": 0.5, "top_p": 0.25, "top_k": 40, "min_p": 0.125, "presence_penalty": 1, "frequency_penalty": -1,
    "repetition_penalty": 1.5, "n": 3, "max_tokens": 7, "seed": -9223372036854775808, "logprobs": true, "top_logprobs": 5,
    "logit_bias": {"5": -100, "0": 2.5}, "stop": ["a", "b"], "stop_token_ids": [3], "bad_words": "no", "ignore_eos": true,
    "response_format": {"type": "json_schema", "json_schema": {"name": "s", "strict": true, "schema": {"z": 1, "a": 2}}},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": false,
    "thinking": {"type": "enabled", "budget_tokens": 9}, "reasoning_effort": "high", "include_reasoning": false,
    "priority": -4, "timeout": 2.5, "cache_salt": "s", "prompt_lookup": false, "stream": true,
    "stream_options": {"include_usage": true}, "user": "u", "metadata": {"a": 1}, "store": true, "novel": 1, "empty": null})");
  EXPECT_EQ(call.model, "m");
  ASSERT_EQ(call.chat.messages.size(), 2U);
  EXPECT_EQ(call.chat.messages[0].role, "system");
  const AnswerOptions& o = call.options;
  EXPECT_EQ(o.sampling.temperature, 0.5F);
  EXPECT_EQ(o.sampling.top_p, 0.25F);
  EXPECT_EQ(o.sampling.top_k, 40);
  EXPECT_EQ(o.sampling.min_p, 0.125F);
  EXPECT_EQ(o.sampling.presence_penalty, 1.0F);
  EXPECT_EQ(o.sampling.frequency_penalty, -1.0F);
  EXPECT_EQ(o.sampling.repetition_penalty, 1.5F);
  EXPECT_EQ(o.sampling.seed, uint64_t{1} << 63);
  EXPECT_EQ(o.n, 3);
  EXPECT_EQ(o.max_new_tokens, 7);
  EXPECT_TRUE(o.logprobs);
  EXPECT_EQ(o.top_logprobs, 5);
  EXPECT_EQ(o.logit_bias, (std::vector<std::pair<TokenId, float>>{{5, -100.0F}, {0, 2.5F}}));
  EXPECT_EQ(o.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(o.stop_tokens, std::vector<TokenId>{3});
  EXPECT_EQ(o.bad_words, std::vector<std::string>{"no"});
  EXPECT_TRUE(o.ignore_ending);
  ASSERT_TRUE(o.shape);
  EXPECT_EQ(o.shape->kind, AnswerShape::Kind::kJsonSchema);
  EXPECT_EQ(o.shape->text, R"({"z":1,"a":2})");
  EXPECT_TRUE(o.shape->strict);
  EXPECT_EQ(call.chat.response_format, ResponseFormat::kJsonSchema);
  EXPECT_EQ(o.tool_use, ToolUse::kNamed);
  EXPECT_EQ(o.tool_name, "f");
  EXPECT_FALSE(o.parallel_tool_calls);
  ASSERT_EQ(call.tools.size(), 1U);
  EXPECT_EQ(call.tools[0].parameters, R"({"type":"object"})");
  EXPECT_EQ(call.chat.thinking, true);
  EXPECT_EQ(call.chat.effort, "high");
  EXPECT_EQ(o.thinking_budget, 9);
  EXPECT_FALSE(call.include_reasoning);
  EXPECT_EQ(o.priority, -4);
  EXPECT_EQ(o.deadline_seconds, 2.5);
  EXPECT_EQ(o.cache_salt, "s");
  EXPECT_EQ(o.prompt_lookup, false);
  EXPECT_TRUE(call.stream);
  EXPECT_TRUE(call.include_usage);
  EXPECT_EQ(call.ignored, std::vector<std::string>{"novel"});
}

TEST(OpenAiChat, WhatIsLeftOutOrNullHasItsDefault) {
  for (const char* fields :
       {"",
        R"("temperature":null,"n":null,"stop":null,"tools":null,"tool_choice":null,"seed":null,)"
        R"("response_format":null,"logit_bias":null,"thinking":null,"stream":null,"audio":null,)"
        R"("max_tokens":null,"functions":null,"stream_options":null,"top_logprobs":null)"}) {
    const ChatCall call = call_of(with(fields));
    EXPECT_FALSE(call.options.sampling.temperature);
    EXPECT_FALSE(call.options.sampling.seed);
    EXPECT_EQ(call.options.n, 1);
    EXPECT_EQ(call.options.max_new_tokens, 0);
    EXPECT_FALSE(call.options.shape);
    EXPECT_FALSE(call.options.logprobs);
    EXPECT_FALSE(call.stream);
    EXPECT_TRUE(call.include_reasoning);
    EXPECT_TRUE(call.options.parallel_tool_calls);
    EXPECT_FALSE(call.chat.thinking);
    EXPECT_TRUE(call.ignored.empty());
  }
  EXPECT_FALSE(call_of(with(R"("seed":-1)")).options.sampling.seed);
  EXPECT_EQ(call_of(with(R"("top_k":-1)")).options.sampling.top_k, 0);
  EXPECT_EQ(call_of(with(R"("max_tokens":3.0)")).options.max_new_tokens, 3);
  EXPECT_EQ(call_of(with(R"("max_completion_tokens":5)")).options.max_new_tokens, 5);
  EXPECT_EQ(call_of(with(R"("max_completion_tokens":5,"max_tokens":5)")).options.max_new_tokens, 5);
  EXPECT_EQ(error_of(with(R"("max_completion_tokens":5,"max_tokens":6)"))
                .find("max_completion_tokens: is 5 and max_tokens is 6"),
            0U);
}

TEST(OpenAiChat, SwitchesOfThinkingAgreeOrAreRefused) {
  EXPECT_EQ(call_of(with(R"("thinking":{"type":"disabled"})")).chat.thinking, false);
  EXPECT_EQ(call_of(with(R"("enable_thinking":true)")).chat.thinking, true);
  EXPECT_EQ(call_of(with(R"("chat_template_kwargs":{"thinking":true})")).chat.thinking, true);
  EXPECT_EQ(
      call_of(with(R"("chat_template_kwargs":{"enable_thinking":false,"reasoning_effort":"low"})"))
          .chat.effort,
      "low");
  EXPECT_EQ(call_of(with(R"("reasoning_effort":"none")")).chat.thinking, false);
  EXPECT_EQ(call_of(with(R"("reasoning_effort":"none")")).chat.effort, "");
  EXPECT_EQ(call_of(with(R"("reasoning_effort":75)")).chat.effort, "75");
  EXPECT_EQ(call_of(with(R"("thinking_token_budget":0)")).options.thinking_budget, 0);
  EXPECT_EQ(error_of(with(R"("thinking":{"type":"disabled"},"enable_thinking":true)"))
                .find("enable_thinking: says the opposite"),
            0U);
  EXPECT_EQ(
      error_of(with(R"("thinking":{"type":"enabled","budget_tokens":1},"thinking_token_budget":2)"))
          .find("thinking_token_budget: another field gives another budget"),
      0U);
  EXPECT_EQ(error_of(with(R"("chat_template_kwargs":{"messages":[]})"))
                .find("chat_template_kwargs.messages: is not supported"),
            0U);
  EXPECT_EQ(error_of(with(R"("thinking":{"type":"adaptive"})")).find("thinking.type: "), 0U);
}

TEST(OpenAiChat, ShapesOfTheAnswerByEveryName) {
  using Kind = AnswerShape::Kind;
  const auto shape = [](const std::string& fields) {
    return call_of(with(fields)).options.shape.value_or(AnswerShape{.text = "none"});
  };
  EXPECT_EQ(shape(R"("response_format":{"type":"text"})").text, "none");
  EXPECT_EQ(shape(R"("response_format":{"type":"json_object"})").kind, Kind::kJsonObject);
  EXPECT_EQ(shape(R"("structured_outputs":{"regex":"a+"})").kind, Kind::kRegex);
  EXPECT_EQ(shape(R"("guided_regex":"a+")").text, "a+");
  EXPECT_EQ(shape(R"("guided_json":"{\"type\": \"null\"}")").text, R"({"type":"null"})");
  EXPECT_EQ(shape(R"("structured_outputs":{"json":{"type":"null"}})").kind, Kind::kJsonSchema);
  EXPECT_EQ(shape(R"("guided_grammar":"root ::= \"x\"")").kind, Kind::kEbnf);
  EXPECT_EQ(shape(R"("structured_outputs":{"json_object":true})").kind, Kind::kJsonObject);
  EXPECT_EQ(shape(R"("guided_choice":["a\"b","c\\"])").text, R"(root ::= "a\"b" | "c\\")");
  EXPECT_EQ(error_of(with(R"("guided_regex":"a","response_format":{"type":"json_object"})")),
            "guided_regex: response_format asks for another shape of the answer; give one");
  EXPECT_EQ(error_of(with(R"("structured_outputs":{"structural_tag":"x"})"))
                .find("structured_outputs.structural_tag: is not supported"),
            0U);
  EXPECT_EQ(error_of(with(R"("guided_json":"[")")).find("guided_json: no valid JSON"), 0U);
  EXPECT_EQ(error_of(with(R"("guided_json":3)")).find("guided_json: a JSON schema"), 0U);
}

TEST(OpenAiChat, ToolsAndTheirChoice) {
  const std::string tools =
      R"("tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}])";
  EXPECT_EQ(call_of(with(tools)).options.tool_use, ToolUse::kAuto);
  EXPECT_EQ(call_of(with(tools + R"(,"tool_choice":"auto")")).tools.size(), 2U);
  const ChatCall none = call_of(with(tools + R"(,"tool_choice":"none")"));
  EXPECT_EQ(none.options.tool_use, ToolUse::kNone);
  EXPECT_EQ(none.chat.tools_json, "");
  EXPECT_TRUE(none.tools.empty());
  EXPECT_EQ(call_of(with(tools + R"(,"tool_choice":"required")")).options.tool_use,
            ToolUse::kRequired);
  EXPECT_EQ(error_of(with(R"("tool_choice":"required")")), "tool_choice: \"required\" needs tools");
  EXPECT_EQ(error_of(with(tools + R"(,"tool_choice":{"type":"function","function":{"name":"h"}})")),
            "tool_choice.function.name: \"h\" is none of the tools");
  EXPECT_EQ(error_of(with(tools + R"(,"tool_choice":"any")")).find("tool_choice: \"none\""), 0U);
  EXPECT_EQ(error_of(with(tools + R"(,"tool_choice":{"type":"allowed_tools"})"))
                .find("tool_choice.type: only \"function\""),
            0U);
  EXPECT_EQ(error_of(with(R"("tools":[{"type":"web_search"}])")),
            "tools[0].type: only \"function\" is supported, \"web_search\" was found");
  EXPECT_EQ(error_of(with(R"("tools":[{"type":"function","function":{"name":"a\"b"}}])"))
                .find("tools[0].function.name: letters"),
            0U);
  EXPECT_EQ(error_of(with(R"("tools":[{"function":{"name":"f"}},{"function":{"name":"f"}}])")),
            "tools[1].function.name: \"f\" occurs twice");
}

TEST(OpenAiChat, StrictToolsRequireEveryPropertyAndNoOthers) {
  const auto strict = [](const std::string& schema) {
    return error_of(
        with(R"("tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":)" +
             schema + "}}]"));
  };
  EXPECT_EQ(
      strict(
          R"({"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false})"),
      "none");
  EXPECT_EQ(strict(R"({"type":"object","properties":{},"required":[]})")
                .find("tools[0].function.parameters: a strict tool needs \"additionalProperties\""),
            0U);
  EXPECT_EQ(strict(R"({"type":"object","properties":{"a":{}},"additionalProperties":false})"),
            "tools[0].function.parameters.required: a strict tool needs every property there; "
            "\"a\" is missing");
  const std::string inner =
      R"({"type":["object","null"],"properties":{"b":{}},"additionalProperties":false})";
  for (const std::string& at :
       {R"("properties":{"a":)" + inner + R"(},"required":["a"])",
        R"("properties":{"a":{"type":"array","items":)" + inner + R"(}},"required":["a"])",
        R"("properties":{"a":{"anyOf":[{"type":"null"},)" + inner + R"(]}},"required":["a"])",
        R"("properties":{},"$defs":{"d":)" + inner + "}"})
    EXPECT_NE(strict(R"({"type":"object","additionalProperties":false,)" + at + "}")
                  .find(".required: a strict tool needs every property there; \"b\""),
              std::string::npos)
        << at;
  // Without strict a schema is the model's to read.
  EXPECT_EQ(error_of(with(R"("tools":[{"function":{"name":"f","parameters":{"type":"object"}}}])")),
            "none");
}

TEST(OpenAiChat, PrefixOfTheLastMessage) {
  const std::string start =
      R"({"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"The")";
  EXPECT_TRUE(call_of(start + R"(,"prefix":true}]})").chat.messages[1].prefix);
  const ChatCall call =
      call_of(start + R"(}],"continue_final_message":true,"add_generation_prompt":false})");
  EXPECT_TRUE(call.chat.messages[1].prefix);
  EXPECT_TRUE(call.chat.add_generation_prompt);
  EXPECT_FALSE(call_of(start + R"(}],"add_generation_prompt":false})").chat.add_generation_prompt);
  EXPECT_EQ(error_of(start + R"(}],"continue_final_message":true,"add_generation_prompt":true})")
                .find("continue_final_message: and add_generation_prompt exclude"),
            0U);
  EXPECT_EQ(error_of(with(R"("continue_final_message":true)"))
                .find("continue_final_message: the last message is \"user\"'s"),
            0U);
}

TEST(OpenAiChat, WhatIsNotBuiltIsRefusedInWords) {
  for (const char* name : {"functions", "audio", "web_search_options", "documents", "chat_template",
                           "truncate_prompt_tokens", "prompt_logprobs", "allowed_token_ids",
                           "logits_processors", "prompt_embeds"})
    EXPECT_EQ(error_of(with("\"" + std::string(name) + "\":[{\"a\":1}]"))
                  .find(std::string(name) + ": is not supported: "),
              0U)
        << name;
  EXPECT_EQ(
      error_of(with(R"("modalities":["text"],"use_beam_search":false,"functions":[],"best_of":1,)"
                    R"("length_penalty":1.0,"verbosity":"medium","min_tokens":0,"echo":false)")),
      "none");
  EXPECT_EQ(error_of(with(R"("modalities":["text","audio"])")).find("modalities: is not"), 0U);
  EXPECT_EQ(error_of(with(R"("best_of":2)")).find("best_of: is not supported"), 0U);
  const auto part = [](const std::string& type) {
    return error_of(R"({"messages":[{"role":"user","content":[{"type":")" + type + "\"}]}]}");
  };
  EXPECT_EQ(
      part("image_url"),
      "messages[0].content[0].type: \"image_url\" was found; the model reads text, no images: "
      "leave the part out");
  EXPECT_NE(part("input_audio").find("no audio"), std::string::npos);
  EXPECT_NE(part("video_url").find("no videos"), std::string::npos);
  EXPECT_NE(part("file").find("no files"), std::string::npos);
  EXPECT_EQ(error_of(R"({"messages":[{"role":"function","name":"f","content":"1"}]})"),
            "messages[0].role: \"function\" is not supported: give \"tool\" instead");
  EXPECT_EQ(error_of(R"({"messages":[{"role":"assistant","content":"","function_call":{}}]})"),
            "messages[0].function_call: is not supported: give tool_calls instead");
}

TEST(OpenAiChat, HostileBodiesAreRefusedWithThePath) {
  EXPECT_EQ(error_of("").find("request: no valid JSON"), 0U);
  EXPECT_EQ(error_of("[]"), "request: an object is expected, array was found");
  EXPECT_EQ(error_of("{}"), "messages: is missing");
  EXPECT_EQ(error_of(with(R"("model":"a","model":"b")")), "model: the key occurs twice");
  EXPECT_EQ(error_of(with(R"("temperature":1e400)")).find("temperature: no valid JSON"), 0U);
  EXPECT_EQ(error_of(with(R"("temperature":NaN)")).find("temperature: no valid JSON"), 0U);
  EXPECT_EQ(error_of(with(R"("stop":["\ud800"])")).find("stop[0]: no valid JSON"), 0U);
  EXPECT_EQ(error_of(with("\"stop\":[\"\xc3\x28\"]")).find("stop[0]: no valid JSON"), 0U);
  EXPECT_EQ(error_of(with(R"("seed":9223372036854775808)")).find("seed: 9223372036854775808"), 0U);
  EXPECT_EQ(error_of(with("\"x\":" + std::string(100000, '['))).find("x[0][0]"), 0U);
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += R"({"a":)";
  EXPECT_EQ(error_of(with("\"x\":" + objects)).find("x.a.a"), 0U);
  std::string million = "1";
  for (int i = 1; i < 1000000; ++i) million += ",1";
  for (const char* name :
       {"stop", "messages", "tools", "logit_bias", "metadata", "novel", "thinking"})
    EXPECT_EQ(error_of("{\"" + std::string(name) + "\":[" + million + "]}")
                  .find(std::string(name) + "[262143]: the request has more than 262144 values"),
              0U);
  EXPECT_EQ(error_of(with(R"("logit_bias":{"7":1,"07":2})"))
                .find("logit_bias.07: the token occurs twice"),
            0U);
  EXPECT_EQ(
      error_of(with(R"("logit_bias":{"7x":1})")).find("logit_bias.7x: the key is no token id"), 0U);
  EXPECT_EQ(error_of(with(R"("stop":"")")),
            "stop: 0 bytes were found, 1 to 1024 bytes are expected");
  EXPECT_EQ(error_of(with(R"("stream_options":{"include_usage":true})")).find("stream_options: "),
            0U);
  EXPECT_EQ(error_of(with(R"("top_logprobs":2)")).find("top_logprobs: needs"), 0U);
  EXPECT_EQ(error_of(with(R"("logprobs":5)")),
            "logprobs: true or false is expected, number was found");
}

// ---- responses

const ReplyHead kHead = {.id = "chatcmpl-7", .created = 123, .model = "m", .fingerprint = "fp"};

TEST(OpenAiChatReply, HasTheShapeOfTheApi) {
  const ChatCall call = call_of(with(""));
  EXPECT_EQ(
      make_chat_reply(kHead, call)
          ->whole({{.reasoning = "hm", .content = "Hi"}},
                  {.prompt_tokens = 3, .completion_tokens = 2, .reasoning_tokens = 1}),
      R"({"id":"chatcmpl-7","object":"chat.completion","created":123,"model":"m","choices":[)"
      R"({"index":0,"message":{"role":"assistant","content":"Hi","reasoning_content":"hm"},)"
      R"("logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,)"
      R"("total_tokens":5,"prompt_cache_hit_tokens":0,"prompt_cache_miss_tokens":3,)"
      R"("prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":1}},)"
      R"("system_fingerprint":"fp"})");
}

TEST(OpenAiChatReply, ToolCallsAndLogprobs) {
  ChatCall call = call_of(with(R"("logprobs":true,"n":2)"));
  std::vector<Choice> choices = {
      {.reasoning = "r",
       .tool_calls = {{.id = "given", .name = "f", .arguments = "{}"}, {.name = "g"}},
       .reasoning_tokens = {{.bytes = "r", .logprob = -1.0F}}},
      {.index = 1,
       .content = "x",
       .end = AnswerEnd::kLength,
       .content_tokens = {{.bytes = "x", .logprob = -2.0F}}}};
  Json reply = Json::parse(make_chat_reply(kHead, call)->whole(choices, {}));
  const Json& first = reply["choices"][0];
  EXPECT_TRUE(first["message"]["content"].is_null());
  EXPECT_EQ(first["finish_reason"], "tool_calls");
  EXPECT_EQ(first["message"]["tool_calls"].dump(),
            R"([{"id":"given","type":"function","function":{"name":"f","arguments":"{}"}},)"
            R"({"id":"call_7_0_1","type":"function","function":{"name":"g","arguments":""}}])");
  EXPECT_EQ(first["logprobs"]["content"].dump(), "[]");
  EXPECT_EQ(first["logprobs"]["reasoning_content"][0]["token"], "r");
  EXPECT_EQ(reply["choices"][1]["finish_reason"], "length");
  EXPECT_EQ(reply["choices"][1]["logprobs"]["content"][0]["logprob"], -2.0);
  EXPECT_TRUE(reply["choices"][1]["logprobs"]["reasoning_content"].is_null());

  call.include_reasoning = false;
  reply = Json::parse(make_chat_reply(kHead, call)->whole(choices, {}));
  EXPECT_TRUE(reply["choices"][0]["message"]["reasoning_content"].is_null());
  EXPECT_TRUE(reply["choices"][0]["logprobs"]["reasoning_content"].is_null());
}

/// What a client that adds up deltas holds at the end.
struct Client {
  std::string role, reasoning, content, finish;
  std::vector<ToolCall> calls;
  size_t tokens = 0, events = 0;
  bool done = false;
  Json last;

  /// Any number of events.
  void take(std::string_view bytes) {
    while (!bytes.empty()) {
      const size_t end = bytes.find("\n\n");
      ASSERT_NE(end, std::string_view::npos);
      ASSERT_TRUE(bytes.starts_with("data: ")) << bytes;
      ASSERT_FALSE(done);
      const std::string_view data = bytes.substr(6, end - 6);
      bytes.remove_prefix(end + 2);
      ++events;
      done = data == "[DONE]";
      if (!done) chunk(Json::parse(data));
    }
  }

  void chunk(const Json& json) {
    EXPECT_EQ(json["object"], "chat.completion.chunk");
    EXPECT_EQ(json["id"], "chatcmpl-7");
    last = json;
    for (const Json& choice : json["choices"]) {
      const Json& delta = choice["delta"];
      ASSERT_TRUE(delta.contains("content") && delta.contains("reasoning_content"));
      if (delta.contains("role")) role += delta["role"].get<std::string>();
      const bool thought = delta["reasoning_content"].is_string();
      EXPECT_FALSE(thought && delta["content"].is_string());
      if (thought) reasoning += delta["reasoning_content"].get<std::string>();
      if (delta["content"].is_string()) content += delta["content"].get<std::string>();
      if (delta.contains("tool_calls"))
        for (const Json& call : delta["tool_calls"]) {
          const auto index = call["index"].get<size_t>();
          ASSERT_LE(index, calls.size());
          if (index == calls.size())
            calls.push_back({.id = call["id"], .name = call["function"]["name"]});
          else
            EXPECT_FALSE(call.contains("id") || call["function"].contains("name"));
          calls[index].arguments += call["function"]["arguments"].get<std::string>();
        }
      for (const char* list : {"content", "reasoning_content"})
        if (choice["logprobs"].is_object() && choice["logprobs"][list].is_array())
          tokens += choice["logprobs"][list].size();
      if (!choice["finish_reason"].is_null()) finish += choice["finish_reason"].get<std::string>();
    }
  }
};

TEST(OpenAiChatStream, AddsUpToTheResponse) {
  const ChatCall call =
      call_of(with(R"("stream":true,"stream_options":{"include_usage":true},"logprobs":true)"));
  const auto reply = make_chat_reply(kHead, call);
  Client client;
  client.take(reply->begin({}));
  const auto push = [&](const ChoiceDelta& delta) {
    const std::string bytes = reply->push(0, delta);
    EXPECT_NE(bytes.find(R"("usage":null)"), std::string::npos);
    client.take(bytes);
  };
  push({.text = {.reasoning = "th"}, .reasoning_tokens = {{.bytes = "th", .logprob = -1.0F}}});
  push({.text = {.reasoning = "ink", .content = "Hel"},
        .content_tokens = {{.bytes = "Hel", .logprob = -1.0F}}});
  EXPECT_EQ(reply->push(0, {}), "");
  push({.text = {.content = "lo", .call_pieces = {{.id = "a", .name = "f"}}}});
  push({.text = {.call_pieces = {{.arguments = "{\"x\":1}", .completes = true},
                                 {.index = 1, .name = "g"}}}});
  for (const char* piece : {"{\"y\"", ":", "2}"})
    push({.text = {.call_pieces = {{.index = 1, .arguments = piece}}}});
  client.take(
      reply->end({.tool_calls = {{.name = "f"}, {.name = "g"}}, .end = AnswerEnd::kStop}, nullptr));
  EXPECT_EQ(client.role, "assistant");
  EXPECT_EQ(client.reasoning, "think");
  EXPECT_EQ(client.content, "Hello");
  EXPECT_EQ(client.tokens, 2U);
  EXPECT_EQ(client.finish, "tool_calls");
  ASSERT_EQ(client.calls.size(), 2U);
  EXPECT_EQ(client.calls[0].id, "a");
  EXPECT_EQ(client.calls[0].arguments, "{\"x\":1}");
  EXPECT_EQ(client.calls[1].id, "call_7_0_1");
  EXPECT_EQ(client.calls[1].arguments, "{\"y\":2}");
  client.take(reply->finish({.prompt_tokens = 4}));
  EXPECT_TRUE(client.done);
  EXPECT_TRUE(client.last["choices"].empty());
  EXPECT_EQ(client.last["usage"]["prompt_tokens"], 4);
}

TEST(OpenAiChatStream, LeavesOutWhatIsNotWanted) {
  const ChatCall call = call_of(with(R"("stream":true,"include_reasoning":false)"));
  const auto reply = make_chat_reply(kHead, call);
  Client client;
  client.take(reply->push(0, {.text = {.reasoning = "hm"}}));
  EXPECT_EQ(client.events, 1U);  // the role alone
  const UsageCounts usage = {.prompt_tokens = 9};
  client.take(reply->end({.index = 2}, &usage));
  EXPECT_EQ(client.last["usage"]["prompt_tokens"], 9);
  client.take(reply->end({.index = 3}, nullptr));
  EXPECT_FALSE(client.last.contains("usage"));
}

TEST(OpenAiChatStream, ACallThatNeverCompletedIsNoReasonOfTheEnd) {
  const auto reply = make_chat_reply(kHead, call_of(with(R"("stream":true)")));
  Client client;
  client.take(reply->push(0, {.text = {.call_pieces = {{.name = "f"}}}}));
  client.take(reply->push(0, {.text = {.content = "broken"}}));
  client.take(reply->end({.content = "broken"}, nullptr));
  EXPECT_EQ(client.finish, "stop");
}

TEST(OpenAiChatStream, AnErrorIsItsLastEvent) {
  const auto reply = make_chat_reply(kHead, call_of(with(R"("stream":true)")));
  EXPECT_EQ(reply->fail(api_error(failed("the device is lost"))),
            "data: {\"error\":{\"message\":\"the device is lost\",\"type\":\"server_error\","
            "\"param\":null,\"code\":\"server_error\"}}\n\n");
}

}  // namespace
}  // namespace hadal::server
