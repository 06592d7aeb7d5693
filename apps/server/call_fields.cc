#include "server/call_fields.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "checkpoint/printable.h"
#include "text/chat/json_reader.h"

namespace hadal::server {

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

Status Shapes::add(AnswerShape shape, const std::string& path) {
  if (options_.shape)
    return usage_error(path + ": " + path_ + " asks for another shape of the answer; give one");
  options_.shape = std::move(shape);
  path_ = path;
  return {};
}

Result<std::string> schema_of(const Json& value, const std::string& path) {
  if (value.is_object()) return value.dump();
  if (!value.is_string()) return wrong_type(path, "a JSON schema", value);
  HADAL_TRY(const Json schema,
            chat::read_json(value.get_ref<const std::string&>(), path, chat::JsonKeys::kUnique));
  if (!schema.is_object()) return wrong_type(path, "a JSON schema", schema);
  return schema.dump();
}

namespace {

/// A list of texts as a grammar that takes one of them.
std::string grammar_of(const std::vector<std::string>& choices) {
  std::string grammar = "root ::= ";
  for (size_t i = 0; i < choices.size(); ++i) grammar += (i ? " | " : "") + Json(choices[i]).dump();
  return grammar;
}

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

}  // namespace

Status read_structured_outputs(Fields& fields, Shapes& shapes) {
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

Status read_extensions(Fields& fields, AnswerOptions& options) {
  HADAL_TRY(options.stop_tokens,
            fields.ids("stop_token_ids", limit("stop_token_ids"), limit("stop_token_ids[]")));
  HADAL_TRY(options.bad_words, fields.texts("bad_words", limit("bad_words"), limit("bad_words[]")));
  HADAL_TRY(options.ignore_ending, fields.flag("ignore_eos", false));
  HADAL_TRY(const auto priority, fields.whole("priority", limit("priority")));
  options.priority = static_cast<int32_t>(priority.value_or(0));
  HADAL_TRY(options.deadline_seconds, fields.real("timeout", limit("timeout")));
  HADAL_TRY(options.cache_salt, fields.text("cache_salt", limit("cache_salt")));
  if (const Json* lookup = fields.find("prompt_lookup")) {
    if (!lookup->is_boolean())
      return wrong_type(fields.path_of("prompt_lookup"), "true or false", *lookup);
    options.prompt_lookup = lookup->get<bool>();
  }
  return {};
}

Status set_thinking(ChatRequest& chat, bool thinking, const std::string& path) {
  if (chat.thinking && *chat.thinking != thinking)
    return usage_error(path + ": says the opposite of another field that turns thinking on or off");
  chat.thinking = thinking;
  return {};
}

Status set_budget(AnswerOptions& options, std::optional<int64_t> budget, const std::string& path) {
  if (!budget) return {};
  if (options.thinking_budget && *options.thinking_budget != *budget)
    return usage_error(path + ": another field gives another budget of the thought; give one");
  options.thinking_budget = budget;
  return {};
}

}  // namespace hadal::server
