// The conversation of a Messages body: `system` and `messages`, with their content blocks, as the
// messages of a chat.
//
// Texts of one message are put together as they are, with nothing between them. Each tool_result is
// a message of the role "tool", in its place among the texts; "Error: " in front of its text says
// is_error, for which no chat format has a mark. Of an assistant's turn: text, tool_use, thinking
// (back in as reasoning; its signature is not looked at), redacted_thinking (dropped: nobody here
// can read it). Neighbouring messages of the assistant's are one, as in the API; those of the
// user's stay apart, since the chat formats know how to put them together. cache_control and
// citations are passed over.
//
// Refused in words: images, documents, search results, and the blocks of tools that the API's own
// servers run.
#pragma once

#include <vector>

#include "server/fields.h"
#include "text/chat/chat.h"

namespace hadal::server {

/// Reads both; a last message of the assistant's has `prefix`, unless it is empty, and is then left
/// out. Errors: kUsage with the path of the field, or of the block.
Result<std::vector<ChatMessage>> read_conversation(Fields& body);

}  // namespace hadal::server
