// The conversation in a Messages body, and the limits of all that such a body may hold.
#include <gtest/gtest.h>

#include <functional>

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
/// A body with these messages.
std::string saying(const std::string& messages) {
  return R"({"max_tokens":8,"messages":[)" + messages + "]}";
}
/// A body with one message of these blocks.
std::string blocks(const std::string& role, const std::string& list) {
  return saying(R"({"role":")" + role + R"(","content":[)" + list + "]}");
}
/// `count` times `entry` with commas between; # in it is the number.
std::string repeated(int64_t count, const std::string& entry) {
  std::string all;
  const size_t mark = entry.find('#');
  for (int64_t i = 0; i < count; ++i) {
    if (i > 0) all += ',';
    all += mark == std::string::npos
               ? entry
               : entry.substr(0, mark) + std::to_string(i) + entry.substr(mark + 1);
  }
  return all;
}
std::string text_of(int64_t bytes) {
  return "\"" + std::string(static_cast<size_t>(bytes), 'a') + "\"";
}

// ---- blocks

TEST(AnthropicBlocks, OfAConversationWithTools) {
  const ChatCall call = call_of(saying(R"(
    {"role":"user","content":[{"type":"text","text":"what "},{"type":"text","text":"now?","citations":null}]},
    {"role":"assistant","content":[
      {"type":"thinking","thinking":"hm","signature":"x"},{"type":"redacted_thinking","data":"zz"},
      {"type":"text","text":"I look."},
      {"type":"tool_use","id":"1","name":"f","input":{"z":[1,"é"],"a":null},"caller":{"type":"direct"}},
      {"type":"tool_use","id":"2","name":"g","input":{}}]},
    {"role":"user","content":[
      {"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"4"},{"type":"text","text":"2"}]},
      {"type":"tool_result","tool_use_id":"2","content":"no file","is_error":true,"cache_control":{"type":"ephemeral"}},
      {"type":"tool_result","tool_use_id":"3"},{"type":"tool_result","tool_use_id":"4","is_error":true},
      {"type":"text","text":"go "},{"type":"text","text":"on"}]},
    {"role":"system","content":[{"type":"text","text":"late"}]})"));
  const std::vector<ChatMessage>& m = call.chat.messages;
  ASSERT_EQ(m.size(), 8U);
  EXPECT_EQ(m[0].role, "user");
  EXPECT_EQ(m[0].content, "what now?");
  EXPECT_EQ(m[1].role, "assistant");
  EXPECT_EQ(m[1].reasoning, "hm");
  EXPECT_EQ(m[1].content, "I look.");
  ASSERT_EQ(m[1].tool_calls.size(), 2U);
  EXPECT_EQ(m[1].tool_calls[0].id, "1");
  EXPECT_EQ(m[1].tool_calls[0].name, "f");
  EXPECT_EQ(m[1].tool_calls[0].arguments, R"({"z": [1, "é"], "a": null})");
  EXPECT_EQ(m[1].tool_calls[1].arguments, "{}");
  EXPECT_FALSE(m[1].prefix);
  const std::vector<std::pair<std::string, std::string>> results = {
      {"1", "42"}, {"2", "Error: no file"}, {"3", ""}, {"4", "Error"}};
  for (size_t i = 0; i < results.size(); ++i) {
    EXPECT_EQ(m[2 + i].role, "tool");
    EXPECT_EQ(m[2 + i].tool_call_id, results[i].first);
    EXPECT_EQ(m[2 + i].content, results[i].second);
  }
  EXPECT_EQ(m[6].role, "user");
  EXPECT_EQ(m[6].content, "go on");
  EXPECT_EQ(m[7].role, "system");
  EXPECT_EQ(m[7].content, "late");
}

TEST(AnthropicBlocks, TextsAroundResultsKeepTheirPlaces) {
  const ChatCall call = call_of(blocks(
      "user",
      R"({"type":"text","text":"a"},{"type":"tool_result","tool_use_id":"1","content":"b"},{"type":"text","text":"c"})"));
  const std::vector<ChatMessage>& m = call.chat.messages;
  ASSERT_EQ(m.size(), 3U);
  EXPECT_EQ(m[0].content + m[1].content + m[2].content, "abc");
  EXPECT_EQ(m[1].role, "tool");
  // The next message is no part of this one.
  EXPECT_EQ(call_of(saying(R"({"role":"user","content":"a"},{"role":"user","content":"b"})"))
                .chat.messages.size(),
            2U);
  EXPECT_EQ(call_of(blocks("user", "")).chat.messages[0].content, "");
}

TEST(AnthropicBlocks, ALastMessageOfTheAssistantsIsGoneOnWith) {
  const std::string user = R"({"role":"user","content":"a"},)";
  ChatCall call = call_of(saying(
      user +
      R"({"role":"assistant","content":"The "},{"role":"assistant","content":[{"type":"text","text":"answer"}]})"));
  ASSERT_EQ(call.chat.messages.size(), 2U);
  EXPECT_EQ(call.chat.messages[1].content, "The answer");
  EXPECT_TRUE(call.chat.messages[1].prefix);
  EXPECT_TRUE(call.chat.add_generation_prompt);
  for (const char* empty : {"\"\"", "[]", R"([{"type":"redacted_thinking","data":"x"}])"}) {
    call = call_of(saying(user + R"({"role":"assistant","content":)" + std::string(empty) + "}"));
    ASSERT_EQ(call.chat.messages.size(), 1U);
    EXPECT_EQ(call.chat.messages[0].role, "user");
    EXPECT_FALSE(call.chat.messages[0].prefix);
  }
  EXPECT_EQ(error_of(saying(R"({"role":"assistant","content":""})")).find("messages[0].content: "),
            0U);
  EXPECT_EQ(
      error_of(
          saying(
              user +
              R"({"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{}}]})"))
          .find("messages[1].content: the last message calls tools"),
      0U);
}

TEST(AnthropicBlocks, AThoughtStandsInFrontOfAPrefill) {
  const auto with_thinking = [](const std::string& content) {
    return R"({"max_tokens":8,"thinking":{"type":"enabled"},"messages":[{"role":"user","content":"a"},)"
           R"({"role":"assistant","content":)" +
           content + "}]}";
  };
  EXPECT_EQ(error_of(with_thinking("\"b\"")).find("thinking: is enabled, and the last message"),
            0U);
  const ChatCall call =
      call_of(with_thinking(R"([{"type":"thinking","thinking":"t"},{"type":"text","text":"b"}])"));
  EXPECT_TRUE(call.chat.messages[1].prefix);
  EXPECT_EQ(call.chat.messages[1].reasoning, "t");
}

TEST(AnthropicBlocks, RefusesInWords) {
  for (const auto& [type, words] : std::vector<std::pair<std::string, std::string>>{
           {"image", "the model reads text, no images"},
           {"document", "no documents"},
           {"search_result", "as a text block"},
           {"container_upload", "there are no containers"},
           {"server_tool_use", "no tools run on the server"},
           {"web_search_tool_result", "no tools run on the server"},
           {"mcp_tool_use", "no tools run on the server"},
           {"novel", "is not known"}}) {
    for (const char* role : {"user", "assistant"}) {
      const std::string error =
          error_of(blocks(role, R"({"type":"text","text":""},{"type":")" + type + "\"}"));
      EXPECT_EQ(error.find("messages[0].content[1].type: \"" + type + "\" "), 0U) << error;
      EXPECT_NE(error.find(words), std::string::npos) << error;
    }
  }
  EXPECT_EQ(
      error_of(blocks("user",
                      R"({"type":"tool_result","tool_use_id":"1","content":[{"type":"image"}]})"))
          .find("messages[0].content[0].content[0].type: \"image\" is not supported in a tool's"),
      0U);
  EXPECT_EQ(error_of(with(R"("system":[{"type":"image"}])")).find("system[0].type: \"image\""), 0U);
  EXPECT_NE(error_of(blocks("user", R"({"type":"tool_use"})")).find("belongs to the assistant"),
            std::string::npos);
  EXPECT_NE(
      error_of(blocks("assistant", R"({"type":"tool_result"})")).find("tool_result to the user"),
      std::string::npos);
  EXPECT_EQ(error_of(blocks("user", R"({"type":"thinking","thinking":"a"})"))
                .find("messages[0].content[0].type: \"thinking\" is not known in a user's"),
            0U);
}

TEST(AnthropicBlocks, RefusesWhatIsMissingOrOfAnotherType) {
  const auto user = [](const std::string& block) { return error_of(blocks("user", block)); };
  const auto assistant = [](const std::string& b) { return error_of(blocks("assistant", b)); };
  const std::string at = "messages[0].content[0]";
  EXPECT_EQ(user("1"), at + ": a content block is expected, number was found");
  EXPECT_EQ(user("{}"), at + ".type: is missing");
  EXPECT_EQ(user(R"({"type":1})"), at + ".type: a text is expected, number was found");
  EXPECT_EQ(user(R"({"type":"text"})"), at + ".text: is missing");
  EXPECT_EQ(user(R"({"type":"text","text":1})"),
            at + ".text: a text is expected, number was found");
  EXPECT_EQ(user(R"({"type":"tool_result"})"), at + ".tool_use_id: is missing");
  EXPECT_EQ(user(R"({"type":"tool_result","tool_use_id":"1","content":1})"),
            at + ".content: a text or a list of content blocks is expected, number was found");
  EXPECT_EQ(user(R"({"type":"tool_result","tool_use_id":"1","is_error":1})"),
            at + ".is_error: true or false is expected, number was found");
  EXPECT_EQ(assistant(R"({"type":"thinking"})"), at + ".thinking: is missing");
  EXPECT_EQ(assistant(R"({"type":"tool_use","name":"f","input":{}})"), at + ".id: is missing");
  EXPECT_EQ(assistant(R"({"type":"tool_use","id":"1","input":{}})"), at + ".name: is missing");
  EXPECT_EQ(assistant(R"({"type":"tool_use","id":"1","name":"f"})"), at + ".input: is missing");
  EXPECT_EQ(assistant(R"({"type":"tool_use","id":"1","name":"f","input":"{}"})"),
            at + ".input: an object is expected, string was found");
  EXPECT_EQ(error_of(saying("1")), "messages[0]: an object is expected, number was found");
  EXPECT_EQ(error_of(saying(R"({"role":"user"})")), "messages[0].content: is missing");
  EXPECT_EQ(error_of(saying(R"({"content":"a"})")),
            R"(messages[0].role: "user", "assistant" or "system" is expected, it is missing)");
  EXPECT_EQ(error_of(saying(R"({"role":"tool","content":"a"})")).find("messages[0].role: "), 0U);
  EXPECT_EQ(error_of(saying(R"({"role":"user","content":{}})")).find("messages[0].content: a text"),
            0U);
  EXPECT_EQ(error_of(saying(R"({"role":"system","content":"a","clear_at":"next_user_message"})"))
                .find("messages[0].clear_at: is not supported"),
            0U);
}

// ---- limits

TEST(AnthropicLimits, NumbersAreTakenAtTheirBoundsAndRefusedBeyond) {
  struct Number {
    std::string before, path;
    const Limit& row;
    std::string after = {};
  };
  const std::string head = R"({"messages":[{"role":"user","content":"a"}],)";
  for (const Number& n : {Number{"\"max_tokens\":", "max_tokens", limit("max_tokens")},
                          {"\"max_tokens\":8,\"top_k\":", "top_k", limit("top_k")},
                          {R"("max_tokens":8,"thinking":{"type":"enabled","budget_tokens":)",
                           "thinking.budget_tokens", limit("thinking_token_budget"), "}"},
                          {R"("max_tokens":8,"output_config":{"effort":)", "output_config.effort",
                           limit("reasoning_effort"), "}"}}) {
    const auto error = [&](const std::string& value) {
      return error_of(head + n.before + value + n.after + "}");
    };
    for (const int64_t good : {n.row.least, n.row.most})
      EXPECT_EQ(error(std::to_string(good)), "none") << n.path;
    for (const std::string& bad :
         {std::to_string(n.row.least - 1), std::to_string(n.row.most + 1), std::string("1.5"),
          std::string("9223372036854775808"), std::string("1e400"), std::string("NaN"),
          std::string("[[]]"), std::string("true")})
      EXPECT_EQ(error(bad).find(n.path + ": "), 0U) << bad << " " << error(bad);
  }
  for (const char* name : {"temperature", "top_p"}) {
    const std::string field = "\"" + std::string(name) + "\":", path = std::string(name) + ": ";
    const bool chance = std::string_view(name) == "top_p";
    EXPECT_EQ(error_of(with(field + (chance ? "1" : "100"))), "none");
    EXPECT_EQ(error_of(with(field + "0")), "none");
    EXPECT_EQ(error_of(with(field + (chance ? "1.0000001" : "100.0001"))).find(path), 0U);
    EXPECT_EQ(error_of(with(field + "-0.0001")).find(path), 0U);
    EXPECT_EQ(error_of(with(field + "\"1\"")).find(path), 0U);
  }
}

TEST(AnthropicLimits, ListsAndTextsAreTakenAtTheirBoundsAndRefusedBeyond) {
  const std::string text = R"({"type":"text","text":"a"})";
  struct Count {
    std::string path;
    const Limit& row;
    std::function<std::string(int64_t)> body;
  };
  const std::vector<Count> counts = {
      {"messages", limit("messages"),
       [](int64_t n) { return saying(repeated(n, R"({"role":"user","content":"a"})")); }},
      {"messages[0].content", limit("messages[].content"),
       [&](int64_t n) { return blocks("user", repeated(n, text)); }},
      {"messages[0].content", limit("messages[].content"),
       [&](int64_t n) { return blocks("assistant", repeated(n, text)); }},
      {"system", limit("messages[].content"),
       [&](int64_t n) { return with("\"system\":[" + repeated(n, text) + "]"); }},
      {"messages[0].content[0].content", limit("messages[].content"),
       [&](int64_t n) {
         return blocks("user", R"({"type":"tool_result","tool_use_id":"1","content":[)" +
                                   repeated(n, text) + "]}");
       }},
      {"messages[0].content", limit("messages[].tool_calls"),
       [](int64_t n) {
         return saying(R"({"role":"assistant","content":[)" +
                       repeated(n, R"({"type":"tool_use","id":"#","name":"f","input":{}})") +
                       R"(]},{"role":"user","content":"a"})");
       }},
      {"tools", limit("tools"),
       [](int64_t n) {
         return with("\"tools\":[" + repeated(n, R"({"name":"f#","input_schema":{}})") + "]");
       }},
      {"tools[0].name", limit("tools[].function.name"),
       [](int64_t n) {
         return with("\"tools\":[{\"name\":" + text_of(n) + ",\"input_schema\":{}}]");
       }},
      {"stop_sequences", limit("stop"),
       [](int64_t n) { return with("\"stop_sequences\":[" + repeated(n, "\"a\"") + "]"); }},
      {"stop_sequences[0]", limit("stop[]"),
       [](int64_t n) { return with("\"stop_sequences\":[" + text_of(n) + "]"); }},
      {"model", limit("model"), [](int64_t n) { return with("\"model\":" + text_of(n)); }}};
  for (const Count& count : counts) {
    SCOPED_TRACE(count.path);
    EXPECT_EQ(error_of(count.body(count.row.most)), "none");
    EXPECT_EQ(error_of(count.body(count.row.most + 1)).find(count.path + ": "), 0U)
        << error_of(count.body(count.row.most + 1));
    if (count.row.least == 0) continue;
    EXPECT_EQ(error_of(count.body(count.row.least - 1)).find(count.path + ": "), 0U);
  }
}

TEST(AnthropicLimits, HostileBodies) {
  EXPECT_EQ(error_of("").find("request: "), 0U);
  EXPECT_EQ(error_of(with("\"x\":" + std::string(100000, '['))).find("x[0][0]"), 0U);
  std::string million = "1";
  for (int i = 1; i < 300000; ++i) million += ",1";
  for (const char* name : {"messages", "tools", "system", "stop_sequences", "metadata", "thinking"})
    EXPECT_EQ(error_of("{\"" + std::string(name) + "\":[" + million + "]}")
                  .find(std::string(name) + "[262143]: the request has more than"),
              0U);
  for (const char* name : {"messages", "system", "tools", "tool_choice", "thinking", "stream",
                           "stop_sequences", "output_config", "output_format", "context_management",
                           "model", "max_tokens", "seed", "include_reasoning"})
    for (const char* value : {"-1", "1.5", "true", "\"x\"", "{\"a\":1}", "[[1]]", "[null]"}) {
      const std::string body = R"({"max_tokens":8,"messages":[{"role":"user","content":"a"}],")" +
                               std::string(name) + "\":" + value + "}";
      const Result<ChatCall> call = parse_messages_call(body);  // taken, or refused in words
      EXPECT_TRUE(call || !call.error().message.empty());
    }
  EXPECT_EQ(error_of(with("\"model\":\"\xc3\x28\"")).find("model: no valid JSON"), 0U);
  EXPECT_EQ(error_of(with(R"("stop_sequences":["\ud800"])")).find("stop_sequences[0]: "), 0U);
}

}  // namespace
}  // namespace hadal::server
