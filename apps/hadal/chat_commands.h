// The commands of a chat: /clear and its like, told apart from questions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hadal::app {

enum class ChatCommand : uint8_t { kQuestion, kClear, kUndo, kHelp, kExit, kUnknown };

/// Only a lone word after a slash is a command, "/clear". What has more behind it or a second slash
/// is a question: "/no_think why is the sea deep?", several lines, a path.
ChatCommand chat_command(std::string_view text);

/// The commands and keys, a line each.
std::string chat_help();

/// The names of the commands: "/clear, /undo, /help, /exit".
std::string chat_command_names();

/// What helps when the conversation fills the context.
std::string full_context_help();

}  // namespace hadal::app
