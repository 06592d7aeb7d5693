// A conversation that outlives the program: messages as JSON in the form of the OpenAI and DeepSeek
// APIs, with the name of the model that it was held with.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "text/chat/chat.h"

namespace hadal {

struct Conversation {
  std::string model = {};  ///< as the user named it
  std::vector<ChatMessage> messages = {};

  /// Forgets all but system messages.
  void clear();
  /// Takes back the last question and what was answered to it; false if there is none.
  bool undo();
  /// {"model", "messages": […]}, indented.
  [[nodiscard]] std::string to_json() const;
};

/// Errors: kUsage with the field that is wrong.
Result<Conversation> parse_conversation(const std::string& json);

/// Errors: kNotFound, kFailed with the file's name and what is wrong in it.
Result<Conversation> load_conversation(const std::filesystem::path& file);
/// Whether a conversation can be saved there: its folder is made, and a file could be.
Status check_place(const std::filesystem::path& file);
/// Writes the file whole or not at all (base/new_file.h). Its folder is made.
Status save_conversation(const Conversation& conversation, const std::filesystem::path& file);

/// One line of a list of conversations.
struct ConversationEntry {
  std::string name;       ///< the file's name without .json
  std::string model;      ///< "" where the file cannot be read
  std::string first;      ///< the first question, or what is wrong with the file
  int64_t questions = 0;  ///< messages of the user
  std::filesystem::file_time_type changed = {};
};

/// Those of a folder, the latest first; none where the folder does not exist.
std::vector<ConversationEntry> list_conversations(const std::filesystem::path& folder);

}  // namespace hadal
