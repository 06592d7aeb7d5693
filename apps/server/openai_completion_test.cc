#include "server/openai_completion.h"

#include <gtest/gtest.h>

#include "text/chat/byte_tokenizer.h"

namespace hadal::server {
namespace {

CompletionCall call_of(const std::string& body) {
  Result<CompletionCall> call = parse_completion_call(body);
  EXPECT_TRUE(call) << call.error().message << "\n" << body;
  return call ? *std::move(call) : CompletionCall{};
}
std::string error_of(const std::string& body) {
  const Result<CompletionCall> call = parse_completion_call(body);
  return call ? "none" : call.error().message;
}

TEST(OpenAiCompletion, PromptsInAllTheirForms) {
  EXPECT_EQ(call_of(R"({"prompt":"a"})").prompts[0].text, "a");
  EXPECT_EQ(call_of(R"({"prompt":[1,2]})").prompts[0].ids, (std::vector<TokenId>{1, 2}));
  const CompletionCall texts = call_of(R"({"prompt":["a","b"]})");
  ASSERT_EQ(texts.prompts.size(), 2U);
  EXPECT_EQ(texts.prompts[1].text, "b");
  const CompletionCall lists = call_of(R"({"prompt":[[1,2.0],[3]]})");
  ASSERT_EQ(lists.prompts.size(), 2U);
  EXPECT_EQ(lists.prompts[0].ids, (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(error_of("{}"), "prompt: is missing");
  EXPECT_EQ(error_of(R"({"prompt":[]})").find("prompt: the list is empty"), 0U);
  EXPECT_EQ(error_of(R"({"prompt":[[1],[]]})"), "prompt[1]: the list of token ids is empty");
  EXPECT_EQ(error_of(R"({"prompt":[1,"a"]})").find("prompt[1]: a whole number"), 0U);
  EXPECT_EQ(error_of(R"({"prompt":["a",1]})").find("prompt[1]: a text or a list"), 0U);
  EXPECT_EQ(error_of(R"({"prompt":[[1],[-1]]})").find("prompt[1][0]: -1 was found"), 0U);
  EXPECT_EQ(
      error_of(R"({"prompt":[18446744073709551615]})").find("prompt[0]: 18446744073709551615"), 0U);
  EXPECT_EQ(error_of(R"({"prompt":{}})").find("prompt: a text or a list"), 0U);
}

TEST(OpenAiCompletion, LengthsEchoLogprobsAndSuffix) {
  EXPECT_EQ(call_of(R"({"prompt":"a"})").options.max_new_tokens, 16);
  EXPECT_EQ(call_of(R"({"prompt":"a","max_tokens":5})").options.max_new_tokens, 5);
  const CompletionCall middle = call_of(R"({"prompt":"a","suffix":"","stop":"x"})");
  EXPECT_EQ(middle.suffix, "");
  EXPECT_EQ(middle.options.max_new_tokens, 4096);
  const CompletionCall scored = call_of(R"({"prompt":"a","logprobs":3,"echo":true})");
  EXPECT_TRUE(scored.options.logprobs && scored.options.prompt_logprobs && scored.echo);
  EXPECT_EQ(scored.options.top_logprobs, 3);
  EXPECT_FALSE(call_of(R"({"prompt":"a","logprobs":0})").options.prompt_logprobs);
  EXPECT_TRUE(call_of(R"({"prompt":"a","logprobs":0})").options.logprobs);
  EXPECT_FALSE(call_of(R"({"prompt":"a"})").options.logprobs);
  EXPECT_EQ(error_of(R"({"prompt":"a","suffix":"b","echo":true})").find("suffix: and echo"), 0U);
  EXPECT_EQ(error_of(R"({"prompt":[1],"suffix":"b"})").find("suffix: needs a prompt of text"), 0U);
  EXPECT_EQ(error_of(R"({"prompt":"a","best_of":3})").find("best_of: 3 was found"), 0U);
  EXPECT_EQ(error_of(R"({"prompt":"a","best_of":3,"n":3})"), "none");
  EXPECT_EQ(error_of(R"({"prompt":"a","messages":[]})").find("messages: is not supported"), 0U);
  EXPECT_EQ(call_of(R"({"prompt":"a","x":1})").ignored, std::vector<std::string>{"x"});
}

TEST(OpenAiCompletion, IdsOfAPrompt) {
  const auto tokenizer = byte_tokenizer(
      {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", "<｜begin▁of▁sentence｜>"});
  const CompletionCall call = call_of(R"({"prompt":[[65,66],[9999]]})");
  EXPECT_EQ(*completion_ids(call, 0, *tokenizer), (std::vector<TokenId>{65, 66}));
  EXPECT_EQ(
      completion_ids(call, 1, *tokenizer).error().message.find("prompt: token id 9999 is outside"),
      0U);
  EXPECT_EQ(*completion_ids(call_of(R"({"prompt":"AB"})"), 0, *tokenizer),
            (std::vector<TokenId>{65, 66}));
  EXPECT_EQ(completion_ids(call_of(R"({"prompt":""})"), 0, *tokenizer).error().message,
            "prompt: is empty; at least one token is needed");
  const auto middle = completion_ids(call_of(R"({"prompt":"A","suffix":"B"})"), 0, *tokenizer);
  ASSERT_TRUE(middle) << middle.error().message;
  EXPECT_EQ(*middle, (std::vector<TokenId>{261, 258, 65, 259, 66, 260}));
  const auto plain = byte_tokenizer({"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"});
  EXPECT_EQ(completion_ids(call_of(R"({"prompt":"A","suffix":"B"})"), 0, *plain)
                .error()
                .message.find("suffix: the model cannot fill in the middle"),
            0U);
}

const ReplyHead kHead = {.id = "cmpl-7", .created = 123, .model = "m", .fingerprint = "fp"};

TEST(OpenAiCompletionReply, HasTheShapeOfTheApi) {
  EXPECT_EQ(
      make_completion_reply(kHead, call_of(R"({"prompt":"a"})"))
          ->whole({{.content = "b", .end = AnswerEnd::kLength}, {.index = 1, .content = "\xff"}},
                  {.prompt_tokens = 1, .completion_tokens = 1}),
      "{\"id\":\"cmpl-7\",\"object\":\"text_completion\",\"created\":123,\"model\":\"m\","
      "\"system_fingerprint\":\"fp\",\"choices\":[{\"text\":\"b\",\"index\":0,\"logprobs\":null,"
      "\"finish_reason\":\"length\"},{\"text\":\"\xEF\xBF\xBD\",\"index\":1,\"logprobs\":null,"
      "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,"
      "\"total_tokens\":2,\"prompt_cache_hit_tokens\":0,\"prompt_cache_miss_tokens\":1,"
      "\"prompt_tokens_details\":{\"cached_tokens\":0},\"completion_tokens_details\":"
      "{\"reasoning_tokens\":0}}}");
}

TEST(OpenAiCompletionReply, AStreamAddsUpToTheResponse) {
  const CompletionCall call = call_of(R"({"prompt":"é","logprobs":1,"echo":true,"stream":true})");
  const std::vector<ScoredToken> tokens = {
      {.bytes = "é"}, {.bytes = "b", .logprob = -1.0F}, {.bytes = "c", .logprob = -2.0F}};
  const auto reply = make_completion_reply(kHead, call);
  const Json whole =
      Json::parse(reply->whole({{.index = 2, .content = "ébc", .content_tokens = tokens}}, {}));
  std::string text;
  Json offsets = Json::array();
  const auto parsed = [](const std::string& event) {
    EXPECT_TRUE(event.starts_with("data: ") && event.ends_with("\n\n"));
    return Json::parse(event.substr(6));
  };
  const auto take = [&](const std::string& event) {
    const Json json = parsed(event);
    text += json["choices"][0]["text"].get<std::string>();
    EXPECT_EQ(json["choices"][0]["index"], 2);
    for (const Json& offset : json["choices"][0]["logprobs"]["text_offset"])
      offsets.push_back(offset);
  };
  take(reply->push(2, {.text = {.content = "é"}, .content_tokens = {tokens[0]}}));
  take(reply->push(2, {.text = {.content = "bc"}, .content_tokens = {tokens[1], tokens[2]}}));
  EXPECT_EQ(text, whole["choices"][0]["text"]);
  EXPECT_EQ(offsets, whole["choices"][0]["logprobs"]["text_offset"]);
  EXPECT_EQ(offsets.dump(), "[0,1,2]");
  const UsageCounts usage = {.completion_tokens = 2};
  const Json end = parsed(reply->end({.index = 2}, &usage));
  EXPECT_EQ(end["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(end["usage"]["total_tokens"], 2);
  EXPECT_EQ(reply->finish(usage), "data: [DONE]\n\n");
}

}  // namespace
}  // namespace hadal::server
