// Every message in every language, with the same places.
#include "messages.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace hadal::app {
namespace {

/// "{0}", "{1}" … of a text, each counted once.
std::set<std::string> places(std::string_view text) {
  std::set<std::string> found;
  for (size_t at = text.find('{'); at != std::string_view::npos; at = text.find('{', at + 1))
    found.emplace(text.substr(at, text.find('}', at) - at + 1));
  return found;
}

TEST(Messages, AreThereInBothLanguagesWithTheSamePlaces) {
  for (size_t i = 0; i < static_cast<size_t>(Message::kCount); ++i) {
    const auto message = static_cast<Message>(i);
    const std::string_view english = message_text(message, Language::kEnglish);
    const std::string_view chinese = message_text(message, Language::kChinese);
    EXPECT_FALSE(english.empty()) << i;
    EXPECT_FALSE(chinese.empty()) << english;
    EXPECT_EQ(places(english), places(chinese)) << english;
    const std::vector<std::string> arguments(places(english).size(), "x");
    EXPECT_EQ(say(message, Language::kChinese, arguments).find('{'), std::string::npos);
    EXPECT_EQ(say(message, Language::kEnglish, arguments).find('{'), std::string::npos);
  }
}

TEST(Messages, FillTheirPlacesInAnyOrder) {
  EXPECT_EQ(say(Message::kMemoryFree, Language::kEnglish, {"3", "8"}), "3 of 8 GiB are free");
  EXPECT_EQ(say(Message::kMemoryFree, Language::kChinese, {"3", "8"}), "共 8 GiB，可用 3 GiB");
}

TEST(Messages, TheLanguageIsTheUsers) {
  using Variables = std::map<std::string, std::string>;
  const auto chosen = [](const std::string& asked, const Variables& variables) {
    return choose_language(asked, [&](const char* name) {
      const auto found = variables.find(name);
      return found == variables.end() ? nullptr : found->second.c_str();
    });
  };
  EXPECT_EQ(chosen("", {}), Language::kEnglish);
  EXPECT_EQ(chosen("", {{"LANG", "zh_CN.UTF-8"}}), Language::kChinese);
  EXPECT_EQ(chosen("", {{"LANG", "zh_CN.UTF-8"}, {"LC_MESSAGES", "de_DE"}}), Language::kEnglish);
  EXPECT_EQ(chosen("", {{"LC_ALL", "zh_TW"}, {"LC_MESSAGES", "C"}}), Language::kChinese);
  EXPECT_EQ(chosen("", {{"LC_ALL", ""}, {"LANG", "zh_CN"}}), Language::kChinese);  // empty: unset
  EXPECT_EQ(chosen("en", {{"LC_ALL", "zh_CN"}}), Language::kEnglish);
  EXPECT_EQ(chosen("zh", {{"LC_ALL", "C"}}), Language::kChinese);
}

TEST(Messages, ColumnsOfWideCharacters) {
  EXPECT_EQ(columns_of("ok"), 2U);
  EXPECT_EQ(columns_of("正常"), 4U);
  EXPECT_EQ(columns_of("插件：a·é"), 9U);
  EXPECT_EQ(padded("内存", 6), "内存  ");
  EXPECT_EQ(padded("instruction", 3), "instruction");
}

}  // namespace
}  // namespace hadal::app
