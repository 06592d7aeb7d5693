// POST /v1/completions without HTTP: raw text or ids in, what follows out. Also DeepSeek's
// /beta/completions: with `suffix`, the model fills in the middle.
//
// Of the body: prompt (a text, a list of ids, or a list of either), suffix, echo, logprobs (a
// number, the legacy form), max_tokens, add_special_tokens, n; and what openai_fields.h has.
// Choices are numbered prompt by prompt: prompt p, sample s is choice p × n + s. Refused: best_of
// other than n; suffix with ids or with echo.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "server/openai_fields.h"
#include "server/openai_reply.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal::server {

/// max_tokens where it is left out: OpenAI's number, and the most of DeepSeek's where there is a
/// suffix, since what belongs in the middle ends by itself.
inline constexpr int64_t kCompletionTokens = 16, kMiddleTokens = 4096;

/// One of a call's prompts.
struct CompletionPrompt {
  std::string text = {};
  std::vector<TokenId> ids = {};  ///< where it was given so; not empty then
};

struct CompletionCall : ApiCall {
  std::vector<CompletionPrompt> prompts = {};
  std::optional<std::string> suffix = {};
  bool echo = false;               ///< the prompt is part of the text
  bool add_special_tokens = true;  ///< BOS in front, where the tokenizer's configuration has it
};

/// Errors: kUsage with the path of the field.
Result<CompletionCall> parse_completion_call(std::string_view body);
/// The same of a body that was read already.
Result<CompletionCall> read_completion_call(const Json& body);

/// What the model reads for one of the call's prompts. Errors: kUsage; an id outside the vocabulary
/// (`prompt` is its number), a suffix for a model that cannot fill in the middle.
Result<std::vector<TokenId>> completion_ids(const CompletionCall& call, size_t prompt,
                                            const Tokenizer& tokenizer);

/// One answer.
struct CompletionChoice {
  int64_t index = 0;
  std::string text = {};  ///< with echo, the prompt in front
  AnswerEnd end = AnswerEnd::kStop;
  std::vector<ScoredToken> tokens = {};  ///< with options.logprobs; with echo, the prompt's too
};

/// The response's body.
std::string completion_reply(const ReplyHead& head, const CompletionCall& call,
                             const std::vector<CompletionChoice>& choices,
                             const UsageCounts& usage);

/// The chunks of one streamed response.
class CompletionStream {
 public:
  /// Both must outlive the stream.
  CompletionStream(const ReplyHead& head, const CompletionCall& call) : head_(head), call_(call) {}

  /// New text and its tokens. With echo, the prompt comes first in this way.
  std::string push(int64_t choice, std::string_view text, const std::vector<ScoredToken>& tokens);
  std::string end(int64_t choice, AnswerEnd end, const UsageCounts* usage = nullptr);
  /// stream_options.include_usage: a chunk without choices behind the last answer.
  std::string usage(const UsageCounts& usage);

 private:
  std::string chunk(Json choices, const UsageCounts* usage) const;

  const ReplyHead& head_;
  const CompletionCall& call_;
  std::map<int64_t, int64_t> offsets_;  ///< characters so far, by choice
};

}  // namespace hadal::server
