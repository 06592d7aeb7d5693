#include "chat_commands.h"

#include <gtest/gtest.h>

namespace hadal::app {
namespace {

TEST(ChatCommands, ALoneWordIsACommand) {
  EXPECT_EQ(chat_command("/clear"), ChatCommand::kClear);
  EXPECT_EQ(chat_command(" /clear \n"), ChatCommand::kClear);
  EXPECT_EQ(chat_command("/?"), ChatCommand::kHelp);
  EXPECT_EQ(chat_command("/quit"), ChatCommand::kExit);
  for (const char* unknown : {"/cler", "/no_think", "/Clear", "/clear!"})
    EXPECT_EQ(chat_command(unknown), ChatCommand::kUnknown) << unknown;
}

TEST(ChatCommands, WhatHasMoreIsAQuestion) {
  for (const char* question :
       {"", " ", "/", "why?", "/no_think what is 2+2", "/no_think\nwhat is 2+2", "/clear now",
        "/usr/bin", "// a comment", "why /clear"})
    EXPECT_EQ(chat_command(question), ChatCommand::kQuestion) << question;
}

TEST(ChatCommands, HelpNamesThemAll) {
  EXPECT_EQ(chat_command_names(), "/clear, /undo, /help, /exit");
  for (const char* said : {"/clear", "/undo", "/help", "/exit", "backslash", "Ctrl-C"})
    EXPECT_NE(chat_help().find(said), std::string::npos) << said;
}

}  // namespace
}  // namespace hadal::app
