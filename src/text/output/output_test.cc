#include "text/output/output.h"

#include <gtest/gtest.h>

#include <random>

namespace hadal {
namespace {

struct Parsed {
  std::string reasoning = {}, content = {}, calls = {};
  bool operator==(const Parsed&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Parsed& p) {
  return out << "reasoning \"" << p.reasoning << "\" content \"" << p.content << "\" calls "
             << p.calls;
}

void collect(const OutputDelta& delta, Parsed& all) {
  all.reasoning += delta.reasoning;
  all.content += delta.content;
  for (const ToolCall& call : delta.tool_calls) all.calls += call.name + "(" + call.arguments + ")";
}

/// Parses `text` in pieces that end at `cuts`.
Parsed parse(std::string_view format, bool thinking, std::string_view text,
             const std::vector<size_t>& cuts) {
  Result<std::unique_ptr<OutputParser>> parser = make_output_parser(format, thinking);
  Parsed all;
  if (!parser) {
    ADD_FAILURE() << parser.error().message;
    return all;
  }
  size_t begin = 0;
  for (const size_t cut : cuts) {
    collect((*parser)->push(text.substr(begin, cut - begin)), all);
    begin = cut;
  }
  collect((*parser)->push(text.substr(begin)), all);
  collect((*parser)->finish(), all);
  return all;
}

/// The result must be `expected` whole, in two parts cut anywhere, byte by byte, and in random
/// pieces.
void expect_parsed(std::string_view format, bool thinking, std::string_view text,
                   const Parsed& expected) {
  SCOPED_TRACE(std::string(format) + (thinking ? ", thinking: " : ": ") + std::string(text));
  EXPECT_EQ(parse(format, thinking, text, {}), expected);
  std::vector<size_t> every;
  for (size_t i = 0; i <= text.size(); ++i) {
    EXPECT_EQ(parse(format, thinking, text, {i}), expected) << "cut at " << i;
    every.push_back(i);
  }
  EXPECT_EQ(parse(format, thinking, text, every), expected) << "byte by byte";
  std::mt19937 rng(1);
  for (int round = 0; round < 100; ++round) {
    std::vector<size_t> cuts;
    for (const size_t cut : every)
      if (rng() % 4 == 0) cuts.push_back(cut);
    EXPECT_EQ(parse(format, thinking, text, cuts), expected);
  }
}

TEST(Output, TextIsContent) {
  expect_parsed("text", false, "a <think>b</think>\n", {.content = "a <think>b</think>\n"});
  expect_parsed("chatml", true, "<think>", {.content = "<think>"});
}

TEST(Output, ThoughtFromTheStart) {
  expect_parsed("think", true, "why\n\nso\n</think>\n\nbecause\n",
                {.reasoning = "why\n\nso", .content = "because\n"});
  expect_parsed("think", true, "\n\nwhy</think>because",
                {.reasoning = "why", .content = "because"});
  expect_parsed("think", true, " why </think> because",
                {.reasoning = " why ", .content = " because"});
  expect_parsed("think", true, "</think>\n\nbecause", {.content = "because"});
  expect_parsed("deepseek-r1", true, "a<b </thin k></think>c</think>d<think>",
                {.reasoning = "a<b </thin k>", .content = "c</think>d<think>"});
  // The model repeats what the prompt wrote.
  expect_parsed("think", true, "\n<think>\nwhy\n</think>x", {.reasoning = "why", .content = "x"});
}

TEST(Output, ThoughtThatTheAnswerOpens) {
  expect_parsed("qwen3", false, "<think>\nwhy\n</think>\n\nbecause",
                {.reasoning = "why", .content = "because"});
  expect_parsed("deepseek-r1-0528", false, " \n<think>why</think>", {.reasoning = "why"});
  expect_parsed("think", false, "<think></think>x", {.content = "x"});
  expect_parsed("think", false, " \n x <think>y</think>", {.content = " \n x <think>y</think>"});
  expect_parsed("think", false, "x</think>y", {.content = "x</think>y"});
  expect_parsed("think", false, "<thinking>", {.content = "<thinking>"});
}

// R1 as first shipped and R1-0528 think even where nobody wrote <think>.
TEST(Output, ThoughtThatNobodyOpens) {
  for (const char* format : {"deepseek-r1", "deepseek-r1-0528", "think-deepseek-tools"}) {
    expect_parsed(format, false, "why\n\nso\n</think>\n\nbecause\n",
                  {.reasoning = "why\n\nso", .content = "because\n"});
    expect_parsed(format, false, "\nwhy</think>a</think>b",
                  {.reasoning = "why", .content = "a</think>b"});
    expect_parsed(format, false, " because </think", {.content = " because </think"});
    expect_parsed(format, false, "\n\nbecause\n", {.content = "\n\nbecause\n"});
    expect_parsed(format, false, "</think>", {});
    expect_parsed(format, false, "<think>\nwhy</think>a</think>",
                  {.reasoning = "why", .content = "a</think>"});
  }
  // What goes on after an answer's beginning is no thought.
  const auto parser = *make_output_parser("deepseek-r1", false, AnswerStart::kContinued);
  EXPECT_EQ(parser->push("a</think>").content, "a</think>");
}

TEST(Output, CutOffStreamsEndAsTheyStand) {
  expect_parsed("think", true, "why\n", {.reasoning = "why\n"});
  expect_parsed("think", true, "why\n</thi", {.reasoning = "why\n</thi"});
  expect_parsed("think", true, "<thi", {.reasoning = "<thi"});
  expect_parsed("think", false, "<thi", {.content = "<thi"});
  expect_parsed("think", false, " \n", {.content = " \n"});
  expect_parsed("think", false, "<think>\n", {});
  expect_parsed("think", true, "", {});
  expect_parsed("think", true, "a</think>\n", {.reasoning = "a"});
}

constexpr std::string_view kBegin = "<｜tool▁calls▁begin｜>";
constexpr std::string_view kEnd = "<｜tool▁calls▁end｜>";

std::string call(std::string_view name, std::string_view arguments) {
  return "<｜tool▁call▁begin｜>function<｜tool▁sep｜>" + std::string(name) + "\n```json\n" +
         std::string(arguments) + "\n```<｜tool▁call▁end｜>";
}

TEST(Output, DeepSeekToolCalls) {
  const std::string one = call("get", R"({"a": "x"})");
  const std::string two = call("put.it", "{\n}");
  const std::string begin(kBegin), end(kEnd);
  expect_parsed("deepseek-v3", false, "Look:\n" + begin + one + end,
                {.content = "Look:\n", .calls = R"(get({"a": "x"}))"});
  expect_parsed("deepseek-tools", false, begin + one + "\n" + two + end + "\n",
                {.content = "\n", .calls = "get({\"a\": \"x\"})put.it({\n})"});
  // The stream ends at EOS without the list's end.
  expect_parsed("deepseek-v2.5", false, begin + one + "\n", {.calls = R"(get({"a": "x"}))"});
  expect_parsed("deepseek-r1", true, "hm\n</think>\n\n" + begin + one + end,
                {.reasoning = "hm", .calls = R"(get({"a": "x"}))"});
  expect_parsed("deepseek-r1", true, begin + "</think>ok", {.reasoning = begin, .content = "ok"});
  expect_parsed("deepseek-v3", false, begin + one + end + "a" + begin + two + end,
                {.content = "a", .calls = "get({\"a\": \"x\"})put.it({\n})"});
}

std::string join(std::initializer_list<std::string_view> parts) {
  std::string all;
  for (const std::string_view part : parts) all += part;
  return all;
}

TEST(Output, BrokenToolCallsAreContent) {
  const std::string begin(kBegin), end(kEnd);
  const std::string good = call("f", "{}");
  const std::string broken[] = {
      call("f", "{]"),
      call("f", "[1]"),
      call("", "{}"),
      call("two words", "{}"),
      "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>",
      "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}<｜tool▁call▁end｜>",
      "<｜tool▁call▁end｜>",
      "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n```<｜tool▁call▁end｜>"};
  for (const std::string& text : broken) {
    const std::string begun = begin + text;
    expect_parsed("deepseek-v3", false, begun, {.content = begun});
    expect_parsed("deepseek-v3", false, join({begin, good, text, end}),
                  {.content = text, .calls = "f({})"});
    expect_parsed("deepseek-v3", false, join({begun, good, end}),
                  {.content = begun, .calls = "f({})"});
  }
  expect_parsed("deepseek-v3", false, begin, {.content = begin});
  expect_parsed("deepseek-v3", false, begin + end, {.content = begin + end});
  expect_parsed("deepseek-v3", false, begin + good.substr(0, good.size() - 5),
                {.content = begin + good.substr(0, good.size() - 5)});
  expect_parsed("deepseek-v3", false, begin + good + "and" + end + "!",
                {.content = "and" + end + "!", .calls = "f({})"});
  expect_parsed("deepseek-v3", false, "<｜tool▁calls", {.content = "<｜tool▁calls"});
  expect_parsed("deepseek-v3", false, "<<｜tool▁calls▁begin｜",
                {.content = "<<｜tool▁calls▁begin｜"});
}

TEST(Output, DeepSeekCallsBehindATagThatIsOnlyNamed) {
  const std::string begin(kBegin), end(kEnd);
  const std::string list = begin + call("f", "{}") + end;
  const std::string named[] = {
      "Lists begin with " + begin + ".", begin + " and " + end + " and ",
      begin + "<｜tool▁call▁begin｜>function", begin + begin.substr(0, 9),
      begin + "<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{\"a"};
  for (const std::string& text : named) {
    expect_parsed("deepseek-v3", false, text + list, {.content = text, .calls = "f({})"});
    expect_parsed("deepseek-r1", true, text + "</think>" + list,
                  {.reasoning = text, .calls = "f({})"});
    expect_parsed("deepseek-r1-0528", false, text + list, {.content = text, .calls = "f({})"});
  }
}

TEST(Output, ArgumentsMayHoldMarkersAndAnyNumber) {
  const std::string end(kEnd);
  const std::string all[] = {R"({"a": "<｜tool▁call▁end｜> ``` <｜tool▁calls▁end｜> \\\" }"})",
                             R"({"a": "</think>"})",
                             R"({"a": [1e400, -1E+400, 0.5e-9999, 12345678901234567890123, -0]})",
                             std::string("{\"a\": 1") + std::string(400, '0') + "}"};
  for (const std::string& arguments : all) {
    const std::string calls = "f(" + arguments + ")";
    expect_parsed("deepseek-v3", false, join({kBegin, call("f", arguments), end}),
                  {.calls = calls});
    expect_parsed("deepseek-r1", true, join({"so</think>", kBegin, call("f", arguments), end}),
                  {.reasoning = "so", .calls = calls});
  }
  for (const std::string_view number :
       {"01", "1.", ".5", "+1", "1e", "0x1", "NaN", "--1", "-", "1 2"})
    for (const std::string_view list : {"", "1, "}) {
      const std::string broken = join({kBegin, call("f", join({"{\"a\": [", list, number, "]}"}))});
      expect_parsed("deepseek-v3", false, broken + end, {.content = broken});
    }
}

std::string bare_call(std::string_view name, std::string_view arguments) {
  return "<｜tool▁call▁begin｜>" + std::string(name) + "<｜tool▁sep｜>" + std::string(arguments) +
         "<｜tool▁call▁end｜>";
}

TEST(Output, DeepSeekV31ToolCalls) {
  const std::string begin(kBegin), end(kEnd);
  const std::string calls = bare_call("f", R"({"a": 1})") + bare_call("g", "{}");
  expect_parsed("deepseek-v3.1", false, "so" + begin + calls + end,
                {.content = "so", .calls = "f({\"a\": 1})g({})"});
  expect_parsed("deepseek-v3.1", true, "hm</think>" + begin + calls,
                {.reasoning = "hm", .calls = "f({\"a\": 1})g({})"});
  for (const std::string& broken : {call("f", "{}"), bare_call("f", "[]"), bare_call("", "{}"),
                                    bare_call("f", "{"), std::string("f{}")})
    expect_parsed("deepseek-v3.1", false, begin + broken, {.content = begin + broken});
}

/// Text in V4's DSML, spelt as `format` does; ~ stands for ｜DSML｜.
std::string dsml(std::string_view format, std::string text) {
  const bool v41 = format == "deepseek-v4.1";
  const std::pair<std::string_view, std::string_view> changes[] = {
      {"~tool_calls", v41                         ? "｜DSML｜ calls"
                      : format == "deepseek-v3.2" ? "｜DSML｜function_calls"
                                                  : "｜DSML｜tool_calls"},
      {"~", v41 ? "｜DSML｜ " : "｜DSML｜"}};
  for (const auto& [from, to] : changes)
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at))
      text.replace(at, from.size(), to);
  return text;
}

constexpr std::string_view kDsmlFormats[] = {"deepseek-v3.2", "deepseek-v4", "deepseek-v4.1"};

TEST(Output, DsmlToolCalls) {
  const std::string one =
      "<~invoke name=\"get\">\n<~parameter name=\"k\" string=\"true\">a \"b\"\n</~parameter>\n"
      "<~parameter name=\"n\" string=\"false\">[1,  2.0]</~parameter>\n</~invoke>\n";
  const std::string two = "<~invoke name=\"put\">\n</~invoke>\n";
  const std::string calls = "get({\"k\": \"a \\\"b\\\"\\n\", \"n\": [1,  2.0]})";
  for (const std::string_view format : kDsmlFormats) {
    const auto expect = [&](bool thinking, const std::string& text, const Parsed& expected) {
      expect_parsed(format, thinking, dsml(format, text), expected);
    };
    expect(false, "so\n\n<~tool_calls>\n" + one + two + "</~tool_calls>",
           {.content = "so", .calls = calls + "put({})"});
    expect(true, "hm</think>\n\n<~tool_calls>\n" + one + "</~tool_calls>",
           {.reasoning = "hm", .calls = calls});
    // Calls end a thought, and the stream's end a list.
    expect(true, "hm\n\n<~tool_calls>\n" + two, {.reasoning = "hm", .calls = "put({})"});
    expect(false, "a\n\nb\n\n", {.content = "a\n\nb\n\n"});
    // Of another family: text.
    expect(false, "<｜DSML｜other_calls>", {.content = "<｜DSML｜other_calls>"});
  }
}

/// A call of f with one value.
std::string dsml_call(std::string_view value, std::string_view is_string = "true") {
  return join({"<~invoke name=\"f\">\n<~parameter name=\"k\" string=\"", is_string, "\">", value,
               "</~parameter>\n</~invoke>\n"});
}

TEST(Output, DsmlValuesMayHoldTags) {
  for (const std::string_view format : kDsmlFormats) {
    for (const std::string_view value :
         {"a</~invoke>b", "a\n</~invoke>\n", "</~tool_calls>", "a</~parameter>b", "</~parameter>x",
          "a</~parameter>b</~parameter>c", "<~tool_calls>\n<~invoke name=\"g\">\n", "</think>",
          "<~parameter name=\"k\" string=\"true\">", "</", "</~parameter", ""}) {
      const std::string text = dsml(
          format, "\n\n<~tool_calls>\n" + dsml_call(value) + dsml_call("x") + "</~tool_calls>");
      std::string quoted = dsml(format, std::string(value));
      for (const auto& [from, to] : {std::pair("\"", "\\\""), std::pair("\n", "\\n")})
        for (size_t at = 0; (at = quoted.find(from, at)) != std::string::npos; at += 2)
          quoted.replace(at, 1, to);
      const std::string calls = "f({\"k\": \"" + quoted + "\"})f({\"k\": \"x\"})";
      expect_parsed(format, false, "so" + text, {.content = "so", .calls = calls});
      expect_parsed(format, true, "so" + text, {.reasoning = "so", .calls = calls});
      expect_parsed(format, true, "so</think>" + text, {.reasoning = "so", .calls = calls});
    }
    for (const std::string_view value : {"\"</~parameter>\"", "[1e400, \"</~invoke>\"]", "-1e400",
                                         " null ", "\n{\"a\": 1}\n", "true"}) {
      const std::string text =
          dsml(format, "\n\n<~tool_calls>\n" + dsml_call(value, "false") + "</~tool_calls>");
      expect_parsed(format, false, text,
                    {.calls = "f({\"k\": " + dsml(format, std::string(value)) + "})"});
    }
  }
}

TEST(Output, DsmlCallsBehindATagThatIsOnlyNamed) {
  const std::string list = "\n\n<~tool_calls>\n" + dsml_call("x") + "</~tool_calls>";
  const std::string calls = "f({\"k\": \"x\"})";
  for (const std::string_view format : kDsmlFormats) {
    for (const std::string_view named :
         {"The tag <~tool_calls> is one.", "Is\n\n<~tool_calls>\na tag?", "<~tool_calls>",
          "<~tool_calls><~tool_calls> x", "Write <~tool_calls> and </~tool_calls>, then stop",
          "<~tool_calls>\n<~invoke name=\"f\"> and so on", "<~tool_calls>\n<~invoke name=\"",
          "<~tool_calls>\n<~invoke name=\"f\">\n<~parameter name=\"k\"> and so on",
          "<~tool_calls>\n<~invoke name=\"f\">\n</~tool_calls>"}) {
      const std::string text = dsml(format, std::string(named));
      expect_parsed(format, false, text + dsml(format, list), {.content = text, .calls = calls});
      expect_parsed(format, true, text + dsml(format, list), {.reasoning = text, .calls = calls});
      expect_parsed(format, true, text + "</think>so" + dsml(format, list),
                    {.reasoning = text, .content = "so", .calls = calls});
    }
    // A broken call does not take the next one along.
    const std::string broken = dsml(format, "<~invoke name=\"g\">\njunk</~invoke>");
    const std::string begin = dsml(format, "\n\n<~tool_calls>\n");
    const std::string good = dsml(format, "\n" + dsml_call("x") + "</~tool_calls>");
    expect_parsed(format, false, begin + broken + good,
                  {.content = begin + broken, .calls = calls});
    expect_parsed(format, true, "so" + begin + broken + good,
                  {.reasoning = "so" + begin + broken, .calls = calls});
  }
}

TEST(Output, BrokenDsmlIsContent) {
  const std::string string = "<~parameter name=\"k\" string=\"true\">x</~parameter>\n";
  const std::string broken[] = {
      "",
      "junk",
      "<~invoke name=\"\">\n</~invoke>",
      "<~invoke name=\"two words\">\n</~invoke>",
      "<~invoke>\n</~invoke>",
      "<~invoke name=\"f\">\njunk" + string + "</~invoke>",
      "<~invoke name=\"f\">\n" + string + string + "</~invoke>",
      "<~invoke name=\"f\">\n<~parameter name=\"k\" string=\"maybe\">x</~parameter></~invoke>",
      "<~invoke name=\"f\">\n<~parameter name=\"k\" string=\"false\">{bad</~parameter></~invoke>",
      "<~invoke name=\"f\">\n<~parameter name=\"k\" string=\"false\"></~parameter></~invoke>",
      "<~invoke name=\"f\">\n<~parameter name=\"k\" string=\"true\">x</~invoke>",
      "<~invoke name=\"f\">\n<~parameter name=\"k\">x</~parameter></~invoke>",
      "<~invoke name=\"f\">\n" + string};
  for (const std::string_view format : kDsmlFormats) {
    for (const std::string& text : broken) {
      const std::string whole = dsml(format, "so\n\n<~tool_calls>\n" + text);
      expect_parsed(format, false, whole, {.content = whole});
    }
    const std::string part = dsml(format, "so\n\n<~tool_calls");
    expect_parsed(format, false, part, {.content = part});
  }
}

TEST(Output, AContinuedAnswerKeepsItsNewlines) {
  const auto parsed = [](bool thinking, std::string_view text) {
    const auto parser = *make_output_parser("deepseek-v4", thinking, AnswerStart::kContinued);
    Parsed all;
    collect(parser->push(text), all);
    collect(parser->finish(), all);
    return all;
  };
  EXPECT_EQ(parsed(true, "\n\nso</think>\nx"), (Parsed{.reasoning = "\n\nso", .content = "x"}));
  EXPECT_EQ(parsed(true, "<think>"), (Parsed{.reasoning = "<think>"}));
  EXPECT_EQ(parsed(false, "\n<think>x"), (Parsed{.content = "\n<think>x"}));
}

TEST(Output, WhatIsCertainComesAtOnce) {
  const std::unique_ptr<OutputParser> parser = *make_output_parser("deepseek-r1", true);
  EXPECT_EQ(parser->push("why <").reasoning, "why ");
  EXPECT_EQ(parser->push("b").reasoning, "<b");
  EXPECT_EQ(parser->push("\n").reasoning, "");
  EXPECT_EQ(parser->push("\nso").reasoning, "\n\nso");
  EXPECT_EQ(parser->push("</think>\n").content, "");
  EXPECT_EQ(parser->push("\nbe").content, "be");
  EXPECT_EQ(parser->push("cause <｜too").content, "cause ");
  EXPECT_EQ(parser->push("l").content, "");
  EXPECT_EQ(parser->push("x").content, "<｜toolx");
  parser->push(std::string(kBegin));
  const OutputDelta delta = parser->push(call("f", "{}"));
  ASSERT_EQ(delta.tool_calls.size(), 1U);
  EXPECT_EQ(delta.tool_calls[0].name, "f");
}

TEST(Output, NamesAreThoseOfParsersAndChatFormats) {
  for (const std::string_view name : output_parsers())
    EXPECT_TRUE(make_output_parser(name, false)) << name;
  for (const ChatFormat& format : chat_formats())
    EXPECT_TRUE(make_output_parser(format.name, true)) << format.name;
  const auto unknown = make_output_parser("xml", false);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kUsage);
  EXPECT_NE(unknown.error().message.find("'xml' is unknown; known are text, think, deepseek-tools"),
            std::string::npos);
  EXPECT_FALSE(output_starts_in_thought("xml"));
  EXPECT_TRUE(*output_starts_in_thought("deepseek-r1"));
  EXPECT_FALSE(*output_starts_in_thought("deepseek-r1-0528"));
  EXPECT_FALSE(*output_starts_in_thought("qwen3"));
  EXPECT_FALSE(*output_starts_in_thought("deepseek-v3.1"));
  for (const std::string_view format : kDsmlFormats) EXPECT_TRUE(*output_starts_in_thought(format));
  EXPECT_FALSE(*output_starts_in_thought("think"));
}

}  // namespace
}  // namespace hadal
