#include "server/openai_completion.h"

#include <algorithm>
#include <map>
#include <utility>

#include "server/openai_fields.h"
#include "server/openai_reply.h"
#include "text/chat/fim.h"

namespace hadal::server {
namespace {

constexpr RefusedField kRefused[] = {
    {"messages", "", "chats go to /v1/chat/completions"},
    {"tools", "[]", "tools are called in chats: /v1/chat/completions"},
    {"top_logprobs", "", "give their number as logprobs"},
};

Result<std::vector<TokenId>> ids_of(const Json& list, const std::string& path) {
  std::vector<TokenId> ids;
  ids.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    // The path is written where it is needed: there may be a million of these.
    const Json& entry = list[i];
    if (entry.is_number_integer() && entry.get<int64_t>() >= 0 &&
        entry.get<int64_t>() <= limit("prompt[][]").most) {
      ids.push_back(static_cast<TokenId>(entry.get<int64_t>()));
      continue;
    }
    HADAL_TRY(const int64_t id,
              whole_of(entry, limit("prompt[][]"), path + "[" + std::to_string(i) + "]"));
    ids.push_back(static_cast<TokenId>(id));
  }
  return ids;
}

Result<CompletionPrompt> prompt_of(const Json& value, const std::string& path) {
  CompletionPrompt prompt;
  if (value.is_string()) {
    prompt.text = value.get<std::string>();
    return prompt;
  }
  if (!value.is_array()) return wrong_type(path, "a text or a list of token ids", value);
  if (value.empty()) return usage_error(path + ": the list of token ids is empty");
  HADAL_TRY(prompt.ids, ids_of(value, path));
  return prompt;
}

Status read_prompts(Fields& fields, CompletionCall& call) {
  const Json* value = fields.find("prompt");
  if (!value) return usage_error("prompt: is missing");
  const bool many = value->is_array() && !value->empty() && !(*value)[0].is_number();
  if (value->is_array() && value->empty())
    return usage_error("prompt: the list is empty; give a text, ids, or a list of these");
  if (!many) {
    HADAL_TRY(CompletionPrompt prompt, prompt_of(*value, "prompt"));
    call.prompts.push_back(std::move(prompt));
    return {};
  }
  HADAL_TRY(check_limit(limit("prompt"), static_cast<int64_t>(value->size())));
  for (size_t i = 0; i < value->size(); ++i) {
    HADAL_TRY(CompletionPrompt prompt, prompt_of((*value)[i], "prompt[" + std::to_string(i) + "]"));
    call.prompts.push_back(std::move(prompt));
  }
  return {};
}

Status read_logprobs(Fields& fields, CompletionCall& call) {
  HADAL_TRY(const auto top, fields.whole("logprobs", limit("logprobs")));
  if (!top) return {};
  call.options.logprobs = true;
  call.options.top_logprobs = *top;
  call.options.prompt_logprobs = call.echo;
  return {};
}

Status read_suffix(Fields& fields, CompletionCall& call) {
  if (!fields.find("suffix")) return {};
  HADAL_TRY(call.suffix, fields.text("suffix"));
  if (call.echo)
    return usage_error("suffix: and echo exclude each other: the answer belongs in the middle");
  for (const CompletionPrompt& prompt : call.prompts)
    if (!prompt.ids.empty()) return usage_error("suffix: needs a prompt of text, ids were found");
  return {};
}

Status check_choices(Fields& fields, const CompletionCall& call) {
  HADAL_TRY(check_limit(limit("choices"),
                        static_cast<int64_t>(call.prompts.size()) * call.options.n,
                        call.options.n > 1 ? "n" : "prompt"));
  HADAL_TRY(const auto best_of, fields.whole("best_of", limit("n")));
  if (best_of && *best_of != call.options.n)
    return usage_error("best_of: " + std::to_string(*best_of) +
                       " was found: is not supported: ask for several answers by n and choose");
  return {};
}

class CompletionReply final : public Reply {
 public:
  CompletionReply(ReplyHead head, const CompletionCall& call)
      : Reply(std::move(head)),
        logprobs_(call.options.logprobs),
        usage_chunk_(call.include_usage) {}

  std::string whole(const std::vector<Choice>& choices, const UsageCounts& usage) override {
    Json reply = head_json();
    Json& list = reply["choices"] = Json::array();
    for (const Choice& choice : choices) {
      int64_t offset = 0;
      list.push_back(choice_json(choice.index, choice.content,
                                 logprobs_json(choice.content_tokens, offset),
                                 finish_reason(choice.end, false)));
    }
    reply["usage"] = usage_json(usage);
    return json_text(reply);
  }

  std::string begin(const UsageCounts&) override { return {}; }

  std::string push(int64_t choice, const ChoiceDelta& delta) override {
    if (delta.text.content.empty() && (!logprobs_ || delta.content_tokens.empty())) return {};
    return chunk(
        Json::array({choice_json(choice, delta.text.content,
                                 logprobs_json(delta.content_tokens, offsets_[choice]), {})}),
        nullptr);
  }

  std::string end(const Choice& choice, const UsageCounts* all) override {
    return chunk(Json::array({choice_json(choice.index, "", {}, finish_reason(choice.end, false))}),
                 all);
  }

  std::string finish(const UsageCounts& usage) override {
    return (usage_chunk_ ? chunk(Json::array(), &usage) : std::string()) +
           server_sent_event("", "[DONE]");
  }

  std::string fail(const ApiError& error) override { return openai_stream_error(error); }

 private:
  Json head_json() const {
    Json json;
    json["id"] = head_.id;
    json["object"] = "text_completion";
    json["created"] = head_.created;
    json["model"] = head_.model;
    json["system_fingerprint"] = head_.fingerprint;
    return json;
  }

  static Json choice_json(int64_t index, std::string_view text, Json logprobs, Json finish_reason) {
    Json json;
    json["text"] = text;
    json["index"] = index;
    json["logprobs"] = std::move(logprobs);
    json["finish_reason"] = std::move(finish_reason);
    return json;
  }

  Json logprobs_json(const std::vector<ScoredToken>& tokens, int64_t& offset) const {
    return logprobs_ ? legacy_logprobs(tokens, offset) : Json();
  }

  std::string chunk(Json choices, const UsageCounts* usage) const {
    Json json = head_json();
    json["choices"] = std::move(choices);
    if (usage)
      json["usage"] = usage_json(*usage);
    else if (usage_chunk_)
      json["usage"] = nullptr;
    return server_sent_event("", json_text(json));
  }

  bool logprobs_, usage_chunk_;
  std::map<int64_t, int64_t> offsets_;  ///< characters so far, by choice
};

}  // namespace

Result<CompletionCall> parse_completion_call(std::string_view body) {
  HADAL_TRY(const Json root, parse_body(body));
  return read_completion_call(root);
}

Result<CompletionCall> read_completion_call(const Json& body) {
  if (!body.is_object()) return wrong_type("", "an object", body);
  Fields fields(body, "");
  CompletionCall call;
  HADAL_TRY(refuse(fields, kRefused));
  HADAL_TRY(read_prompts(fields, call));
  HADAL_TRY(call.echo, fields.flag("echo", false));
  HADAL_TRY(call.add_special_tokens, fields.flag("add_special_tokens", true));
  HADAL_TRY(read_suffix(fields, call));
  HADAL_TRY(read_logprobs(fields, call));
  HADAL_TRY(const auto most, read_max_tokens(fields));
  call.options.max_new_tokens = most.value_or(call.suffix ? kMiddleTokens : kCompletionTokens);
  HADAL_TRY(read_common(fields, call));
  HADAL_TRY(check_choices(fields, call));
  call.ignored = fields.unknown();
  return call;
}

Result<std::vector<TokenId>> completion_ids(const CompletionCall& call, size_t prompt,
                                            const Tokenizer& tokenizer) {
  HADAL_CHECK(prompt < call.prompts.size());
  const CompletionPrompt& given = call.prompts[prompt];
  if (!given.ids.empty()) {
    const auto outside = std::find_if(given.ids.begin(), given.ids.end(),
                                      [&](TokenId id) { return id >= tokenizer.vocab_size(); });
    if (outside != given.ids.end())
      return usage_error("prompt: token id " + std::to_string(*outside) +
                         " is outside the vocabulary of " + std::to_string(tokenizer.vocab_size()));
    return given.ids;
  }
  if (call.suffix) {
    HADAL_TRY(const Prompt middle, render_fim(given.text, *call.suffix, tokenizer));
    return encode_prompt(middle, tokenizer);
  }
  std::vector<TokenId> ids = tokenizer.encode(
      given.text, {.added_tokens = true, .bos = call.add_special_tokens && tokenizer.add_bos()});
  if (ids.empty()) return usage_error("prompt: is empty; at least one token is needed");
  return ids;
}

std::unique_ptr<Reply> make_completion_reply(ReplyHead head, const CompletionCall& call) {
  return std::make_unique<CompletionReply>(std::move(head), call);
}

}  // namespace hadal::server
