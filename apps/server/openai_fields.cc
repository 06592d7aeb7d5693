#include "server/openai_fields.h"

#include <algorithm>
#include <charconv>

#include "checkpoint/printable.h"
#include "server/api_error.h"
#include "text/chat/json_reader.h"

namespace hadal::server {

Error wrong_type(const std::string& path, std::string_view expected, const Json& found) {
  return usage_error((path.empty() ? "request" : path) + ": " + std::string(expected) +
                     " is expected, " + found.type_name() + " was found");
}

Result<int64_t> whole_of(const Json& value, const Limit& row, const std::string& path) {
  if (!value.is_number()) return wrong_type(path, "a whole number", value);
  if (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX)
    return usage_error(path + ": " + value.dump() + " was found, " + detail::expected(row));
  if (value.is_number_float()) {
    // 3.0 is as whole as 3: some languages write no other numbers.
    const double number = value.get<double>();
    if (number != std::floor(number) || std::fabs(number) >= 9.0e15)
      return usage_error(path + ": " + value.dump() + " was found, " + detail::expected(row));
    HADAL_TRY(check_limit(row, static_cast<int64_t>(number), path));
    return static_cast<int64_t>(number);
  }
  HADAL_TRY(check_limit(row, value.get<int64_t>(), path));
  return value.get<int64_t>();
}

Result<double> real_of(const Json& value, const Limit& row, const std::string& path) {
  if (!value.is_number()) return wrong_type(path, "a number", value);
  HADAL_TRY(check_limit(row, value.get<double>(), path));
  return value.get<double>();
}

const Json* Fields::find(const char* key) {
  known_.insert(key);
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::string Fields::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

std::vector<std::string> Fields::unknown() const {
  std::vector<std::string> names;
  for (const auto& [key, value] : object_.items())
    if (!value.is_null() && !known_.contains(key)) names.push_back(path_of(printable(key, 60)));
  return names;
}

Result<bool> Fields::flag(const char* key, bool missing) {
  const Json* value = find(key);
  if (!value) return missing;
  if (!value->is_boolean()) return wrong_type(path_of(key), "true or false", *value);
  return value->get<bool>();
}

Result<std::string> Fields::text(const char* key) {
  const Json* value = find(key);
  if (!value) return std::string();
  if (!value->is_string()) return wrong_type(path_of(key), "a text", *value);
  return value->get<std::string>();
}

Result<std::string> Fields::text(const char* key, const Limit& bytes) {
  HADAL_TRY(std::string value, text(key));
  if (find(key)) HADAL_TRY(check_limit(bytes, static_cast<int64_t>(value.size()), path_of(key)));
  return value;
}

Result<std::optional<int64_t>> Fields::whole(const char* key, const Limit& row) {
  const Json* value = find(key);
  if (!value) return std::optional<int64_t>();
  HADAL_TRY(const int64_t number, whole_of(*value, row, path_of(key)));
  return std::optional<int64_t>(number);
}

Result<std::optional<double>> Fields::real(const char* key, const Limit& row) {
  const Json* value = find(key);
  if (!value) return std::optional<double>();
  HADAL_TRY(const double number, real_of(*value, row, path_of(key)));
  return std::optional<double>(number);
}

Result<std::vector<std::string>> Fields::texts(const char* key, const Limit& items,
                                               const Limit& bytes) {
  std::vector<std::string> all;
  const Json* value = find(key);
  if (!value) return all;
  const std::string path = path_of(key);
  if (value->is_string()) {
    all.push_back(value->get<std::string>());
    HADAL_TRY(check_limit(bytes, static_cast<int64_t>(all[0].size()), path));
    return all;
  }
  if (!value->is_array()) return wrong_type(path, "a text or a list of texts", *value);
  HADAL_TRY(check_limit(items, static_cast<int64_t>(value->size()), path));
  for (size_t i = 0; i < value->size(); ++i) {
    const Json& entry = (*value)[i];
    const std::string where = path + "[" + std::to_string(i) + "]";
    if (!entry.is_string()) return wrong_type(where, "a text", entry);
    all.push_back(entry.get<std::string>());
    HADAL_TRY(check_limit(bytes, static_cast<int64_t>(all.back().size()), where));
  }
  return all;
}

Result<std::vector<TokenId>> Fields::ids(const char* key, const Limit& items, const Limit& id) {
  std::vector<TokenId> all;
  const Json* value = find(key);
  if (!value) return all;
  const std::string path = path_of(key);
  if (!value->is_array()) return wrong_type(path, "a list of token ids", *value);
  HADAL_TRY(check_limit(items, static_cast<int64_t>(value->size()), path));
  for (size_t i = 0; i < value->size(); ++i) {
    HADAL_TRY(const int64_t number,
              whole_of((*value)[i], id, path + "[" + std::to_string(i) + "]"));
    all.push_back(static_cast<TokenId>(number));
  }
  return all;
}

Result<std::optional<Fields>> Fields::object(const char* key) {
  const Json* value = find(key);
  if (!value) return std::optional<Fields>();
  if (!value->is_object()) return wrong_type(path_of(key), "an object", *value);
  return std::optional<Fields>(Fields(*value, path_of(key)));
}

Status refuse(Fields& fields, std::span<const RefusedField> refused) {
  for (const RefusedField& field : refused) {
    const Json* value = fields.find(field.name);
    if (!value || (*field.harmless && *value == Json::parse(field.harmless))) continue;
    return usage_error(fields.path_of(field.name) + ": is not supported: " + field.remedy);
  }
  return {};
}

void pass(Fields& fields, std::span<const char* const> harmless) {
  for (const char* name : harmless) fields.find(name);
}

Result<Json> parse_body(std::string_view body) {
  if (static_cast<int64_t>(body.size()) > limit("body").most)
    return usage_error(body_too_large(static_cast<int64_t>(body.size())).message);
  HADAL_TRY(Json root, chat::read_json(body, "request", chat::JsonKeys::kUnique));
  if (!root.is_object()) return wrong_type("", "an object", root);
  return root;
}

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

Status read_sampling(Fields& fields, SamplingChoice& choice) {
  struct Row {
    const char* name;
    const Limit& limit;
    std::optional<float>& into;
  };
  for (const Row& row :
       {Row{"temperature", limit("temperature"), choice.temperature},
        Row{"top_p", limit("top_p"), choice.top_p}, Row{"min_p", limit("min_p"), choice.min_p},
        Row{"presence_penalty", limit("presence_penalty"), choice.presence_penalty},
        Row{"frequency_penalty", limit("frequency_penalty"), choice.frequency_penalty},
        Row{"repetition_penalty", limit("repetition_penalty"), choice.repetition_penalty}}) {
    HADAL_TRY(const auto value, fields.real(row.name, row.limit));
    if (value) row.into = static_cast<float>(*value);
  }
  HADAL_TRY(const auto top_k, fields.whole("top_k", limit("top_k")));
  if (top_k) choice.top_k = static_cast<int32_t>(std::max<int64_t>(*top_k, 0));
  HADAL_TRY(const auto seed, fields.whole("seed", limit("seed")));
  if (seed && *seed != -1) choice.seed = static_cast<uint64_t>(*seed);
  return {};
}

Status read_logit_bias(Fields& fields, AnswerOptions& options) {
  const Json* value = fields.find("logit_bias");
  if (!value) return {};
  const std::string path = fields.path_of("logit_bias");
  if (!value->is_object()) return wrong_type(path, "an object of token ids and numbers", *value);
  HADAL_TRY(check_limit(limit("logit_bias"), static_cast<int64_t>(value->size()), path));
  std::set<int64_t> seen;
  for (const auto& [key, bias] : value->items()) {
    const std::string where = path + chat::json_step(key);
    int64_t id = 0;
    const auto read = std::from_chars(key.data(), key.data() + key.size(), id);
    if (read.ec != std::errc() || read.ptr != key.data() + key.size())
      return usage_error(where + ": the key is no token id: a whole number is expected");
    HADAL_TRY(check_limit(limit("logit_bias id"), id, where));
    if (!seen.insert(id).second) return usage_error(where + ": the token occurs twice");
    HADAL_TRY(const double number, real_of(bias, limit("logit_bias[]"), where));
    options.logit_bias.emplace_back(static_cast<TokenId>(id), static_cast<float>(number));
  }
  return {};
}

/// A list of texts as a grammar that takes one of them.
std::string grammar_of(const std::vector<std::string>& choices) {
  std::string grammar = "root ::= ";
  for (size_t i = 0; i < choices.size(); ++i) grammar += (i ? " | " : "") + Json(choices[i]).dump();
  return grammar;
}

/// A schema given as JSON, or as the text of it.
Result<std::string> schema_of(const Json& value, const std::string& path) {
  if (value.is_object()) return value.dump();
  if (!value.is_string()) return wrong_type(path, "a JSON schema", value);
  HADAL_TRY(const Json schema,
            chat::read_json(value.get_ref<const std::string&>(), path, chat::JsonKeys::kUnique));
  if (!schema.is_object()) return wrong_type(path, "a JSON schema", schema);
  return schema.dump();
}

/// Collects what asks for a shape; there may be one.
class Shapes {
 public:
  explicit Shapes(AnswerOptions& options) : options_(options) {}
  Status add(AnswerShape shape, const std::string& path) {
    if (options_.shape)
      return usage_error(path + ": " + path_ + " asks for another shape of the answer; give one");
    options_.shape = std::move(shape);
    path_ = path;
    return {};
  }

 private:
  AnswerOptions& options_;
  std::string path_;
};

/// vLLM's five ways, as members of structured_outputs or with "guided_" in front.
Status read_guided(Fields& fields, const std::string& before, Shapes& shapes) {
  using Kind = AnswerShape::Kind;
  const auto name = [&](const char* key) { return before + key; };
  if (const Json* schema = fields.find(name("json").c_str())) {
    const std::string path = fields.path_of(name("json"));
    HADAL_TRY(std::string text, schema_of(*schema, path));
    HADAL_TRY(shapes.add({.kind = Kind::kJsonSchema, .text = std::move(text)}, path));
  }
  HADAL_TRY(std::string regex,
            fields.text(name("regex").c_str(), limit("structured_outputs.regex")));
  if (!regex.empty())
    HADAL_TRY(shapes.add({.kind = Kind::kRegex, .text = std::move(regex)},
                         fields.path_of(name("regex"))));
  HADAL_TRY(std::string ebnf,
            fields.text(name("grammar").c_str(), limit("structured_outputs.grammar")));
  if (!ebnf.empty())
    HADAL_TRY(shapes.add({.kind = Kind::kEbnf, .text = std::move(ebnf)},
                         fields.path_of(name("grammar"))));
  HADAL_TRY(const std::vector<std::string> choices,
            fields.texts(name("choice").c_str(), limit("structured_outputs.choice"),
                         limit("structured_outputs.regex")));
  if (!choices.empty())
    HADAL_TRY(shapes.add({.kind = Kind::kEbnf, .text = grammar_of(choices)},
                         fields.path_of(name("choice"))));
  HADAL_TRY(const bool object, fields.flag(name("json_object").c_str(), false));
  if (object) HADAL_TRY(shapes.add({}, fields.path_of(name("json_object"))));
  return {};
}

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
  HADAL_TRY(std::optional<Fields> outer, fields.object("structured_outputs"));
  if (outer) {
    HADAL_TRY(read_guided(*outer, "", shapes));
    // A member that was not read would restrict the answer, and it would not be.
    if (const std::vector<std::string> unknown = outer->unknown(); !unknown.empty())
      return usage_error(unknown[0] +
                         ": is not supported: give json, json_object, regex, grammar or choice");
  }
  return read_guided(fields, "guided_", shapes);
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
  HADAL_TRY(options.stop_tokens,
            fields.ids("stop_token_ids", limit("stop_token_ids"), limit("stop_token_ids[]")));
  HADAL_TRY(options.bad_words, fields.texts("bad_words", limit("bad_words"), limit("bad_words[]")));
  HADAL_TRY(options.ignore_ending, fields.flag("ignore_eos", false));
  HADAL_TRY(read_shape(fields, options));
  HADAL_TRY(const auto priority, fields.whole("priority", limit("priority")));
  options.priority = static_cast<int32_t>(priority.value_or(0));
  HADAL_TRY(options.deadline_seconds, fields.real("timeout", limit("timeout")));
  HADAL_TRY(options.cache_salt, fields.text("cache_salt", limit("cache_salt")));
  if (const Json* lookup = fields.find("prompt_lookup")) {
    if (!lookup->is_boolean()) return wrong_type("prompt_lookup", "true or false", *lookup);
    options.prompt_lookup = lookup->get<bool>();
  }
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
