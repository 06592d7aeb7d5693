// Expected pieces come from the `tokenizers` library 0.23.3 (Oniguruma): what Split(Regex(pattern),
// "removed", invert=True) leaves of the text.
#include "text/tokenizer/pattern.h"

#include <gtest/gtest.h>

namespace hadal {
namespace {

using Pieces = std::vector<std::string>;

Pieces matches(const Pattern& pattern, std::string_view text) {
  Pattern::Scratch scratch;
  std::vector<Piece> found;
  pattern.find(text, {0, text.size()}, scratch, found);
  Pieces out;
  for (const Piece& piece : found)
    if (piece.begin < piece.end)
      out.emplace_back(text.substr(piece.begin, piece.end - piece.begin));
  return out;
}

struct Case {
  std::string_view regex, text;
  Pieces expected;
};

const Case kCases[] = {
    {R"(\p{L}+)", "ab1 é你", {"ab", "é你"}},
    {R"(\s+(?!\S)|\s+)", "a   b\n", {"  ", " ", "\n"}},
    {R"((?i:'s|'t))", "it's IT'S ſ'ſ", {"'s", "'S", "'ſ"}},
    {R"((?i)k)", "kK\u212A", {"k", "K", "\u212A"}},
    {R"((?i:ss))", "ßSSſs", {"ß", "SS", "ſs"}},
    {R"([a-c&&[^b]]+)", "abcca", {"a", "cca"}},
    {R"([[:alpha:]]+|[[:^space:]])", "a1 é", {"a", "1", "é"}},
    {R"(^a|b$)", "a\na b\nb", {"a", "a", "b", "b"}},
    {R"(.)", "a\nb", {"a", "b"}},
    {R"((?m:.))", "a\nb", {"a", "\n", "b"}},
    {R"(a{2}?)", "aaa", {"aa"}},
    {R"(a{2}?b)", "aab b", {"aab", "b"}},
    {R"(a{1,2}+)", "aaaa", {"aaaa"}},
    {R"(a{,2})", "aaa", {"aa", "a"}},
    {R"(a{x})", "a{x}", {"a{x}"}},
    {R"(a++b|a)", "aaab aa", {"aaab", "a", "a"}},
    {R"((?>a|ab)c)", "ac abc", {"ac"}},
    {R"((?<=a)b|(?<!a)c)", "ab ac c", {"b", "c"}},
    {R"((?=a)\w)", "ab", {"a"}},
    {R"(\bx\b)", "x xx x", {"x", "x"}},
    {R"(\h+)", "0aFg", {"0aF"}},
    {R"(\R)", "a\r\nb\n\302\205\342\200\250", {"\r\n", "\n", "\302\205", "\342\200\250"}},
    {R"(\A.|.\z)", "abc", {"a", "c"}},
    {R"(b\Z)", "ab\n", {"b"}},
    {R"(\x{e9}|\u00e8|\x41)", "éèA", {"é", "è", "A"}},
    {R"([^]a])", "a]b", {"b"}},
    {R"([\w&&\W]|z)", "az", {"z"}},
    {R"(a|(?i)b|c)", "ABC", {"B", "C"}},
    {R"((?#no)a(?<n>b))", "ab", {"ab"}},
    {R"(\p{^L}|\P{^Lu})", "aB1", {"B", "1"}},
    {R"(\d+)", "1２३½", {"1２३"}},
    {R"([\p{Han}]+)", "漢字かな〇", {"漢字", "〇"}},
    {"\314\201", "e\314\201", {"\314\201"}},
    {R"(x*)", "axb", {"x"}},
    {R"((?:(?=[a-z])[^x])+)", "abxc", {"ab", "c"}},
    {R"(\p{N})", "🯰½Ⅷ", {"🯰", "½", "Ⅷ"}},
    {R"(\w)", "_\342\200\215Ⓐ", {"_", "Ⓐ"}},
    {R"([\w])", "_\342\200\215Ⓐ", {"_", "Ⓐ"}},
};

TEST(Pattern, MatchesAsTheLibrary) {
  for (const Case& c : kCases) {
    const auto pattern = Pattern::compile(c.regex);
    ASSERT_TRUE(pattern.has_value()) << pattern.error().message;
    EXPECT_EQ(matches(*pattern, c.text), c.expected) << c.regex;
  }
}

TEST(Pattern, FindsOnlyInsideThePiece) {
  const auto pattern = Pattern::compile(R"(\Aa|b$|\p{L}+)");
  ASSERT_TRUE(pattern.has_value());
  Pattern::Scratch scratch;
  std::vector<Piece> found;
  pattern->find("xéaab", {3, 5}, scratch, found);
  EXPECT_EQ(found, (std::vector<Piece>{{3, 4}, {4, 5}}));
}

// Oniguruma's find_iter: an empty match right behind another match is passed over.
TEST(Pattern, GivesEmptyMatches) {
  const auto pattern = Pattern::compile("x*");
  ASSERT_TRUE(pattern.has_value());
  Pattern::Scratch scratch;
  std::vector<Piece> found;
  pattern->find("axb", {0, 3}, scratch, found);
  EXPECT_EQ(found, (std::vector<Piece>{{0, 0}, {1, 2}, {3, 3}}));
}

TEST(Pattern, ALongRunCostsWhatItIsLong) {
  const auto pattern = Pattern::compile(R"(\s*[\r\n]+|\s+(?!\S)|\s+)");
  ASSERT_TRUE(pattern.has_value());
  const std::string spaces(300000, ' ');
  EXPECT_EQ(matches(*pattern, spaces + "x"), (Pieces{spaces.substr(1), " "}));
  const auto alone = Pattern::compile(R"(\s*[\r\n]+)");
  ASSERT_TRUE(alone.has_value());
  EXPECT_EQ(matches(*alone, spaces + "x\n"), (Pieces{"\n"}));
}

TEST(Pattern, GivesUpOnUnboundedWork) {
  // PCRE2 sees at once that a text without b cannot match.
  const std::string text = std::string(100000, 'a') + "!b";
  for (const std::string_view regex :
       {"a*a*b", " ?a+b|a", "(?=a+b)a|a", "a++b|a", "(?>a*)b|a", ".*x|[^x]"}) {
    const auto pattern = Pattern::compile(regex);
    ASSERT_TRUE(pattern.has_value()) << regex;
    EXPECT_THROW(matches(*pattern, text), std::runtime_error) << regex;
  }
}

TEST(Pattern, Refusals) {
  const std::pair<std::string, std::string_view> cases[] = {
      {"(a", "a group without its end"},
      {"a)", "an unmatched )"},
      {"[a", "a character class without its end"},
      {"[]", "an empty character class"},
      {"[z-a]", "a range whose end is before its begin"},
      {R"(\p{Nope})", "the character property \"Nope\""},
      {"(a+)+", "a repetition without bound inside another"},
      {R"(\1)", R"(the escape \1)"},
      {R"(\K)", R"(the escape \K)"},
      {"(?x)a", "the option \"x\" of a group"},
      {"(?~a)", "a group of the kind (?~"},
      {"*a", "a quantifier without an item"},
      {"a{2,1}", "an interval whose first number is the larger"},
      {"a\\", "a backslash at the end"},
      {"(?i:[ß])", "folds to several"},
      {"\xFF", "no valid UTF-8"},
      {std::string(70, '(') + std::string(70, ')'), "more than 64 groups within each other"},
      {std::string(70, '[') + "a" + std::string(70, ']'), "more than 64 groups or classes"},
      {std::string(20000, 'a'), "longer than 16384 bytes"},
  };
  for (const auto& [regex, why] : cases) {
    const auto pattern = Pattern::compile(regex);
    ASSERT_FALSE(pattern.has_value()) << regex;
    EXPECT_NE(pattern.error().message.find(why), std::string::npos) << pattern.error().message;
  }
}

}  // namespace
}  // namespace hadal
