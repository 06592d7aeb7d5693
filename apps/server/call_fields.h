// Fields that mean the same in every API: how tokens are chosen, what shape the answer has, when
// the call runs. Names are OpenAI's and vLLM's, ranges those of base/limits.h.
#pragma once

#include <string>
#include <utility>

#include "server/call.h"
#include "server/fields.h"

namespace hadal::server {

/// temperature, top_p, min_p, top_k, seed and the penalties.
Status read_sampling(Fields& fields, SamplingChoice& choice);
Status read_logit_bias(Fields& fields, AnswerOptions& options);

/// Collects what asks for a shape of the answer; there may be one.
class Shapes {
 public:
  explicit Shapes(AnswerOptions& options) : options_(options) {}
  /// Errors: kUsage with the paths of both.
  Status add(AnswerShape shape, const std::string& path);

 private:
  AnswerOptions& options_;
  std::string path_;
};

/// A JSON schema given as JSON, or as the text of it. Errors: kUsage with `path`.
Result<std::string> schema_of(const Json& value, const std::string& path);
/// structured_outputs {json, json_object, regex, grammar, choice}, and the same with guided_ in
/// front.
Status read_structured_outputs(Fields& fields, Shapes& shapes);

/// bad_words, ignore_eos, stop_token_ids, priority, timeout, cache_salt, prompt_lookup: what Hadal
/// and vLLM have beyond the APIs.
Status read_extensions(Fields& fields, AnswerOptions& options);

/// Turns thinking on or off; several fields must agree. Errors: kUsage with `path`.
Status set_thinking(ChatRequest& chat, bool thinking, const std::string& path);
/// Sets the thought's budget; two fields must agree. Errors: kUsage with `path`.
Status set_budget(AnswerOptions& options, std::optional<int64_t> budget, const std::string& path);

}  // namespace hadal::server
