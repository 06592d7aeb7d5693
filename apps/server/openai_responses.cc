#include "server/openai_responses.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "checkpoint/printable.h"
#include "server/call_fields.h"
#include "server/responses_items.h"
#include "server/responses_tools.h"

namespace hadal::server {
namespace {

constexpr RefusedField kRefused[] = {
    {"background", "false", "answers are given on the connection that asked; use stream"},
    {"conversation", "", "there are no conversations here; use previous_response_id"},
    {"prompt", "", "there are no prompt templates here; give instructions and input"},
    {"truncation", "\"disabled\"", "a prompt is never cut; shorten the input"},
    {"context_management", "[]", "a conversation is never compacted; shorten the input"},
    {"moderation", "", "nothing is moderated here"},
    {"background_options", "", "answers are given on the connection that asked"},
    // Names of chat completions, which would be lost in silence.
    {"messages", "", "give input instead"},
    {"max_tokens", "", "give max_output_tokens instead"},
    {"max_completion_tokens", "", "give max_output_tokens instead"},
    {"response_format", "", "give text.format instead"},
    {"reasoning_effort", "", "give reasoning.effort instead"},
    {"logprobs", "false", "give \"include\": [\"message.output_text.logprobs\"] instead"},
    {"n", "1", "a response has one answer; ask again, or use /v1/chat/completions"},
};
constexpr const char* kHarmless[] = {
    "service_tier", "prompt_cache_retention",  "prompt_cache_options", "access_programs",
    "image",        "guided_decoding_backend",
};
/// What "include" may name beside log-probabilities: of tools that are not here, or without effect.
constexpr std::string_view kIncludable[] = {"file_search_call.results",
                                            "web_search_call.results",
                                            "web_search_call.action.sources",
                                            "message.input_image.image_url",
                                            "computer_call_output.output.image_url",
                                            "code_interpreter_call.outputs",
                                            "reasoning.encrypted_content"};

Error not_expected(const std::string& path, std::string_view expected, const std::string& found) {
  return usage_error(path + ": " + std::string(expected) + " is expected, " + quote(found) +
                     " was found");
}

/// The value as given, or null.
Json as_given(Fields& fields, const char* key) {
  const Json* value = fields.find(key);
  return value ? *value : Json();
}

// ---- what goes in

Status read_conversation(Fields& fields, const ResponseFinder& find, ResponsesCall& call) {
  HADAL_TRY(const std::string instructions, fields.text("instructions"));
  call.echo["instructions"] = as_given(fields, "instructions");
  HADAL_TRY(const std::string previous,
            fields.text("previous_response_id", limit("previous_response_id")));
  call.echo["previous_response_id"] = as_given(fields, "previous_response_id");
  const Json* input = fields.find("input");
  if (!input) return usage_error("input: is missing");
  call.items = Json::array();
  if (!previous.empty()) {
    HADAL_TRY(call.items, read_previous(previous, find));
  }
  HADAL_TRY(Json items, read_input(*input, find));
  for (Json& item : items) call.items.push_back(std::move(item));
  HADAL_TRY(check_limit(limit("input"), static_cast<int64_t>(call.items.size())));
  call.chat.messages = messages_of(call.items);
  if (!instructions.empty())
    call.chat.messages.insert(call.chat.messages.begin(),
                              {.role = "system", .content = instructions});
  if (call.chat.messages.empty())
    return usage_error("input: holds nothing but calls that broke off; give a message");
  return {};
}

Status read_metadata(Fields& fields, Json& echo) {
  const Json* metadata = fields.find("metadata");
  echo["metadata"] = metadata ? *metadata : Json::object();
  if (!metadata) return {};
  if (!metadata->is_object()) return wrong_type("metadata", "an object of texts", *metadata);
  HADAL_TRY(check_limit(limit("metadata"), static_cast<int64_t>(metadata->size()), "metadata"));
  for (const auto& [key, value] : metadata->items()) {
    const std::string path = "metadata." + printable(key, 40);
    if (!value.is_string()) return wrong_type(path, "a text", value);
    for (const size_t bytes : {key.size(), value.get_ref<const std::string&>().size()})
      HADAL_TRY(check_limit(limit("metadata[]"), static_cast<int64_t>(bytes), path));
  }
  return {};
}

// ---- what comes out

Status read_include(Fields& fields, AnswerOptions& options, Json& echo) {
  HADAL_TRY(const auto top, fields.whole("top_logprobs", limit("top_logprobs")));
  echo["top_logprobs"] = top.value_or(0);
  const Json* include = fields.find("include");
  if (!include) return {};
  if (!include->is_array()) return wrong_type("include", "a list of texts", *include);
  HADAL_TRY(check_limit(limit("stop"), static_cast<int64_t>(include->size()), "include"));
  for (size_t i = 0; i < include->size(); ++i) {
    const std::string path = "include[" + std::to_string(i) + "]";
    if (!(*include)[i].is_string()) return wrong_type(path, "a text", (*include)[i]);
    const auto& name = (*include)[i].get_ref<const std::string&>();
    if (name == "message.output_text.logprobs") {
      options.logprobs = true;
      options.top_logprobs = top.value_or(0);  // without effect otherwise
    } else if (std::find(std::begin(kIncludable), std::end(kIncludable), name) ==
               std::end(kIncludable)) {
      return not_expected(path, "\"message.output_text.logprobs\" or another name of the API",
                          name);
    }
  }
  return {};
}

Status read_schema(Fields& format, ResponsesCall& call, Shapes& shapes) {
  HADAL_TRY(const std::string name, format.text("name", limit("tools[].function.name")));
  if (name.empty()) return usage_error("text.format.name: is missing");
  HADAL_TRY(format.text("description"));
  const Json* schema = format.find("schema");
  if (!schema) return usage_error("text.format.schema: is missing");
  if (!schema->is_object()) return wrong_type("text.format.schema", "an object", *schema);
  HADAL_TRY(const bool strict, format.flag("strict", false));
  call.chat.response_format = ResponseFormat::kJsonSchema;
  call.chat.response_schema = schema->dump();
  return shapes.add(
      {.kind = AnswerShape::Kind::kJsonSchema, .text = call.chat.response_schema, .strict = strict},
      "text.format");
}

Status read_text(Fields& fields, ResponsesCall& call, Shapes& shapes) {
  Json& echo = call.echo["text"] = {{"format", {{"type", "text"}}}, {"verbosity", "medium"}};
  HADAL_TRY(std::optional<Fields> text, fields.object("text"));
  if (!text) return {};
  HADAL_TRY(const std::string verbosity, text->text("verbosity"));
  if (!verbosity.empty() && verbosity != "medium")
    return usage_error("text.verbosity: " + quote(verbosity) +
                       " is not supported: leave it out, and say it in instructions");
  HADAL_TRY(std::optional<Fields> format, text->object("format"));
  if (const auto unknown = text->unknown(); !unknown.empty())
    return usage_error(unknown[0] + ": is not supported: give format or verbosity");
  if (!format) return {};
  HADAL_TRY(const std::string type, format->text("type"));
  echo["format"] = *text->find("format");
  if (type == "text") return {};
  if (type == "json_schema") return read_schema(*format, call, shapes);
  if (type != "json_object")
    return not_expected("text.format.type", "\"text\", \"json_object\" or \"json_schema\"", type);
  call.chat.response_format = ResponseFormat::kJsonObject;
  return shapes.add({}, "text.format");
}

// ---- thinking

/// `thinking` {type, budget_tokens} as DeepSeek has it, or true or false.
Status read_thinking_object(Fields& fields, ResponsesCall& call) {
  const Json* value = fields.find("thinking");
  if (!value) return {};
  if (value->is_boolean()) return set_thinking(call.chat, value->get<bool>(), "thinking");
  if (!value->is_object()) return wrong_type("thinking", "true, false or {\"type\": …}", *value);
  Fields thinking(*value, "thinking");
  HADAL_TRY(const std::string type, thinking.text("type"));
  if (type != "enabled" && type != "disabled")
    return not_expected("thinking.type", "\"enabled\" or \"disabled\"", type);
  HADAL_TRY(set_thinking(call.chat, type == "enabled", "thinking"));
  HADAL_TRY(const auto budget, thinking.whole("budget_tokens", limit("thinking_token_budget")));
  return set_budget(call.options, budget, "thinking.budget_tokens");
}

constexpr RefusedField kRefusedReasoning[] = {
    {"mode", "\"standard\"", "answers are generated once"},
    {"context", "\"auto\"", "the chat format says which thoughts the model sees"},
};

Status read_reasoning(Fields& fields, ResponsesCall& call) {
  HADAL_TRY(read_thinking_object(fields, call));
  const Limit& row = limit("thinking_token_budget");
  HADAL_TRY(const auto budget, fields.whole("thinking_token_budget", row));
  HADAL_TRY(set_budget(call.options, budget, "thinking_token_budget"));
  if (fields.find("enable_thinking")) {
    HADAL_TRY(const bool on, fields.flag("enable_thinking", false));
    HADAL_TRY(set_thinking(call.chat, on, "enable_thinking"));
  }
  Json& echo = call.echo["reasoning"] = {{"effort", nullptr}, {"summary", nullptr}};
  HADAL_TRY(std::optional<Fields> reasoning, fields.object("reasoning"));
  if (!reasoning) return {};
  for (const char* key : {"summary", "generate_summary"}) {
    HADAL_TRY(const std::string summary, reasoning->text(key));
    if (!summary.empty() && summary != "auto" && summary != "concise" && summary != "detailed")
      return not_expected(reasoning->path_of(key), "\"auto\", \"concise\" or \"detailed\"",
                          summary);
  }
  if (const Json* effort = reasoning->find("effort"); effort && effort->is_number()) {
    HADAL_TRY(const int64_t number,
              whole_of(*effort, limit("reasoning_effort"), "reasoning.effort"));
    call.chat.effort = std::to_string(number);
  } else {
    HADAL_TRY(call.chat.effort, reasoning->text("effort"));
    echo["effort"] = as_given(*reasoning, "effort");
  }
  HADAL_TRY(refuse(*reasoning, kRefusedReasoning));
  if (const auto unknown = reasoning->unknown(); !unknown.empty())
    return usage_error(unknown[0] + ": is not supported: known are effort and summary");
  // For formats that know no effort, "none" is the switch alone.
  if (call.chat.effort != "none") return {};
  call.chat.effort.clear();
  return set_thinking(call.chat, false, "reasoning.effort");
}

// ---- the rest

Status read_stream(Fields& fields, ResponsesCall& call) {
  HADAL_TRY(call.stream, fields.flag("stream", false));
  HADAL_TRY(std::optional<Fields> options, fields.object("stream_options"));
  if (!options) return {};
  if (!call.stream)
    return usage_error("stream_options: is given without \"stream\": true; leave it out");
  HADAL_TRY(const bool obfuscated, options->flag("include_obfuscation", false));
  if (obfuscated)
    return usage_error(
        "stream_options.include_obfuscation: is not supported: events are not padded; leave it "
        "out, and use TLS");
  return {};
}

Status read_numbers(Fields& fields, ResponsesCall& call) {
  HADAL_TRY(const auto most, fields.whole("max_output_tokens", limit("max_output_tokens")));
  call.options.max_new_tokens = most.value_or(0);
  HADAL_TRY(fields.whole("max_tool_calls", limit("max_tool_calls")));
  HADAL_TRY(read_sampling(fields, call.options.sampling));
  HADAL_TRY(read_logit_bias(fields, call.options));
  HADAL_TRY(call.options.stop, fields.texts("stop", limit("stop"), limit("stop[]")));
  for (const char* key : {"user", "safety_identifier", "prompt_cache_key"}) {
    HADAL_TRY(fields.text(key));
    call.echo[key] = as_given(fields, key);
  }
  for (const char* key : {"max_output_tokens", "max_tool_calls", "temperature", "top_p"})
    call.echo[key] = as_given(fields, key);
  return {};
}

}  // namespace

Result<ResponsesCall> parse_responses_call(std::string_view body, const ResponseFinder& find) {
  HADAL_TRY(const Json root, parse_body(body));
  return read_responses_call(root, find);
}

Result<ResponsesCall> read_responses_call(const Json& body, const ResponseFinder& find) {
  if (!body.is_object()) return wrong_type("", "an object", body);
  Fields fields(body, "");
  ResponsesCall call;
  HADAL_TRY(call.model, fields.text("model", limit("model")));
  // First, so that a body for another API is told what it is.
  HADAL_TRY(refuse(fields, kRefused));
  Shapes shapes(call.options);
  HADAL_TRY(read_numbers(fields, call));
  HADAL_TRY(read_response_tools(fields, call, call.echo));
  HADAL_TRY(read_text(fields, call, shapes));
  HADAL_TRY(read_structured_outputs(fields, shapes));
  HADAL_TRY(read_reasoning(fields, call));
  HADAL_TRY(read_include(fields, call.options, call.echo));
  HADAL_TRY(read_metadata(fields, call.echo));
  HADAL_TRY(read_extensions(fields, call.options));
  HADAL_TRY(read_stream(fields, call));
  HADAL_TRY(call.store, fields.flag("store", true));
  // Last: what it looks up costs more than all the rest.
  HADAL_TRY(read_conversation(fields, find, call));
  pass(fields, kHarmless);
  call.ignored = fields.unknown();
  return call;
}

Result<std::string> list_input_items(const StoredResponse& stored, const ItemsQuery& query) {
  int64_t most = 20;
  if (!query.limit.empty()) {
    const char* end = query.limit.data() + query.limit.size();
    const auto read = std::from_chars(query.limit.data(), end, most);
    if (read.ec != std::errc() || read.ptr != end || most < 1 || most > 100)
      return not_expected("limit", "a whole number from 1 to 100", query.limit);
  }
  if (!query.order.empty() && query.order != "asc" && query.order != "desc")
    return not_expected("order", "\"asc\" or \"desc\"", query.order);
  Json items = Json::parse(stored.items, nullptr, false);
  const Json response = Json::parse(stored.response, nullptr, false);
  const bool sound = items.is_array() && response.is_object() && response.contains("output") &&
                     response["output"].size() <= items.size();
  if (!sound) return failed("the store of responses: a response is broken");
  items.erase(items.end() - static_cast<std::ptrdiff_t>(response["output"].size()), items.end());
  if (query.order != "asc") std::reverse(items.begin(), items.end());
  auto first = items.begin();
  if (!query.after.empty()) {
    first = std::find_if(items.begin(), items.end(), [&](const Json& item) {
      return item.is_object() && item.value("id", "") == query.after;
    });
    if (first == items.end())
      return usage_error("after: no item " + quote(query.after) + " is among the input's");
    ++first;
  }
  const auto last = first + std::min<std::ptrdiff_t>(items.end() - first, most);
  Json list;
  list["object"] = "list";
  list["data"] = Json(Json::array_t(first, last));
  list["first_id"] = first == last ? Json("") : first->value("id", Json(""));
  list["last_id"] = first == last ? Json("") : (last - 1)->value("id", Json(""));
  list["has_more"] = last != items.end();
  return json_text(list);
}

std::string deleted_response(const std::string& id) {
  return json_text({{"id", id}, {"object", "response"}, {"deleted", true}});
}

Error cancel_refused() {
  return usage_error(
      "only responses that run in the background can be cancelled, and none do here: close the "
      "connection instead");
}

}  // namespace hadal::server
