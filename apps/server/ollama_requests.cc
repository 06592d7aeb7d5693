#include "server/ollama_requests.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

#include "checkpoint/printable.h"
#include "server/call_fields.h"
#include "server/tool_fields.h"
#include "text/chat/python_json.h"

namespace hadal::server {
namespace {

constexpr RefusedField kRefused[] = {
    {"images", "[]", "the model reads text: leave it out"},
    {"truncate", "false", "a prompt is never cut: leave it out and shorten the messages"},
    {"shift", "false", "an answer ends where the context is full: leave it out"},
};
constexpr RefusedField kRefusedOfGenerate[] = {
    {"template", "\"\"", "the model's own format is used; send raw with a prompt that has its own"},
    {"context", "[]", "send the turns so far as messages to /api/chat"},
    {"width", "0", "answers are text"},
    {"height", "0", "answers are text"},
    {"steps", "0", "answers are text"},
};
constexpr RefusedField kRefusedOptions[] = {
    {"typical_p", "1", "there is no typical sampling; use top_p or min_p"},
};
/// What changes how Ollama loads a model, and what it no longer obeys itself.
constexpr const char* kHarmlessOptions[] = {
    "numa",           "num_batch",  "num_gpu",  "main_gpu",     "low_vram",     "f16_kv",
    "logits_all",     "vocab_only", "use_mmap", "use_mlock",    "num_thread",   "num_keep",
    "embedding_only", "mirostat",   "tfs_z",    "mirostat_tau", "mirostat_eta", "penalize_newline",
};

// ---- keep_alive

/// A duration as Go writes it: "5m", "1h30m", "-1.5s", "0"; in seconds. None: it is no such text.
std::optional<double> seconds_of(std::string_view text) {
  double sign = 1, total = 0;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    sign = text[0] == '-' ? -1 : 1;
    text.remove_prefix(1);
  }
  if (text == "0") return 0;
  if (text.empty()) return std::nullopt;
  constexpr std::array<std::pair<std::string_view, double>, 8> kUnits = {{{"ns", 1e-9},
                                                                          {"us", 1e-6},
                                                                          {"µs", 1e-6},
                                                                          {"μs", 1e-6},
                                                                          {"ms", 1e-3},
                                                                          {"s", 1},
                                                                          {"m", 60},
                                                                          {"h", 3600}}};
  while (!text.empty()) {
    double number = 0, place = 1;
    size_t digits = 0, at = 0;
    bool behind = false;
    for (; at < text.size(); ++at) {
      if (text[at] == '.' && !behind) {
        behind = true;
      } else if (text[at] >= '0' && text[at] <= '9') {
        ++digits;
        number = number * 10 + (text[at] - '0');
        if (behind) place *= 10;
      } else {
        break;
      }
    }
    text.remove_prefix(at);
    const auto unit = std::find_if(kUnits.begin(), kUnits.end(),
                                   [&](const auto& u) { return text.starts_with(u.first); });
    if (digits == 0 || unit == kUnits.end()) return std::nullopt;
    text.remove_prefix(unit->first.size());
    total += number / place * unit->second;
  }
  return sign * total;
}

/// Whether the model should go at once.
Result<bool> read_keep_alive(Fields& fields) {
  const Json* value = fields.find("keep_alive");
  if (!value) return false;
  if (value->is_number()) return value->get<double>() == 0;
  if (!value->is_string())
    return wrong_type("keep_alive", "a number of seconds or a duration such as \"5m\"", *value);
  const auto& text = value->get_ref<const std::string&>();
  const std::optional<double> seconds = seconds_of(text);
  if (!seconds)
    return usage_error(
        "keep_alive: a number of seconds or a duration such as \"5m\" is expected, " + quote(text) +
        " was found");
  return *seconds == 0;
}

// ---- options

Status read_lengths(Fields& options, AnswerOptions& answer, int64_t context) {
  HADAL_TRY(const auto predict, options.whole("num_predict", limit("num_predict")));
  // -1, -2 and 0: until the context is full.
  answer.max_new_tokens = std::max<int64_t>(predict.value_or(0), 0);
  HADAL_TRY(const auto asked, options.whole("num_ctx", limit("num_ctx")));
  if (asked && *asked > context)
    return usage_error(options.path_of("num_ctx") + ": " + std::to_string(*asked) +
                       " was found, and the server was started with a context of " +
                       std::to_string(context) + " tokens: ask for no more, or leave it out");
  return {};
}

/// Ollama's window of the penalties. Here they look at all of the text.
Status read_repeat_last_n(Fields& options, SamplingChoice& choice) {
  HADAL_TRY(const auto last, options.whole("repeat_last_n", limit("repeat_last_n")));
  const bool penalises = choice.repetition_penalty.value_or(1) != 1 ||
                         choice.presence_penalty.value_or(0) != 0 ||
                         choice.frequency_penalty.value_or(0) != 0;
  if (!last || *last == -1) return {};
  if (*last == 0) {
    choice.repetition_penalty = 1.0F;
    choice.presence_penalty = choice.frequency_penalty = 0.0F;
    return {};
  }
  if (!penalises) return {};
  return usage_error(options.path_of("repeat_last_n") + ": " + std::to_string(*last) +
                     " was found: penalties look at all of the text: give -1, or leave it out");
}

Status read_options(Fields& fields, AnswerOptions& answer, int64_t context,
                    std::vector<std::string>& ignored) {
  HADAL_TRY(std::optional<Fields> options, fields.object("options"));
  if (!options) return {};
  SamplingChoice& choice = answer.sampling;
  HADAL_TRY(read_sampling(*options, choice));
  HADAL_TRY(const auto repeat, options->real("repeat_penalty", limit("repetition_penalty")));
  const auto penalty = repeat ? std::optional(static_cast<float>(*repeat)) : std::nullopt;
  if (penalty && choice.repetition_penalty && *choice.repetition_penalty != *penalty)
    return usage_error(options->path_of("repeat_penalty") +
                       ": and repetition_penalty mean the same; give one");
  if (penalty) choice.repetition_penalty = penalty;
  HADAL_TRY(read_repeat_last_n(*options, choice));
  HADAL_TRY(answer.stop, options->texts("stop", limit("stop"), limit("stop[]")));
  HADAL_TRY(read_lengths(*options, answer, context));
  HADAL_TRY(refuse(*options, kRefusedOptions));
  pass(*options, kHarmlessOptions);
  const std::vector<std::string> unknown = options->unknown();
  ignored.insert(ignored.end(), unknown.begin(), unknown.end());
  return {};
}

// ---- what both have

Status read_format(Fields& fields, Shapes& shapes) {
  const Json* format = fields.find("format");
  if (!format || *format == "") return {};
  if (*format == "json") return shapes.add({}, "format");
  if (!format->is_object()) {
    const std::string found =
        format->is_string() ? quote(format->get<std::string>()) : format->type_name();
    return usage_error("format: \"json\" or a JSON schema is expected, " + found + " was found");
  }
  return shapes.add({.kind = AnswerShape::Kind::kJsonSchema, .text = format->dump()}, "format");
}

Status read_think(Fields& fields, ChatRequest& chat) {
  const Json* think = fields.find("think");
  if (!think) return {};
  if (think->is_boolean()) {
    chat.thinking = think->get<bool>();
    return {};
  }
  for (const char* level : {"low", "medium", "high", "max"}) {
    if (*think != level) continue;
    chat.thinking = true;
    chat.effort = level;
    return {};
  }
  const std::string found =
      think->is_string() ? quote(think->get<std::string>()) : think->type_name();
  return usage_error("think: true, false, \"low\", \"medium\", \"high\" or \"max\" is expected, " +
                     found + " was found");
}

/// A format with words for a shape says it in the prompt, as it does for the other APIs.
void tell_shape(const AnswerOptions& options, ChatRequest& chat) {
  if (!options.shape) return;
  if (options.shape->kind == AnswerShape::Kind::kJsonObject)
    chat.response_format = ResponseFormat::kJsonObject;
  if (options.shape->kind != AnswerShape::Kind::kJsonSchema) return;
  chat.response_format = ResponseFormat::kJsonSchema;
  chat.response_schema = options.shape->text;
}

/// All but what is said: model, options, format, log-probabilities, Hadal's own fields.
Status read_call(Fields& fields, ApiCall& call, int64_t context) {
  AnswerOptions& options = call.options;
  HADAL_TRY(call.model, fields.text("model", limit("model")));
  if (call.model.empty()) return usage_error("model: is missing; /api/tags lists what there is");
  HADAL_TRY(call.stream, fields.flag("stream", true));
  HADAL_TRY(read_options(fields, options, context, call.ignored));
  Shapes shapes(options);
  HADAL_TRY(read_format(fields, shapes));
  HADAL_TRY(read_structured_outputs(fields, shapes));
  HADAL_TRY(options.logprobs, fields.flag("logprobs", false));
  HADAL_TRY(const auto top, fields.whole("top_logprobs", limit("top_logprobs")));
  // Without logprobs it has no effect in Ollama.
  options.top_logprobs = options.logprobs ? top.value_or(0) : 0;
  HADAL_TRY(read_logit_bias(fields, options));
  HADAL_TRY(read_extensions(fields, options));
  return refuse(fields, kRefused);
}

void note_unknown(const Fields& fields, ApiCall& call) {
  const std::vector<std::string> unknown = fields.unknown();
  call.ignored.insert(call.ignored.end(), unknown.begin(), unknown.end());
}

/// What only chats have, wherever their messages come from.
Status read_chat_fields(Fields& fields, ChatCall& call) {
  HADAL_TRY(read_think(fields, call.chat));
  HADAL_TRY(const auto budget,
            fields.whole("thinking_token_budget", limit("thinking_token_budget")));
  HADAL_TRY(set_budget(call.options, budget, "thinking_token_budget"));
  tell_shape(call.options, call.chat);
  return {};
}

// ---- messages and tools

Result<ToolCall> read_tool_call(const Json& value, const std::string& path) {
  if (!value.is_object()) return wrong_type(path, "an object", value);
  Fields fields(value, path);
  ToolCall call;
  HADAL_TRY(call.id, fields.text("id"));
  HADAL_TRY(std::optional<Fields> function, fields.object("function"));
  if (!function) return usage_error(path + ".function: is missing");
  HADAL_TRY(call.name, function->text("name"));
  if (call.name.empty()) return usage_error(function->path_of("name") + ": is missing or empty");
  const Json* arguments = function->find("arguments");
  if (arguments && !arguments->is_object())
    return wrong_type(function->path_of("arguments"), "an object", *arguments);
  call.arguments = arguments ? chat::python_json(*arguments) : "{}";
  return call;
}

Result<ChatMessage> read_message(const Json& value, const std::string& path) {
  if (!value.is_object()) return wrong_type(path, "an object", value);
  Fields fields(value, path);
  ChatMessage message;
  HADAL_TRY(message.role, fields.text("role"));
  if (message.role.empty()) return usage_error(path + ".role: is missing or empty");
  HADAL_TRY(message.content, fields.text("content"));
  HADAL_TRY(message.reasoning, fields.text("thinking"));
  HADAL_TRY(message.name, fields.text("tool_name"));
  HADAL_TRY(message.tool_call_id, fields.text("tool_call_id"));
  constexpr RefusedField kImages[] = {{"images", "[]", "the model reads text: leave it out"}};
  HADAL_TRY(refuse(fields, kImages));
  const Json* calls = fields.find("tool_calls");
  if (!calls) return message;
  const std::string where = path + ".tool_calls";
  if (!calls->is_array()) return wrong_type(where, "a list", *calls);
  HADAL_TRY(
      check_limit(limit("messages[].tool_calls"), static_cast<int64_t>(calls->size()), where));
  for (size_t i = 0; i < calls->size(); ++i) {
    HADAL_TRY(ToolCall call, read_tool_call((*calls)[i], where + "[" + std::to_string(i) + "]"));
    message.tool_calls.push_back(std::move(call));
  }
  return message;
}

Status read_messages(Fields& fields, ChatRequest& chat) {
  const Json* messages = fields.find("messages");
  if (!messages) return {};
  if (!messages->is_array()) return wrong_type("messages", "a list", *messages);
  if (messages->empty()) return {};
  HADAL_TRY(check_limit(limit("messages"), static_cast<int64_t>(messages->size())));
  for (size_t i = 0; i < messages->size(); ++i) {
    HADAL_TRY(ChatMessage message,
              read_message((*messages)[i], "messages[" + std::to_string(i) + "]"));
    chat.messages.push_back(std::move(message));
  }
  return {};
}

Status read_tools(Fields& fields, ChatCall& call) {
  HADAL_TRY(call.tools, read_function_tools(fields));
  if (!call.tools.empty()) call.chat.tools_json = fields.find("tools")->dump();
  return {};
}

/// What is asked for where nothing is said.
OllamaCall load_call(std::string model, bool unload, bool generates) {
  ChatCall call;
  call.model = std::move(model);
  return {.call = std::move(call),
          .task = unload ? OllamaTask::kUnload : OllamaTask::kLoad,
          .generates = generates};
}

// ---- generate

struct Said {
  std::string prompt = {}, suffix = {}, system = {};
  bool raw = false;
};

Result<Said> read_said(Fields& fields) {
  Said said;
  HADAL_TRY(said.prompt, fields.text("prompt"));
  HADAL_TRY(said.suffix, fields.text("suffix"));
  HADAL_TRY(said.system, fields.text("system"));
  HADAL_TRY(said.raw, fields.flag("raw", false));
  HADAL_TRY(refuse(fields, kRefusedOfGenerate));
  if (said.raw && !said.suffix.empty())
    return usage_error(
        "suffix: and raw exclude each other: leave raw out, or write the model's own marks");
  if (!said.system.empty() && (said.raw || !said.suffix.empty()))
    return usage_error(std::string("system: and ") + (said.raw ? "raw" : "suffix") +
                       " exclude each other: the prompt stands alone");
  return said;
}

/// A raw continuation, or what belongs in the middle.
Result<CompletionCall> read_completion(Fields& fields, Said said, int64_t context) {
  CompletionCall call;
  HADAL_TRY(read_call(fields, call, context));
  const Json* think = fields.find("think");
  if (think && *think != false)
    return usage_error(std::string("think: and ") + (said.raw ? "raw" : "suffix") +
                       " exclude each other: there is no thought in a continued text");
  if (fields.find("thinking_token_budget"))
    return usage_error("thinking_token_budget: there is no thought in a continued text");
  call.prompts.push_back({.text = std::move(said.prompt)});
  if (!said.suffix.empty()) call.suffix = std::move(said.suffix);
  return call;
}

Result<ChatCall> read_one_turn(Fields& fields, Said said, int64_t context) {
  ChatCall call;
  HADAL_TRY(read_call(fields, call, context));
  if (!said.system.empty())
    call.chat.messages.push_back({.role = "system", .content = std::move(said.system)});
  call.chat.messages.push_back({.role = "user", .content = std::move(said.prompt)});
  HADAL_TRY(read_chat_fields(fields, call));
  return call;
}

}  // namespace

Result<OllamaCall> read_ollama_chat(const Json& body, int64_t context) {
  if (!body.is_object()) return wrong_type("", "an object", body);
  Fields fields(body, "");
  ChatCall call;
  HADAL_TRY(read_call(fields, call, context));
  HADAL_TRY(const bool unload, read_keep_alive(fields));
  HADAL_TRY(read_messages(fields, call.chat));
  HADAL_TRY(read_tools(fields, call));
  HADAL_TRY(read_chat_fields(fields, call));
  if (call.chat.messages.empty()) return load_call(std::move(call.model), unload, false);
  note_unknown(fields, call);
  return OllamaCall{.call = std::move(call)};
}

Result<OllamaCall> read_ollama_generate(const Json& body, int64_t context) {
  if (!body.is_object()) return wrong_type("", "an object", body);
  Fields fields(body, "");
  HADAL_TRY(const bool unload, read_keep_alive(fields));
  HADAL_TRY(Said said, read_said(fields));
  const bool silent = said.prompt.empty() && said.suffix.empty();
  OllamaCall result{.generates = true};
  if (said.raw || !said.suffix.empty()) {
    HADAL_TRY(result.call, read_completion(fields, std::move(said), context));
  } else {
    HADAL_TRY(result.call, read_one_turn(fields, std::move(said), context));
  }
  ApiCall& call = common(result.call);
  if (silent) return load_call(std::move(call.model), unload, true);
  note_unknown(fields, call);
  return result;
}

}  // namespace hadal::server
