#include "server/openai_chat.h"

#include <algorithm>
#include <utility>

#include "checkpoint/printable.h"
#include "text/chat/request_json.h"

namespace hadal::server {
namespace {

constexpr RefusedField kRefused[] = {
    {"functions", "[]", "give tools instead"},
    {"function_call", "\"none\"", "give tool_choice instead"},
    {"audio", "", "answers are text"},
    {"modalities", "[\"text\"]", "answers are text"},
    {"web_search_options", "", "nothing is searched here; give a tool that searches"},
    {"verbosity", "\"medium\"", "say it in a message"},
    {"echo", "false", "use a last message with \"prefix\": true"},
    {"add_special_tokens", "false", "the chat format writes them"},
    {"chat_template", "", "the model's own format is used"},
    {"documents", "[]", "put them into a message"},
    {"mm_processor_kwargs", "{}", "the model reads text alone"},
    {"best_of", "1", "ask for several answers by n"},
};
constexpr const char* kHarmless[] = {"prediction", "reasoning_format", "stream_reasoning"};

// ---- messages

Status check_part(const Json& part, const std::string& where) {
  if (!part.is_object() || !part.contains("type") || !part["type"].is_string()) return {};
  const auto& type = part["type"].get_ref<const std::string&>();
  for (const auto& [name, what] : {std::pair{"image", "images"}, std::pair{"audio", "audio"},
                                   std::pair{"video", "videos"}, std::pair{"file", "files"}})
    if (type.find(name) != std::string::npos)
      return usage_error(where + ": " + quote(type) + " was found; the model reads text, no " +
                         what + ": leave the part out");
  return {};
}

/// What is bounded, and what is no part of a chat here; the rest is read_chat_request's.
Status check_messages(const Json& body) {
  const auto messages = body.find("messages");
  if (messages == body.end() || !messages->is_array()) return {};
  HADAL_TRY(check_limit(limit("messages"), static_cast<int64_t>(messages->size())));
  for (size_t i = 0; i < messages->size(); ++i) {
    const Json& message = (*messages)[i];
    const std::string path = "messages[" + std::to_string(i) + "]";
    if (!message.is_object()) continue;
    Fields fields(message, path);
    for (const char* name : {"audio", "function_call"})
      if (fields.find(name))
        return usage_error(fields.path_of(name) + ": is not supported: " +
                           (*name == 'a' ? "the model reads text" : "give tool_calls instead"));
    if (const Json* role = fields.find("role"); role && *role == "function")
      return usage_error(path + ".role: \"function\" is not supported: give \"tool\" instead");
    if (const Json* calls = fields.find("tool_calls"); calls && calls->is_array())
      HADAL_TRY(check_limit(limit("messages[].tool_calls"), static_cast<int64_t>(calls->size()),
                            path + ".tool_calls"));
    const Json* content = fields.find("content");
    if (!content || !content->is_array()) continue;
    HADAL_TRY(check_limit(limit("messages[].content"), static_cast<int64_t>(content->size()),
                          path + ".content"));
    for (size_t p = 0; p < content->size(); ++p)
      HADAL_TRY(check_part((*content)[p], path + ".content[" + std::to_string(p) + "].type"));
  }
  return {};
}

// ---- tools

bool is_object_schema(const Json& schema) {
  const auto type = schema.find("type");
  if (type == schema.end()) return schema.contains("properties");
  return *type == "object" ||
         (type->is_array() && std::find(type->begin(), type->end(), "object") != type->end());
}

/// DeepSeek's and OpenAI's rule of strict tools: every object lists all of its properties as
/// required and takes no others. What else a schema may hold is the grammar's to refuse.
Status check_strict(const Json& schema, const std::string& path) {
  if (!schema.is_object()) return {};
  if (is_object_schema(schema)) {
    const auto more = schema.find("additionalProperties");
    if (more == schema.end() || *more != false)
      return usage_error(path +
                         ": a strict tool needs \"additionalProperties\": false in every "
                         "object of its schema");
    std::set<std::string> required;
    if (const auto list = schema.find("required"); list != schema.end() && list->is_array())
      for (const Json& name : *list)
        if (name.is_string()) required.insert(name.get<std::string>());
    if (const auto all = schema.find("properties"); all != schema.end() && all->is_object())
      for (const auto& [name, property] : all->items())
        if (!required.contains(name))
          return usage_error(path + ".required: a strict tool needs every property there; " +
                             quote(name) + " is missing");
  }
  for (const char* key : {"properties", "$defs", "$def", "definitions"})
    if (const auto inner = schema.find(key); inner != schema.end() && inner->is_object())
      for (const auto& [name, property] : inner->items())
        HADAL_TRY(check_strict(property, path + "." + key + "." + printable(name, 40)));
  for (const char* key : {"anyOf", "allOf", "oneOf"})
    if (const auto inner = schema.find(key); inner != schema.end() && inner->is_array())
      for (size_t i = 0; i < inner->size(); ++i)
        HADAL_TRY(check_strict((*inner)[i], path + "." + key + "[" + std::to_string(i) + "]"));
  if (const auto items = schema.find("items"); items != schema.end())
    HADAL_TRY(check_strict(*items, path + ".items"));
  return {};
}

Result<ToolSpec> read_tool(const Json& value, const std::string& path) {
  if (!value.is_object()) return wrong_type(path, "an object", value);
  Fields tool(value, path);
  HADAL_TRY(const std::string type, tool.text("type"));
  if (type != "function" && !type.empty())
    return usage_error(path + ".type: only \"function\" is supported, " + quote(type) +
                       " was found");
  HADAL_TRY(std::optional<Fields> function, tool.object("function"));
  if (!function) return usage_error(path + ".function: is missing");
  ToolSpec spec;
  if (!function->find("name")) return usage_error(path + ".function.name: is missing");
  HADAL_TRY(spec.name, function->text("name", limit("tools[].function.name")));
  const bool plain = std::all_of(spec.name.begin(), spec.name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
  });
  if (!plain)
    return usage_error(path + ".function.name: letters, digits, _, - and . are expected, " +
                       quote(spec.name) + " was found");
  HADAL_TRY(function->text("description"));
  HADAL_TRY(spec.strict, function->flag("strict", false));
  if (const Json* parameters = function->find("parameters")) {
    if (!parameters->is_object())
      return wrong_type(path + ".function.parameters", "a JSON schema", *parameters);
    spec.parameters = parameters->dump();
    if (spec.strict) HADAL_TRY(check_strict(*parameters, path + ".function.parameters"));
  }
  return spec;
}

Status read_tools(Fields& fields, ChatCall& call) {
  const Json* tools = fields.find("tools");
  if (!tools) return {};
  if (!tools->is_array()) return wrong_type("tools", "a list", *tools);
  HADAL_TRY(check_limit(limit("tools"), static_cast<int64_t>(tools->size())));
  std::set<std::string> names;
  for (size_t i = 0; i < tools->size(); ++i) {
    const std::string path = "tools[" + std::to_string(i) + "]";
    HADAL_TRY(ToolSpec spec, read_tool((*tools)[i], path));
    if (!names.insert(spec.name).second)
      return usage_error(path + ".function.name: " + quote(spec.name) + " occurs twice");
    call.options.strict_tools = call.options.strict_tools || spec.strict;
    call.tools.push_back(std::move(spec));
  }
  return {};
}

Status read_tool_choice(Fields& fields, ChatCall& call) {
  AnswerOptions& options = call.options;
  HADAL_TRY(options.parallel_tool_calls, fields.flag("parallel_tool_calls", true));
  const Json* value = fields.find("tool_choice");
  if (!value) return {};
  if (value->is_object()) {
    Fields choice(*value, "tool_choice");
    HADAL_TRY(const std::string type, choice.text("type"));
    if (type != "function")
      return usage_error("tool_choice.type: only \"function\" is supported, " + quote(type) +
                         " was found");
    HADAL_TRY(std::optional<Fields> function, choice.object("function"));
    if (!function) return usage_error("tool_choice.function: is missing");
    HADAL_TRY(options.tool_name, function->text("name"));
    options.tool_use = ToolUse::kNamed;
    if (std::none_of(call.tools.begin(), call.tools.end(),
                     [&](const ToolSpec& tool) { return tool.name == options.tool_name; }))
      return usage_error("tool_choice.function.name: " + quote(options.tool_name) +
                         " is none of the tools");
    return {};
  }
  if (*value == "auto") return {};
  if (*value == "required") {
    if (call.tools.empty()) return usage_error("tool_choice: \"required\" needs tools");
    options.tool_use = ToolUse::kRequired;
    return {};
  }
  if (*value != "none")
    return usage_error(
        "tool_choice: \"none\", \"auto\", \"required\" or {\"type\": \"function\", "
        "\"function\": {\"name\": …}} is expected, " +
        (value->is_string() ? quote(value->get<std::string>()) : std::string(value->type_name())) +
        " was found");
  // What is not declared is not called.
  options.tool_use = ToolUse::kNone;
  call.tools.clear();
  call.chat.tools_json.clear();
  return {};
}

// ---- thinking

/// Several names of one switch must agree.
Status set_thinking(ChatRequest& chat, const Json* value, const std::string& path) {
  if (!value) return {};
  if (!value->is_boolean()) return wrong_type(path, "true or false", *value);
  if (chat.thinking && *chat.thinking != value->get<bool>())
    return usage_error(path + ": says the opposite of another field that turns thinking on or off");
  chat.thinking = value->get<bool>();
  return {};
}

Status set_budget(AnswerOptions& options, std::optional<int64_t> budget, const std::string& path) {
  if (!budget) return {};
  if (options.thinking_budget && *options.thinking_budget != *budget)
    return usage_error(path + ": another field gives another budget of the thought; give one");
  options.thinking_budget = budget;
  return {};
}

Status read_thinking(Fields& fields, ChatCall& call) {
  ChatRequest& chat = call.chat;
  const Limit& budget = limit("thinking_token_budget");
  if (const Json* thinking = fields.find("thinking"); thinking && thinking->is_object()) {
    Fields inner(*thinking, "thinking");
    HADAL_TRY(const auto tokens, inner.whole("budget_tokens", budget));
    HADAL_TRY(set_budget(call.options, tokens, "thinking.budget_tokens"));
  }
  HADAL_TRY(const auto tokens, fields.whole("thinking_token_budget", budget));
  HADAL_TRY(set_budget(call.options, tokens, "thinking_token_budget"));
  HADAL_TRY(set_thinking(chat, fields.find("enable_thinking"), "enable_thinking"));
  for (const char* name : {"reasoning_effort", "effort"})
    if (const Json* effort = fields.find(name); effort && effort->is_number())
      HADAL_TRY(whole_of(*effort, limit("reasoning_effort"), name));
  HADAL_TRY(std::optional<Fields> arguments, fields.object("chat_template_kwargs"));
  if (arguments) {
    for (const char* name : {"thinking", "enable_thinking"})
      HADAL_TRY(set_thinking(chat, arguments->find(name), arguments->path_of(name)));
    HADAL_TRY(const std::string effort, arguments->text("reasoning_effort"));
    if (!effort.empty() && !chat.effort.empty() && effort != chat.effort)
      return usage_error("chat_template_kwargs.reasoning_effort: is " + quote(effort) +
                         ", and reasoning_effort is " + quote(chat.effort) + "; give one");
    if (!effort.empty()) chat.effort = effort;
    if (const auto unknown = arguments->unknown(); !unknown.empty())
      return usage_error(unknown[0] +
                         ": is not supported: known are thinking, enable_thinking and "
                         "reasoning_effort");
  }
  // For formats that know no effort, "none" is the switch alone.
  if (chat.effort == "none" && !chat.thinking.value_or(false)) {
    chat.thinking = false;
    chat.effort.clear();
  }
  return {};
}

// ---- the rest of a chat

Status read_continuation(Fields& fields, ChatRequest& chat) {
  HADAL_TRY(const bool continues, fields.flag("continue_final_message", false));
  fields.find("add_generation_prompt");  // read_chat_request's
  if (!continues) return {};
  const bool given = fields.find("add_generation_prompt") != nullptr;
  if (given && chat.add_generation_prompt)
    return usage_error(
        "continue_final_message: and add_generation_prompt exclude each other; give one");
  if (chat.messages.back().role != "assistant")
    return usage_error("continue_final_message: the last message is " +
                       quote(chat.messages.back().role) + "'s, the assistant's is expected");
  chat.messages.back().prefix = true;
  chat.add_generation_prompt = true;
  return {};
}

Status read_logprobs(Fields& fields, AnswerOptions& options) {
  HADAL_TRY(options.logprobs, fields.flag("logprobs", false));
  HADAL_TRY(const auto top, fields.whole("top_logprobs", limit("top_logprobs")));
  options.top_logprobs = top.value_or(0);
  if (options.top_logprobs > 0 && !options.logprobs)
    return usage_error("top_logprobs: needs \"logprobs\": true");
  return {};
}

}  // namespace

Result<ChatCall> parse_chat_call(std::string_view body) {
  HADAL_TRY(const Json root, parse_body(body));
  return read_chat_call(root);
}

Result<ChatCall> read_chat_call(const Json& body) {
  if (!body.is_object()) return wrong_type("", "an object", body);
  Fields fields(body, "");
  ChatCall call;
  HADAL_TRY(check_messages(body));
  fields.find("messages");
  HADAL_TRY(read_tools(fields, call));
  HADAL_TRY(call.chat, read_chat_request(body));
  for (ChatMessage& message : call.chat.messages)
    if (message.role == "developer") message.role = "system";
  HADAL_TRY(read_tool_choice(fields, call));
  HADAL_TRY(read_thinking(fields, call));
  HADAL_TRY(read_continuation(fields, call.chat));
  HADAL_TRY(read_logprobs(fields, call.options));
  HADAL_TRY(const auto most, read_max_tokens(fields));
  call.options.max_new_tokens = most.value_or(0);
  HADAL_TRY(call.include_reasoning, fields.flag("include_reasoning", true));
  HADAL_TRY(read_common(fields, call));
  HADAL_TRY(refuse(fields, kRefused));
  pass(fields, kHarmless);
  call.ignored = fields.unknown();
  return call;
}

// ---- responses

namespace {

Json call_json(const ReplyHead& head, int64_t choice, size_t index, const ToolCall& call) {
  Json json;
  json["id"] = call.id.empty() ? tool_call_id(head, choice, index) : call.id;
  json["type"] = "function";
  json["function"] = {{"name", call.name}, {"arguments", call.arguments}};
  return json;
}

/// DeepSeek's two lists; null where no log-probabilities were asked for.
Json logprobs_json(const ChatCall& call, const std::vector<ScoredToken>& reasoning,
                   const std::vector<ScoredToken>& content) {
  if (!call.options.logprobs) return {};
  Json json;
  json["content"] = chat_logprobs(content);
  json["reasoning_content"] =
      call.include_reasoning && !reasoning.empty() ? chat_logprobs(reasoning) : Json();
  return json;
}

size_t calls_shown(const ChatCall& call, size_t calls) {
  return call.options.parallel_tool_calls ? calls : std::min<size_t>(calls, 1);
}

}  // namespace

std::string tool_call_id(const ReplyHead& head, int64_t choice, size_t call) {
  const size_t dash = head.id.find('-');
  return "call_" + (dash == std::string::npos ? head.id : head.id.substr(dash + 1)) + "_" +
         std::to_string(choice) + "_" + std::to_string(call);
}

std::string chat_reply(const ReplyHead& head, const ChatCall& call,
                       const std::vector<ChatChoice>& choices, const UsageCounts& usage) {
  Json reply;
  reply["id"] = head.id;
  reply["object"] = "chat.completion";
  reply["created"] = head.created;
  reply["model"] = head.model;
  Json& list = reply["choices"] = Json::array();
  for (const ChatChoice& choice : choices) {
    const size_t calls = calls_shown(call, choice.tool_calls.size());
    Json message;
    message["role"] = "assistant";
    const bool silent = choice.content.empty() && calls > 0;
    message["content"] = silent ? Json() : Json(choice.content);
    message["reasoning_content"] =
        call.include_reasoning && !choice.reasoning.empty() ? Json(choice.reasoning) : Json();
    for (size_t i = 0; i < calls; ++i)
      message["tool_calls"].push_back(call_json(head, choice.index, i, choice.tool_calls[i]));
    Json json;
    json["index"] = choice.index;
    json["message"] = std::move(message);
    json["logprobs"] = logprobs_json(call, choice.reasoning_tokens, choice.content_tokens);
    json["finish_reason"] = finish_reason(choice.end, calls > 0);
    list.push_back(std::move(json));
  }
  reply["usage"] = usage_json(usage);
  reply["system_fingerprint"] = head.fingerprint;
  return json_text(reply);
}

Json ChatStream::chunk() const {
  Json json;
  json["id"] = head_.id;
  json["object"] = "chat.completion.chunk";
  json["created"] = head_.created;
  json["model"] = head_.model;
  json["system_fingerprint"] = head_.fingerprint;
  json["choices"] = Json::array();
  return json;
}

std::string ChatStream::with_delta(int64_t choice, Json delta, Json logprobs, Json finish_reason,
                                   const UsageCounts* usage) const {
  Json json = chunk();
  Json entry;
  entry["index"] = choice;
  entry["delta"] = std::move(delta);
  entry["logprobs"] = std::move(logprobs);
  entry["finish_reason"] = std::move(finish_reason);
  json["choices"].push_back(std::move(entry));
  if (usage)
    json["usage"] = usage_json(*usage);
  else if (call_.include_usage)
    json["usage"] = nullptr;
  return json_text(json);
}

std::string ChatStream::begin(int64_t choice) {
  return with_delta(choice,
                    {{"role", "assistant"}, {"content", ""}, {"reasoning_content", nullptr}});
}

std::vector<std::string> ChatStream::push(int64_t choice, const ChatDelta& delta) {
  std::vector<std::string> chunks;
  const std::vector<ScoredToken> none;
  const bool scored = call_.options.logprobs;
  if (call_.include_reasoning &&
      (!delta.text.reasoning.empty() || (scored && !delta.reasoning_tokens.empty())))
    chunks.push_back(with_delta(choice,
                                {{"content", nullptr}, {"reasoning_content", delta.text.reasoning}},
                                logprobs_json(call_, delta.reasoning_tokens, none)));
  if (!delta.text.content.empty() || (scored && !delta.content_tokens.empty()))
    chunks.push_back(with_delta(choice,
                                {{"content", delta.text.content}, {"reasoning_content", nullptr}},
                                logprobs_json(call_, none, delta.content_tokens)));
  for (const ToolCall& call : delta.text.tool_calls) {
    if (calls_shown(call_, calls_[choice] + 1) == calls_[choice]) break;
    ToolCall named = call;
    named.arguments.clear();
    chunks.push_back(begin_call(choice, named));
    if (!call.arguments.empty()) chunks.push_back(grow_call(choice, call.arguments));
  }
  return chunks;
}

std::string ChatStream::begin_call(int64_t choice, const ToolCall& call) {
  const size_t index = calls_[choice]++;
  Json entry = {{"index", index}};
  entry.update(call_json(head_, choice, index, call));
  return with_delta(choice, {{"content", nullptr},
                             {"reasoning_content", nullptr},
                             {"tool_calls", Json::array({std::move(entry)})}});
}

std::string ChatStream::grow_call(int64_t choice, std::string_view arguments) {
  const auto begun = calls_.find(choice);
  HADAL_CHECK(begun != calls_.end() && begun->second > 0);
  const Json entry = {{"index", begun->second - 1}, {"function", {{"arguments", arguments}}}};
  return with_delta(
      choice,
      {{"content", nullptr}, {"reasoning_content", nullptr}, {"tool_calls", Json::array({entry})}});
}

std::string ChatStream::end(int64_t choice, AnswerEnd end, const UsageCounts* usage) {
  return with_delta(choice, {{"content", ""}, {"reasoning_content", nullptr}}, {},
                    finish_reason(end, calls_[choice] > 0), usage);
}

std::string ChatStream::usage(const UsageCounts& usage) {
  Json json = chunk();
  json["usage"] = usage_json(usage);
  return json_text(json);
}

}  // namespace hadal::server
