#include "server/openai_reply.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "server/api_error.h"

namespace hadal::server {
namespace {

TEST(ApiErrors, HaveTheShapeOfTheApi) {
  EXPECT_EQ(
      error_body(api_error(usage_error("messages[3].content: is missing"))),
      R"({"error":{"message":"messages[3].content: is missing","type":"invalid_request_error",)"
      R"("param":"messages[3].content","code":"invalid_request_error"}})");
  const ApiError whole = api_error(usage_error("request: an object is expected"));
  EXPECT_EQ(whole.status, 400);
  EXPECT_EQ(whole.param, "");
  EXPECT_NE(error_body(whole).find(R"("param":null)"), std::string::npos);
  EXPECT_EQ(api_error(memory_error("the prompt has 9 tokens, the context holds 8")).code,
            "context_length_exceeded");
  EXPECT_EQ(api_error(memory_error("x")).status, 400);
  EXPECT_EQ(api_error(not_found("model: \"x\" is not served")).status, 404);
  EXPECT_EQ(api_error(not_found("model: \"x\" is not served")).param, "model");
  EXPECT_EQ(api_error(failed("/a/b.gguf: broken")).status, 500);
  EXPECT_EQ(api_error(failed("disk: full")).param, "");
  EXPECT_EQ(api_error({.code = ErrorCode::kInterrupted, .message = "stopped"}).status, 503);
  EXPECT_NE(error_body(api_error(failed("\xff"))).find("\xEF\xBF\xBD"), std::string::npos);
}

TEST(Replies, UsageHasBothApisNumbers) {
  EXPECT_EQ(
      usage_json(
          {.prompt_tokens = 10, .completion_tokens = 4, .reasoning_tokens = 3, .cached_tokens = 8})
          .dump(),
      R"({"prompt_tokens":10,"completion_tokens":4,"total_tokens":14,)"
      R"("prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":2,)"
      R"("prompt_tokens_details":{"cached_tokens":8},)"
      R"("completion_tokens_details":{"reasoning_tokens":3}})");
}

TEST(Replies, ReasonsOfTheEnd) {
  EXPECT_EQ(finish_reason(AnswerEnd::kStop, false), "stop");
  EXPECT_EQ(finish_reason(AnswerEnd::kStop, true), "tool_calls");
  EXPECT_EQ(finish_reason(AnswerEnd::kLength, true), "length");
  EXPECT_EQ(finish_reason(AnswerEnd::kContext, false), "length");
  EXPECT_EQ(finish_reason(AnswerEnd::kInterrupted, true), "insufficient_system_resource");
}

TEST(Replies, LogprobsAreTheShortestThatReadBack) {
  EXPECT_EQ(Json(json_logprob(-0.1F)).dump(), "-0.1");
  EXPECT_EQ(Json(json_logprob(0.0F)).dump(), "0.0");
  EXPECT_EQ(json_logprob(-INFINITY), -9999);
  EXPECT_EQ(json_logprob(NAN), -9999);
  for (float value = -1e-6F; value > -100; value *= 1.37F)
    EXPECT_EQ(static_cast<float>(json_logprob(value)), value);
}

TEST(Replies, ChatLogprobsHaveTheBytesOfPartialCharacters) {
  EXPECT_EQ(
      chat_logprobs(
          {{.bytes = "\xe4\xbd", .logprob = -0.5F, .top = {{"\xe4\xbd", -0.5F}, {"a", -INFINITY}}}})
          .dump(),
      "[{\"token\":\"\xEF\xBF\xBD\",\"logprob\":-0.5,\"bytes\":[228,189],\"top_logprobs\":["
      "{\"token\":\"\xEF\xBF\xBD\",\"logprob\":-0.5,\"bytes\":[228,189]},"
      "{\"token\":\"a\",\"logprob\":-9999.0,\"bytes\":[97]}]}]");
  EXPECT_EQ(chat_logprobs({}).dump(), "[]");
}

TEST(Replies, LegacyLogprobsCountCharacters) {
  int64_t offset = 0;
  const std::vector<ScoredToken> tokens = {
      {.bytes = "é"},
      {.bytes = "\xe4\xbd", .logprob = -1.0F, .top = {{"x", -0.25F}, {"x", -3.0F}}},
      {.bytes = "\xa0", .logprob = -2.0F},
      {.bytes = "b", .logprob = -0.125F}};
  EXPECT_EQ(legacy_logprobs(tokens, offset).dump(),
            "{\"tokens\":[\"é\",\"bytes:\\\\xe4\\\\xbd\",\"bytes:\\\\xa0\",\"b\"],"
            "\"token_logprobs\":[null,-1.0,-2.0,-0.125],"
            "\"top_logprobs\":[null,{\"x\":-0.25},{},{}],\"text_offset\":[0,1,2,2]}");
  EXPECT_EQ(offset, 3);
}

}  // namespace
}  // namespace hadal::server
