#include "text/chat/request_json.h"

#include <gtest/gtest.h>

#include "text/chat/python_json.h"

namespace hadal {
namespace {

std::string error_of(std::string_view json) {
  const Result<ChatRequest> request = parse_chat_request(json);
  if (request) return "none";
  EXPECT_EQ(request.error().code, ErrorCode::kUsage);
  return request.error().message;
}

TEST(RequestJson, ReadsEveryField) {
  const Result<ChatRequest> request = parse_chat_request(R"({
    "messages": [
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "me"},
      {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"z": 1, "a": [true, 0.5]}}},
        {"id": "2", "function": {"name": "g", "arguments": "{\"x\":1}"}}]},
      {"role": "tool", "content": "", "tool_call_id": "1"},
      {"role": "assistant", "content": "ok", "reasoning": "so"}],
    "tools": [{"z": 1, "a": 2}], "thinking": {"type": "disabled"}, "effort": "low", "add_generation_prompt": false, "model": "m"})");
  ASSERT_TRUE(request) << request.error().message;
  ASSERT_EQ(request->messages.size(), 4U);
  EXPECT_EQ(request->messages[0].content, "ab");
  EXPECT_EQ(request->messages[0].name, "me");
  EXPECT_EQ(request->messages[1].reasoning, "hm");
  EXPECT_EQ(request->messages[1].content, "");
  ASSERT_EQ(request->messages[1].tool_calls.size(), 2U);
  EXPECT_EQ(request->messages[1].tool_calls[0].id, "1");
  EXPECT_EQ(request->messages[1].tool_calls[0].name, "f");
  EXPECT_EQ(request->messages[1].tool_calls[0].arguments, R"({"z": 1, "a": [true, 0.5]})");
  EXPECT_EQ(request->messages[1].tool_calls[1].arguments, R"({"x":1})");
  EXPECT_EQ(request->messages[2].tool_call_id, "1");
  EXPECT_EQ(request->messages[3].reasoning, "so");
  EXPECT_EQ(request->tools_json, R"([{"z":1,"a":2}])");
  EXPECT_EQ(request->thinking, false);
  EXPECT_EQ(request->effort, "low");
  EXPECT_FALSE(request->add_generation_prompt);
}

TEST(RequestJson, WhatIsLeftOutHasItsDefault) {
  const Result<ChatRequest> request = parse_chat_request(
      R"({"messages": [{"role": "user", "content": "a"}], "tools": [], "thinking": null})");
  ASSERT_TRUE(request);
  EXPECT_EQ(request->tools_json, "");
  EXPECT_FALSE(request->thinking.has_value());
  EXPECT_TRUE(request->add_generation_prompt);
  EXPECT_EQ(
      parse_chat_request(R"({"messages": [{"role": "user", "content": "a"}], "thinking": true})")
          ->thinking,
      true);
}

TEST(RequestJson, ErrorsNameTheField) {
  const std::string ok = R"({"role": "user", "content": "a"})";
  EXPECT_NE(error_of("{").find("request: no valid JSON"), std::string::npos);
  EXPECT_NE(error_of("\xff").find("request: no valid JSON"), std::string::npos);
  EXPECT_NE(error_of("[]").find("request: an object is expected, array was found"),
            std::string::npos);
  EXPECT_EQ(error_of("{}"), "messages: is missing");
  EXPECT_NE(error_of(R"({"messages": []})").find("messages: the list is empty"), std::string::npos);
  EXPECT_EQ(error_of(R"({"messages": [)" + ok + R"(, 3]})"),
            "messages[1]: an object is expected, number was found");
  EXPECT_EQ(error_of(R"({"messages": [{"content": "a"}]})"),
            "messages[0].role: is missing or empty");
  EXPECT_EQ(error_of(R"({"messages": [)" + ok + "," + ok + "," + ok +
                     R"(, {"role": "user", "content": 5}]})"),
            "messages[3].content: a text or a list of parts is expected, number was found");
  EXPECT_EQ(error_of(R"({"messages": [{"role": "user"}]})"), "messages[0].content: is missing");
  EXPECT_EQ(error_of(R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})"),
            "messages[0].content[0].type: only \"text\" is known, \"image_url\" was found");
  EXPECT_EQ(error_of(R"({"messages": [{"role": "user", "content": [{"type": "text"}]}]})"),
            "messages[0].content[0].text: is missing");
  const auto call = [](const std::string& text) {
    return R"({"messages": [{"role": "assistant", "tool_calls": [)" + text + "]}]}";
  };
  EXPECT_EQ(error_of(call("{}")), "messages[0].tool_calls[0].function: is missing");
  EXPECT_EQ(error_of(call(R"({"function": {"name": "f"}})")),
            "messages[0].tool_calls[0].function.arguments: is missing");
  EXPECT_EQ(error_of(call(R"({"function": {"name": "", "arguments": "{}"}})")),
            "messages[0].tool_calls[0].function.name: is missing or empty");
  EXPECT_EQ(error_of(call(R"({"function": {"name": "f", "arguments": 3}})")),
            "messages[0].tool_calls[0].function.arguments: a JSON text or an object is expected, "
            "number was found");
  const auto with = [&ok](const std::string& field) {
    return R"({"messages": [)" + ok + "], " + field + "}";
  };
  EXPECT_EQ(error_of(with(R"("thinking": {"type": "maybe"})")),
            "thinking.type: \"enabled\" or \"disabled\" is expected, \"maybe\" was found");
  EXPECT_EQ(error_of(with(R"("thinking": "yes")")),
            "thinking: true, false or {\"type\": …} is expected, string was found");
  EXPECT_EQ(error_of(with(R"("tools": {})")), "tools: a list is expected, object was found");
  EXPECT_EQ(error_of(with(R"("tools": [1])")), "tools[0]: an object is expected, number was found");
  EXPECT_EQ(error_of(with(R"("add_generation_prompt": 1)")),
            "add_generation_prompt: true or false is expected, number was found");
  EXPECT_EQ(error_of(with(R"("effort": 1.5)")), "effort: a text is expected, number was found");
  EXPECT_EQ(error_of(R"({"messages": [{"role": "assistant", "content": "a", "prefix": "yes"}]})"),
            "messages[0].prefix: true or false is expected, string was found");
}

TEST(RequestJson, ReadsTheShapeOfTheAnswer) {
  const auto with = [](const std::string& format) {
    return R"({"messages": [{"role": "user", "content": "a"}], "response_format": )" + format + "}";
  };
  const auto object = parse_chat_request(with(R"({"type": "json_object"})"));
  ASSERT_TRUE(object) << object.error().message;
  EXPECT_EQ(object->response_format, ResponseFormat::kJsonObject);
  const auto schema = parse_chat_request(
      with(R"({"type": "json_schema", "json_schema": {"name": "n", "schema": {"z": 1, "a": 2}}})"));
  ASSERT_TRUE(schema) << schema.error().message;
  EXPECT_EQ(schema->response_format, ResponseFormat::kJsonSchema);
  EXPECT_EQ(schema->response_schema, R"({"z":1,"a":2})");
  const auto text = parse_chat_request(with(R"({"type": "text"})"));
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(text->response_format, ResponseFormat::kText);

  EXPECT_NE(error_of(with("[]")).find("response_format"), std::string::npos);
  EXPECT_NE(error_of(with(R"({"type": "regex"})")).find("response_format.type"), std::string::npos);
  for (const char* broken :
       {R"({"type": "json_schema"})", R"({"type": "json_schema", "json_schema": {}})",
        R"({"type": "json_schema", "json_schema": {"schema": "x"}})"})
    EXPECT_NE(error_of(with(broken)).find("response_format.json_schema"), std::string::npos);
}

TEST(RequestJson, DeepNestingIsRefused) {
  const auto nested = [](size_t levels) {
    return R"({"messages": [{"role": "user", "content": "a"}], "tools": )" +
           std::string(levels, '[') + std::string(levels, ']') + "}";
  };
  EXPECT_NE(error_of(nested(1000000)).find("nested deeper than 64 levels"), std::string::npos);
  EXPECT_EQ(error_of(nested(60)), "tools[0]: an object is expected, array was found");
}

TEST(PythonJson, NumbersAndSpacing) {
  const auto through = [](std::string_view json, int indent = -1) {
    return chat::python_json(chat::OrderedJson::parse(json), indent);
  };
  EXPECT_EQ(through("[1.0,0.1,1e-5,1e15,1e16,1e22,123456789.125,-0.0,5e-324,1e-4,2.5e-7]"),
            "[1.0, 0.1, 1e-05, 1000000000000000.0, 1e+16, 1e+22, 123456789.125, -0.0, 5e-324, "
            "0.0001, 2.5e-07]");
  EXPECT_EQ(
      through("[18446744073709551615,-9223372036854775808,null,true,\"\\u00e9\\n\\u001f\\u007f\"]"),
      "[18446744073709551615, -9223372036854775808, null, true, \"é\\n\\u001f\x7f\"]");
  EXPECT_EQ(through(R"({"b":{},"a":[],"c":[1,{"d":2}]})", 4),
            "{\n    \"b\": {},\n    \"a\": [],\n    \"c\": [\n        1,\n        {\n            "
            "\"d\": 2\n        }\n    ]\n}");
}

}  // namespace
}  // namespace hadal
