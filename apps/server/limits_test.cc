// Every row of the table of limits, through the readers of bodies: at its bounds, beyond them, and
// with what is no such value.
#include "base/limits.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "server/batch_file.h"
#include "server/ollama_requests.h"
#include "server/openai_chat.h"
#include "server/openai_completion.h"
#include "server/openai_responses.h"
#include "text/chat/json_reader.h"

namespace hadal::server {
namespace {

enum class Api { kChat, kCompletion, kResponses, kOllama };
struct Body {
  Api api;
  std::string text;
};

/// Every response is stored, and empty.
Result<StoredResponse> any_response(const std::string&) { return StoredResponse{.items = "[]"}; }

std::string error_of(const Body& body) {
  std::optional<Error> error;
  if (body.api == Api::kChat) {
    if (const auto call = parse_chat_call(body.text); !call) error = call.error();
  } else if (body.api == Api::kResponses) {
    if (const auto call = parse_responses_call(body.text, any_response); !call)
      error = call.error();
  } else if (body.api == Api::kOllama) {
    const auto json = parse_body(body.text);
    if (!json) {
      error = json.error();
    } else if (const auto call = read_ollama_generate(*json, INT32_MAX); !call) {
      error = call.error();
    }
  } else if (const auto call = parse_completion_call(body.text); !call) {
    error = call.error();
  }
  if (!error) return "none";
  EXPECT_EQ(error->code, ErrorCode::kUsage);
  return error->message;
}

Body chat(const std::string& fields) {
  return {Api::kChat, R"({"messages":[{"role":"user","content":"a"}],)" + fields + "}"};
}
Body completion(const std::string& fields) {
  return {Api::kCompletion, R"({"prompt":"a",)" + fields + "}"};
}
Body responses(const std::string& fields) {
  return {Api::kResponses, R"({"input":"a",)" + fields + "}"};
}

Body ollama(const std::string& fields) {
  return {Api::kOllama, R"({"model":"m","prompt":"a",)" + fields + "}"};
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

/// Bodies in which a number's row has the value that `value` writes, and the path it stands at.
std::vector<std::pair<Body, std::string>> with_number(const Limit& row, const std::string& value) {
  const std::string name(row.name), field = "\"" + name + "\":" + value;
  if (name == "logit_bias[]")
    return {{chat(R"("logit_bias":{"7":)" + value + "}"), "logit_bias.7"},
            {completion(R"("logit_bias":{"7":)" + value + "}"), "logit_bias.7"}};
  if (name == "logit_bias id") {
    const std::string key = value[0] == '"' ? value : "\"" + value + "\"";
    return {{chat(R"("logit_bias":{)" + key + ":1}"), "logit_bias"}};
  }
  if (name == "stop_token_ids[]")
    return {{chat(R"("stop_token_ids":[1,)" + value + "]"), "stop_token_ids[1]"},
            {completion(R"("stop_token_ids":[1,)" + value + "]"), "stop_token_ids[1]"}};
  if (name == "prompt[][]")
    return {{{Api::kCompletion, R"({"prompt":[1,)" + value + "]}"}, "prompt[1]"},
            {{Api::kCompletion, R"({"prompt":[[1],[2,)" + value + "]]}"}, "prompt[1][1]"}};
  if (name == "num_predict" || name == "num_ctx" || name == "repeat_last_n")
    return {{ollama(R"("options":{)" + field + "}"), "options." + name}};
  if (name == "logprobs") return {{completion(field), name}};
  if (name == "top_logprobs")
    return {{chat(R"("logprobs":true,)" + field), name}, {responses(field), name}};
  if (name == "thinking_token_budget")
    return {{chat(field), name},
            {responses(field), name},
            {responses(R"("thinking":{"type":"enabled","budget_tokens":)" + value + "}"),
             "thinking.budget_tokens"},
            {chat(R"("thinking":{"type":"enabled","budget_tokens":)" + value + "}"),
             "thinking.budget_tokens"}};
  if (name == "reasoning_effort")
    return {{chat(field), name},
            {responses(R"("reasoning":{"effort":)" + value + "}"), "reasoning.effort"}};
  if (name == "max_output_tokens" || name == "max_tool_calls") return {{responses(field), name}};
  std::vector<std::pair<Body, std::string>> all = {{chat(field), name}, {completion(field), name}};
  // A response has one answer, and another name for the number of its tokens.
  if (name != "n" && name != "max_tokens" && name != "max_completion_tokens")
    all.emplace_back(responses(field), name);
  return all;
}

/// Bodies in which a list or a text of the row has `count` entries or bytes, and its path.
std::vector<std::pair<Body, std::string>> with_count(const Limit& row, int64_t count) {
  const std::string name(row.name);
  const auto list = [&](const std::string& entry) {
    const std::string field = "\"" + name + "\":[" + repeated(count, entry) + "]";
    return std::vector<std::pair<Body, std::string>>{{chat(field), name},
                                                     {completion(field), name}};
  };
  const std::string message = R"({"role":"user","content":"a"})";
  if (name == "stop" || name == "bad_words") return list("\"a\"");
  if (name == "stop_token_ids") return list("1");
  if (name == "logit_bias")
    return {{chat(R"("logit_bias":{)" + repeated(count, R"("#":1)") + "}"), name}};
  if (name == "stop[]" || name == "bad_words[]") {
    const std::string plain = name.substr(0, name.size() - 2);
    return {{chat("\"" + plain + "\":[\"b\"," + text_of(count) + "]"), plain + "[1]"}};
  }
  if (name == "messages")
    return {{{Api::kChat, R"({"messages":[)" + repeated(count, message) + "]}"}, name}};
  if (name == "messages[].content")
    return {{{Api::kChat, R"({"messages":[{"role":"user","content":[)" +
                              repeated(count, R"({"type":"text","text":"a"})") + "]}]}"},
             "messages[0].content"}};
  if (name == "messages[].tool_calls")
    return {{{Api::kChat, R"({"messages":[{"role":"assistant","tool_calls":[)" +
                              repeated(count, R"({"function":{"name":"f","arguments":"{}"}})") +
                              "]}]}"},
             "messages[0].tool_calls"}};
  if (name == "tools")
    return {
        {chat(R"("tools":[)" + repeated(count, R"({"type":"function","function":{"name":"f#"}})") +
              "]"),
         name},
        {responses(R"("tools":[)" + repeated(count, R"({"type":"function","name":"f#"})") + "]"),
         name}};
  if (name == "tools[].function.name")
    return {{chat(R"("tools":[{"type":"function","function":{"name":)" + text_of(count) + "}}]"),
             "tools[0].function.name"},
            {responses(R"("tools":[{"type":"function","name":)" + text_of(count) + "}]"),
             "tools[0].name"}};
  if (name == "structured_outputs.choice")
    return {
        {chat(R"("structured_outputs":{"choice":[)" + repeated(count, R"("c#")") + "]}"), name}};
  if (name == "structured_outputs.regex" || name == "structured_outputs.grammar")
    return {{chat(R"("structured_outputs":{")" + name.substr(19) + "\":" + text_of(count) + "}"),
             name}};
  if (name == "prompt")
    return {{{Api::kCompletion, R"({"prompt":[)" + repeated(count, "\"a\"") + "]}"}, name},
            {{Api::kCompletion, R"({"prompt":[)" + repeated(count, "[1]") + "]}"}, name}};
  if (name == "prompt[]")
    return {{{Api::kCompletion, R"({"prompt":[)" + repeated(count, "1") + "]}"}, "prompt"}};
  if (name == "input")
    return {{{Api::kResponses, R"({"input":[)" + repeated(count, message) + "]}"}, name}};
  if (name == "input[].content")
    return {{{Api::kResponses, R"({"input":[{"role":"user","content":[)" +
                                   repeated(count, R"({"type":"input_text","text":"a"})") + "]}]}"},
             "input[0].content"}};
  if (name == "previous_response_id")
    return {{responses("\"previous_response_id\":" + text_of(count)), name}};
  if (name == "metadata")
    return {{responses(R"("metadata":{)" + repeated(count, R"("#":"a")") + "}"), name}};
  if (name == "metadata[]")
    return {{responses(R"("metadata":{"a":)" + text_of(count) + "}"), "metadata.a"},
            {responses(R"("metadata":{)" + text_of(count) + ":\"a\"}"), "metadata."}};
  if (name == "model" || name == "cache_salt")
    return {{chat("\"" + name + "\":" + text_of(count)), name},
            {completion("\"" + name + "\":" + text_of(count)), name}};
  return {};
}

TEST(RequestLimits, EveryNumberIsTakenAtItsBoundsAndRefusedBeyond) {
  for (const Limit& row : kLimits) {
    if (row.of != LimitOf::kNumber) continue;
    SCOPED_TRACE(std::string(row.name));
    std::vector<std::string> good, bad = {"\"x\"",
                                          "true",
                                          "{}",
                                          "[[]]",
                                          "NaN",
                                          "1e400",
                                          "-1e400",
                                          "9223372036854775808",
                                          "-9223372036854775809",
                                          "1e300"};
    const auto real = [](double value) {
      char text[40];
      std::snprintf(text, sizeof text, "%.17g", value);
      return std::string(text);
    };
    if (row.whole) {
      good = {std::to_string(row.least), std::to_string(row.most)};
      if (row.least > INT64_MIN) bad.push_back(std::to_string(row.least - 1));
      if (row.most < INT64_MAX) bad.push_back(std::to_string(row.most + 1));
      bad.emplace_back("1.5");
    } else {
      good = {real(row.low), real(row.high)};
      if (row.name != "logit_bias[]") good.emplace_back("null");
      bad.push_back(real(std::nextafter(row.low, -HUGE_VAL)));
      bad.push_back(real(std::nextafter(row.high, HUGE_VAL)));
    }
    for (const std::string& value : good)
      for (const auto& [body, path] : with_number(row, value))
        EXPECT_EQ(error_of(body), "none") << body.text;
    for (const std::string& value : bad) {
      // A name, or the bounds in parsed form, is a good effort.
      if (row.name == "reasoning_effort" && value[0] == '"') continue;
      const bool key = row.name == "logit_bias id";
      if (key && (value == "{}" || value == "true" || value == "[[]]")) continue;
      for (const auto& [body, path] : with_number(row, value))
        EXPECT_EQ(error_of(body).find(path), 0U) << body.text << "\n" << error_of(body);
    }
  }
}

TEST(RequestLimits, EveryListAndTextIsTakenAtItsBoundsAndRefusedBeyond) {
  for (const Limit& row : kLimits) {
    if (row.of != LimitOf::kItems && row.of != LimitOf::kBytes) continue;
    if (row.name == "custom_id") continue;  // below
    SCOPED_TRACE(std::string(row.name));
    ASSERT_FALSE(with_count(row, row.most).empty()) << "a row that no test reads";
    for (const auto& [body, path] : with_count(row, row.most)) EXPECT_EQ(error_of(body), "none");
    for (const auto& [body, path] : with_count(row, row.most + 1))
      EXPECT_EQ(error_of(body).find(path), 0U) << error_of(body);
    for (const auto& [body, path] : with_count(row, row.least)) {
      // An empty list of choices asks for nothing.
      EXPECT_EQ(error_of(body), "none") << body.text;
    }
    if (row.least == 0) continue;
    for (const auto& [body, path] : with_count(row, row.least - 1))
      EXPECT_EQ(error_of(body).find(path), 0U) << body.text << "\n" << error_of(body);
  }
}

TEST(RequestLimits, OfTheWholeBody) {
  const int64_t most = limit("body").most;
  const std::string head = R"({"messages":[{"role":"user","content":")", tail = R"("}]})";
  const auto of_size = [&](int64_t bytes) {
    const auto rest = static_cast<size_t>(bytes) - head.size() - tail.size();
    return Body{Api::kChat, head + std::string(rest, 'a') + tail};
  };
  EXPECT_EQ(error_of(of_size(most)), "none");
  EXPECT_NE(error_of(of_size(most + 1)).find("33554433 bytes"), std::string::npos);
  EXPECT_EQ(body_too_large(most + 1).status, 413);

  const auto nested = [](int64_t levels) {  // the body is one level
    const auto inside = static_cast<size_t>(levels - 1);
    return chat("\"x\":" + std::string(inside, '[') + std::string(inside, ']'));
  };
  EXPECT_EQ(error_of(nested(limit("depth").most)), "none");
  EXPECT_NE(error_of(nested(limit("depth").most + 1)).find("deeper than 64"), std::string::npos);

  const auto keys = [](int64_t count) { return chat(repeated(count - 1, R"("k#":1)")); };
  EXPECT_EQ(error_of(keys(limit("fields").most)), "none");
  EXPECT_NE(error_of(keys(limit("fields").most + 1)).find("more than 2048 keys"),
            std::string::npos);

  // The list of messages, its one message with two fields, and x: five values; the root is none.
  const auto values = [](int64_t count) {
    return chat("\"x\":[" + repeated(count - 5, "1") + "]");
  };
  EXPECT_EQ(error_of(values(limit("values").most)), "none");
  EXPECT_NE(error_of(values(limit("values").most + 1)).find("more than 262144 values"),
            std::string::npos);

  const auto choices = [](int64_t prompts, int64_t n) {
    return Body{Api::kCompletion, R"({"prompt":[)" + repeated(prompts, "\"a\"") + R"(],"n":)" +
                                      std::to_string(n) + "}"};
  };
  EXPECT_EQ(error_of(choices(limit("choices").most / 16, 16)), "none");
  EXPECT_EQ(error_of(choices(limit("choices").most / 16 + 1, 16)).find("n: 2064 was found"), 0U);
}

// What the encoders of chats read again is bounded there too: the arguments of a call are a text.
TEST(RequestLimits, ArgumentsOfACallAreBounded) {
  const std::string many = "{" + repeated(200000, R"("k#":1)") + "}";
  const auto read = chat::read_json(many, "arguments", chat::JsonKeys::kLastCounts);
  ASSERT_FALSE(read);
  EXPECT_NE(read.error().message.find("more than 2048 keys"), std::string::npos);
}

}  // namespace
}  // namespace hadal::server
