// POST /v1/completions without HTTP: raw text or ids in, what follows out. Also DeepSeek's
// /beta/completions: with `suffix`, the model fills in the middle.
//
// Of the body: prompt (a text, a list of ids, or a list of either), suffix, echo, logprobs (a
// number, the legacy form), max_tokens, add_special_tokens, n; and what openai_fields.h has.
// Choices are numbered prompt by prompt: prompt p, sample s is choice p × n + s. Refused: best_of
// other than n; suffix with ids or with echo.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "server/call.h"
#include "server/fields.h"
#include "server/reply.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal::server {

/// max_tokens where it is left out: OpenAI's number, and the most of DeepSeek's where there is a
/// suffix, since what belongs in the middle ends by itself.
inline constexpr int64_t kCompletionTokens = 16, kMiddleTokens = 4096;

/// Errors: kUsage with the path of the field.
Result<CompletionCall> parse_completion_call(std::string_view body);
/// The same of a body that was read already.
Result<CompletionCall> read_completion_call(const Json& body);

/// What the model reads for one of the call's prompts. Errors: kUsage; an id outside the vocabulary
/// (`prompt` is its number), a suffix for a model that cannot fill in the middle.
Result<std::vector<TokenId>> completion_ids(const CompletionCall& call, size_t prompt,
                                            const Tokenizer& tokenizer);

/// The response, or its stream of chunks, which ends with "data: [DONE]". Of an answer with echo
/// the prompt comes first.
std::unique_ptr<Reply> make_completion_reply(ReplyHead head, const CompletionCall& call);

}  // namespace hadal::server
