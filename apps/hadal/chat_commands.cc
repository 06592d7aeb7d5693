#include "chat_commands.h"

#include <fmt/format.h>

#include <span>

namespace hadal::app {
namespace {

struct Row {
  std::string_view name, help;  ///< no help: another name of the row before
  ChatCommand command;
};

constexpr Row kRows[] = {
    {"/clear", "forgets the conversation", ChatCommand::kClear},
    {"/undo", "takes back the last question and its answer", ChatCommand::kUndo},
    {"/help", "shows this", ChatCommand::kHelp},
    {"/?", "", ChatCommand::kHelp},
    {"/exit", "ends the chat, as do /bye, /quit and Ctrl-D", ChatCommand::kExit},
    {"/bye", "", ChatCommand::kExit},
    {"/quit", "", ChatCommand::kExit},
};

constexpr Row kKeys[] = {
    {"\\ Enter",
     "a backslash at the end of a line, or Alt-Enter, begins another line of the question",
     ChatCommand::kQuestion},
    {"paste", "pasted text of several lines is one question", ChatCommand::kQuestion},
    {"Ctrl-C", "stops an answer; at the prompt, clears what was typed", ChatCommand::kQuestion},
};

constexpr std::string_view kSpace = " \t\r\n";

std::string lines(std::span<const Row> rows) {
  std::string text;
  for (const Row& row : rows)
    if (!row.help.empty()) text += fmt::format("  {:<9} {}\n", row.name, row.help);
  return text;
}

}  // namespace

ChatCommand chat_command(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return ChatCommand::kQuestion;
  text = text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
  if (text.size() < 2 || text[0] != '/' || text.find_first_of(kSpace) != std::string_view::npos ||
      text.find('/', 1) != std::string_view::npos)
    return ChatCommand::kQuestion;
  for (const Row& row : kRows)
    if (row.name == text) return row.command;
  return ChatCommand::kUnknown;
}

std::string chat_help() { return lines(kRows) + lines(kKeys); }

std::string chat_command_names() {
  std::string names;
  for (const Row& row : kRows)
    if (!row.help.empty()) names += (names.empty() ? "" : ", ") + std::string(row.name);
  return names;
}

std::string full_context_help() {
  return "/undo takes back the last question and its answer, /clear forgets the conversation; "
         "--ctx "
         "at the start sets how much it may hold.";
}

}  // namespace hadal::app
