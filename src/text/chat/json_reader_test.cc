#include "text/chat/json_reader.h"

#include <gtest/gtest.h>

#include <chrono>

#include "base/limits.h"

namespace hadal::chat {
namespace {

std::string error_of(std::string_view text, JsonKeys keys = JsonKeys::kUnique) {
  const Result<OrderedJson> read = read_json(text, "request", keys);
  if (read) return "none";
  EXPECT_EQ(read.error().code, ErrorCode::kUsage);
  return read.error().message;
}

/// `count` times `entry`, with commas between.
std::string list_of(int64_t count, const std::string& entry) {
  std::string all = "[";
  for (int64_t i = 0; i < count; ++i) all += (i ? "," : "") + entry;
  return all + "]";
}

TEST(JsonReader, GivesWhatNlohmannGives) {
  for (const char* text :
       {"3", "-0.5e3", "\"\\ud83d\\ude00\\u0000\"", "[]", "{}", "null",
        "[1,[2,{}],true,null,\"a\"]",
        R"({"z":{"b":[{"c":1}],"a":18446744073709551615},"a":-9223372036854775808})"}) {
    const auto read = read_json(text, "request", JsonKeys::kUnique);
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->dump(), OrderedJson::parse(text).dump());
  }
  std::string many = "{";
  for (int i = 0; i < 2000; ++i) many += (i ? ",\"k" : "\"k") + std::to_string(i) + "\":[{}]";
  many += "}";
  EXPECT_EQ(read_json(many, "", JsonKeys::kUnique)->dump(), many);
}

TEST(JsonReader, ErrorsNameThePath) {
  EXPECT_NE(error_of("{").find("request: no valid JSON"), std::string::npos);
  EXPECT_EQ(error_of(R"({"a": [{"b": 1}, {"b": 1e400}]})").find("a[1].b: no valid JSON"), 0U);
  EXPECT_EQ(error_of(R"({"a": [1, NaN]})").find("a[1]: no valid JSON"), 0U);
  EXPECT_EQ(error_of(R"({"a": -Infinity})").find("a: no valid JSON"), 0U);
  EXPECT_EQ(error_of("{\"a b\": {\"c\": \"\xff\"}}").find("[\"a b\"].c: no valid JSON"), 0U);
  EXPECT_EQ(error_of(R"({"a": {"b": ["\ud800"]}})").find("a.b[0]: no valid JSON"), 0U);
  EXPECT_EQ(error_of(R"({"a": "\udc00x"})").find("a: no valid JSON"), 0U);
  EXPECT_EQ(error_of(R"({"a": {"b": 1, "c": 2, "b": 3}})"), "a.b: the key occurs twice");
  EXPECT_EQ(error_of(R"({"a": 1} {})").find("request: no valid JSON"), 0U);
  EXPECT_EQ(error_of("").find("request: no valid JSON"), 0U);
}

TEST(JsonReader, OfTwoEqualKeysTheLastCountsWhereThatIsAsked) {
  const auto read = read_json(R"({"a":[1,2],"b":2,"a":{"c":3}})", "x", JsonKeys::kLastCounts);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->dump(), R"({"a":{"c":3},"b":2})");
}

TEST(JsonReader, DepthIsBounded) {
  const auto most = static_cast<size_t>(limit("depth").most);
  EXPECT_EQ(error_of(std::string(most, '[') + std::string(most, ']')), "none");
  EXPECT_NE(error_of(std::string(most + 1, '[') + std::string(most + 1, ']'))
                .find(": JSON nested deeper than 64 levels"),
            std::string::npos);
  EXPECT_NE(error_of(std::string(100000, '[')).find("deeper"), std::string::npos);
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_EQ(error_of(objects).find("a.a.a.a"), 0U);
}

TEST(JsonReader, KeysAndValuesAreBounded) {
  const auto object = [](int64_t keys) {
    std::string all = "{";
    for (int64_t i = 0; i < keys; ++i) all += (i ? ",\"" : "\"") + std::to_string(i) + "\":0";
    return all + "}";
  };
  EXPECT_EQ(error_of(object(limit("fields").most)), "none");
  EXPECT_NE(error_of(object(limit("fields").most + 1)).find("2048: an object has more than 2048"),
            std::string::npos);
  EXPECT_EQ(error_of(list_of(limit("values").most, "0")), "none");
  EXPECT_EQ(error_of(list_of(limit("values").most + 1, "0")),
            "[262144]: the request has more than 262144 values");
  EXPECT_EQ(error_of("{\"tools\":" + list_of(1000000, "0") + "}"),
            "tools[262143]: the request has more than 262144 values");
  EXPECT_EQ(error_of("{\"prompt\":" + list_of(limit("prompt[]").most, "0") + "}"), "none");
  EXPECT_EQ(error_of("{\"prompt\":[" + list_of(limit("prompt[]").most, "0") + "]}"),
            "prompt[0][2097151]: the request has more than 2097152 ids");
}

// A reader that searches all keys for each, or copies what it holds at every level, needs minutes.
TEST(JsonReader, TakesTimeInProportionToTheText) {
  std::string object = "{";
  for (int i = 0; i < 2000; ++i) object += (i ? ",\"" : "\"") + std::to_string(i) + "\":0";
  object += "}";
  const std::string all = list_of(130, object);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(error_of(all), "none");
  std::string twice = "{\"a\":0";
  for (int i = 0; i < 260000; ++i) twice += ",\"a\":0";
  EXPECT_EQ(error_of(twice + "}", JsonKeys::kLastCounts), "none");
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_LT(took.count(), 20);
}

}  // namespace
}  // namespace hadal::chat
