#include "session/answer_stream.h"

#include <gtest/gtest.h>

#include "text/chat/byte_tokenizer.h"

namespace hadal {
namespace {

TEST(StopStrings, EndBeforeTheFirstThatIsComplete) {
  for (size_t cut = 1; cut < 12; ++cut) {
    StopStrings stops({"END", "###"});
    std::string out;
    const std::string text = "abc EN #END rest";
    for (size_t at = 0; at < text.size(); at += cut) out += stops.push(text.substr(at, cut));
    out += stops.finish();
    EXPECT_EQ(out, "abc EN #") << cut;
    EXPECT_TRUE(stops.hit());
  }
}

TEST(StopStrings, GiveOutWhatTurnsOutToBeNoStop) {
  StopStrings stops({"\n\nQ:"});
  EXPECT_EQ(stops.push("a\n"), "a");
  EXPECT_EQ(stops.push("\n"), "");
  EXPECT_EQ(stops.push("b"), "\n\nb");
  EXPECT_EQ(stops.push("\n\nQ"), "");
  EXPECT_EQ(stops.finish(), "\n\nQ");
  EXPECT_FALSE(stops.hit());
}

TEST(StopStrings, SeeHiddenText) {
  StopStrings stops({"x<|end|>y"});
  EXPECT_EQ(stops.push("a x"), "a ");
  EXPECT_EQ(stops.push("<|end|>", false), "");
  EXPECT_EQ(stops.push("z"), "xz");  // no stop: the shown part alone comes out
  EXPECT_EQ(stops.push("x"), "");
  stops.push("<|end|>", false);
  EXPECT_EQ(stops.push("y and more"), "");
  EXPECT_TRUE(stops.hit());
}

constexpr TokenId kThink = 258, kEnd = 259, kTool = 260;

/// Content of the stream over the tokens; pushes end where it has stopped.
std::string content(AnswerStream& stream, const std::vector<TokenId>& tokens) {
  std::string text;
  for (const TokenId token : tokens) {
    text += stream.push(token).content;
    if (stream.stopped()) break;
  }
  return text + stream.finish().content;
}

TEST(AnswerStream, LeavesOutEndingsWhateverTheirType) {
  for (const int32_t type : {1, 3, 4}) {
    const auto tokenizer = byte_tokenizer({"<think>", "<|end|>", "<|tool|>"}, type);
    AnswerStream stream(*tokenizer, nullptr, {.ending = {kEnd}});
    EXPECT_EQ(content(stream, {'H', 'i', kEnd}), "Hi") << type;
  }
}

TEST(AnswerStream, StopStringsSeeTheSpecialTokensThatItHides) {
  const auto tokenizer = byte_tokenizer({"<think>", "<|end|>", "<|tool|>"});
  AnswerStream hides(*tokenizer, nullptr, {.ending = {kEnd}});
  EXPECT_EQ(content(hides, {'a', kTool, 'b', kEnd}), "ab");
  AnswerStream stops(*tokenizer, nullptr, {.stop = {"<|tool|>"}, .ending = {kEnd}});
  EXPECT_EQ(content(stops, {'a', kTool, 'b', kEnd}), "a");
  EXPECT_TRUE(stops.stopped());
  AnswerStream parses(*tokenizer, *make_output_parser("qwen3", false),
                      {.stop = {"b<|tool|>"}, .ending = {kEnd}, .show_special = true});
  EXPECT_EQ(content(parses, {'a', kTool, 'b', kTool, 'c'}), "a<|tool|>");
}

TEST(AnswerStream, TakesThoughtsApart) {
  const auto tokenizer = byte_tokenizer({"<think>", "<|end|>", "</think>"});
  AnswerStream stream(*tokenizer, *make_output_parser("deepseek-r1", true),
                      {.ending = {kEnd}, .show_special = true});
  std::string reasoning, text;
  for (const TokenId token : {TokenId{'a'}, TokenId{'b'}, kTool, TokenId{'c'}, kEnd}) {
    const OutputDelta delta = stream.push(token);
    reasoning += delta.reasoning;
    text += delta.content;
  }
  text += stream.finish().content;
  EXPECT_EQ(reasoning, "ab");
  EXPECT_EQ(text, "c");
}

TEST(AnswerStream, ACharacterMayComeInPieces) {
  const auto tokenizer = byte_tokenizer({"<think>", "<|end|>", "<|tool|>"});
  const auto byte = [&](int b) { return static_cast<TokenId>(b); };
  AnswerStream stream(*tokenizer, nullptr, {.ending = {kEnd}});
  // é is C3 A9; a special token between its bytes ends the first for good.
  EXPECT_EQ(content(stream, {byte(0xC3), byte(0xA9), byte(0xC3), kTool, 'x'}),
            "\xC3\xA9\xEF\xBF\xBDx");
}

}  // namespace
}  // namespace hadal
