#include "session/conversation.h"

#include <gtest/gtest.h>

#include "checkpoint/testing.h"

namespace hadal {
namespace {

Conversation example() {
  Conversation c{.model = "m.gguf"};
  c.messages = {{.role = "system", .content = "Be brief."},
                {.role = "user", .content = "Weather in Ürümqi?"},
                {.role = "assistant",
                 .content = "",
                 .reasoning = "A tool knows.",
                 .tool_calls = {{.id = "1", .name = "weather", .arguments = R"({"city": "Ü"})"}}},
                {.role = "tool", .content = "cold", .tool_call_id = "1"},
                {.role = "assistant", .content = "Cold."},
                {.role = "user", .content = "Thanks"},
                {.role = "assistant", .content = "You are welcome."}};
  return c;
}

TEST(Conversation, ComesBackAsItWasSaved) {
  const testing::TempFolder folder;
  const auto file = folder.path() / "deep" / "talk.json";
  ASSERT_TRUE(save_conversation(example(), file));
  const auto back = load_conversation(file);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->to_json(), example().to_json());
  EXPECT_EQ(back->model, "m.gguf");
  ASSERT_EQ(back->messages.size(), 7U);
  EXPECT_EQ(back->messages[2].tool_calls[0].arguments, R"({"city": "Ü"})");
  EXPECT_EQ(back->messages[2].reasoning, "A tool knows.");
}

TEST(Conversation, TakesBackAQuestionWithAllThatFollowedIt) {
  Conversation c = example();
  EXPECT_TRUE(c.undo());
  EXPECT_EQ(c.messages.size(), 5U);
  EXPECT_TRUE(c.undo());
  ASSERT_EQ(c.messages.size(), 1U);
  EXPECT_EQ(c.messages[0].role, "system");
  EXPECT_FALSE(c.undo());
  Conversation other = example();
  other.clear();
  EXPECT_EQ(other.messages.size(), 1U);
}

TEST(Conversation, WhatIsNoneIsRefusedByName) {
  const testing::TempFolder folder;
  EXPECT_EQ(load_conversation(folder.path() / "none.json").error().code, ErrorCode::kNotFound);
  for (const char* text : {"", "[", "[]", "{}", R"({"messages": 3})", R"({"messages": [{}]})",
                           R"({"messages": [{"role": "user", "content": "x"}], "model": 7})"}) {
    const auto file = folder.write("bad.json", text);
    const auto loaded = load_conversation(file);
    ASSERT_FALSE(loaded) << text;
    EXPECT_NE(loaded.error().message.find("bad.json"), std::string::npos) << loaded.error().message;
  }
  folder.write("file", "");
  EXPECT_FALSE(save_conversation(example(), folder.path() / "file" / "talk.json"));
}

TEST(Conversation, AreListedTheLatestFirstAndBrokenOnesWithTheReason) {
  const testing::TempFolder folder;
  EXPECT_TRUE(list_conversations(folder.path() / "none").empty());
  ASSERT_TRUE(save_conversation(example(), folder.path() / "old.json"));
  folder.write("broken.json", "{");
  folder.write("notes.txt", "x");
  const auto before = std::filesystem::last_write_time(folder.path() / "broken.json");
  std::filesystem::last_write_time(folder.path() / "old.json", before - std::chrono::hours(1));
  const auto list = list_conversations(folder.path());
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0].name, "broken");
  EXPECT_NE(list[0].first.find("no saved conversation"), std::string::npos);
  EXPECT_EQ(list[1].name, "old");
  EXPECT_EQ(list[1].questions, 2);
  EXPECT_EQ(list[1].first, "Weather in Ürümqi?");
}

}  // namespace
}  // namespace hadal
