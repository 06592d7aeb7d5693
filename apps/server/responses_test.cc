// What bodies of the Responses API are read to.
#include <gtest/gtest.h>

#include <map>

#include "server/openai_responses.h"

namespace hadal::server {
namespace {

using Strings = std::vector<std::string>;

ResponsesCall call_of(const std::string& body, const ResponseFinder& find = {}) {
  Result<ResponsesCall> call = parse_responses_call(body, find);
  EXPECT_TRUE(call) << call.error().message << "\n" << body;
  return call ? *std::move(call) : ResponsesCall{};
}
Error failure(const std::string& body, const ResponseFinder& find = {}) {
  const Result<ResponsesCall> call = parse_responses_call(body, find);
  return call ? Error{.message = "none"} : call.error();
}
std::string error_of(const std::string& body) { return failure(body).message; }
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
std::string told(const std::string& list) { return told(call_of(items(list)).chat.messages); }

TEST(OpenAiResponses, ReadsEveryFieldThatIsObeyed) {
  const ResponsesCall call = call_of(R"({
    "model": "m", "input": "hi", "instructions": "be brief", "max_output_tokens": 7, "max_tool_calls": 3,
    "temperature": 0.5, "top_p": 0.25, "top_k": 40, "min_p": 0.125, "presence_penalty": 1, "frequency_penalty": -1,
    "repetition_penalty": 1.5, "seed": 3, "logit_bias": {"5": -100}, "stop": "x", "stop_token_ids": [3], "bad_words": "no",
    "include": ["message.output_text.logprobs", "reasoning.encrypted_content"], "top_logprobs": 5,
    "tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": null},
              {"type": "function", "name": "g"}],
    "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": false,
    "text": {"format": {"type": "json_schema", "name": "s", "strict": true, "schema": {"z": 1, "a": 2}}},
    "reasoning": {"effort": "high", "summary": "auto"}, "thinking_token_budget": 9, "thinking": {"type": "enabled"},
    "truncation": "disabled", "background": false, "metadata": {"a": "b"}, "user": "u", "prompt_cache_key": "k",
    "safety_identifier": "s", "service_tier": "flex", "store": false, "stream": true,
    "stream_options": {"include_obfuscation": false}, "priority": -4, "timeout": 2.5, "cache_salt": "s", "novel": 1})");
  EXPECT_EQ(call.model, "m");
  EXPECT_EQ(told(call.chat.messages), "system: be brief | user: hi");
  const AnswerOptions& o = call.options;
  EXPECT_EQ(o.max_new_tokens, 7);
  EXPECT_EQ(o.sampling.temperature, 0.5F);
  EXPECT_EQ(o.sampling.top_p, 0.25F);
  EXPECT_EQ(o.sampling.top_k, 40);
  EXPECT_EQ(o.sampling.repetition_penalty, 1.5F);
  EXPECT_EQ(o.sampling.seed, 3U);
  EXPECT_EQ(o.logit_bias.size(), 1U);
  EXPECT_EQ(o.stop, Strings{"x"});
  EXPECT_EQ(o.stop_tokens, std::vector<TokenId>{3});
  EXPECT_EQ(o.bad_words, Strings{"no"});
  EXPECT_TRUE(o.logprobs);
  EXPECT_EQ(o.top_logprobs, 5);
  EXPECT_EQ(o.n, 1);
  EXPECT_EQ(o.tool_use, ToolUse::kNamed);
  EXPECT_EQ(o.tool_name, "f");
  EXPECT_FALSE(o.parallel_tool_calls);
  EXPECT_FALSE(o.strict_tools);
  ASSERT_TRUE(o.shape);
  EXPECT_EQ(o.shape->kind, AnswerShape::Kind::kJsonSchema);
  EXPECT_EQ(o.shape->text, R"({"z":1,"a":2})");
  EXPECT_TRUE(o.shape->strict);
  EXPECT_EQ(o.thinking_budget, 9);
  EXPECT_EQ(o.priority, -4);
  EXPECT_EQ(o.deadline_seconds, 2.5);
  EXPECT_EQ(o.cache_salt, "s");
  EXPECT_EQ(call.chat.response_format, ResponseFormat::kJsonSchema);
  EXPECT_EQ(call.chat.response_schema, R"({"z":1,"a":2})");
  EXPECT_EQ(call.chat.effort, "high");
  EXPECT_EQ(call.chat.thinking, true);
  EXPECT_EQ(call.chat.tools_json,
            R"([{"type":"function","function":{"name":"f","description":"d","parameters":)"
            R"({"type":"object"}}},{"type":"function","function":{"name":"g"}}])");
  ASSERT_EQ(call.tools.size(), 2U);
  EXPECT_EQ(call.tools[0].parameters, R"({"type":"object"})");
  EXPECT_FALSE(call.store);
  EXPECT_TRUE(call.stream);
  EXPECT_EQ(call.ignored, Strings{"novel"});
}

TEST(OpenAiResponses, RepeatsTheRequest) {
  const Json echo =
      call_of(
          with(
              R"("instructions":"i","temperature":0.5,"tools":[{"type":"function","name":"f","strict":true,
         "parameters":{"type":"object","properties":{},"additionalProperties":false}}],
         "tool_choice":"none","text":{"format":{"type":"json_object"}},"metadata":{"a":"b"},
         "reasoning":{"effort":"low","summary":"detailed"},"top_logprobs":3)"))
          .echo;
  EXPECT_EQ(echo["instructions"], "i");
  EXPECT_EQ(echo["temperature"], 0.5);
  EXPECT_EQ(echo["top_p"], nullptr);
  EXPECT_EQ(echo["tools"][0]["name"], "f");
  EXPECT_EQ(echo["tools"][0]["strict"], true);
  EXPECT_EQ(echo["tool_choice"], "none");
  EXPECT_EQ(echo["text"]["format"]["type"], "json_object");
  EXPECT_EQ(echo["text"]["verbosity"], "medium");
  EXPECT_EQ(echo["metadata"]["a"], "b");
  EXPECT_EQ(echo["reasoning"].dump(), R"({"effort":"low","summary":null})");
  EXPECT_EQ(echo["top_logprobs"], 3);
  EXPECT_EQ(echo["parallel_tool_calls"], true);
}

TEST(OpenAiResponses, ItemsBecomeTurns) {
  EXPECT_EQ(told(R"({"role":"developer","content":"a"},{"type":"message","role":"user","content":
                    [{"type":"input_text","text":"b"},{"type":"input_text","text":"c"}]},
                    {"role":"assistant","content":[{"type":"output_text","text":"d"},
                    {"type":"refusal","refusal":"e"}]},{"role":"system","content":"f"})"),
            "system: a | user: bc | assistant: de | system: f");
  // One turn of the assistant's, then two outputs, then another.
  const std::string call1 = R"({"type":"function_call","call_id":"1","name":"f","arguments":"{}"})";
  const std::string call2 = R"({"type":"function_call","call_id":"2","name":"g","arguments":"[]"})";
  const std::string out1 = R"({"type":"function_call_output","call_id":"1","output":"one"})";
  const std::string out2 = R"({"type":"function_call_output","call_id":"2",
                              "output":[{"type":"input_text","text":"two"}]})";
  const std::string thought =
      R"({"type":"reasoning","id":"rs_9_0","summary":[{"type":"summary_text",
      "text":"short"}],"content":[{"type":"reasoning_text","text":"long"}]})";
  const std::string summary =
      R"({"type":"reasoning","summary":[{"type":"summary_text","text":"short"}],"encrypted_content":"x"})";
  const std::string text = R"({"role":"assistant","content":"t"})";
  const auto list = [](const Strings& parts) {
    std::string all;
    for (const std::string& part : parts) all += (all.empty() ? "" : ",") + part;
    return all;
  };
  EXPECT_EQ(told(list({thought, text, call1, call2, out1, out2, summary, text})),
            "assistant(long): t [f({}) #1] [g([]) #2] | tool #1: one | tool #2: two | "
            "assistant(short): t");
  EXPECT_EQ(told(list({call1, out1, call2, out2})),
            "assistant:  [f({}) #1] | tool #1: one | assistant:  [g([]) #2] | tool #2: two");
  EXPECT_EQ(told(list({call1, text})), "assistant: t [f({}) #1]");
  EXPECT_EQ(told(list({text, text})), "assistant: t | assistant: t");
  EXPECT_EQ(told(list({thought, thought})), "assistant(long):  | assistant(long): ");
}

TEST(OpenAiResponses, ABrokenCallIsToldByItsTextAlone) {
  const std::string message = R"({"type":"message","role":"assistant","content":"x","id":")";
  EXPECT_EQ(
      told(message +
           R"(msg_7_0"},{"type":"function_call","status":"incomplete","call_id":"1","name":"f",
                 "arguments":"{"},)" +
           message + R"(msg_7_2"})"),
      "assistant: xx");
  EXPECT_EQ(
      error_of(items(R"({"type":"function_call","status":"incomplete","call_id":"1","name":"f",
                               "arguments":"{"})")),
      "input: holds nothing but calls that broke off; give a message");
}

TEST(OpenAiResponses, ItemsAreRefusedWithTheirPath) {
  const auto part = [](const std::string& content) {
    return items(R"({"role":"user","content":"a"},{"role":"user","content":)" + content + "}");
  };
  for (const auto& [type, what] : std::map<std::string, std::string>{
           {"input_image", "no images"}, {"input_file", "no files"}, {"input_audio", "no audio"}}) {
    const std::string error = error_of(part(R"([{"type":")" + type + R"("}])"));
    EXPECT_EQ(error, "input[1].content[0].type: \"" + type +
                         "\" was found; the model reads text, " + what + ": leave the part out");
  }
  const std::pair<std::string, std::string> wrong[] = {
      {part(R"([{"type":"text","text":"a"}])"),
       "input[1].content[0].type: \"input_text\" is expected, \"text\" was found"},
      {part(R"([{"type":"refusal","refusal":"a"}])"),
       "input[1].content[0].type: \"input_text\" is expected, \"refusal\" was found"},
      {part(R"([{"type":"input_text"}])"), "input[1].content[0].text: is missing"},
      {part(R"([{"type":"input_text","text":3}])"),
       "input[1].content[0].text: a text is expected, number was found"},
      {part("[7]"),
       "input[1].content[0]: an object with type and text is expected, number was found"},
      {part("7"), "input[1].content: a text or a list of parts is expected, number was found"},
      {part("null"), "input[1].content: is missing"},
      {items("7"), "input[0]: an object is expected, number was found"},
      {items("{}"), "input[0].role: is missing"},
      {items(R"({"role":"tool","content":"x"})"),
       R"(input[0].role: "user", "assistant", "system" or "developer" is expected, "tool" was found)"},
      {items(R"({"role":"user","content":"x","status":"y"})"),
       R"(input[0].status: "completed", "incomplete" or "in_progress" is expected, "y" was found)"},
      {items(R"({"role":"user","content":"x","id":7})"),
       "input[0].id: a text is expected, number was found"},
      {items(R"({"type":"function_call","call_id":"1","arguments":""})"),
       "input[0].name: is missing"},
      {items(R"({"type":"function_call","call_id":"1","name":"","arguments":""})"),
       "input[0].name: is empty"},
      {items(R"({"type":"function_call","name":"f","arguments":""})"),
       "input[0].call_id: is missing"},
      {items(R"({"type":"function_call","call_id":"1","name":"f","arguments":{}})"),
       "input[0].arguments: a text is expected, object was found"},
      {items(R"({"type":"function_call_output","call_id":"1"})"), "input[0].output: is missing"},
      {items(R"({"type":"function_call_output","call_id":"1","output":[{"type":"input_image"}]})"),
       "input[0].output[0].type: \"input_image\" was found; the model reads text, no images: leave "
       "the part out"},
      {items(R"({"type":"reasoning","content":"x"})"),
       "input[0].content: a list of parts is expected, string was found"},
      {items(R"({"type":"reasoning","content":[{"type":"summary_text","text":"x"}]})"),
       R"(input[0].content[0].type: "reasoning_text" is expected, "summary_text" was found)"},
      {items(R"({"type":"web_search_call","id":"x"})"),
       "input[0].type: \"web_search_call\" is not supported: give a message, function_call, "
       "function_call_output, reasoning or item_reference; there are no hosted tools"},
      {items(R"({"type":"item_reference","id":"msg_1_0"})"),
       "input[0].id: no responses are stored here, so items cannot be referred to; give the item "
       "itself"},
      {R"({"input":7})", "input: a text or a list of items is expected, number was found"},
      {R"({"model":"m"})", "input: is missing"},
      {R"({"input":null})", "input: is missing"},
      {R"({"input":[]})", "input: 0 entries were found, 1 to 16384 entries are expected"},
      {"[]", "request: an object is expected, array was found"},
  };
  for (const auto& [body, error] : wrong) EXPECT_EQ(error_of(body), error) << body;
}

TEST(OpenAiResponses, WhatIsNotBuiltIsRefusedByName) {
  for (const char* field :
       {R"("background":true)", R"("conversation":"c")", R"("conversation":{"id":"c"})",
        R"("prompt":{"id":"p"})", R"("truncation":"auto")", R"("moderation":{})",
        R"("context_management":[{"type":"compaction"}])", R"("messages":[])", R"("max_tokens":5)",
        R"("max_completion_tokens":5)", R"("response_format":{"type":"text"})",
        R"("reasoning_effort":"low")", R"("logprobs":true)", R"("n":2)"}) {
    const std::string name = std::string(field).substr(1, std::string(field).find('"', 1) - 1);
    EXPECT_EQ(error_of(with(field)).find(name + ": is not supported: "), 0U) << field;
  }
  EXPECT_EQ(error_of(with(R"("background":false,"truncation":"disabled","n":1,"logprobs":false,
                             "context_management":[],"prompt":null)")),
            "none");
  EXPECT_EQ(error_of(with(R"("previous_response_id":"resp_1")")),
            "previous_response_id: no responses are stored here; send the whole conversation as "
            "input, or let the server keep a store of responses");
  EXPECT_EQ(cancel_refused().code, ErrorCode::kUsage);
}

TEST(OpenAiResponses, FieldsAreRefusedWithTheirPath) {
  const std::pair<std::string, std::string> wrong[] = {
      {R"("text":{"verbosity":"low"})", "text.verbosity: \"low\" is not supported"},
      {R"("text":{"format":{"type":"xml"}})", "text.format.type: "},
      {R"("text":{"format":{}})", "text.format.type: "},
      {R"("text":{"format":{"type":"json_schema","schema":{}}})", "text.format.name: is missing"},
      {R"("text":{"format":{"type":"json_schema","name":"s"}})", "text.format.schema: is missing"},
      {R"("text":{"format":{"type":"json_schema","name":"s","schema":"x"}})",
       "text.format.schema: an object is expected"},
      {R"("text":{"shape":1})", "text.shape: is not supported"},
      {R"("text":{"format":{"type":"json_object"}},"structured_outputs":{"regex":"a"})",
       "structured_outputs.regex: text.format asks for another shape"},
      {R"("reasoning":{"effort":0})", "reasoning.effort: 0 was found"},
      {R"("reasoning":{"effort":101})", "reasoning.effort: 101 was found"},
      {R"("reasoning":{"effort":[]})", "reasoning.effort: a text is expected"},
      {R"("reasoning":{"summary":"long"})", "reasoning.summary: "},
      {R"("reasoning":{"mode":"pro"})", "reasoning.mode: is not supported"},
      {R"("reasoning":{"novel":1})", "reasoning.novel: is not supported"},
      {R"("reasoning":{"effort":"none"},"thinking":true)",
       "reasoning.effort: says the opposite of another field"},
      {R"("thinking":{"type":"on"})", "thinking.type: "},
      {R"("thinking":"on")", "thinking: true, false or"},
      {R"("thinking":{"type":"enabled","budget_tokens":5},"thinking_token_budget":6)",
       "thinking_token_budget: another field"},
      {R"("thinking":true,"enable_thinking":false)", "enable_thinking: says the opposite"},
      {R"("include":"x")", "include: a list of texts is expected"},
      {R"("include":["x"])", "include[0]: "},
      {R"("include":[1])", "include[0]: a text is expected"},
      {R"("metadata":{"a":1})", "metadata.a: a text is expected"},
      {R"("metadata":"x")", "metadata: an object of texts is expected"},
      {R"("stream_options":{})", "stream_options: is given without"},
      {R"("stream":true,"stream_options":{"include_obfuscation":true})",
       "stream_options.include_obfuscation: is not supported"},
      {R"("stream":"yes")", "stream: true or false is expected"},
      {R"("store":1)", "store: true or false is expected"},
      {R"("instructions":[])", "instructions: a text is expected"},
      {R"("user":1)", "user: a text is expected"},
      {R"("temperature":"hot")", "temperature: a number is expected"},
  };
  for (const auto& [field, error] : wrong)
    EXPECT_EQ(error_of(with(field)).find(error), 0U) << field << "\n" << error_of(with(field));
}

TEST(OpenAiResponses, Thinking) {
  EXPECT_EQ(call_of(with(R"("reasoning":{"effort":"none"})")).chat.thinking, false);
  EXPECT_EQ(call_of(with(R"("reasoning":{"effort":"none"})")).chat.effort, "");
  EXPECT_EQ(call_of(with(R"("reasoning":{"effort":75})")).chat.effort, "75");
  EXPECT_EQ(call_of(with(R"("reasoning":{"effort":null})")).chat.thinking, std::nullopt);
  EXPECT_EQ(call_of(with(R"("enable_thinking":false)")).chat.thinking, false);
  const auto budget = call_of(with(R"("thinking":{"type":"enabled","budget_tokens":5})"));
  EXPECT_EQ(budget.options.thinking_budget, 5);
  EXPECT_FALSE(call_of(with(R"("top_logprobs":5)")).options.logprobs);
  EXPECT_EQ(call_of(with(R"("top_logprobs":5)")).options.top_logprobs, 0);
}

TEST(OpenAiResponses, ToolsAndTheirChoice) {
  const std::string tools =
      R"("tools":[{"type":"function","name":"f"},{"type":"function","name":"g"}],"tool_choice":)";
  EXPECT_EQ(call_of(with(tools + R"("required")")).options.tool_use, ToolUse::kRequired);
  const ResponsesCall none = call_of(with(tools + R"("none")"));
  EXPECT_EQ(none.options.tool_use, ToolUse::kNone);
  EXPECT_TRUE(none.tools.empty());
  EXPECT_EQ(none.chat.tools_json, "");
  EXPECT_EQ(none.echo["tools"].size(), 2U);
  const ResponsesCall allowed = call_of(with(
      tools +
      R"({"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"g"}]})"));
  EXPECT_EQ(allowed.options.tool_use, ToolUse::kRequired);
  ASSERT_EQ(allowed.tools.size(), 1U);
  EXPECT_EQ(allowed.tools[0].name, "g");
  EXPECT_EQ(allowed.chat.tools_json, R"([{"type":"function","function":{"name":"g"}}])");
  const auto tool = [](const std::string& fields) { return with(R"("tools":[{)" + fields + "}]"); };
  const std::string strict =
      R"("type":"function","name":"f","strict":true,"parameters":{"type":"object","properties":{"a":{}})";
  EXPECT_TRUE(call_of(tool(strict + R"(,"required":["a"],"additionalProperties":false})"))
                  .options.strict_tools);
  const std::pair<std::string, std::string> wrong[] = {
      {tool(strict + R"(,"required":["a"]})"), "tools[0].parameters: a strict tool needs"},
      {tool(strict + R"(,"additionalProperties":false})"), "tools[0].parameters.required: "},
      {tool(R"("type":"web_search")"),
       "tools[0].type: only \"function\" is supported, \"web_search\" was found; give a function"},
      {tool(R"("type":"function","function":{"name":"f"})"), "tools[0].function: is the form of"},
      {tool(R"("type":"function")"), "tools[0].name: is missing"},
      {tool(R"("type":"function","name":"a b")"), "tools[0].name: letters, digits"},
      {tool(R"("type":"function","name":"f","parameters":[])"),
       "tools[0].parameters: a JSON schema is expected"},
      {with(R"("tools":[{"type":"function","name":"f"},{"type":"function","name":"f"}])"),
       "tools[1].name: \"f\" occurs twice"},
      {with(R"("tools":{})"), "tools: a list is expected"},
      {with(R"("tools":[1])"), "tools[0]: an object is expected"},
      {with(R"("tool_choice":"required")"), "tool_choice: \"required\" needs tools"},
      {with(R"("tool_choice":"maybe")"), "tool_choice: "},
      {with(R"("tool_choice":7)"), "tool_choice: "},
      {with(tools + R"({"type":"function","name":"h"})"),
       "tool_choice.name: \"h\" is none of the tools"},
      {with(tools + R"({"type":"function"})"), "tool_choice.name: is missing"},
      {with(tools + R"({"type":"file_search"})"), "tool_choice.type: "},
      {with(tools + R"({"type":"allowed_tools","mode":"any","tools":[]})"), "tool_choice.mode: "},
      {with(tools + R"({"type":"allowed_tools","mode":"auto","tools":[]})"),
       "tool_choice.tools: a list of tools"},
      {with(tools + R"({"type":"allowed_tools","mode":"auto","tools":[{"type":"mcp"}]})"),
       "tool_choice.tools[0].type: "},
      {with(tools +
            R"({"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"h"}]})"),
       "tool_choice.tools[0].name: "},
  };
  for (const auto& [body, error] : wrong)
    EXPECT_EQ(error_of(body).find(error), 0U) << body << "\n" << error_of(body);
}

}  // namespace
}  // namespace hadal::server
