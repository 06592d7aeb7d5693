#include "text/tokenizer/vocab.h"

#include <gtest/gtest.h>

#include "text/tokenizer/unicode.h"
#include "text/tokenizer/utf8.h"

namespace hadal {
namespace {

TEST(Vocab, KeepsTokensByIdAndString) {
  Vocab vocab;
  ASSERT_TRUE(vocab.add("a", 0));
  ASSERT_TRUE(vocab.add("", 2));
  ASSERT_TRUE(vocab.add("long token", 5));
  EXPECT_EQ(vocab.find("a"), 0);
  EXPECT_EQ(vocab.find(""), 2);
  EXPECT_EQ(vocab.find("b"), std::nullopt);
  EXPECT_EQ(vocab.token(5), "long token");
  EXPECT_EQ(vocab.token(1), "");
  EXPECT_TRUE(vocab.has(2));
  EXPECT_FALSE(vocab.has(1));
  EXPECT_FALSE(vocab.has(6));
  EXPECT_FALSE(vocab.has(-1));
  EXPECT_EQ(vocab.size(), 6);
  EXPECT_EQ(vocab.count(), 3);
}

TEST(Vocab, FindsAllOfMany) {
  Vocab vocab;
  for (int i = 0; i < 5000; ++i) ASSERT_TRUE(vocab.add(std::to_string(i), 2 * i));
  for (int i = 0; i < 5000; ++i) ASSERT_EQ(vocab.find(std::to_string(i)), 2 * i);
  EXPECT_EQ(vocab.find("5000"), std::nullopt);
}

TEST(Vocab, RefusesWhatIsDoubleOrOutOfRange) {
  Vocab vocab;
  ASSERT_TRUE(vocab.add("a", 1));
  const auto message = [&](std::string_view token, int64_t id, bool first_wins = false) {
    const Status added = vocab.add(token, id, first_wins);
    return added ? "added" : added.error().message;
  };
  EXPECT_EQ(message("b", 1), "id 1 is given to both \"a\" and \"b\"");
  EXPECT_EQ(message("a", 2), "token \"a\" has two ids, 1 and 2");
  EXPECT_EQ(message("b", -1), "token \"b\" has id -1; expected an id from 0 to 2097151");
  EXPECT_EQ(message("b", kMaxTokenId + 1).substr(0, 24), "token \"b\" has id 2097152");
  EXPECT_EQ(message("a", 3, true), "added");
  EXPECT_EQ(vocab.find("a"), 1);
  EXPECT_EQ(vocab.token(3), "a");
}

TEST(ByteAlphabet, IsGpt2s) {
  const ByteAlphabet& alphabet = ByteAlphabet::get();
  EXPECT_EQ(alphabet.spelled(" \n!\x7F\xAD\xFF"), "ĠĊ!ġŃÿ");
  EXPECT_EQ(alphabet.bytes("ĠĊ!ġŃÿ"), " \n!\x7F\xAD\xFF");
  EXPECT_EQ(alphabet.bytes("aĠ你"), "aĠ你");  // one foreign character: all as it is
  for (int b = 0; b < 256; ++b) {
    const std::string byte(1, static_cast<char>(b));
    EXPECT_EQ(alphabet.bytes(alphabet.spelled(byte)), byte);
  }
}

TEST(Utf8, AppendsAndReads) {
  for (const char32_t code :
       {U'\0', U'\x7F', U'\x80', U'\u07FF', U'\u0800', U'\uFFFF', U'\U00010000', U'\U0010FFFF'}) {
    std::string text;
    utf8_append(text, code);
    size_t at = 0;
    EXPECT_EQ(utf8_next(text, at), code);
    EXPECT_EQ(at, text.size());
    EXPECT_EQ(utf8_back("x" + text, text.size() + 1), 1u);
    EXPECT_TRUE(utf8_valid("12345678" + text));
  }
}

// As Python's bytes.decode("utf-8", "replace").
TEST(Utf8, ReplacesWhatIsInvalid) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"a\x80z", "a\uFFFDz"},
      {"\xC0\xAF", "\uFFFD\uFFFD"},
      {"\xE0\x80\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xF0\x9F\x99z", "\uFFFDz"},
      {"\xE4\xBD", "\uFFFD"},
      {"\xF5", "\uFFFD"},
      {"12345678\xC3", "12345678\uFFFD"},
  };
  for (const auto& [text, repaired] : cases) {
    EXPECT_FALSE(utf8_valid(text));
    EXPECT_EQ(utf8_repaired(text), repaired);
  }
  EXPECT_EQ(utf8_step("\xE4\xBD").kind, Utf8Step::kIncomplete);
  EXPECT_EQ(utf8_step("\xE4z").kind, Utf8Step::kInvalid);
  EXPECT_EQ(utf8_step("\xE4z").bytes, 1u);
}

TEST(CodeSet, AddsInAnyOrder) {
  CodeSet set;
  for (const auto& [first, last] :
       {std::pair{50u, 60u}, {10u, 20u}, {30u, 40u}, {21u, 21u}, {0u, 5u}, {6u, 9u}, {35u, 52u}})
    set.add(first, last);
  EXPECT_EQ(set.ranges(), (std::vector<CodeSet::Range>{{0, 21}, {30, 60}}));
  EXPECT_EQ(set.complement().complement(), set);
  EXPECT_FALSE(set.complement().contains(30));
  EXPECT_TRUE(set.complement().contains(kLastCodePoint));
  EXPECT_EQ(set.intersected({4, 11}).ranges(), (std::vector<CodeSet::Range>{{4, 11}}));
}

TEST(Unicode, NamesSets) {
  EXPECT_TRUE(property_set("Lu")->contains(U'É'));
  EXPECT_TRUE(property_set("uppercase_letter")->contains(U'É'));
  EXPECT_FALSE(property_set("Ll")->contains(U'É'));
  EXPECT_TRUE(property_set("Script_Extensions") == std::nullopt);
  EXPECT_TRUE(table_set("regex word")->contains(U'x'));
  EXPECT_FALSE(table_set("regex space")->contains(U'x'));
  EXPECT_TRUE(table_set("rust space")->contains(0x85));
  EXPECT_EQ(with_case({U'k', U'k'}).ranges(),
            (std::vector<CodeSet::Range>{{U'K', U'K'}, {U'k', U'k'}, {0x212A, 0x212A}}));
}

}  // namespace
}  // namespace hadal
