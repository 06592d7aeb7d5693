#include "text/chat/deepseek_marks.h"

namespace hadal::chat {

std::string joined_systems(const std::vector<ChatMessage>& messages, bool skips_empty) {
  std::string text;
  bool first = true;
  for (const ChatMessage& message : messages) {
    if (message.role != "system" || (skips_empty && message.content.empty())) continue;
    text += (first ? "" : "\n\n") + message.content;
    first = false;
  }
  return text;
}

}  // namespace hadal::chat
