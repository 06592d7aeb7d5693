#include "server/openai_fields.h"

#include <utility>

#include "checkpoint/printable.h"
#include "server/call_fields.h"

namespace hadal::server {

Result<std::optional<int64_t>> read_max_tokens(Fields& fields) {
  HADAL_TRY(const auto older, fields.whole("max_tokens", limit("max_tokens")));
  HADAL_TRY(const auto newer,
            fields.whole("max_completion_tokens", limit("max_completion_tokens")));
  if (older && newer && *older != *newer)
    return usage_error("max_completion_tokens: is " + std::to_string(*newer) +
                       " and max_tokens is " + std::to_string(*older) +
                       ": they mean the same; give one");
  return newer ? newer : older;
}

namespace {

Status read_response_format(Fields& fields, Shapes& shapes) {
  HADAL_TRY(std::optional<Fields> format, fields.object("response_format"));
  if (!format) return {};
  HADAL_TRY(const std::string type, format->text("type"));
  if (type == "text") return {};
  if (type == "json_object") return shapes.add({}, "response_format");
  if (type != "json_schema")
    return usage_error(
        "response_format.type: \"text\", \"json_object\" or \"json_schema\" is expected, " +
        quote(type) + " was found");
  HADAL_TRY(std::optional<Fields> outer, format->object("json_schema"));
  if (!outer) return usage_error("response_format.json_schema: is missing");
  const Json* schema = outer->find("schema");
  if (!schema) return usage_error("response_format.json_schema.schema: is missing");
  if (!schema->is_object())
    return wrong_type("response_format.json_schema.schema", "an object", *schema);
  HADAL_TRY(const bool strict, outer->flag("strict", false));
  return shapes.add(
      {.kind = AnswerShape::Kind::kJsonSchema, .text = schema->dump(), .strict = strict},
      "response_format");
}

Status read_shape(Fields& fields, AnswerOptions& options) {
  Shapes shapes(options);
  HADAL_TRY(read_response_format(fields, shapes));
  return read_structured_outputs(fields, shapes);
}

constexpr RefusedField kRefused[] = {
    {"use_beam_search", "false", "there is no beam search; ask for several answers by n"},
    {"length_penalty", "1", "there is no beam search; leave it out"},
    {"early_stopping", "false", "there is no beam search; leave it out"},
    {"min_tokens", "0", "leave it out, or use ignore_eos with max_tokens"},
    {"truncate_prompt_tokens", "", "a prompt is never cut; shorten it"},
    {"prompt_logprobs", "", "use echo with logprobs on /v1/completions"},
    {"allowed_token_ids", "[]", "use structured_outputs.choice or logit_bias"},
    {"logits_processors", "[]", "requests bring no code; use logit_bias or bad_words"},
    {"include_stop_str_in_output", "false", "answers end before a stop text"},
    {"skip_special_tokens", "true", "special tokens are no part of the text"},
    {"detokenize", "true", "answers are text"},
    {"return_tokens_as_token_ids", "false", "leave it out"},
    {"return_token_ids", "false", "leave it out"},
    {"prompt_embeds", "", "prompts are text or ids"},
    {"logits_processor", "", "requests bring no code; use logit_bias or bad_words"},
};

constexpr const char* kHarmless[] = {"user",
                                     "store",
                                     "metadata",
                                     "service_tier",
                                     "safety_identifier",
                                     "prompt_cache_key",
                                     "prompt_cache_retention",
                                     "spaces_between_special_tokens",
                                     "request_id",
                                     "guided_decoding_backend"};

}  // namespace

Status read_common(Fields& fields, ApiCall& call) {
  HADAL_TRY(call.model, fields.text("model", limit("model")));
  AnswerOptions& options = call.options;
  HADAL_TRY(read_sampling(fields, options.sampling));
  HADAL_TRY(read_logit_bias(fields, options));
  HADAL_TRY(const auto n, fields.whole("n", limit("n")));
  options.n = n.value_or(1);
  HADAL_TRY(options.stop, fields.texts("stop", limit("stop"), limit("stop[]")));
  HADAL_TRY(read_shape(fields, options));
  HADAL_TRY(read_extensions(fields, options));
  HADAL_TRY(call.stream, fields.flag("stream", false));
  HADAL_TRY(std::optional<Fields> stream, fields.object("stream_options"));
  if (stream) {
    if (!call.stream)
      return usage_error("stream_options: is given without \"stream\": true; leave it out");
    HADAL_TRY(call.include_usage, stream->flag("include_usage", false));
  }
  HADAL_TRY(refuse(fields, kRefused));
  pass(fields, kHarmless);
  return {};
}

}  // namespace hadal::server
