#include "server/responses_items.h"

#include <map>
#include <utility>

#include "checkpoint/printable.h"

namespace hadal::server {
namespace {

/// What one body may refer to, beside previous_response_id: responses, as each is a look-up, and
/// the bytes that are read for them.
constexpr size_t kMostReferenced = 256, kMostReferencedBytes = size_t{64} << 20;

/// The member's text; "" where it is none. Of items that were read here, or stored by us.
const std::string& text_in(const Json& object, const char* key) {
  static const std::string none;
  if (!object.is_object()) return none;
  const auto it = object.find(key);
  return it == object.end() || !it->is_string() ? none : it->get_ref<const std::string&>();
}

const Json& list_in(const Json& object, const char* key) {
  static const Json none = Json::array();
  if (!object.is_object()) return none;
  const auto it = object.find(key);
  return it == object.end() || !it->is_array() ? none : *it;
}

std::string at(const std::string& path, size_t i) { return path + "[" + std::to_string(i) + "]"; }

/// A text that must be there.
Result<std::string> needed(Fields& fields, const char* key) {
  if (!fields.find(key)) return usage_error(fields.path_of(key) + ": is missing");
  return fields.text(key);
}

Error no_such_part(const std::string& path, const std::string& type, std::string_view expected) {
  for (const auto& [name, what] :
       {std::pair{"image", "images"}, std::pair{"screenshot", "images"},
        std::pair{"audio", "audio"}, std::pair{"video", "videos"}, std::pair{"file", "files"}})
    if (type.find(name) != std::string::npos)
      return usage_error(path + ".type: " + quote(type) + " was found; the model reads text, no " +
                         what + ": leave the part out");
  return usage_error(path + ".type: " + std::string(expected) + " is expected, " + quote(type) +
                     " was found");
}

Json text_part(bool assistant, std::string text) {
  Json part;
  part["type"] = assistant ? "output_text" : "input_text";
  part["text"] = std::move(text);
  if (assistant) part["annotations"] = Json::array();
  return part;
}

Result<Json> read_part(const Json& value, const std::string& path, bool assistant) {
  if (!value.is_object()) return wrong_type(path, "an object with type and text", value);
  Fields part(value, path);
  HADAL_TRY(const std::string type, needed(part, "type"));
  if (type == "refusal" && assistant) {
    HADAL_TRY(const std::string refusal, needed(part, "refusal"));
    return Json{{"type", type}, {"refusal", refusal}};
  }
  if (type != "input_text" && type != "output_text")
    return no_such_part(path, type,
                        assistant ? R"("output_text" or "refusal")" : R"("input_text")");
  HADAL_TRY(std::string text, needed(part, "text"));
  return text_part(assistant, std::move(text));
}

/// A list of parts; a text is one part.
Result<Json> read_content(Fields& fields, const char* key, bool assistant) {
  const std::string path = fields.path_of(key);
  const Json* content = fields.find(key);
  if (!content) return usage_error(path + ": is missing");
  Json parts = Json::array();
  if (content->is_string()) {
    parts.push_back(text_part(assistant, content->get<std::string>()));
    return parts;
  }
  if (!content->is_array()) return wrong_type(path, "a text or a list of parts", *content);
  HADAL_TRY(check_limit(limit("input[].content"), static_cast<int64_t>(content->size()), path));
  for (size_t i = 0; i < content->size(); ++i) {
    HADAL_TRY(Json part, read_part((*content)[i], at(path, i), assistant));
    parts.push_back(std::move(part));
  }
  return parts;
}

/// The id as given, the type, the status.
Result<Json> item_head(Fields& fields, const char* type) {
  Json item;
  HADAL_TRY(item["id"], fields.text("id", limit("previous_response_id")));
  item["type"] = type;
  HADAL_TRY(const std::string status, fields.text("status"));
  if (!status.empty() && status != "completed" && status != "incomplete" && status != "in_progress")
    return usage_error(fields.path_of("status") +
                       ": \"completed\", \"incomplete\" or \"in_progress\" is expected, " +
                       quote(status) + " was found");
  item["status"] = status.empty() ? "completed" : status;
  return item;
}

Result<Json> read_message(Fields& fields) {
  HADAL_TRY(Json item, item_head(fields, "message"));
  HADAL_TRY(const std::string role, needed(fields, "role"));
  if (role != "user" && role != "assistant" && role != "system" && role != "developer")
    return usage_error(fields.path_of("role") +
                       ": \"user\", \"assistant\", \"system\" or \"developer\" is expected, " +
                       quote(role) + " was found");
  item["role"] = role;
  HADAL_TRY(item["content"], read_content(fields, "content", role == "assistant"));
  return item;
}

Result<Json> read_call(Fields& fields) {
  HADAL_TRY(Json item, item_head(fields, "function_call"));
  for (const char* key : {"call_id", "name", "arguments"}) {
    HADAL_TRY(item[key], needed(fields, key));
  }
  if (item["name"] == "") return usage_error(fields.path_of("name") + ": is empty");
  return item;
}

Result<Json> read_call_output(Fields& fields) {
  HADAL_TRY(Json item, item_head(fields, "function_call_output"));
  HADAL_TRY(item["call_id"], needed(fields, "call_id"));
  const Json* output = fields.find("output");
  if (output && output->is_string()) {
    item["output"] = *output;
    return item;
  }
  HADAL_TRY(item["output"], read_content(fields, "output", false));
  return item;
}

/// A thought, or a summary of it. What is encrypted is not ours, and not read.
Result<Json> read_thought(Fields& fields) {
  HADAL_TRY(Json item, item_head(fields, "reasoning"));
  for (const auto& [key, type] :
       {std::pair{"summary", "summary_text"}, std::pair{"content", "reasoning_text"}}) {
    Json& parts = item[key] = Json::array();
    const Json* list = fields.find(key);
    if (!list) continue;
    const std::string path = fields.path_of(key);
    if (!list->is_array()) return wrong_type(path, "a list of parts", *list);
    HADAL_TRY(check_limit(limit("input[].content"), static_cast<int64_t>(list->size()), path));
    for (size_t i = 0; i < list->size(); ++i) {
      if (!(*list)[i].is_object()) return wrong_type(at(path, i), "an object", (*list)[i]);
      Fields part((*list)[i], at(path, i));
      HADAL_TRY(const std::string found, needed(part, "type"));
      if (found != type) return no_such_part(at(path, i), found, "\"" + std::string(type) + "\"");
      HADAL_TRY(std::string text, needed(part, "text"));
      parts.push_back({{"type", type}, {"text", std::move(text)}});
    }
  }
  return item;
}

Error broken(const std::string& id) {
  return failed("the store of responses: " + quote(id) + " is broken");
}

/// Looks items of earlier responses up, each response once.
class References {
 public:
  explicit References(const ResponseFinder& find) : find_(find) {}

  Result<Json> item(const std::string& id, const std::string& path) {
    if (!find_)
      return usage_error(path +
                         ": no responses are stored here, so items cannot be referred to; give the "
                         "item itself");
    const std::string response = response_of_item(id);
    const Error none = not_found(path + ": no item " + quote(id) + " is stored here");
    if (response.empty()) return none;
    // What came out lies in the response itself, which is smaller than all that went in.
    const bool input = id.compare(id.rfind('_'), 3, "_in") == 0;
    auto known = items_.find({response, input});
    if (known == items_.end()) {
      Result<Json> loaded = load(response, input, path);
      if (!loaded && loaded.error().code == ErrorCode::kNotFound) return none;
      if (!loaded) return loaded.error();
      known = items_.emplace(std::pair(response, input), *std::move(loaded)).first;
    }
    for (const Json& item : known->second)
      if (text_in(item, "id") == id) return item;
    return none;
  }

 private:
  Result<Json> load(const std::string& response, bool input, const std::string& path) {
    HADAL_TRY(const StoredResponse stored, find_(response));
    const std::string& text = input ? stored.items : stored.response;
    bytes_ += text.size();
    if (items_.size() >= kMostReferenced || bytes_ > kMostReferencedBytes)
      return usage_error(path + ": items of more than " + std::to_string(kMostReferenced) +
                         " responses, or of very large ones, are referred to; give "
                         "previous_response_id instead");
    Json json = Json::parse(text, nullptr, false);
    if (input ? !json.is_array() : !json.is_object()) return broken(response);
    return input ? std::move(json) : Json(list_in(json, "output"));
  }

  const ResponseFinder& find_;
  std::map<std::pair<std::string, bool>, Json> items_;  ///< by response, of its input or not
  size_t bytes_ = 0;
};

Result<Json> read_item(const Json& value, const std::string& path, References& references) {
  if (!value.is_object()) return wrong_type(path, "an object", value);
  Fields fields(value, path);
  HADAL_TRY(std::string type, fields.text("type"));
  if (type.empty())  // a message needs none, and a reference has an id alone
    type = fields.find("role") || !fields.find("id") ? "message" : "item_reference";
  if (type == "message") return read_message(fields);
  if (type == "function_call") return read_call(fields);
  if (type == "function_call_output") return read_call_output(fields);
  if (type == "reasoning") return read_thought(fields);
  if (type == "item_reference") {
    HADAL_TRY(const std::string id, needed(fields, "id"));
    return references.item(id, fields.path_of("id"));
  }
  return usage_error(
      path + ".type: " + quote(type) +
      " is not supported: give a message, function_call, function_call_output, reasoning or "
      "item_reference; there are no hosted tools");
}

std::string joined(const Json& parts) {
  if (parts.is_string()) return parts.get<std::string>();
  std::string all;
  if (!parts.is_array()) return all;
  for (const Json& part : parts)
    all += text_in(part, text_in(part, "type") == "refusal" ? "refusal" : "text");
  return all;
}

/// Puts items into turns.
class Turns {
 public:
  void add(const Json& item) {
    const std::string& type = text_in(item, "type");
    if (type == "reasoning") {
      assistant(item, true).reasoning =
          joined(list_in(item, list_in(item, "content").empty() ? "summary" : "content"));
    } else if (type == "function_call") {
      if (text_in(item, "status") == "incomplete") return;
      assistant(item, false)
          .tool_calls.push_back({.id = text_in(item, "call_id"),
                                 .name = text_in(item, "name"),
                                 .arguments = text_in(item, "arguments")});
    } else if (type == "function_call_output") {
      open_ = false;
      const auto output = item.find("output");
      messages_.push_back({.role = "tool",
                           .content = output == item.end() ? "" : joined(*output),
                           .tool_call_id = text_in(item, "call_id")});
    } else if (text_in(item, "role") == "assistant") {
      // Two texts of one response are one; texts of two stand for turns of their own.
      const bool fresh = open_ && !messages_.back().content.empty() &&
                         messages_.back().tool_calls.empty() &&
                         (response_.empty() || response_ != response_of_item(text_in(item, "id")));
      assistant(item, fresh).content += joined(list_in(item, "content"));
    } else {
      open_ = false;
      const std::string& role = text_in(item, "role");
      messages_.push_back({.role = role == "developer" ? "system" : role,
                           .content = joined(list_in(item, "content"))});
    }
  }
  std::vector<ChatMessage> take() { return std::move(messages_); }

 private:
  /// The turn that the item is part of.
  ChatMessage& assistant(const Json& item, bool fresh) {
    if (!open_ || fresh) messages_.push_back({.role = "assistant"});
    open_ = true;
    response_ = response_of_item(text_in(item, "id"));
    return messages_.back();
  }

  std::vector<ChatMessage> messages_;
  bool open_ = false;     ///< the last message is a turn that items may go on with
  std::string response_;  ///< of the turn's last item
};

}  // namespace

std::string item_id(std::string_view kind, std::string_view response_id, std::string_view number) {
  const size_t dash = response_id.find_last_of("-_");
  std::string id(kind);
  id.append("_").append(dash == std::string_view::npos ? response_id
                                                       : response_id.substr(dash + 1));
  return id.append("_").append(number);
}

std::string response_of_item(std::string_view id) {
  const size_t first = id.find('_'), last = id.rfind('_');
  if (first == std::string_view::npos || first == last) return {};
  return "resp_" + std::string(id.substr(first + 1, last - first - 1));
}

Result<Json> read_input(const Json& input, const ResponseFinder& find) {
  Json items = Json::array();
  if (input.is_string()) {
    Json message = {{"id", ""}, {"type", "message"}, {"status", "completed"}, {"role", "user"}};
    message["content"] = Json::array({text_part(false, input.get<std::string>())});
    items.push_back(std::move(message));
    return items;
  }
  if (!input.is_array()) return wrong_type("input", "a text or a list of items", input);
  HADAL_TRY(check_limit(limit("input"), static_cast<int64_t>(input.size())));
  References references(find);
  for (size_t i = 0; i < input.size(); ++i) {
    HADAL_TRY(Json item, read_item(input[i], at("input", i), references));
    items.push_back(std::move(item));
  }
  return items;
}

Result<Json> read_previous(const std::string& id, const ResponseFinder& find) {
  if (!find)
    return usage_error(
        "previous_response_id: no responses are stored here; send the whole conversation as "
        "input, or let the server keep a store of responses");
  const Result<StoredResponse> stored = find(id);
  if (!stored && stored.error().code == ErrorCode::kNotFound)
    return not_found("previous_response_id: no response " + quote(id) + " is stored here");
  if (!stored) return stored.error();
  Json items = Json::parse(stored->items, nullptr, false);
  if (!items.is_array()) return broken(id);
  return items;
}

void name_items(Json& items, std::string_view response_id) {
  for (size_t i = 0; i < items.size(); ++i) {
    Json& item = items[i];
    if (!item.is_object() || !text_in(item, "id").empty()) continue;
    const std::string& type = text_in(item, "type");
    const char* kind = type == "message"         ? "msg"
                       : type == "reasoning"     ? "rs"
                       : type == "function_call" ? "fc"
                                                 : "fco";
    item["id"] = item_id(kind, response_id, "in" + std::to_string(i));
  }
}

std::vector<ChatMessage> messages_of(const Json& items) {
  Turns turns;
  for (const Json& item : items) turns.add(item);
  return turns.take();
}

}  // namespace hadal::server
