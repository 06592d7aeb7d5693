#include "server/ollama_requests.h"

#include <gtest/gtest.h>

namespace hadal::server {
namespace {

constexpr int64_t kContext = 4096;

Result<OllamaCall> read(bool generates, const std::string& body) {
  HADAL_TRY(const Json json, parse_body(body));
  return generates ? read_ollama_generate(json, kContext) : read_ollama_chat(json, kContext);
}
std::string with(const std::string& start, const std::string& fields) {
  return start + (fields.empty() ? "" : "," + fields) + "}";
}
std::string chat(const std::string& fields = "") {
  return with(R"({"model":"m","messages":[{"role":"user","content":"hi"}])", fields);
}
std::string generate(const std::string& fields = "") {
  return with(R"({"model":"m","prompt":"hi")", fields);
}
std::string message(const std::string& fields) {
  return R"({"model":"m","messages":[{"role":"user")" + (fields.empty() ? "" : "," + fields) +
         "}]}";
}
OllamaCall call_of(bool generates, const std::string& body) {
  Result<OllamaCall> call = read(generates, body);
  EXPECT_TRUE(call) << call.error().message << "\n" << body;
  return call ? *std::move(call) : OllamaCall{};
}
ChatCall chat_of(const std::string& body, bool generates = false) {
  OllamaCall call = call_of(generates, body);
  EXPECT_TRUE(std::holds_alternative<ChatCall>(call.call)) << body;
  return std::get<ChatCall>(std::move(call.call));
}
CompletionCall completion_of(const std::string& body) {
  OllamaCall call = call_of(true, body);
  EXPECT_TRUE(std::holds_alternative<CompletionCall>(call.call)) << body;
  return std::get<CompletionCall>(std::move(call.call));
}
std::string error_of(bool generates, const std::string& body) {
  const Result<OllamaCall> call = read(generates, body);
  if (call) return "none";
  EXPECT_EQ(call.error().code, ErrorCode::kUsage);
  return call.error().message;
}
std::string chat_error(const std::string& fields) { return error_of(false, chat(fields)); }
std::string generate_error(const std::string& fields) { return error_of(true, generate(fields)); }

#define EXPECT_STARTS(text, start) EXPECT_EQ(std::string(text).rfind(start, 0), 0U) << (text)

TEST(OllamaRequests, ReadsEveryFieldOfAChat) {
  const ChatCall call = chat_of(R"({
    "model": "m", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi", "images": []},
      {"role": "assistant", "content": "", "thinking": "t", "tool_calls":
        [{"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"z": 1, "a": "b"}}}, {"function": {"name": "g"}}]},
      {"role": "tool", "content": "2", "tool_name": "f", "tool_call_id": "c1"}],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
    "options": {"temperature": 0.5, "top_k": 40, "top_p": 0.25, "min_p": 0.125, "seed": 7, "num_predict": 9, "num_ctx": 4096,
      "stop": ["a", "b"], "repeat_penalty": 1.5, "presence_penalty": 1, "frequency_penalty": -1, "repeat_last_n": -1,
      "num_keep": 5, "num_gpu": 1, "num_thread": 3, "use_mmap": true, "mirostat": 1, "typical_p": 1.0, "novel": 1},
    "format": {"type": "object", "b": 1, "a": 2}, "think": "high", "keep_alive": "5m", "logprobs": true, "top_logprobs": 5,
    "truncate": false, "shift": false, "thinking_token_budget": 11, "stop_token_ids": [3], "bad_words": "no", "priority": -4,
    "timeout": 2.5, "cache_salt": "c", "ignore_eos": true, "prompt_lookup": false, "logit_bias": {"5": -1}, "strange": 1})");
  EXPECT_EQ(call.model, "m");
  EXPECT_TRUE(call.stream);
  ASSERT_EQ(call.chat.messages.size(), 4U);
  const ChatMessage& turn = call.chat.messages[2];
  EXPECT_EQ(turn.reasoning, "t");
  ASSERT_EQ(turn.tool_calls.size(), 2U);
  EXPECT_EQ(turn.tool_calls[0].id, "c1");
  EXPECT_EQ(turn.tool_calls[0].name, "f");
  EXPECT_EQ(turn.tool_calls[0].arguments, R"({"z": 1, "a": "b"})");
  EXPECT_EQ(turn.tool_calls[1].arguments, "{}");
  EXPECT_EQ(call.chat.messages[3].name, "f");
  EXPECT_EQ(call.chat.messages[3].tool_call_id, "c1");
  ASSERT_EQ(call.tools.size(), 1U);
  EXPECT_EQ(call.tools[0].name, "f");
  EXPECT_EQ(call.tools[0].parameters, R"({"type":"object"})");
  EXPECT_TRUE(Json::accept(call.chat.tools_json));
  EXPECT_EQ(call.chat.thinking, true);
  EXPECT_EQ(call.chat.effort, "high");
  EXPECT_EQ(call.chat.response_format, ResponseFormat::kJsonSchema);
  EXPECT_EQ(call.chat.response_schema, R"({"type":"object","b":1,"a":2})");
  const AnswerOptions& o = call.options;
  EXPECT_EQ(o.sampling.temperature, 0.5F);
  EXPECT_EQ(o.sampling.top_k, 40);
  EXPECT_EQ(o.sampling.top_p, 0.25F);
  EXPECT_EQ(o.sampling.min_p, 0.125F);
  EXPECT_EQ(o.sampling.seed, 7U);
  EXPECT_EQ(o.sampling.repetition_penalty, 1.5F);
  EXPECT_EQ(o.sampling.presence_penalty, 1.0F);
  EXPECT_EQ(o.sampling.frequency_penalty, -1.0F);
  EXPECT_EQ(o.max_new_tokens, 9);
  EXPECT_EQ(o.stop, (std::vector<std::string>{"a", "b"}));
  ASSERT_TRUE(o.shape);
  EXPECT_EQ(o.shape->kind, AnswerShape::Kind::kJsonSchema);
  EXPECT_TRUE(o.logprobs);
  EXPECT_EQ(o.top_logprobs, 5);
  EXPECT_EQ(o.thinking_budget, 11);
  EXPECT_EQ(o.stop_tokens, std::vector<TokenId>{3});
  EXPECT_EQ(o.bad_words, std::vector<std::string>{"no"});
  EXPECT_EQ(o.priority, -4);
  EXPECT_EQ(o.deadline_seconds, 2.5);
  EXPECT_EQ(o.cache_salt, "c");
  EXPECT_TRUE(o.ignore_ending);
  EXPECT_EQ(o.prompt_lookup, false);
  EXPECT_EQ(o.logit_bias.size(), 1U);
  EXPECT_EQ(call.ignored, (std::vector<std::string>{"options.novel", "strange"}));
}

TEST(OllamaRequests, WhatIsLeftOutOrNullHasItsDefault) {
  for (const char* fields :
       {"", R"("options":null,"format":null,"think":null,"stream":null,"keep_alive":null)",
        R"("options":{},"format":"","images":null,"tools":[],"truncate":null,"suffix":"",)"
        R"("template":"","system":"","context":[],"raw":false,"logprobs":false)"}) {
    for (const ChatCall& call : {chat_of(chat(fields)), chat_of(generate(fields), true)}) {
      ASSERT_EQ(call.chat.messages.size(), 1U);
      EXPECT_EQ(call.chat.messages[0].role, "user");
      EXPECT_EQ(call.chat.messages[0].content, "hi");
      EXPECT_TRUE(call.stream);
      EXPECT_FALSE(call.options.sampling.temperature);
      EXPECT_FALSE(call.options.sampling.seed);
      EXPECT_EQ(call.options.max_new_tokens, 0);
      EXPECT_FALSE(call.options.shape);
      EXPECT_FALSE(call.options.logprobs);
      EXPECT_FALSE(call.chat.thinking);
      EXPECT_TRUE(call.chat.tools_json.empty());
      EXPECT_EQ(call.options.n, 1);
    }
  }
  EXPECT_FALSE(chat_of(chat(R"("stream":false)")).stream);
  EXPECT_EQ(chat_of(message("")).chat.messages[0].content, "");
  for (const char* unlimited : {"-1", "-2", "0"})
    EXPECT_EQ(chat_of(chat(R"("options":{"num_predict":)" + std::string(unlimited) + "}"))
                  .options.max_new_tokens,
              0);
  EXPECT_FALSE(chat_of(chat(R"("options":{"seed":-1})")).options.sampling.seed);
  EXPECT_EQ(chat_of(chat(R"("options":{"seed":0})")).options.sampling.seed, 0U);
  EXPECT_EQ(chat_of(chat(R"("top_logprobs":5)")).options.top_logprobs, 0);
  EXPECT_EQ(chat_of(chat(R"("options":{"stop":"a"})")).options.stop.size(), 1U);
}

TEST(OllamaRequests, GenerateIsAChatOfOneTurnOrAContinuation) {
  const ChatCall call = chat_of(generate(R"("system":"s","think":true,"format":"json")"), true);
  ASSERT_EQ(call.chat.messages.size(), 2U);
  EXPECT_EQ(call.chat.messages[0].role, "system");
  EXPECT_EQ(call.chat.messages[0].content, "s");
  EXPECT_EQ(call.chat.thinking, true);
  EXPECT_EQ(call.chat.response_format, ResponseFormat::kJsonObject);
  EXPECT_EQ(call.options.shape->kind, AnswerShape::Kind::kJsonObject);

  const CompletionCall raw =
      completion_of(generate(R"("raw":true,"think":false,"options":{"num_predict":3},"novel":1)"));
  ASSERT_EQ(raw.prompts.size(), 1U);
  EXPECT_EQ(raw.prompts[0].text, "hi");
  EXPECT_FALSE(raw.suffix);
  EXPECT_EQ(raw.options.max_new_tokens, 3);
  EXPECT_EQ(raw.model, "m");
  EXPECT_EQ(raw.ignored, std::vector<std::string>{"novel"});
  EXPECT_EQ(completion_of(generate(R"("suffix":"end")")).suffix, "end");
  EXPECT_EQ(completion_of(R"({"model":"m","suffix":"end"})").suffix, "end");

  EXPECT_STARTS(generate_error(R"("suffix":"a","raw":true)"), "suffix: and raw exclude");
  EXPECT_STARTS(generate_error(R"("system":"a","raw":true)"), "system: and raw exclude");
  EXPECT_STARTS(generate_error(R"("system":"a","suffix":"b")"), "system: and suffix exclude");
  EXPECT_STARTS(generate_error(R"("think":true,"raw":true)"), "think: and raw exclude");
  EXPECT_STARTS(generate_error(R"("think":"low","suffix":"b")"), "think: and suffix exclude");
  EXPECT_STARTS(generate_error(R"("thinking_token_budget":1,"raw":true)"),
                "thinking_token_budget: there is no thought");
}

TEST(OllamaRequests, SayingNothingAsksForTheModelAlone) {
  const auto task = [](bool generates, const std::string& body) {
    const OllamaCall call = call_of(generates, body);
    EXPECT_EQ(common(call.call).model, "m");
    EXPECT_EQ(call.generates, generates);
    return call.task;
  };
  for (const char* body : {R"({"model":"m"})", R"({"model":"m","messages":[],"prompt":""})",
                           R"({"model":"m","keep_alive":-1})", R"({"model":"m","raw":true})"})
    for (const bool generates : {false, true})
      EXPECT_EQ(task(generates, body), OllamaTask::kLoad) << body;
  for (const char* zero : {"0", "0.0", "\"0\"", "\"0s\"", "\"-0m\"", "\"0h0m\""})
    for (const bool generates : {false, true})
      EXPECT_EQ(task(generates, R"({"model":"m","keep_alive":)" + std::string(zero) + "}"),
                OllamaTask::kUnload)
          << zero;
  EXPECT_EQ(task(false, chat(R"("keep_alive":0)")), OllamaTask::kAnswer);
  EXPECT_EQ(task(true, generate(R"("keep_alive":0)")), OllamaTask::kAnswer);

  const ReplyHead head{.created = 1738324800, .model = "m"};
  const OllamaCall load = call_of(false, R"({"model":"m"})");
  EXPECT_EQ(ollama_load_body(head, load),
            R"({"model":"m","created_at":"2025-01-31T12:00:00.000000000Z",)"
            R"("message":{"role":"assistant","content":""},"done":true,"done_reason":"load"})");
  const OllamaCall unload = call_of(true, R"({"model":"m","keep_alive":0})");
  EXPECT_EQ(ollama_load_body(head, unload),
            R"({"model":"m","created_at":"2025-01-31T12:00:00.000000000Z",)"
            R"("response":"","done":true,"done_reason":"unload"})");
}

TEST(OllamaRequests, KeepAliveIsADuration) {
  for (const char* good : {"5", "-1", "0.5", "\"5m\"", "\"1h30m\"", "\"-1s\"", "\"1.5h\"",
                           "\"300ms\"", "\"2us\"", "\"2µs\"", "\"+3ns\"", "\"24h\""})
    EXPECT_EQ(chat_error(R"("keep_alive":)" + std::string(good)), "none") << good;
  for (const char* bad : {"\"\"", "\"-\"", "\"5\"", "\"m\"", "\"5 m\"", "\"5d\"", "\"1.2.3s\"",
                          "\".s\"", "true", "[]", "{}", "\"5m!\""})
    EXPECT_STARTS(chat_error(R"("keep_alive":)" + std::string(bad)), "keep_alive: ");
}

TEST(OllamaRequests, PenaltiesLookAtAllOfTheText) {
  const auto options = [](const std::string& fields) { return R"("options":{)" + fields + "}"; };
  const SamplingChoice off =
      chat_of(chat(options(R"("repeat_last_n":0,"repeat_penalty":1.5,"presence_penalty":1)")))
          .options.sampling;
  EXPECT_EQ(off.repetition_penalty, 1.0F);
  EXPECT_EQ(off.presence_penalty, 0.0F);
  EXPECT_EQ(off.frequency_penalty, 0.0F);
  EXPECT_EQ(chat_error(options(R"("repeat_last_n":64)")), "none");
  EXPECT_EQ(chat_error(options(R"("repeat_last_n":64,"repeat_penalty":1,"presence_penalty":0)")),
            "none");
  for (const char* penalty : {"repeat_penalty", "presence_penalty", "frequency_penalty"})
    EXPECT_STARTS(chat_error(options(R"("repeat_last_n":64,")" + std::string(penalty) + "\":0.5")),
                  "options.repeat_last_n: 64 was found");
  EXPECT_STARTS(chat_error(options(R"("repeat_penalty":2,"repetition_penalty":3)")),
                "options.repeat_penalty: and repetition_penalty mean the same");
}

TEST(OllamaRequests, RefusesWhatIsNotBuilt) {
  for (const char* name : {"images", "truncate", "shift"}) {
    const std::string value = *name == 'i' ? "[\"aGk=\"]" : "true";
    const std::string field = "\"" + std::string(name) + "\":" + value;
    EXPECT_STARTS(chat_error(field), name + std::string(": is not supported: "));
    EXPECT_STARTS(generate_error(field), name + std::string(": is not supported: "));
  }
  EXPECT_STARTS(error_of(false, message(R"("images":["aGk="])")),
                "messages[0].images: is not supported: ");
  EXPECT_STARTS(generate_error(R"("template":"x")"), "template: is not supported: ");
  EXPECT_STARTS(generate_error(R"("context":[1])"), "context: is not supported: ");
  EXPECT_STARTS(generate_error(R"("width":64)"), "width: is not supported: ");
  EXPECT_STARTS(chat_error(R"("options":{"typical_p":0.5})"), "options.typical_p: is not");
  EXPECT_EQ(chat_error(R"("options":{"num_ctx":4097})"),
            "options.num_ctx: 4097 was found, and the server was started with a context of 4096 "
            "tokens: ask for no more, or leave it out");
}

TEST(OllamaRequests, HostileValuesAreRefusedByTheirPaths) {
  const std::vector<std::pair<const char*, const char*>> fields = {
      {"\"stream\"", "stream"},         {"\"options\"", "options"},
      {"\"format\"", "format"},         {"\"think\"", "think"},
      {"\"logprobs\"", "logprobs"},     {"\"top_logprobs\"", "top_logprobs"},
      {"\"model\"", "model"},           {"\"truncate\"", "truncate"},
      {"\"images\"", "images"},         {"\"thinking_token_budget\"", "thinking_token_budget"},
      {"\"priority\"", "priority"},     {"\"structured_outputs\"", "structured_outputs"},
      {"\"keep_alive\"", "keep_alive"}, {"\"logit_bias\"", "logit_bias"}};
  for (const auto& [key, path] : fields)
    for (const char* value : {"[[1]]", "\"\\u0000x\"", "1e300", "9223372036854775808"}) {
      const std::string text = value, name = path;
      if (name == "model" && text[0] == '"') continue;  // a name is a name
      if (name == "keep_alive" && text[0] != '"' && text[0] != '[') continue;
      // The fields stand first: a body with a key twice is refused for that.
      const std::string more = std::string(key) + ":" + text + "}";
      const std::string start = name == "model" ? R"({"prompt":"a","messages":[],)"
                                                : R"({"model":"m","prompt":"a","messages":[],)";
      for (const bool generates : {false, true})
        EXPECT_STARTS(error_of(generates, start + more), path);
    }
  const std::pair<const char*, const char*> messages[] = {
      {"5", "messages: a list"},
      {"[5]", "messages[0]: an object"},
      {"[{}]", "messages[0].role: is missing"},
      {R"([{"role":5}])", "messages[0].role: a text"},
      {R"([{"role":"user","content":["a"]}])", "messages[0].content: a text"},
      {R"([{"role":"user","thinking":1}])", "messages[0].thinking: a text"},
      {R"([{"role":"tool","tool_name":1}])", "messages[0].tool_name: a text"},
      {R"([{"role":"tool","tool_call_id":1}])", "messages[0].tool_call_id: a text"},
      {R"([{"role":"assistant","tool_calls":{}}])", "messages[0].tool_calls: a list"},
      {R"([{"role":"assistant","tool_calls":[1]}])", "messages[0].tool_calls[0]: an object"},
      {R"([{"role":"assistant","tool_calls":[{}]}])", "messages[0].tool_calls[0].function: is"},
      {R"([{"role":"assistant","tool_calls":[{"function":{}}]}])",
       "messages[0].tool_calls[0].function.name: is missing"},
      {R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}])",
       "messages[0].tool_calls[0].function.arguments: an object"}};
  for (const auto& [value, error] : messages)
    EXPECT_STARTS(error_of(false, R"({"model":"m","messages":)" + std::string(value) + "}"), error);
  const std::pair<const char*, const char*> tools[] = {
      {"5", "tools: a list"},
      {"[5]", "tools[0]: an object"},
      {"[{}]", "tools[0].function: is missing"},
      {R"([{"type":"web"}])", "tools[0].type: only"},
      {R"([{"function":{}}])", "tools[0].function.name: is missing"},
      {R"([{"function":{"name":""}}])", "tools[0].function.name: 0 bytes"},
      {R"([{"function":{"name":"f","parameters":"x"}}])", "tools[0].function.parameters: a JSON"},
      {R"([{"function":{"name":"f"}},{"function":{"name":"f"}}])",
       "tools[1].function.name: \"f\" occurs twice"}};
  for (const auto& [value, error] : tools)
    EXPECT_STARTS(chat_error(R"("tools":)" + std::string(value)), error);
  EXPECT_STARTS(error_of(false, "{}"), "model: is missing");
  EXPECT_STARTS(error_of(true, R"({"model":""})"), "model: is missing");
  EXPECT_STARTS(chat_error(R"("format":"xml")"), "format: \"json\" or a JSON schema");
  EXPECT_STARTS(chat_error(R"("think":"much")"), "think: true, false");
  EXPECT_STARTS(chat_error(R"("format":"json","structured_outputs":{"regex":"a"})"),
                "structured_outputs.regex: format asks for another");
  EXPECT_STARTS(generate_error(R"("raw":1)"), "raw: true or false");
  EXPECT_STARTS(error_of(true, R"({"model":"m","prompt":["a"]})"), "prompt: a text");
}

}  // namespace
}  // namespace hadal::server
