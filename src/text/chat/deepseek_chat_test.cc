// V3.1 and later, prefixes and fill in the middle. tools/oracle/check_chat.py and
// tools/oracle/check_recipe.py compare the same with the official templates and encoders.
#include <gtest/gtest.h>

#include "text/chat/byte_tokenizer.h"
#include "text/chat/chat.h"
#include "text/chat/fim.h"

namespace hadal {
namespace {

constexpr std::string_view kFormats[] = {"deepseek-v3.1", "deepseek-v3.2", "deepseek-v4",
                                         "deepseek-v4.1"};

/// The prompt with short marks: ^ BOS, $ EOS, [U], [A], [S], [L], ~ for ｜DSML｜.
std::string render(std::string_view format, const ChatRequest& request) {
  const Result<Prompt> prompt = find_chat_format(format)->render(request, nullptr);
  if (!prompt) {
    EXPECT_EQ(prompt.error().code, ErrorCode::kUsage);
    return "error: " + prompt.error().message;
  }
  std::string text = prompt->text();
  const std::pair<std::string_view, std::string_view> marks[] = {{"<｜begin▁of▁sentence｜>", "^"},
                                                                 {"<｜end▁of▁sentence｜>", "$"},
                                                                 {"<｜User｜>", "[U]"},
                                                                 {"<｜Assistant｜>", "[A]"},
                                                                 {"<｜System｜>", "[S]"},
                                                                 {"<｜latest_reminder｜>", "[L]"},
                                                                 {"｜DSML｜", "~"}};
  for (const auto& [mark, sign] : marks)
    for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at))
      text.replace(at, mark.size(), sign);
  return text;
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

ChatRequest conversation() {
  ChatRequest request;
  request.effort = "";
  request.messages = {{.role = "system", .content = "sys"},
                      {.role = "user", .content = "q"},
                      {.role = "assistant", .content = "a", .reasoning = "why"},
                      {.role = "user", .content = "r"}};
  return request;
}

ChatRequest with_calls() {
  ChatRequest request;
  request.messages = {
      {.role = "user", .content = "q"},
      {.role = "assistant",
       .content = "look",
       .reasoning = "why",
       .tool_calls = {{.id = "x", .name = "get", .arguments = R"({"k":"<b>","n":[1,2.0]})"},
                      {.id = "w", .name = "put", .arguments = "{}"}}},
      {.role = "tool", .content = "two", .tool_call_id = "w"},
      {.role = "tool", .content = "one", .tool_call_id = "x"}};
  return request;
}

constexpr std::string_view kTools =
    R"([{"type":"function","function":{"parameters":{"type":"object"},"name":"get","strict":true}}])";

TEST(DeepSeekChat, ThinkingOnAndOff) {
  ChatRequest request = conversation();
  EXPECT_EQ(render("deepseek-v3.1", request), "^sys[U]q[A]</think>a$[U]r[A]</think>");
  EXPECT_EQ(render("deepseek-v3.2", request), "^sys[U]q[A]</think>a$[U]r[A]<think>");
  for (const std::string_view format : kFormats) {
    request.thinking = true;
    EXPECT_TRUE(render(format, request).ends_with("[U]q[A]</think>a$[U]r[A]<think>")) << format;
    EXPECT_TRUE(find_chat_format(format)->render(request, nullptr)->thinking) << format;
    request.thinking = false;
    EXPECT_TRUE(render(format, request).ends_with("[U]q[A]</think>a$[U]r[A]</think>")) << format;
    EXPECT_FALSE(find_chat_format(format)->render(request, nullptr)->thinking) << format;
    request.add_generation_prompt = false;
    EXPECT_TRUE(render(format, request).ends_with("$[U]r")) << format;
    request.add_generation_prompt = true;
  }
  EXPECT_EQ(render("deepseek-v4", request), "^sys[U]q[A]</think>a$[U]r[A]</think>");
  EXPECT_EQ(render("deepseek-v4.1", request), "^[S]sys[U]q[A]</think>a$[U]r[A]</think>");
}

TEST(DeepSeekChat, EffortIsAParagraphOrANumber) {
  ChatRequest request = conversation();
  request.effort = "low";
  EXPECT_TRUE(render("deepseek-v4", request).starts_with("^sys[U]"));
  EXPECT_TRUE(
      render("deepseek-v4.1", request).starts_with("^[S]Reasoning Effort: 50 (range 1-100"));
  for (const char* effort : {"", "medium", "xhigh"}) {
    request.effort = effort;
    EXPECT_TRUE(render("deepseek-v4", request).starts_with("^Reasoning Effort: Absolute maximum"));
    EXPECT_TRUE(render("deepseek-v4.1", request).starts_with("^[S]Reasoning Effort: 75 ("));
  }
  request.effort = "max";
  EXPECT_TRUE(render("deepseek-v4", request).starts_with("^Reasoning Effort: Beyond maximum"));
  EXPECT_TRUE(render("deepseek-v4.1", request).starts_with("^[S]Reasoning Effort: 100 ("));
  request.effort = "7";
  EXPECT_TRUE(render("deepseek-v4.1", request).starts_with("^[S]Reasoning Effort: 7 ("));
  EXPECT_TRUE(contains(render("deepseek-v4", request), "error: effort: \"7\" is unknown"));
  EXPECT_TRUE(contains(render("deepseek-v3.2", request), "knows no effort"));
  for (const char* effort : {"0", "101", "7x", "much"}) {
    request.effort = effort;
    EXPECT_TRUE(contains(render("deepseek-v4.1", request), "and the numbers 1 to 100")) << effort;
  }
  request.effort = "none";
  EXPECT_EQ(render("deepseek-v4.1", request), "^[S]sys[U]q[A]</think>a$[U]r[A]</think>");
}

TEST(DeepSeekChat, ToolTurns) {
  ChatRequest request = with_calls();
  request.effort = "";
  EXPECT_EQ(
      render("deepseek-v3.1", request),
      "^[U]q[A]</think>look<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get<｜tool▁sep｜>{\"k\":"
      "\"<b>\",\"n\":[1,2.0]}<｜tool▁call▁end｜><｜tool▁call▁begin｜>put<｜tool▁sep｜>{}"
      "<｜tool▁call▁end｜><｜tool▁calls▁end｜>$<｜tool▁output▁begin｜>two<｜tool▁output▁end｜>"
      "<｜tool▁output▁begin｜>one<｜tool▁output▁end｜>");
  EXPECT_EQ(render("deepseek-v3.2", request),
            "^[U]q[A]<think>why</think>look\n\n<~function_calls>\n<~invoke name=\"get\">\n"
            "<~parameter name=\"k\" string=\"true\"><b></~parameter>\n<~parameter name=\"n\" "
            "string=\"false\">[1, 2.0]</~parameter>\n</~invoke>\n<~invoke name=\"put\">\n\n"
            "</~invoke>\n</~function_calls>$\n\n<function_results>\n<result>two</result>\n"
            "<result>one</result>\n</function_results>\n\n<think>");
  request.thinking = false;
  const std::string results =
      "$[U]<tool_result>one</tool_result>\n\n<tool_result>two</tool_result>[A]</think>";
  EXPECT_EQ(render("deepseek-v4", request),
            "^[U]q[A]</think>look\n\n<~tool_calls>\n<~invoke name=\"get\">\n<~parameter name=\"k\" "
            "string=\"true\"><b></~parameter>\n<~parameter name=\"n\" string=\"false\">[1, 2.0]"
            "</~parameter>\n</~invoke>\n<~invoke name=\"put\">\n</~invoke>\n</~tool_calls>" +
                results);
  EXPECT_EQ(render("deepseek-v4.1", request),
            "^[U]q[A]</think>look\n\n<~ calls>\n<~ invoke name=\"get\">\n<~ parameter name=\"k\" "
            "string=\"true\"><b></~ parameter>\n<~ parameter name=\"n\" string=\"false\">[1, 2.0]"
            "</~ parameter>\n</~ invoke>\n<~ invoke name=\"put\">\n\n</~ invoke>\n</~ calls>" +
                results);
  // Each round has its own order, though the ids are the same.
  ChatRequest twice = request;
  for (const ChatMessage& message : with_calls().messages) twice.messages.push_back(message);
  std::swap(twice.messages[6], twice.messages[7]);
  const std::string text = render("deepseek-v4", twice);
  const std::string sorted = "$[U]<tool_result>one</tool_result>\n\n<tool_result>two</tool_result>";
  EXPECT_TRUE(contains(text, sorted + "\n\nq[A]") && text.ends_with(sorted + "[A]</think>"))
      << text;
  // Later users' questions drop V3.2's thought; results of unknown calls keep their places.
  request.thinking = true;
  request.messages.push_back({.role = "user", .content = "r"});
  EXPECT_TRUE(render("deepseek-v3.2", request).starts_with("^[U]q[A]</think>look\n\n"));
  request.messages[2].tool_call_id = "?";
  EXPECT_TRUE(contains(render("deepseek-v4", request),
                       "[U]<tool_result>two</tool_result>\n\n<tool_result>one</tool_result>\n\nr"));
  request.messages[1].tool_calls[1].arguments = "[]";
  for (const char* format : {"deepseek-v3.2", "deepseek-v4", "deepseek-v4.1"})
    EXPECT_TRUE(contains(render(format, request),
                         "messages[1].tool_calls[1].function.arguments: a JSON object"))
        << format;
}

TEST(DeepSeekChat, DeclaredToolsKeepThoughts) {
  ChatRequest request = conversation();
  request.effort = "low";
  request.tools_json = kTools;
  const std::string schema =
      "\n{\"name\": \"get\", \"description\": \"\", \"parameters\": {\"type\": \"object\"}}\n";
  for (const char* format : {"deepseek-v4", "deepseek-v4.1"}) {
    std::string text = render(format, request);
    EXPECT_TRUE(contains(text, "sys\n\n## Tools\n\nYou have access")) << text;
    EXPECT_TRUE(contains(text, schema)) << text;
    EXPECT_TRUE(text.ends_with("[U]q[A]<think>why</think>a$[U]r[A]<think>")) << text;
    request.thinking = false;
    EXPECT_TRUE(render(format, request).ends_with("[U]q[A]</think>a$[U]r[A]</think>"));
    request.thinking.reset();
  }
  request.effort = "";
  EXPECT_TRUE(contains(render("deepseek-v3.1", request),
                       "sys\n\n## Tools\nYou have access to the following tools:\n\n### get\n"
                       "Description: \n\nParameters: {\"type\": \"object\"}\n\nIMPORTANT:"));
  EXPECT_TRUE(contains(render("deepseek-v3.2", request),
                       "<functions>\n{\"parameters\": {\"type\": \"object\"}, \"name\": \"get\", "
                       "\"strict\": true}\n</functions>\n[U]q"));
  request.messages.erase(request.messages.begin());
  EXPECT_TRUE(render("deepseek-v3.2", request).starts_with("^\n\n## Tools\n\n"));
  request.thinking = false;
  EXPECT_TRUE(render("deepseek-v4.1", request).starts_with("^[S]\n\n## Tools\n\n"));
  request.tools_json = R"([{"type":"function","function":{"name":5}}])";
  for (const std::string_view format : kFormats)
    EXPECT_TRUE(contains(render(format, request), "tools[0].function: an object with a name"));
}

TEST(DeepSeekChat, SystemAndUserPartsOfV4) {
  ChatRequest request;
  request.thinking = false;
  request.messages = {{.role = "user", .content = "a"},
                      {.role = "user", .content = ""},
                      {.role = "system", .content = "s"},
                      {.role = "user", .content = "b"},
                      {.role = "latest_reminder", .content = "l"},
                      {.role = "system", .content = ""}};
  EXPECT_EQ(render("deepseek-v4", request), "^s[U]a\n\nb[L]l[A]</think>");
  EXPECT_EQ(render("deepseek-v4.1", request), "^[U]a\n\n[S]s[U]b[L]l[A]</think>");
  request.thinking = true;
  request.effort = "low";
  EXPECT_TRUE(
      render("deepseek-v4.1", request).ends_with(" reasoning)\n\n[U]a\n\n[S]s[U]b[L]l[A]<think>"));
}

TEST(DeepSeekChat, APrefixGoesOn) {
  ChatRequest request;
  request.messages = {{.role = "user", .content = "q"},
                      {.role = "assistant", .content = "so", .prefix = true}};
  for (const char* format : {"deepseek-v2.5", "deepseek-v3", "deepseek-r1", "deepseek-r1-0528"}) {
    EXPECT_EQ(render(format, request), "^[U]q[A]so") << format;
    EXPECT_TRUE(find_chat_format(format)->render(request, nullptr)->continues) << format;
  }
  EXPECT_TRUE(contains(render("llama3", request), "messages[1].prefix: the chat format llama3"));
  request.messages[1].reasoning = "why";
  EXPECT_EQ(render("deepseek-v3", request), "^[U]q[A]so");
  EXPECT_EQ(render("deepseek-r1", request), "^[U]q[A]<think>\nwhy\n</think>\n\nso");
  request.thinking = true;
  for (const std::string_view format : kFormats) {
    EXPECT_TRUE(render(format, request).ends_with("[U]q[A]<think>why</think>so")) << format;
    EXPECT_FALSE(find_chat_format(format)->render(request, nullptr)->thinking) << format;
  }
  request.messages[1].content = "";
  EXPECT_EQ(render("deepseek-r1", request), "^[U]q[A]<think>\nwhy");
  for (const std::string_view format : kFormats) {
    EXPECT_TRUE(render(format, request).ends_with("[U]q[A]<think>why")) << format;
    const Result<Prompt> prompt = find_chat_format(format)->render(request, nullptr);
    EXPECT_TRUE(prompt->thinking && prompt->continues) << format;
  }
  request.thinking = false;
  request.messages[1].content = "so";
  for (const std::string_view format : kFormats)
    EXPECT_TRUE(render(format, request).ends_with("[U]q[A]</think>so")) << format;
  request.messages[1].tool_calls = {{.name = "f", .arguments = "{}"}};
  EXPECT_TRUE(contains(render("deepseek-v4", request), "with tool_calls cannot go on"));
  request.messages[1].tool_calls.clear();
  request.messages.push_back({.role = "user", .content = "r"});
  EXPECT_TRUE(contains(render("deepseek-v4", request), "messages[1].prefix: only the last"));
  request.messages = {{.role = "user", .content = "q", .prefix = true}};
  EXPECT_TRUE(contains(render("deepseek-v4", request), "only an assistant's"));
}

TEST(DeepSeekChat, V31CutsThoughtsUnlessResultsStandBefore) {
  ChatRequest request;
  request.thinking = true;
  request.messages = {{.role = "user", .content = "q"},
                      {.role = "assistant", .content = "<think>a</think>b</think>c"},
                      {.role = "tool", .content = "t"},
                      {.role = "assistant", .content = "d</think>e"}};
  const std::string turns =
      "^[U]q[A]</think>b</think>c$<｜tool▁output▁begin｜>t<｜tool▁output▁end｜>d</think>e";
  EXPECT_EQ(render("deepseek-v3.1", request), turns + "$");
  // No thought is opened behind results, and without reasoning the content begins it.
  request.messages.back().prefix = true;
  EXPECT_EQ(render("deepseek-v3.1", request), turns);
  EXPECT_FALSE(find_chat_format("deepseek-v3.1")->render(request, nullptr)->thinking);
  request.messages.erase(request.messages.begin() + 1, request.messages.begin() + 3);
  EXPECT_EQ(render("deepseek-v3.1", request), "^[U]q[A]<think>d</think>e");
  EXPECT_TRUE(find_chat_format("deepseek-v3.1")->render(request, nullptr)->thinking);
}

TEST(DeepSeekChat, FormatsAreKnownByTemplateOrModelType) {
  const auto detected = [](std::string_view chat_template, std::string_view model_type) {
    TokenizerData data;
    data.chat_template = chat_template;
    const Result<const ChatFormat*> format = detect_chat_format(data, model_type);
    return format ? std::string((*format)->name) : format.error().message;
  };
  EXPECT_EQ(detected("", "deepseek_v32"), "deepseek-v3.2");
  EXPECT_EQ(detected("", "deepseek_v4"), "deepseek-v4");
  EXPECT_EQ(detected("", "deepseek_v41"), "deepseek-v4.1");
  EXPECT_TRUE(contains(detected("", "deepseek_v3"), "has no chat template"));
  EXPECT_TRUE(contains(detected("", ""), "has no chat template"));
  const std::string v31 =
      "<｜User｜> {{'<｜Assistant｜></think>'}} tool['function']['name'] + '<｜tool▁sep｜>' + "
      "tool['function']['arguments'] {%- if not thinking -%}";
  EXPECT_EQ(detected(v31, "deepseek_v32"), "deepseek-v3.1") << "V3.2-Exp";
  EXPECT_EQ(detected("'｜DSML｜' message.tool_calls function_calls", ""), "deepseek-v3.2");
  EXPECT_EQ(detected("'｜DSML｜' message.tool_calls", ""), "deepseek-v4");
  EXPECT_EQ(detected("'｜DSML｜' message.tool_calls '<｜System｜>'", ""), "deepseek-v4.1");
}

std::vector<TokenId> markers_in(const Prompt& prompt, const Tokenizer& tokenizer) {
  const std::vector<TokenId> ids = encode_prompt(prompt, tokenizer);
  EXPECT_EQ(tokenizer.decode(ids), prompt.text());
  std::vector<TokenId> markers;
  for (const TokenId id : ids)
    if (id >= 258) markers.push_back(id);
  return markers;
}

TEST(DeepSeekChat, DsmlIsATokenInsideItsTag) {
  const auto tokenizer = byte_tokenizer({"<｜User｜>", "｜DSML｜", "<think>"});
  ASSERT_TRUE(tokenizer);
  Prompt prompt;
  prompt.pieces = {{.text = "<｜User｜>a <b<｜DSML｜invoke>", .control = true},
                   {.text = "<｜DSML｜ <think>", .control = false},
                   {.text = "</｜DSML｜invoke><<think>｜DSML", .control = true}};
  EXPECT_EQ(markers_in(prompt, *tokenizer), (std::vector<TokenId>{258, 259, 259, 260}));
  // V3.2's vocabulary has no such token.
  const auto without = byte_tokenizer({"<｜User｜>", "<think>"});
  EXPECT_EQ(markers_in(prompt, *without), (std::vector<TokenId>{258, 259}));
}

TEST(DeepSeekChat, FillInTheMiddle) {
  const auto tokenizer = byte_tokenizer(
      {"<｜begin▁of▁sentence｜>", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"});
  ASSERT_TRUE(tokenizer);
  const Result<Prompt> prompt = render_fim("def f(", "<｜fim▁end｜>return 1", *tokenizer);
  ASSERT_TRUE(prompt);
  EXPECT_EQ(prompt->text(),
            "<｜begin▁of▁sentence｜><｜fim▁begin｜>def f(<｜fim▁hole｜><｜fim▁end｜>return 1"
            "<｜fim▁end｜>");
  EXPECT_EQ(markers_in(*prompt, *tokenizer), (std::vector<TokenId>{258, 259, 260, 261}));
  const auto without = byte_tokenizer({"<｜fim▁begin｜>", "<｜fim▁hole｜>"});
  const Result<Prompt> error = render_fim("a", "b", *without);
  ASSERT_FALSE(error);
  EXPECT_TRUE(contains(error.error().message, "has no <｜fim▁end｜>"));
}

}  // namespace
}  // namespace hadal
