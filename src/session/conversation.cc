#include "session/conversation.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>

#include "base/file.h"
#include "base/new_file.h"
#include "text/chat/request_json.h"

namespace hadal {
namespace {

using Json = nlohmann::ordered_json;

Json message_json(const ChatMessage& message) {
  Json j = {{"role", message.role}, {"content", message.content}};
  if (!message.reasoning.empty()) j["reasoning_content"] = message.reasoning;
  if (!message.tool_call_id.empty()) j["tool_call_id"] = message.tool_call_id;
  if (!message.name.empty()) j["name"] = message.name;
  for (const ToolCall& call : message.tool_calls)
    j["tool_calls"].push_back({{"id", call.id},
                               {"type", "function"},
                               {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
  return j;
}

bool is_user(const ChatMessage& message) { return message.role == "user"; }

}  // namespace

void Conversation::clear() {
  std::erase_if(messages, [](const ChatMessage& m) { return m.role != "system"; });
}

bool Conversation::undo() {
  const auto last = std::find_if(messages.rbegin(), messages.rend(), is_user);
  if (last == messages.rend()) return false;
  messages.erase(std::prev(last.base()), messages.end());
  return true;
}

std::string Conversation::to_json() const {
  Json j = {{"model", model}, {"messages", Json::array()}};
  for (const ChatMessage& message : messages) j["messages"].push_back(message_json(message));
  return j.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<Conversation> parse_conversation(const std::string& json) {
  Conversation conversation;
  const Json root = Json::parse(json, nullptr, false);
  // One that was cleared has no messages, which a request must have.
  const bool cleared = root.is_object() && root.contains("messages") &&
                       root["messages"].is_array() && root["messages"].empty();
  if (!cleared) {
    HADAL_TRY(ChatRequest request, parse_chat_request(json));
    conversation.messages = std::move(request.messages);
  }
  if (root.contains("model")) {
    if (!root["model"].is_string()) return usage_error("model: a text is expected");
    conversation.model = root["model"].get<std::string>();
  }
  return conversation;
}

Result<Conversation> load_conversation(const std::filesystem::path& file) {
  HADAL_TRY(const std::string text, read_text_file(file));
  Result<Conversation> conversation = parse_conversation(text);
  if (conversation) return conversation;
  return failed(file.string() + ": is no saved conversation: " + conversation.error().message);
}

namespace {

Result<NewFile> begin_file(const std::filesystem::path& file) {
  std::error_code ignored;
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), ignored);
  // What a link names is written, the link stays.
  std::filesystem::path place = std::filesystem::weakly_canonical(file, ignored);
  if (ignored) place = file;
  return NewFile::create(place, true);
}

}  // namespace

Status check_place(const std::filesystem::path& file) {
  HADAL_TRY(begin_file(file));
  return {};
}

Status save_conversation(const Conversation& conversation, const std::filesystem::path& file) {
  HADAL_TRY(NewFile out, begin_file(file));
  const std::string text = conversation.to_json();
  HADAL_TRY(out.write(std::as_bytes(std::span(text))));
  return out.commit();
}

std::vector<ConversationEntry> list_conversations(const std::filesystem::path& folder) {
  std::vector<ConversationEntry> entries;
  std::error_code error;
  std::filesystem::directory_iterator files(folder, error);
  for (; !error && files != std::filesystem::directory_iterator(); files.increment(error)) {
    const std::filesystem::directory_entry& found = *files;
    if (found.path().extension() != ".json") continue;
    ConversationEntry entry{.name = found.path().stem().string()};
    std::error_code unknown;
    entry.changed = found.last_write_time(unknown);
    if (const auto conversation = load_conversation(found.path())) {
      const auto& messages = conversation->messages;
      entry.model = conversation->model;
      entry.questions = std::count_if(messages.begin(), messages.end(), is_user);
      if (const auto first = std::find_if(messages.begin(), messages.end(), is_user);
          first != messages.end())
        entry.first = first->content;
    } else {
      const std::string& why = conversation.error().message;  // begins with the path
      const std::string path = found.path().string() + ": ";
      entry.first = why.starts_with(path) ? why.substr(path.size()) : why;
    }
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.changed > b.changed; });
  return entries;
}

}  // namespace hadal
