// What a caller wants of an answer. Ranges are the rows of base/limits.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/token_id.h"
#include "session/sampling.h"
#include "text/grammar/grammar.h"

namespace hadal {

/// The shape that an answer must have; in a model that thinks, behind its thought.
struct AnswerShape {
  enum class Kind : uint8_t { kJsonObject, kJsonSchema, kRegex, kEbnf };
  Kind kind = Kind::kJsonObject;
  std::string text = {};  ///< the schema, the pattern, the grammar; "" of kJsonObject
  bool strict = true;     ///< false: the caller wished for the shape and did not insist
};

/// Whether the model must call a tool, beside what tools its prompt declares.
enum class ToolUse : uint8_t {
  kAuto,      ///< as the model likes
  kNone,      ///< no call
  kRequired,  ///< at least one
  kNamed,     ///< a call of AnswerOptions::tool_name
};

/// What a caller wants of an answer. Ranges are the rows of base/limits.h.
struct AnswerOptions {
  SamplingChoice sampling;
  int64_t max_new_tokens = 0;     ///< 0: until the context is full
  std::vector<std::string> stop;  ///< texts before which the answer ends
  bool ignore_ending = false;     ///< goes on behind ending tokens

  int64_t n = 1;                 ///< answers to the one prompt, by sample numbers 0 to n - 1
  bool logprobs = false;         ///< each token comes with its log-probability
  int64_t top_logprobs = 0;      ///< and with so many of the most likely ones
  bool prompt_logprobs = false;  ///< the prompt's tokens too (echo with logprobs)
  std::vector<TokenId> stop_tokens = {};  ///< ids that end the answer, beside the model's own
  std::vector<std::pair<TokenId, float>> logit_bias = {};  ///< added to logits; one entry a token
  std::vector<std::string> bad_words = {};  ///< texts that must not occur in the answer
  std::optional<AnswerShape> shape = {};
  std::shared_ptr<const CompiledGrammar> grammar = {};  ///< of Session::compile, instead of a shape
  ToolUse tool_use = ToolUse::kAuto;
  std::string tool_name = {};       ///< of ToolUse::kNamed
  bool strict_tools = false;        ///< a tool is strict: calls keep to the tools' schemas
  bool parallel_tool_calls = true;  ///< false: the answer ends behind its first call
  std::optional<int64_t> thinking_budget =
      {};                ///< most tokens of the thought, which is then closed
  int32_t priority = 0;  ///< the smaller runs first
  std::optional<double> deadline_seconds = {};  ///< from now, waiting included
  std::string cache_salt = {};                  ///< prefixes are shared only among equal salts
  std::string adapter = {};                     ///< name of a loaded adapter; "": the model alone
  std::optional<bool> prompt_lookup = {};  ///< speculation from the text so far; unset: as opened
};

}  // namespace hadal
