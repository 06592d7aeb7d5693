// What a caller of the C library asks for: options, messages, ids, read and checked against the
// table of limits (base/limits.h), as the server reads them.
#include "api/border.h"
#include "api/core.h"

namespace hadal::api {
namespace {

Status read_sampling(const hadal_answer_options& o, SamplingChoice& choice) {
  if ((o.given & ~HADAL_GIVEN_ALL) != 0) return usage_error("given: has unknown bits");
  const auto real = [&](uint32_t bit, float value, const Limit& row,
                        std::optional<float>& to) -> Status {
    if ((o.given & bit) == 0) return {};
    HADAL_TRY(check_limit(row, value));
    to = value;
    return {};
  };
  HADAL_TRY(real(HADAL_GIVEN_TEMPERATURE, o.temperature, limit("temperature"), choice.temperature));
  HADAL_TRY(real(HADAL_GIVEN_TOP_P, o.top_p, limit("top_p"), choice.top_p));
  HADAL_TRY(real(HADAL_GIVEN_MIN_P, o.min_p, limit("min_p"), choice.min_p));
  HADAL_TRY(real(HADAL_GIVEN_REPETITION_PENALTY, o.repetition_penalty, limit("repetition_penalty"),
                 choice.repetition_penalty));
  HADAL_TRY(real(HADAL_GIVEN_PRESENCE_PENALTY, o.presence_penalty, limit("presence_penalty"),
                 choice.presence_penalty));
  HADAL_TRY(real(HADAL_GIVEN_FREQUENCY_PENALTY, o.frequency_penalty, limit("frequency_penalty"),
                 choice.frequency_penalty));
  if ((o.given & HADAL_GIVEN_TOP_K) != 0) {
    HADAL_TRY(check_limit(limit("top_k"), static_cast<int64_t>(o.top_k)));
    choice.top_k = std::max(o.top_k, 0);
  }
  if ((o.given & HADAL_GIVEN_SEED) != 0) choice.seed = o.seed;
  return {};
}

Status read_lists(const hadal_answer_options& o, int64_t vocabulary, AnswerOptions& options) {
  HADAL_TRY(options.stop, read_texts(o.stop, o.stop_count, limit("stop"), limit("stop[]"), "stop"));
  HADAL_TRY(options.bad_words, read_texts(o.bad_words, o.bad_word_count, limit("bad_words"),
                                          limit("bad_words[]"), "bad_words"));
  if (o.stop_id_count > 0) {
    HADAL_TRY(check_limit(limit("stop_token_ids"),
                          static_cast<int64_t>(std::min<size_t>(o.stop_id_count, INT64_MAX)),
                          "stop_ids"));
    HADAL_TRY(options.stop_tokens, read_ids(o.stop_ids, o.stop_id_count, vocabulary));
  }
  if (o.logit_bias_count == 0) return {};
  HADAL_TRY(check_limit(limit("logit_bias"),
                        static_cast<int64_t>(std::min<size_t>(o.logit_bias_count, INT64_MAX))));
  if (!o.logit_bias) return usage_error("logit_bias is NULL, and has a count");
  for (size_t i = 0; i < o.logit_bias_count; ++i) {
    const hadal_bias& bias = o.logit_bias[i];
    HADAL_TRY(read_ids(&bias.id, 1, vocabulary));
    HADAL_TRY(check_limit(limit("logit_bias[]"), bias.bias));
    for (const auto& [id, other] : options.logit_bias)
      if (id == bias.id)
        return usage_error("logit_bias: token " + std::to_string(id) + " has two entries");
    options.logit_bias.emplace_back(bias.id, bias.bias);
  }
  return {};
}

Status read_shape(Core& core, const hadal_answer_options& o, AnswerOptions& options,
                  ChatRequest* chat) {
  HADAL_TRY(check_enum(o.shape, HADAL_SHAPE_EBNF, "shape"));
  HADAL_TRY(const std::string text, read_text(o.shape_text, "shape_text"));
  std::optional<AnswerShape> shape;
  if (o.shape != HADAL_SHAPE_TEXT)
    shape = AnswerShape{.kind = static_cast<AnswerShape::Kind>(o.shape - 1), .text = text};
  if (o.grammar && shape) return usage_error("grammar: and a shape were given; give one");
  if (o.grammar) {
    if (o.grammar->core.lock().get() != &core)
      return usage_error("grammar: was compiled for another model");
    options.grammar = o.grammar->compiled;
    shape = o.grammar->shape;
  } else {
    options.shape = shape;
  }
  if (!chat || !shape) return {};
  if (shape->kind == AnswerShape::Kind::kJsonObject)
    chat->response_format = ResponseFormat::kJsonObject;
  if (shape->kind == AnswerShape::Kind::kJsonSchema) {
    chat->response_format = ResponseFormat::kJsonSchema;
    chat->response_schema = shape->text;
  }
  return {};
}

}  // namespace

Result<AnswerOptions> read_answer_options(Core& core, const hadal_answer_options* given,
                                          ChatRequest* chat) {
  HADAL_TRY(const hadal_answer_options o, read_optional(given, "options"));
  AnswerOptions options;
  HADAL_TRY(read_sampling(o, options.sampling));
  HADAL_TRY(read_lists(o, core.session().engine().spec().vocab_size, options));
  HADAL_TRY(read_shape(core, o, options, chat));
  options.n = o.n == 0 ? 1 : o.n;
  HADAL_TRY(check_limit(limit("n"), options.n));
  if (o.max_new_tokens != 0) HADAL_TRY(check_limit(limit("max_tokens"), o.max_new_tokens));
  options.max_new_tokens = o.max_new_tokens;
  if ((o.given & HADAL_GIVEN_THINKING_BUDGET) != 0) {
    HADAL_TRY(check_limit(limit("thinking_token_budget"), o.thinking_budget));
    options.thinking_budget = o.thinking_budget;
  }
  options.logprobs = o.logprobs != 0;
  HADAL_TRY(check_limit(limit("top_logprobs"), static_cast<int64_t>(o.top_logprobs)));
  options.top_logprobs = o.top_logprobs;
  if (o.top_logprobs > 0 && !options.logprobs)
    return usage_error("top_logprobs: needs logprobs = 1");
  options.priority = o.priority;
  if (o.deadline_seconds != 0) {
    HADAL_TRY(check_limit(limit("timeout"), o.deadline_seconds, "deadline_seconds"));
    options.deadline_seconds = o.deadline_seconds;
  }
  HADAL_TRY(options.cache_salt, read_text(o.salt, "salt"));
  if (!options.cache_salt.empty())
    HADAL_TRY(check_limit(limit("cache_salt"), static_cast<int64_t>(options.cache_salt.size())));
  HADAL_TRY(options.adapter, read_text(o.adapter, "adapter"));
  HADAL_TRY(check_enum(o.prompt_lookup, HADAL_SWITCH_OFF, "prompt_lookup"));
  if (o.prompt_lookup != HADAL_SWITCH_DEFAULT)
    options.prompt_lookup = o.prompt_lookup == HADAL_SWITCH_ON;
  options.ignore_ending = o.ignore_ending != 0;
  return options;
}

Result<ChatMessage> read_message(const hadal_message& given, const std::string& name) {
  const auto text = [&](const char* value, const char* field) {
    return read_text(value, (name + "." + field).c_str());
  };
  ChatMessage message;
  HADAL_TRY(message.role, text(given.role, "role"));
  if (message.role.empty()) return usage_error(name + ".role: is missing or empty");
  HADAL_TRY(message.content, text(given.content, "content"));
  HADAL_TRY(message.reasoning, text(given.reasoning, "reasoning"));
  HADAL_TRY(message.name, text(given.name, "name"));
  HADAL_TRY(message.tool_call_id, text(given.tool_call_id, "tool_call_id"));
  message.prefix = given.prefix != 0;
  HADAL_TRY(const std::vector<hadal_tool_call> calls,
            read_list(given.tool_calls, given.tool_call_count, limit("messages[].tool_calls"),
                      (name + ".tool_calls").c_str()));
  for (const hadal_tool_call& call : calls) {
    ToolCall known;
    HADAL_TRY(known.id, text(call.id, "tool_calls[].id"));
    HADAL_TRY(known.name, text(call.name, "tool_calls[].name"));
    HADAL_TRY(known.arguments, text(call.arguments, "tool_calls[].arguments"));
    if (known.name.empty()) return usage_error(name + ".tool_calls[].name: is missing or empty");
    message.tool_calls.push_back(std::move(known));
  }
  return message;
}

Result<std::vector<ChatMessage>> read_messages(const hadal_message* first, size_t count) {
  HADAL_TRY(const std::vector<hadal_message> given,
            read_list(first, count, limit("messages"), "messages"));
  std::vector<ChatMessage> messages;
  for (size_t i = 0; i < given.size(); ++i) {
    HADAL_TRY(ChatMessage message, read_message(given[i], "messages[" + std::to_string(i) + "]"));
    messages.push_back(std::move(message));
  }
  return messages;
}

Result<std::vector<TokenId>> read_ids(const int32_t* ids, size_t count, int64_t vocabulary) {
  if (!ids || count == 0) return usage_error("ids: at least one is expected");
  std::vector<TokenId> known;
  for (size_t i = 0; i < count; ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary)
      return usage_error("token id " + std::to_string(ids[i]) + " is outside the vocabulary of " +
                         std::to_string(vocabulary));
    known.push_back(ids[i]);
  }
  return known;
}

}  // namespace hadal::api
