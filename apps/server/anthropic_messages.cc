#include "server/anthropic_messages.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <utility>

#include "checkpoint/printable.h"
#include "server/anthropic_blocks.h"
#include "server/call_fields.h"
#include "server/tool_fields.h"

namespace hadal::server {
namespace {

constexpr RefusedField kRefused[] = {
    // The API's own, which are not built.
    {"container", "", "there are no containers; leave it out"},
    {"mcp_servers", "[]", "no tools run on the server; give tools of your own"},
    {"compaction", "", "a conversation is never cut; shorten it"},
    {"fallbacks", "[]", "one model answers; ask the other one yourself"},
    // Other APIs' names for what has a name here, or no place.
    {"n", "1", "an answer is one message; send the request again for another"},
    {"stop", "[]", "give stop_sequences instead"},
    {"prompt", "", "give messages instead"},
    {"max_completion_tokens", "", "give max_tokens instead"},
    {"max_tokens_to_sample", "", "give max_tokens instead"},
    {"response_format", R"({"type":"text"})", "give output_config.format instead"},
    {"effort", "", "give output_config.effort instead"},
    {"reasoning_effort", "", "give output_config.effort instead"},
    {"enable_thinking", "", "give thinking instead"},
    {"thinking_token_budget", "", "give thinking.budget_tokens instead"},
    {"chat_template_kwargs", "{}", "give thinking instead"},
    {"chat_template", "", "the model's own format is used"},
    {"parallel_tool_calls", "true", "give tool_choice.disable_parallel_tool_use instead"},
    {"logprobs", "false", "a message has no place for them; use /v1/chat/completions"},
    {"top_logprobs", "0", "a message has no place for them; use /v1/chat/completions"},
};
constexpr const char* kHarmless[] = {"metadata",
                                     "service_tier",
                                     "betas",
                                     "anthropic_beta",
                                     "anthropic_version",
                                     "cache_control",
                                     "diagnostics",
                                     "inference_geo",
                                     "speed",
                                     "billing_policy",
                                     "user_profile_id",
                                     "workspace_id",
                                     "stream_options",
                                     "user",
                                     "store",
                                     "request_id",
                                     "fallback_credit_token"};

// ---- tools

/// Callers of a tool: the model itself must be among them.
Status check_callers(Fields& tool) {
  const Json* callers = tool.find("allowed_callers");
  if (!callers) return {};
  const std::string path = tool.path_of("allowed_callers");
  if (!callers->is_array()) return wrong_type(path, "a list", *callers);
  if (std::find(callers->begin(), callers->end(), "direct") != callers->end()) return {};
  return usage_error(path + ": no code runs on the server that could call it; add \"direct\"");
}

/// `declared`: the tool in the form that chat formats read.
Result<ToolSpec> read_tool(const Json& value, const std::string& path, Json& declared) {
  if (!value.is_object()) return wrong_type(path, "an object", value);
  Fields tool(value, path);
  HADAL_TRY(const std::string type, tool.text("type"));
  if (!type.empty() && type != "custom")
    return usage_error(path + ".type: " + quote(type) +
                       " is a tool that the API's own servers know, which is not built: give one "
                       "of your own, with name, description and input_schema");
  ToolSpec spec;
  HADAL_TRY(spec.name, read_function_name(tool));
  HADAL_TRY(const std::string description, tool.text("description"));
  HADAL_TRY(spec.strict, tool.flag("strict", false));
  const Json* schema = tool.find("input_schema");
  if (!schema) return usage_error(path + ".input_schema: is missing");
  if (!schema->is_object()) return wrong_type(path + ".input_schema", "a JSON schema", *schema);
  spec.parameters = schema->dump();
  constexpr RefusedField kNotBuilt[] = {
      {"defer_loading", "false", "there is no search for tools: all are shown to the model"},
      {"input_examples", "[]", "put examples into the description"}};
  HADAL_TRY(refuse(tool, kNotBuilt));
  HADAL_TRY(check_callers(tool));
  Json function;
  function["name"] = spec.name;
  if (tool.find("description")) function["description"] = description;
  function["parameters"] = *schema;
  if (spec.strict) function["strict"] = true;
  declared["type"] = "function";
  declared["function"] = std::move(function);
  return spec;
}

Status read_tools(Fields& fields, ChatCall& call) {
  const Json* tools = fields.find("tools");
  if (!tools) return {};
  if (!tools->is_array()) return wrong_type("tools", "a list", *tools);
  HADAL_TRY(check_limit(limit("tools"), static_cast<int64_t>(tools->size())));
  std::set<std::string> names;
  Json list = Json::array();
  for (size_t i = 0; i < tools->size(); ++i) {
    const std::string path = "tools[" + std::to_string(i) + "]";
    Json declared;
    HADAL_TRY(ToolSpec spec, read_tool((*tools)[i], path, declared));
    if (!names.insert(spec.name).second)
      return usage_error(path + ".name: " + quote(spec.name) + " occurs twice");
    call.options.strict_tools = call.options.strict_tools || spec.strict;
    call.tools.push_back(std::move(spec));
    list.push_back(std::move(declared));
  }
  if (!list.empty()) call.chat.tools_json = list.dump();
  return {};
}

Status read_tool_choice(Fields& fields, ChatCall& call) {
  AnswerOptions& options = call.options;
  HADAL_TRY(std::optional<Fields> choice, fields.object("tool_choice"));
  if (!choice) return {};
  HADAL_TRY(const std::string type, choice->text("type"));
  HADAL_TRY(const bool one, choice->flag("disable_parallel_tool_use", false));
  options.parallel_tool_calls = !one;
  if (type == "auto") return {};
  if (type == "none") {
    // What is not declared is not called.
    options.tool_use = ToolUse::kNone;
    options.strict_tools = false;
    call.tools.clear();
    call.chat.tools_json.clear();
    return {};
  }
  if (type == "any") {
    if (call.tools.empty()) return usage_error("tool_choice: \"any\" needs tools");
    options.tool_use = ToolUse::kRequired;
    return {};
  }
  if (type != "tool")
    return usage_error("tool_choice.type: \"auto\", \"any\", \"tool\" or \"none\" is expected, " +
                       (choice->find("type") ? quote(type) + " was found" : "it is missing"));
  if (!choice->find("name")) return usage_error("tool_choice.name: is missing");
  HADAL_TRY(options.tool_name, choice->text("name"));
  options.tool_use = ToolUse::kNamed;
  if (std::none_of(call.tools.begin(), call.tools.end(),
                   [&](const ToolSpec& tool) { return tool.name == options.tool_name; }))
    return usage_error("tool_choice.name: " + quote(options.tool_name) + " is none of the tools");
  return {};
}

// ---- thinking

Status read_thinking(Fields& fields, ChatCall& call) {
  HADAL_TRY(call.include_reasoning, fields.flag("include_reasoning", true));
  HADAL_TRY(std::optional<Fields> thinking, fields.object("thinking"));
  if (!thinking) return {};
  HADAL_TRY(const std::string type, thinking->text("type"));
  if (type != "enabled" && type != "disabled" && type != "adaptive")
    return usage_error("thinking.type: \"enabled\", \"disabled\" or \"adaptive\" is expected, " +
                       (thinking->find("type") ? quote(type) + " was found" : "it is missing"));
  if (type != "adaptive") call.chat.thinking = type == "enabled";
  HADAL_TRY(const auto budget, thinking->whole("budget_tokens", limit("thinking_token_budget")));
  HADAL_TRY(set_budget(call.options, budget, "thinking.budget_tokens"));
  HADAL_TRY(const std::string display, thinking->text("display"));
  if (display == "omitted")
    call.include_reasoning = false;
  else if (!display.empty() && display != "summarized")
    return usage_error("thinking.display: \"summarized\" or \"omitted\" is expected, " +
                       quote(display) + " was found");
  const ChatMessage& last = call.chat.messages.back();
  if (type == "enabled" && last.prefix && last.reasoning.empty())
    return usage_error(
        "thinking: is enabled, and the last message is the assistant's without a thought: put a "
        "thinking block in front of its text, or leave the message or thinking out");
  return {};
}

// ---- the shape of the answer

Status read_effort(Fields& config, ChatRequest& chat) {
  const Json* effort = config.find("effort");
  if (!effort) return {};
  if (effort->is_number()) {
    HADAL_TRY(const int64_t number,
              whole_of(*effort, limit("reasoning_effort"), config.path_of("effort")));
    chat.effort = std::to_string(number);
    return {};
  }
  HADAL_TRY(chat.effort, config.text("effort"));
  if (chat.effort == "high") chat.effort.clear();
  return {};
}

/// {"type": "json_schema", "schema": …} under `key`.
Status read_format(Fields& holder, const char* key, ChatCall& call, Shapes& shapes) {
  HADAL_TRY(std::optional<Fields> format, holder.object(key));
  if (!format) return {};
  const std::string path = holder.path_of(key);
  HADAL_TRY(const std::string type, format->text("type"));
  if (type != "json_schema")
    return usage_error(path + ".type: \"json_schema\" is expected, " +
                       (format->find("type") ? quote(type) + " was found" : "it is missing"));
  const Json* schema = format->find("schema");
  if (!schema) return usage_error(path + ".schema: is missing");
  if (!schema->is_object()) return wrong_type(path + ".schema", "a JSON schema", *schema);
  HADAL_TRY(shapes.add({.kind = AnswerShape::Kind::kJsonSchema, .text = schema->dump()}, path));
  call.chat.response_format = ResponseFormat::kJsonSchema;
  call.chat.response_schema = call.options.shape->text;
  return {};
}

Status read_output(Fields& fields, ChatCall& call) {
  Shapes shapes(call.options);
  HADAL_TRY(std::optional<Fields> config, fields.object("output_config"));
  if (config) {
    HADAL_TRY(read_effort(*config, call.chat));
    HADAL_TRY(read_format(*config, "format", call, shapes));
    constexpr RefusedField kNotBuilt[] = {{"task_budget", "", "give max_tokens instead"}};
    HADAL_TRY(refuse(*config, kNotBuilt));
    call.ignored = config->unknown();
  }
  HADAL_TRY(read_format(fields, "output_format", call, shapes));
  return read_structured_outputs(fields, shapes);
}

// ---- the rest

/// Edits that keep everything ask for nothing.
Status check_context_management(Fields& fields) {
  HADAL_TRY(std::optional<Fields> management, fields.object("context_management"));
  if (!management) return {};
  const std::string path = management->path_of("edits");
  const Json* edits = management->find("edits");
  if (!edits) return {};
  if (!edits->is_array()) return wrong_type(path, "a list", *edits);
  for (size_t i = 0; i < edits->size(); ++i) {
    const std::string where = path + "[" + std::to_string(i) + "]";
    if (!(*edits)[i].is_object()) return wrong_type(where, "an object", (*edits)[i]);
    Fields edit((*edits)[i], where);
    HADAL_TRY(const std::string type, edit.text("type"));
    const Json* keep = edit.find("keep");
    const bool keeps = keep && (*keep == "all" || *keep == Json{{"type", "all"}});
    if (type.starts_with("clear_thinking") && keeps) continue;
    return usage_error(where + ": " + quote(type) +
                       " is not supported: a conversation is read as it is; leave out of messages "
                       "what the model should not see");
  }
  return {};
}

Result<ChatCall> read_call(const Json& body, bool counting) {
  if (!body.is_object()) return wrong_type("", "an object", body);
  Fields fields(body, "");
  ChatCall call;
  AnswerOptions& options = call.options;
  HADAL_TRY(call.model, fields.text("model", limit("model")));
  HADAL_TRY(const auto most, fields.whole("max_tokens", limit("max_tokens")));
  if (!most && !counting)
    return usage_error("max_tokens: is missing; give the most tokens that the answer may have");
  options.max_new_tokens = most.value_or(0);
  HADAL_TRY(call.chat.messages, read_conversation(fields));
  HADAL_TRY(read_tools(fields, call));
  HADAL_TRY(read_tool_choice(fields, call));
  HADAL_TRY(read_thinking(fields, call));
  HADAL_TRY(read_output(fields, call));
  HADAL_TRY(read_sampling(fields, options.sampling));
  HADAL_TRY(read_logit_bias(fields, options));
  HADAL_TRY(options.stop, fields.texts("stop_sequences", limit("stop"), limit("stop[]")));
  HADAL_TRY(read_extensions(fields, options));
  HADAL_TRY(const bool stream, fields.flag("stream", false));
  call.stream = stream && !counting;
  HADAL_TRY(check_context_management(fields));
  if (const Json* thread = fields.find("thread")) {
    const bool goes_on = thread->is_object() && thread->contains("previous_message_id");
    const std::string words =
        "thread: is not supported: nothing is kept between requests; give all messages";
    return goes_on ? not_found(words) : usage_error(words);
  }
  HADAL_TRY(refuse(fields, kRefused));
  pass(fields, kHarmless);
  const std::vector<std::string> unknown = fields.unknown();
  call.ignored.insert(call.ignored.begin(), unknown.begin(), unknown.end());
  return call;
}

}  // namespace

Result<ChatCall> parse_messages_call(std::string_view body) {
  HADAL_TRY(const Json root, parse_body(body));
  return read_call(root, false);
}

Result<ChatCall> read_messages_call(const Json& body) { return read_call(body, false); }

Result<ChatCall> parse_count_tokens_call(std::string_view body) {
  HADAL_TRY(const Json root, parse_body(body));
  return read_call(root, true);
}

Result<ChatCall> read_count_tokens_call(const Json& body) { return read_call(body, true); }

}  // namespace hadal::server
