// Tool calls by pieces: what the pieces of a call say is what the whole call says.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "text/output/output.h"
#include "text/tokenizer/utf8.h"

namespace hadal {
namespace {

std::string shown(const ToolCall& call) { return call.name + "(" + call.arguments + ")"; }

/// What a client that reads pieces alone knows; it fails where they break their word.
class Client {
 public:
  explicit Client(bool utf8) : utf8_(utf8) {}

  void hear(const OutputDelta& delta) {
    size_t completed = 0;
    for (const ToolCallPiece& piece : delta.call_pieces) {
      hear(piece);
      if (!piece.completes) continue;
      ASSERT_LT(completed, delta.tool_calls.size());
      EXPECT_EQ(shown(begun_.back()), shown(delta.tool_calls[completed]));
      EXPECT_EQ(piece.id.empty(), delta.tool_calls[completed].id.empty());
      ++completed;
    }
    ASSERT_EQ(completed, delta.tool_calls.size());
  }

  /// "f({})g({}": what was begun; a broken call has no ")".
  [[nodiscard]] std::string calls() const {
    std::string all;
    for (size_t i = 0; i < begun_.size(); ++i)
      all += begun_[i].name + "(" + begun_[i].arguments + (completed_[i] ? ")" : "");
    return all;
  }
  [[nodiscard]] std::string whole_calls() const {
    std::string all;
    for (size_t i = 0; i < begun_.size(); ++i)
      if (completed_[i]) all += shown(begun_[i]);
    return all;
  }

 private:
  void hear(const ToolCallPiece& piece) {
    if (piece.name.empty()) {
      ASSERT_FALSE(begun_.empty());
      ASSERT_EQ(piece.index, begun_.size() - 1);
      EXPECT_TRUE(piece.completes || !piece.arguments.empty()) << "says nothing";
    } else {
      ASSERT_EQ(piece.index, begun_.size());
      begun_.push_back({.name = piece.name});
      completed_.push_back(false);
    }
    EXPECT_FALSE(completed_.back()) << "goes on behind its end";
    EXPECT_TRUE(!utf8_ || utf8_valid(piece.arguments)) << piece.arguments;
    begun_.back().arguments += piece.arguments;
    completed_.back() = piece.completes;
  }

  bool utf8_;
  std::vector<ToolCall> begun_;
  std::vector<bool> completed_;
};

struct Heard {
  std::string begun, whole;  ///< see Client
  OutputDelta all;           ///< the deltas, put together
};

/// Parses `text` in pieces that end at `cuts`.
Heard parse(std::string_view format, bool thinking, std::string_view text,
            const std::vector<size_t>& cuts) {
  const std::unique_ptr<OutputParser> parser = *make_output_parser(format, thinking);
  Client client(utf8_valid(text)), late(utf8_valid(text));
  Heard heard;
  const auto hear = [&](OutputDelta delta) {
    client.hear(delta);
    heard.all.append(std::move(delta));
  };
  size_t begin = 0;
  for (const size_t cut : cuts) {
    hear(parser->push(text.substr(begin, cut - begin)));
    begin = cut;
  }
  hear(parser->push(text.substr(begin)));
  hear(parser->finish());
  heard.begun = client.calls();
  heard.whole = client.whole_calls();
  // Deltas that are put together say the same, with one piece a call.
  late.hear(heard.all);
  EXPECT_EQ(late.calls(), client.calls());
  return heard;
}

std::vector<size_t> every_byte(std::string_view text) {
  std::vector<size_t> cuts;
  for (size_t i = 1; i < text.size(); ++i) cuts.push_back(i);
  return cuts;
}

/// `calls`: as Client::whole_calls shows them, however the text is cut: not at all, at each byte,
/// at all of them, at each pair of a text of up to 40 bytes or of as many bytes of a longer one.
void expect_calls(std::string_view format, bool thinking, std::string_view text,
                  const std::string& calls, const std::string& content) {
  SCOPED_TRACE(std::string(format) + ": " + std::string(text));
  const auto expect = [&](const std::vector<size_t>& cuts) {
    const Heard heard = parse(format, thinking, text, cuts);
    EXPECT_EQ(heard.whole, calls);
    EXPECT_EQ(heard.all.content, content);
  };
  expect({});
  expect(every_byte(text));
  for (size_t i = 0; i <= text.size(); ++i) expect({i});
  const size_t step = std::max<size_t>(1, text.size() / 40);
  for (size_t i = 0; i <= text.size(); i += step)
    for (size_t j = i; j <= text.size(); j += step) expect({i, j});
}

std::string join(std::initializer_list<std::string_view> parts) {
  std::string all;
  for (const std::string_view part : parts) all += part;
  return all;
}

/// How calls are written in one format, for tests that run over all.
struct Format {
  std::string_view name;
  std::string_view list_begin, list_end;
  std::string_view head, head_end;  ///< around a call's name
  std::string_view tail;            ///< behind the arguments
  bool dsml = false;
  bool thinks = true;
};
constexpr std::string_view kBegin = "<｜tool▁calls▁begin｜>", kEnd = "<｜tool▁calls▁end｜>";
constexpr std::string_view kFencedHead = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>";
constexpr std::string_view kFencedTail = "\n```<｜tool▁call▁end｜>";
constexpr Format kFormats[] = {
    {"deepseek-v2.5", kBegin, kEnd, kFencedHead, "\n```json\n", kFencedTail, false, false},
    {"deepseek-v3", kBegin, kEnd, kFencedHead, "\n```json\n", kFencedTail, false, false},
    {"deepseek-r1-0528", kBegin, kEnd, kFencedHead, "\n```json\n", kFencedTail},
    {"deepseek-v3.1", kBegin, kEnd, "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>",
     "<｜tool▁call▁end｜>"},
    {"deepseek-v3.2", "<｜DSML｜function_calls>\n", "</｜DSML｜function_calls>",
     "<｜DSML｜invoke name=\"", "\">\n", "</｜DSML｜invoke>\n", true},
    {"deepseek-v4", "<｜DSML｜tool_calls>\n", "</｜DSML｜tool_calls>", "<｜DSML｜invoke name=\"",
     "\">\n", "</｜DSML｜invoke>\n", true},
    {"deepseek-v4.1", "<｜DSML｜ calls>\n", "</｜DSML｜ calls>", "<｜DSML｜ invoke name=\"",
     "\">\n", "</｜DSML｜ invoke>\n", true}};

std::string_view parameter_word(const Format& format) {
  return format.name == "deepseek-v4.1" ? "｜DSML｜ parameter" : "｜DSML｜parameter";
}

/// A parameter up to its value, and what ends it.
std::string parameter_begin(const Format& format, std::string_view key, bool raw) {
  return join(
      {"<", parameter_word(format), " name=\"", key, "\" string=\"", raw ? "true\">" : "false\">"});
}
std::string parameter_end(const Format& format) {
  return join({"</", parameter_word(format), ">\n"});
}

/// A call of `name` with the one argument "k", JSON; none for "".
std::string call(const Format& format, std::string_view name, std::string_view json) {
  const std::string head = join({format.head, name, format.head_end});
  if (!format.dsml)
    return head + (json.empty() ? "{}" : join({"{\"k\": ", json, "}"})) + std::string(format.tail);
  if (json.empty()) return head + std::string(format.tail);
  return join(
      {head, parameter_begin(format, "k", false), json, parameter_end(format), format.tail});
}

TEST(CallPieces, PutTogetherTheyAreTheCall) {
  for (const Format& format : kFormats) {
    for (const std::string_view value : {"", "1", "\"a\\n\\\"\\\\ \\u00e9\\ud83d\\ude00 é 😀 <｜\"",
                                         "[{\"a\": [1e400, -0.5, {}]}, null, []]",
                                         "{ \"a\" :\n\"<｜tool▁call▁end｜></｜DSML｜invoke>\" }"}) {
      const std::string list =
          join({format.list_begin, call(format, "get", value), format.list_end});
      const std::string arguments = value.empty() ? "{}" : join({"{\"k\": ", value, "}"});
      expect_calls(format.name, false, "so" + list, "get(" + arguments + ")", "so");
    }
    const std::string list = join({format.list_begin, call(format, "f", "1"), call(format, "g", ""),
                                   call(format, "h", "\"é\""), format.list_end});
    const std::string calls = "f({\"k\": 1})g({})h({\"k\": \"é\"})";
    expect_calls(format.name, false, "so" + list + "more", calls, "somore");
    if (format.thinks) expect_calls(format.name, true, "so</think>" + list, calls, "");
  }
}

TEST(CallPieces, EachPairOfCuts) {
  for (const Format& format : kFormats) {
    const std::string text = join({format.list_begin, call(format, "f", "1")});
    for (size_t i = 0; i <= text.size(); ++i)
      for (size_t j = i; j <= text.size(); ++j)
        ASSERT_EQ(parse(format.name, false, text, {i, j}).whole, "f({\"k\": 1})") << i << ", " << j;
  }
}

TEST(CallPieces, RawTextIsEscapedAsAtOnce) {
  for (const Format& format : kFormats) {
    if (!format.dsml) continue;
    const std::string end = parameter_end(format);
    const std::string tag = end.substr(0, end.size() - 1);
    const std::pair<std::string, std::string> values[] = {
        {"", ""},
        {"a \"b\"\\\n\t\x01é😀", "a \\\"b\\\"\\\\\\n\\t\\u0001é😀"},
        {tag + " x", tag + " x"},
        {"a" + tag + tag + "\nb</", "a" + tag + tag + "\\nb</"},
        {"x\xE2\x82", "x\xEF\xBF\xBD"},  // cut off within a character
        {"\xF0\x9F\x98y\x80\xFF", "\xEF\xBF\xBDy\xEF\xBF\xBD\xEF\xBF\xBD"}};
    for (const auto& [value, json] : values) {
      const std::string text =
          join({format.list_begin, format.head, "f", format.head_end,
                parameter_begin(format, "a", true), value, end,
                parameter_begin(format, "é\"", true), "z", end, format.tail, format.list_end});
      expect_calls(format.name, false, text, "f({\"a\": \"" + json + "\", \"é\\\"\": \"z\"})", "");
    }
  }
}

/// What pieces have told once `text` has come byte by byte.
std::string told(const Format& format, std::string_view text) {
  const std::unique_ptr<OutputParser> parser = *make_output_parser(format.name, false);
  Client client(true);
  for (const char c : text) client.hear(parser->push({&c, 1}));
  return client.calls();
}

TEST(CallPieces, TheyComeAsSoonAsTheyAreCertain) {
  for (const Format& format : kFormats) {
    SCOPED_TRACE(format.name);
    std::string text = join({format.list_begin, format.head, "get"});
    EXPECT_EQ(told(format, text), "");
    // A line behind a head in DSML is no part of it.
    text += format.dsml ? "\">" : format.head_end;
    EXPECT_EQ(told(format, text.substr(0, text.size() - 1)), "");
    if (!format.dsml) {
      EXPECT_EQ(told(format, text), "get(");
      const std::string arguments = R"({"a": [1, "x\n"], "b": {}})";
      for (size_t i = 1; i <= arguments.size(); ++i) {
        const bool escape = arguments[i - 1] == '\\';
        EXPECT_EQ(told(format, text + arguments.substr(0, i)),
                  "get(" + arguments.substr(0, escape ? i - 1 : i));
      }
      EXPECT_EQ(told(format, text + arguments + std::string(format.tail)),
                "get(" + arguments + ")");
      continue;
    }
    EXPECT_EQ(told(format, text), "get({");
    text += "\n" + parameter_begin(format, "a", true);
    EXPECT_EQ(told(format, text), "get({\"a\": \"");
    EXPECT_EQ(told(format, text + "x\n"), "get({\"a\": \"x\\n");
    EXPECT_EQ(told(format, text + "x</"), "get({\"a\": \"x");
    EXPECT_EQ(told(format, text + "x</｜DSML｜no"), "get({\"a\": \"x</｜DSML｜no");
    text += "x" + parameter_end(format);
    EXPECT_EQ(told(format, text), "get({\"a\": \"x");
    text += parameter_begin(format, "b", false);
    EXPECT_EQ(told(format, text), "get({\"a\": \"x\", \"b\": ");
    EXPECT_EQ(told(format, text + "[12"), "get({\"a\": \"x\", \"b\": [12");
  }
}

TEST(CallPieces, ABrokenCallHasNoEndAndUsesItsIndexUp) {
  for (const Format& format : kFormats) {
    SCOPED_TRACE(format.name);
    const std::string head = join({format.head, "bad", format.head_end});
    const std::string good = call(format, "g", "1");
    const std::string value = format.dsml ? parameter_begin(format, "k", false) : "{\"k\": ";
    for (const std::string& broken :
         {head + "junk", head + value + "[1, ]", head + value + "\"x\n\"", head + value + "01",
          head + value + "1e2e3", head + value + "\"\\ud800\"", head + value + "1} }",
          head + value + "tru "}) {
      const std::string text = join({format.list_begin, broken, good, format.list_end});
      const std::string content = join({format.list_begin, broken});
      expect_calls(format.name, false, text, "g({\"k\": 1})", content);
      // Byte by byte it was begun, at once it was not.
      const Heard begun = parse(format.name, false, text, every_byte(text));
      EXPECT_TRUE(begun.begun.starts_with("bad(")) << begun.begun;
      EXPECT_TRUE(begun.begun.ends_with("g({\"k\": 1})")) << begun.begun;
      EXPECT_EQ(parse(format.name, false, text, {}).begun, "g({\"k\": 1})");
    }
    // Cut off by the end.
    const std::string cut = join({format.list_begin, head, value, "[1"});
    expect_calls(format.name, false, cut, "", cut);
    EXPECT_EQ(parse(format.name, false, cut, {}).begun,
              format.dsml ? "bad({\"k\": [1" : "bad({\"k\": [1");
    // What has no name is never begun.
    const std::string nameless = join({format.list_begin, format.head, format.head_end, "{}"});
    EXPECT_EQ(parse(format.name, false, nameless, every_byte(nameless)).begun, "");
  }
}

// An end tag in raw text is text only where another comes before the call's end.
TEST(CallPieces, ATagInRawTextMayBreakACall) {
  for (const Format& format : kFormats) {
    if (!format.dsml) continue;
    const std::string end = parameter_end(format);
    const std::string begun = join({format.list_begin, format.head, "f", format.head_end,
                                    parameter_begin(format, "k", true), "a", end, "b"});
    EXPECT_EQ(told(format, begun).substr(0, 10), "f({\"k\": \"a");
    const std::string broken = join({begun, format.tail, "c", end, format.tail});
    // Blanks and the list's end behind a call's end are no text.
    expect_calls(format.name, false, broken + std::string(format.list_end), "",
                 broken.substr(0, broken.size() - 1));
    const std::string mended = join({begun, end, format.tail});
    EXPECT_EQ(parse(format.name, false, mended, {}).all.tool_calls.size(), 1U);
  }
}

TEST(CallPieces, DeltasJoinWhatGoesOn) {
  OutputDelta all;
  all.append({.call_pieces = {{.index = 0, .name = "f"}}});
  all.append({.call_pieces = {{.index = 0, .arguments = "{"}}});
  all.append({.call_pieces = {{.index = 0, .arguments = "}", .completes = true},
                              {.index = 1, .name = "g"}}});
  all.append({});
  all.append({.call_pieces = {{.index = 2, .name = "h", .arguments = "{}"}}});
  ASSERT_EQ(all.call_pieces.size(), 3U);
  EXPECT_EQ(all.call_pieces[0].name, "f");
  EXPECT_EQ(all.call_pieces[0].arguments, "{}");
  EXPECT_TRUE(all.call_pieces[0].completes);
  EXPECT_EQ(all.call_pieces[1].name, "g");
  EXPECT_FALSE(all.call_pieces[1].completes);
  EXPECT_EQ(all.call_pieces[2].arguments, "{}");
}

/// A stream that is mostly calls: parts of them, some changed.
std::string mutated(const Format& format, std::mt19937& rng) {
  const std::string parts[] = {std::string(format.list_begin),
                               std::string(format.list_end),
                               std::string(format.head),
                               std::string(format.head_end),
                               std::string(format.tail),
                               call(format, "f", "[1, \"é\"]"),
                               call(format, "g", ""),
                               parameter_begin(format, "k", true),
                               parameter_begin(format, "k", false),
                               parameter_begin(format, "l", true),
                               parameter_end(format),
                               "text é😀",
                               "{\"a\": ",
                               "[-1.5e3, true]",
                               "\"\\u00e9\\ud83d\\ude00\"",
                               "}",
                               "\n",
                               "</think>",
                               "\"",
                               "\xE2\x82"};
  std::string text(format.list_begin);
  for (size_t n = 1 + rng() % 12; n > 0; --n) text += parts[rng() % std::size(parts)];
  for (size_t n = rng() % 3; n > 0; --n) {
    const size_t at = rng() % text.size();
    if (rng() % 2 == 0)
      text.erase(at, 1);
    else
      text.insert(at, 1, "{}[]\"\\<>/ \n,:0"[rng() % 15]);
  }
  return text;
}

TEST(CallPieces, WhateverComesTheyAreWhatTheCallsAre) {
  std::mt19937 rng(7);
  size_t calls = 0;
  for (int round = 0; round < 3000; ++round) {
    const Format& format = kFormats[rng() % std::size(kFormats)];
    const bool thinking = rng() % 2 == 0;
    const std::string text = mutated(format, rng);
    SCOPED_TRACE(std::string(format.name) + ": " + text);
    const Heard whole = parse(format.name, thinking, text, {});
    calls += whole.all.tool_calls.size();
    for (int times = 0; times < 3; ++times) {
      std::vector<size_t> cuts;
      for (size_t i = 1; i < text.size(); ++i)
        if (times == 0 || rng() % 5 == 0) cuts.push_back(i);
      const Heard heard = parse(format.name, thinking, text, cuts);
      ASSERT_EQ(heard.whole, whole.whole);
      ASSERT_EQ(heard.all.content, whole.all.content);
      ASSERT_EQ(heard.all.reasoning, whole.all.reasoning);
    }
  }
  EXPECT_GT(calls, 500U);
}

// What looked at a call from its start with each byte would take hours.
TEST(CallPieces, ALongCallTakesLinearTime) {
  constexpr size_t kBytes = 1'000'000;
  for (const Format& format : {kFormats[1], kFormats[3], kFormats[5]}) {
    std::vector<std::string> all;
    const auto add = [&](std::string_view before, std::string_view unit, std::string_view after) {
      std::string text = join({format.list_begin, format.head, "f", format.head_end, before});
      while (text.size() < kBytes) text += unit;
      all.push_back(join({text, after, format.tail}));
    };
    if (!format.dsml) {
      add("{\"k\": \"", "a<｜tool▁call▁end｜>", "\"}\n");
      add("{\"k\": [", "[1, {}], ", "0]}\n");
    } else {
      const std::string end = parameter_end(format);
      add(parameter_begin(format, "k", true), "a" + end, end);
      add(parameter_begin(format, "k", false) + "[", "\"" + end.substr(0, end.size() - 1) + "\",",
          "0]" + end);
      std::string parameters;
      for (size_t i = 0; parameters.size() < kBytes; ++i)
        parameters += parameter_begin(format, std::to_string(i), true) + end;
      add(parameters, "\n", "");
    }
    for (const std::string& text : all) {
      const std::unique_ptr<OutputParser> parser = *make_output_parser(format.name, false);
      size_t bytes = 0, whole = 0;
      for (const char c : text) {
        const OutputDelta delta = parser->push({&c, 1});
        for (const ToolCallPiece& piece : delta.call_pieces) bytes += piece.arguments.size();
        for (const ToolCall& made : delta.tool_calls) whole += made.arguments.size();
      }
      EXPECT_GT(whole, kBytes / 10);
      EXPECT_EQ(bytes, whole);
    }
  }
}

}  // namespace
}  // namespace hadal
