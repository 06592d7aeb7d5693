// Bodies of /v1/messages and of its count of tokens: what each field comes to, and what is refused.
#include <gtest/gtest.h>

#include "server/anthropic_messages.h"

namespace hadal::server {
namespace {

ChatCall call_of(const std::string& body) {
  Result<ChatCall> call = parse_messages_call(body);
  EXPECT_TRUE(call) << (call ? "" : call.error().message) << "\n" << body;
  return call ? *std::move(call) : ChatCall{};
}
std::string error_of(const std::string& body) {
  const Result<ChatCall> call = parse_messages_call(body);
  EXPECT_TRUE(call || call.error().code == ErrorCode::kUsage);
  return call ? "none" : call.error().message;
}
/// A body with one message of the user's, and more fields.
std::string with(const std::string& fields) {
  return R"({"max_tokens":8,"messages":[{"role":"user","content":"hi"}])" +
         (fields.empty() ? "" : "," + fields) + "}";
}

constexpr const char* kTool =
    R"({"name":"f","description":"d","input_schema":{"type":"object","z":1,"a":2}})";
std::string with_tool(const std::string& fields) {
  return with("\"tools\":[" + std::string(kTool) + "]," + fields);
}

// ---- fields

TEST(AnthropicMessages, ReadsEveryFieldThatIsObeyed) {
  const ChatCall call = call_of(R"({
    "model": "m", "max_tokens": 7, "messages": [{"role": "user", "content": "hi"}],
    "system": [{"type": "text", "text": "be ", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "brief"}],
    "stop_sequences": ["a", "b"], "temperature": 0.5, "top_p": 0.25, "top_k": 40, "stream": true,
    "tools": [{"name": "f", "input_schema": {"type": "object"}, "strict": true, "cache_control": {"type": "ephemeral"}}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
    "thinking": {"type": "enabled", "budget_tokens": 9, "display": "omitted"},
    "output_config": {"effort": "max", "format": {"type": "json_schema", "schema": {"z": 1, "a": 2}}, "later": 1},
    "min_p": 0.125, "presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 1.5, "seed": 5,
    "logit_bias": {"5": -100}, "stop_token_ids": [3], "bad_words": "no", "ignore_eos": true, "priority": -4,
    "timeout": 2.5, "cache_salt": "s", "prompt_lookup": false, "metadata": {"user_id": "u"}, "service_tier": "auto",
    "betas": ["b"], "cache_control": {"type": "ephemeral"}, "context_management": null, "novel": 1, "empty": null})");
  EXPECT_EQ(call.model, "m");
  EXPECT_TRUE(call.stream);
  ASSERT_EQ(call.chat.messages.size(), 2U);
  EXPECT_EQ(call.chat.messages[0].role, "system");
  EXPECT_EQ(call.chat.messages[0].content, "be brief");
  EXPECT_EQ(call.chat.messages[1].role, "user");
  EXPECT_TRUE(call.chat.add_generation_prompt);
  const AnswerOptions& o = call.options;
  EXPECT_EQ(o.max_new_tokens, 7);
  EXPECT_EQ(o.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(o.sampling.temperature, 0.5F);
  EXPECT_EQ(o.sampling.top_p, 0.25F);
  EXPECT_EQ(o.sampling.top_k, 40);
  EXPECT_EQ(o.sampling.min_p, 0.125F);
  EXPECT_EQ(o.sampling.presence_penalty, 1.0F);
  EXPECT_EQ(o.sampling.frequency_penalty, -1.0F);
  EXPECT_EQ(o.sampling.repetition_penalty, 1.5F);
  EXPECT_EQ(o.sampling.seed, 5U);
  EXPECT_EQ(o.logit_bias, (std::vector<std::pair<TokenId, float>>{{5, -100.0F}}));
  EXPECT_EQ(o.stop_tokens, std::vector<TokenId>{3});
  EXPECT_EQ(o.bad_words, std::vector<std::string>{"no"});
  EXPECT_TRUE(o.ignore_ending);
  EXPECT_EQ(o.priority, -4);
  EXPECT_EQ(o.deadline_seconds, 2.5);
  EXPECT_EQ(o.cache_salt, "s");
  EXPECT_EQ(o.prompt_lookup, false);
  EXPECT_EQ(o.n, 1);
  EXPECT_EQ(o.tool_use, ToolUse::kNamed);
  EXPECT_EQ(o.tool_name, "f");
  EXPECT_FALSE(o.parallel_tool_calls);
  EXPECT_TRUE(o.strict_tools);
  EXPECT_EQ(call.chat.thinking, true);
  EXPECT_EQ(o.thinking_budget, 9);
  EXPECT_FALSE(call.include_reasoning);
  EXPECT_EQ(call.chat.effort, "max");
  ASSERT_TRUE(o.shape);
  EXPECT_EQ(o.shape->kind, AnswerShape::Kind::kJsonSchema);
  EXPECT_EQ(o.shape->text, R"({"z":1,"a":2})");
  EXPECT_TRUE(o.shape->strict);
  EXPECT_EQ(call.chat.response_format, ResponseFormat::kJsonSchema);
  EXPECT_EQ(call.chat.response_schema, R"({"z":1,"a":2})");
  EXPECT_EQ(call.ignored, (std::vector<std::string>{"novel", "output_config.later"}));
}

TEST(AnthropicMessages, LeavesTheRestToTheModel) {
  const ChatCall call = call_of(with(""));
  EXPECT_EQ(call.model, "");
  EXPECT_FALSE(call.stream);
  EXPECT_FALSE(call.chat.thinking);
  EXPECT_EQ(call.chat.effort, "");
  EXPECT_TRUE(call.include_reasoning);
  EXPECT_FALSE(call.options.thinking_budget || call.options.shape ||
               call.options.sampling.temperature || call.options.sampling.seed);
  EXPECT_TRUE(call.options.parallel_tool_calls);
  EXPECT_EQ(call.options.tool_use, ToolUse::kAuto);
  EXPECT_TRUE(call.options.stop.empty());
  EXPECT_EQ(call.chat.tools_json, "");
}

TEST(AnthropicMessages, NeedsTheMostTokensAndMessages) {
  EXPECT_EQ(error_of(R"({"messages":[{"role":"user","content":"a"}]})"),
            "max_tokens: is missing; give the most tokens that the answer may have");
  EXPECT_EQ(error_of(R"({"max_tokens":8})"), "messages: is missing");
  EXPECT_EQ(error_of(R"({"max_tokens":8,"messages":"a"})"),
            "messages: a list is expected, string was found");
  EXPECT_EQ(error_of("[]"), "request: an object is expected, array was found");
  EXPECT_EQ(error_of(with(R"("model":"a","model":"b")")), "model: the key occurs twice");
}

TEST(AnthropicMessages, Thinking) {
  EXPECT_EQ(call_of(with(R"("thinking":{"type":"disabled"})")).chat.thinking, false);
  EXPECT_EQ(call_of(with(R"("thinking":{"type":"enabled"})")).chat.thinking, true);
  const ChatCall adaptive =
      call_of(with(R"("thinking":{"type":"adaptive","display":"summarized"})"));
  EXPECT_FALSE(adaptive.chat.thinking);
  EXPECT_TRUE(adaptive.include_reasoning);
  EXPECT_FALSE(call_of(with(R"("include_reasoning":false)")).include_reasoning);
  EXPECT_EQ(error_of(with(R"("thinking":{})")),
            R"(thinking.type: "enabled", "disabled" or "adaptive" is expected, it is missing)");
  EXPECT_EQ(
      error_of(with(R"("thinking":{"type":"between_tools"})"))
          .find(R"(thinking.type: "enabled", "disabled" or "adaptive" is expected, "between)"),
      0U);
  EXPECT_EQ(error_of(with(R"("thinking":true)")),
            "thinking: an object is expected, boolean was found");
  EXPECT_EQ(error_of(with(R"("thinking":{"type":"adaptive","display":"loud"})"))
                .find("thinking.display: "),
            0U);
}

TEST(AnthropicMessages, Effort) {
  EXPECT_EQ(call_of(with(R"("output_config":{"effort":"low"})")).chat.effort, "low");
  EXPECT_EQ(call_of(with(R"("output_config":{"effort":"high"})")).chat.effort, "");
  EXPECT_EQ(call_of(with(R"("output_config":{"effort":75})")).chat.effort, "75");
  EXPECT_EQ(error_of(with(R"("output_config":{"effort":101})")).find("output_config.effort: 101"),
            0U);
  EXPECT_EQ(error_of(with(R"("output_config":{"effort":true})")).find("output_config.effort: "),
            0U);
  EXPECT_EQ(error_of(with(R"("output_config":{"task_budget":{"type":"tokens","total":9}})"))
                .find("output_config.task_budget: is not supported"),
            0U);
}

TEST(AnthropicMessages, OneShapeOfTheAnswer) {
  const std::string format = R"({"type":"json_schema","schema":{"type":"object"}})";
  EXPECT_EQ(call_of(with("\"output_format\":" + format)).options.shape->text,
            R"({"type":"object"})");
  EXPECT_EQ(call_of(with(R"("structured_outputs":{"regex":"a+"})")).options.shape->kind,
            AnswerShape::Kind::kRegex);
  EXPECT_EQ(
      error_of(with("\"output_config\":{\"format\":" + format + "},\"output_format\":" + format))
          .find("output_format: output_config.format asks for another shape"),
      0U);
  EXPECT_EQ(error_of(with("\"output_format\":" + format + R"(,"guided_regex":"a")"))
                .find("guided_regex: output_format asks"),
            0U);
  for (const auto& [bad, path] :
       {std::pair{R"({"type":"xml"})", "output_format.type: "},
        std::pair{R"({"schema":{}})", "output_format.type: "},
        std::pair{R"({"type":"json_schema"})", "output_format.schema: is missing"},
        std::pair{R"({"type":"json_schema","schema":"{}"})", "output_format.schema: a JSON"},
        std::pair{"[]", "output_format: an object"}})
    EXPECT_EQ(error_of(with("\"output_format\":" + std::string(bad))).find(path), 0U) << bad;
}

TEST(AnthropicMessages, RefusesByNameWhatIsNotBuilt) {
  for (const char* field : {R"("container":"c")",
                            R"("mcp_servers":[{"url":"u"}])",
                            R"("compaction":{"type":"auto"})",
                            R"("thread":{"id":"t"})",
                            R"("fallbacks":["m"])",
                            R"("n":2)",
                            R"("stop":["a"])",
                            R"("prompt":"a")",
                            R"("max_completion_tokens":5)",
                            R"("max_tokens_to_sample":5)",
                            R"("response_format":{"type":"json_object"})",
                            R"("effort":"low")",
                            R"("reasoning_effort":"low")",
                            R"("enable_thinking":false)",
                            R"("thinking_token_budget":5)",
                            R"("chat_template_kwargs":{"thinking":true})",
                            R"("chat_template":"t")",
                            R"("parallel_tool_calls":false)",
                            R"("logprobs":true)",
                            R"("top_logprobs":2)"}) {
    const std::string text(field), name = text.substr(1, text.find('"', 1) - 1);
    EXPECT_EQ(error_of(with(text)).find(name + ": is not supported: "), 0U) << error_of(with(text));
  }
  const ChatCall call = call_of(with(
      R"("mcp_servers":[],"container":null,"n":1,"logprobs":false,"context_management":{"edits":[)"
      R"({"type":"clear_thinking_20251015","keep":"all"},)"
      R"({"type":"clear_thinking_20251015","keep":{"type":"all"}}]})"));
  EXPECT_TRUE(call.ignored.empty());
  for (const char* edit :
       {R"({"type":"clear_tool_uses_20250919","keep":"all"})",
        R"({"type":"clear_thinking_20251015"})",
        R"({"type":"clear_thinking_20251015","keep":{"type":"thinking_turns"}})"})
    EXPECT_EQ(error_of(with(R"("context_management":{"edits":[)" + std::string(edit) + "]}"))
                  .find("context_management.edits[0]: "),
              0U);
}

// ---- tools

TEST(AnthropicTools, AreDeclaredInTheFormThatChatFormatsRead) {
  const ChatCall call = call_of(with_tool(R"("tool_choice":{"type":"auto"})"));
  EXPECT_EQ(call.chat.tools_json, R"([{"type":"function","function":{"name":"f","description":"d",)"
                                  R"("parameters":{"type":"object","z":1,"a":2}}}])");
  ASSERT_EQ(call.tools.size(), 1U);
  EXPECT_EQ(call.tools[0].name, "f");
  EXPECT_EQ(call.tools[0].parameters, R"({"type":"object","z":1,"a":2})");
  EXPECT_FALSE(call.tools[0].strict || call.options.strict_tools);
  const ChatCall strict = call_of(with(
      R"("tools":[{"type":"custom","name":"g.h-1_","input_schema":{},"strict":true,"defer_loading":false,)"
      R"("eager_input_streaming":true,"allowed_callers":["code_execution_20260120","direct"],"input_examples":[]}])"));
  EXPECT_EQ(strict.chat.tools_json,
            R"([{"type":"function","function":{"name":"g.h-1_","parameters":{},"strict":true}}])");
  EXPECT_EQ(call_of(with(R"("tools":[])")).chat.tools_json, "");
}

TEST(AnthropicTools, RefusesWhatIsNoToolOfTheCallers) {
  const auto tool = [](const std::string& fields) {
    return error_of(with("\"tools\":[{" + fields + "}]"));
  };
  const std::string named = R"("name":"f","input_schema":{})";
  EXPECT_EQ(tool(R"("type":"web_search_20250305","name":"web_search")")
                .find("tools[0].type: \"web_search_20250305\" is a tool that"),
            0U);
  EXPECT_EQ(tool(R"("input_schema":{})"), "tools[0].name: is missing");
  EXPECT_EQ(tool(R"("name":"a b","input_schema":{})").find("tools[0].name: letters"), 0U);
  EXPECT_EQ(tool(R"("name":"f")"), "tools[0].input_schema: is missing");
  EXPECT_EQ(tool(R"("name":"f","input_schema":"{}")").find("tools[0].input_schema: a JSON schema"),
            0U);
  EXPECT_EQ(tool(named + R"(,"description":1)").find("tools[0].description: a text"), 0U);
  EXPECT_EQ(tool(named + R"(,"strict":1)").find("tools[0].strict: true or false"), 0U);
  EXPECT_EQ(tool(named + R"(,"defer_loading":true)").find("tools[0].defer_loading: is not"), 0U);
  EXPECT_EQ(tool(named + R"(,"input_examples":[{}])").find("tools[0].input_examples: is not"), 0U);
  EXPECT_EQ(tool(named + R"(,"allowed_callers":[])").find("tools[0].allowed_callers: no code"), 0U);
  EXPECT_EQ(tool(named + R"(,"allowed_callers":"direct")").find("tools[0].allowed_callers: a list"),
            0U);
  EXPECT_EQ(tool(named + "},{" + named), "tools[1].name: \"f\" occurs twice");
  EXPECT_EQ(error_of(with(R"("tools":[1])")), "tools[0]: an object is expected, number was found");
  EXPECT_EQ(error_of(with(R"("tools":{})")), "tools: a list is expected, object was found");
}

TEST(AnthropicTools, Choice) {
  EXPECT_EQ(call_of(with_tool(R"("tool_choice":{"type":"any"})")).options.tool_use,
            ToolUse::kRequired);
  const ChatCall one =
      call_of(with_tool(R"("tool_choice":{"type":"auto","disable_parallel_tool_use":true})"));
  EXPECT_EQ(one.options.tool_use, ToolUse::kAuto);
  EXPECT_FALSE(one.options.parallel_tool_calls);
  const ChatCall none = call_of(with(
      R"("tools":[{"name":"f","input_schema":{},"strict":true}],"tool_choice":{"type":"none"})"));
  EXPECT_EQ(none.options.tool_use, ToolUse::kNone);
  EXPECT_TRUE(none.tools.empty() && none.chat.tools_json.empty());
  EXPECT_FALSE(none.options.strict_tools);
  EXPECT_EQ(error_of(with(R"("tool_choice":{"type":"any"})")), "tool_choice: \"any\" needs tools");
  EXPECT_EQ(error_of(with_tool(R"("tool_choice":{"type":"tool","name":"g"})")),
            "tool_choice.name: \"g\" is none of the tools");
  EXPECT_EQ(error_of(with_tool(R"("tool_choice":{"type":"tool"})")),
            "tool_choice.name: is missing");
  EXPECT_EQ(error_of(with_tool(R"("tool_choice":{"type":"required"})")).find("tool_choice.type: "),
            0U);
  EXPECT_EQ(error_of(with_tool(R"("tool_choice":{})")).find("tool_choice.type: "), 0U);
  EXPECT_EQ(error_of(with_tool(R"("tool_choice":"auto")")),
            "tool_choice: an object is expected, string was found");
}

// ---- the count of tokens

TEST(AnthropicCount, IsTheSameBodyWithoutTheMostTokens) {
  const std::string body =
      R"({"model":"m","system":"s","stream":true,"messages":[{"role":"user","content":"a"}],)"
      R"("thinking":{"type":"enabled","budget_tokens":9},"tools":[)" +
      std::string(kTool) + "]}";
  const Result<ChatCall> call = parse_count_tokens_call(body);
  ASSERT_TRUE(call);
  EXPECT_EQ(call->chat.messages.size(), 2U);
  EXPECT_EQ(call->tools.size(), 1U);
  EXPECT_EQ(call->chat.thinking, true);
  EXPECT_FALSE(call->stream);
  EXPECT_TRUE(read_count_tokens_call(Json::parse(with(""))));
  EXPECT_FALSE(parse_count_tokens_call("{}"));
  EXPECT_FALSE(read_messages_call(Json::parse(body)));
  EXPECT_EQ(count_tokens_body(42), R"({"input_tokens":42})");
}

}  // namespace
}  // namespace hadal::server
