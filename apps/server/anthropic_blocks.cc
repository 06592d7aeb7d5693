#include "server/anthropic_blocks.h"

#include <array>
#include <utility>

#include "checkpoint/printable.h"
#include "text/chat/python_json.h"

namespace hadal::server {
namespace {

std::string entry_of(const std::string& path, size_t i) {
  return path + "[" + std::to_string(i) + "]";
}

/// A content block, its type read.
struct Block {
  Fields fields;
  std::string type = {};
};

Result<Block> block_of(const Json& value, const std::string& path) {
  if (!value.is_object()) return wrong_type(path, "a content block", value);
  Block block{.fields = Fields(value, path)};
  HADAL_TRY(block.type, block.fields.text("type"));
  if (block.type.empty()) return usage_error(path + ".type: is missing");
  return block;
}

/// Why a block is not taken here. The first mark that its type has counts.
Error refused_block(const Block& block, std::string_view where) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kReasons = {{
      {"image", "the model reads text, no images: leave the block out"},
      {"document", "the model reads text, no documents: give what it says as a text block"},
      {"search_result", "give what it says as a text block"},
      {"audio", "the model reads text, no audio: leave the block out"},
      {"video", "the model reads text, no videos: leave the block out"},
      {"file", "the model reads text, no files: leave the block out"},
      {"container", "there are no containers: give what the file says as a text block"},
      {"_tool_", "no tools run on the server: leave the block out"},
      {"tool_",
       "it is not known there: tool_use belongs to the assistant, tool_result to the user"},
  }};
  const std::string path = block.fields.path_of("type");
  for (const auto& [mark, reason] : kReasons)
    if (block.type.find(mark) != std::string::npos)
      return usage_error(path + ": " + quote(block.type) + " is not supported in " +
                         std::string(where) + ": " + std::string(reason));
  return usage_error(path + ": " + quote(block.type) + " is not known in " + std::string(where) +
                     "; leave the block out, or give a text block");
}

/// A field that must be there, if only as "".
Result<std::string> needed_text(Fields& fields, const char* key) {
  if (!fields.find(key)) return usage_error(fields.path_of(key) + ": is missing");
  return fields.text(key);
}

Result<const Json*> content_of(Fields& fields, const std::string& path) {
  const Json* content = fields.find("content");
  if (!content) return usage_error(path + ".content: is missing");
  return content;
}

Status check_blocks(const Json& content, const std::string& path) {
  if (!content.is_array()) return wrong_type(path, "a text or a list of content blocks", content);
  return check_limit(limit("messages[].content"), static_cast<int64_t>(content.size()), path);
}

/// A text, or blocks that are nothing else.
Result<std::string> texts_of(const Json& content, const std::string& path, std::string_view where) {
  if (content.is_string()) return content.get<std::string>();
  HADAL_TRY(check_blocks(content, path));
  std::string all;
  for (size_t i = 0; i < content.size(); ++i) {
    HADAL_TRY(Block block, block_of(content[i], entry_of(path, i)));
    if (block.type != "text") return refused_block(block, where);
    HADAL_TRY(const std::string text, needed_text(block.fields, "text"));
    all += text;
  }
  return all;
}

Result<ChatMessage> tool_result_of(Fields& block) {
  ChatMessage message{.role = "tool"};
  HADAL_TRY(message.tool_call_id, needed_text(block, "tool_use_id"));
  if (const Json* content = block.find("content")) {
    HADAL_TRY(message.content, texts_of(*content, block.path_of("content"), "a tool's result"));
  }
  HADAL_TRY(const bool is_error, block.flag("is_error", false));
  if (is_error) message.content.insert(0, message.content.empty() ? "Error" : "Error: ");
  return message;
}

Status read_user(const Json& content, const std::string& path, std::vector<ChatMessage>& chat) {
  if (content.is_string()) {
    chat.push_back({.role = "user", .content = content.get<std::string>()});
    return {};
  }
  HADAL_TRY(check_blocks(content, path));
  bool open = false;  // the last message takes more text
  for (size_t i = 0; i < content.size(); ++i) {
    HADAL_TRY(Block block, block_of(content[i], entry_of(path, i)));
    if (block.type == "tool_result") {
      HADAL_TRY(ChatMessage result, tool_result_of(block.fields));
      chat.push_back(std::move(result));
      open = false;
      continue;
    }
    if (block.type != "text") return refused_block(block, "a user's message");
    HADAL_TRY(const std::string text, needed_text(block.fields, "text"));
    if (!open) chat.push_back({.role = "user"});
    open = true;
    chat.back().content += text;
  }
  if (content.empty()) chat.push_back({.role = "user"});
  return {};
}

Result<ToolCall> tool_use_of(Fields& block) {
  ToolCall call;
  HADAL_TRY(call.id, needed_text(block, "id"));
  if (!block.find("name")) return usage_error(block.path_of("name") + ": is missing");
  HADAL_TRY(call.name, block.text("name", limit("tools[].function.name")));
  const Json* input = block.find("input");
  if (!input) return usage_error(block.path_of("input") + ": is missing");
  if (!input->is_object()) return wrong_type(block.path_of("input"), "an object", *input);
  call.arguments = chat::python_json(*input);
  return call;
}

Status read_assistant(const Json& content, const std::string& path, ChatMessage& turn) {
  if (content.is_string()) {
    turn.content += content.get_ref<const std::string&>();
    return {};
  }
  HADAL_TRY(check_blocks(content, path));
  int64_t calls = 0;
  for (size_t i = 0; i < content.size(); ++i) {
    HADAL_TRY(Block block, block_of(content[i], entry_of(path, i)));
    if (block.type == "redacted_thinking") continue;
    if (block.type == "tool_use") {
      HADAL_TRY(check_limit(limit("messages[].tool_calls"), ++calls, path));
      HADAL_TRY(ToolCall call, tool_use_of(block.fields));
      turn.tool_calls.push_back(std::move(call));
      continue;
    }
    const bool thought = block.type == "thinking";
    if (!thought && block.type != "text") return refused_block(block, "an assistant's message");
    HADAL_TRY(const std::string text, needed_text(block.fields, block.type.c_str()));
    (thought ? turn.reasoning : turn.content) += text;
  }
  return {};
}

Status read_message(const Json& value, const std::string& path, std::vector<ChatMessage>& chat) {
  if (!value.is_object()) return wrong_type(path, "an object", value);
  Fields fields(value, path);
  HADAL_TRY(const std::string role, fields.text("role"));
  HADAL_TRY(const Json* content, content_of(fields, path));
  const std::string where = path + ".content";
  if (role == "user") return read_user(*content, where, chat);
  if (role == "assistant") {
    if (chat.empty() || chat.back().role != "assistant") chat.push_back({.role = "assistant"});
    return read_assistant(*content, where, chat.back());
  }
  if (role != "system")
    return usage_error(path + ".role: \"user\", \"assistant\" or \"system\" is expected, " +
                       (fields.find("role") ? quote(role) + " was found" : "it is missing"));
  constexpr RefusedField kRefused[] = {
      {"clear_at", "\"never\"", "a message stays; leave it out of the next request"},
      {"output_config", "{}", "give output_config beside messages"}};
  HADAL_TRY(refuse(fields, kRefused));
  HADAL_TRY(std::string text, texts_of(*content, where, "a system message"));
  chat.push_back({.role = "system", .content = std::move(text)});
  return {};
}

/// The last message of the assistant's is what the answer goes on with.
Status read_prefill(std::vector<ChatMessage>& chat, const std::string& path) {
  ChatMessage& last = chat.back();
  if (last.role != "assistant") return {};
  if (!last.tool_calls.empty())
    return usage_error(path +
                       ".content: the last message calls tools; give their tool_result blocks in "
                       "a message of the user's behind it");
  last.prefix = !last.content.empty() || !last.reasoning.empty();
  if (last.prefix) return {};
  chat.pop_back();
  if (chat.empty()) return usage_error(path + ".content: is empty, and there is no other message");
  return {};
}

}  // namespace

Result<std::vector<ChatMessage>> read_conversation(Fields& body) {
  std::vector<ChatMessage> chat;
  if (const Json* system = body.find("system")) {
    HADAL_TRY(std::string text, texts_of(*system, body.path_of("system"), "the system's text"));
    if (!text.empty()) chat.push_back({.role = "system", .content = std::move(text)});
  }
  const std::string path = body.path_of("messages");
  const Json* messages = body.find("messages");
  if (!messages) return usage_error(path + ": is missing");
  if (!messages->is_array()) return wrong_type(path, "a list", *messages);
  HADAL_TRY(check_limit(limit("messages"), static_cast<int64_t>(messages->size()), path));
  for (size_t i = 0; i < messages->size(); ++i)
    HADAL_TRY(read_message((*messages)[i], entry_of(path, i), chat));
  HADAL_TRY(read_prefill(chat, entry_of(path, messages->size() - 1)));
  return chat;
}

}  // namespace hadal::server
