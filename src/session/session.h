// Session: a model opened for text: checkpoint, tokenizer, chat format and engine, and how a
// request in text becomes an answer in text. `run`, `generate`, a server and the C library share
// it.
//
// prepare_…() turn messages or text into an engine's request and the stream that reads its tokens;
// whoever serves many users adds the requests to the engine and hands its events to the streams.
// answer() drives one request to its end. Not thread-safe: one thread uses a session.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "engine/engine.h"
#include "session/answer_stream.h"
#include "session/sampling.h"
#include "text/chat/chat.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal {

struct SessionOptions {
  RunnerOptions runner;
  std::optional<std::string> chat_format;  ///< instead of the one recognised
  /// Without a context of the caller's: as much of the model's limit as memory holds.
  bool fit_context = false;
  bool needs_tokenizer = true;  ///< false: a broken one is no error, ids are all that is asked
};

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
  ToolUse tool_use = ToolUse::kAuto;
  std::string tool_name = {};       ///< of ToolUse::kNamed
  bool parallel_tool_calls = true;  ///< false: the answer ends behind its first call
  std::optional<int64_t> thinking_budget =
      {};                ///< most tokens of the thought, which is then closed
  int32_t priority = 0;  ///< the smaller runs first
  std::optional<double> deadline_seconds = {};  ///< from now, waiting included
  std::string cache_salt = {};                  ///< prefixes are shared only among equal salts
  std::string adapter = {};                     ///< name of a loaded adapter; "": the model alone
  std::optional<bool> prompt_lookup = {};  ///< speculation from the text so far; unset: as opened
};

/// Tokens and times of one answer.
struct Usage {
  int64_t prompt_tokens = 0, new_tokens = 0;
  double first_token_seconds = 0, total_seconds = 0;
  /// Of the tokens behind the first.
  [[nodiscard]] double tokens_per_second() const;
};

enum class AnswerEnd { kStop, kLength, kContext, kInterrupted };
/// "stop", "length", "context full", "interrupted"
std::string_view name_of(AnswerEnd end);

struct Answer {
  std::string reasoning = {}, content = {};
  std::vector<ToolCall> tool_calls = {};
  std::vector<TokenId> ids = {};  ///< as generated, the ending one included
  AnswerEnd end = AnswerEnd::kStop;
  Usage usage = {};
};

/// A request on its way to the engine, and what reads its tokens.
struct PreparedRequest {
  Request request;
  std::optional<AnswerStream> stream;  ///< none where the model has no tokenizer: ids alone
};

/// What the answer's next part is; false ends the answer there.
using OnDelta = std::function<bool(const OutputDelta& delta)>;

/// The chat format of a checkpoint: the one named, else its own. Errors: kUsage with all names.
Result<const ChatFormat*> choose_chat_format(const std::optional<std::string>& name,
                                             const Checkpoint& checkpoint);

/// The model's limit of positions, read before anything is loaded.
Result<int64_t> model_context(const Checkpoint& checkpoint);

class Session {
 public:
  /// Around an opened checkpoint, whose tokenizer may be missing where ids are all that is asked.
  static Result<std::unique_ptr<Session>> open(std::unique_ptr<Checkpoint> checkpoint,
                                               const SessionOptions& options,
                                               const LoadProgress& progress = {});

  [[nodiscard]] Engine& engine() { return *engine_; }
  [[nodiscard]] const Checkpoint& checkpoint() const { return *checkpoint_; }
  [[nodiscard]] const Tokenizer* tokenizer() const { return tokenizer_.get(); }
  /// Sentences for people: what checkpoint and tokenizer leave out or hold in vain.
  [[nodiscard]] std::vector<std::string> notes() const;
  /// The chat format, or why there is none.
  [[nodiscard]] Result<const ChatFormat*> chat_format() const;

  /// Errors: kUsage (what the format cannot express), kMemory (longer than the context: both
  /// numbers).
  Result<PreparedRequest> prepare_chat(ChatRequest chat, const AnswerOptions& options) const;
  /// Raw continuation of ids; special tokens are not shown.
  Result<PreparedRequest> prepare_ids(std::vector<TokenId> ids, const AnswerOptions& options) const;

  /// Runs one request to its end. An interrupt of the engine ends it and is told in the answer.
  Result<Answer> answer(PreparedRequest prepared, const OnDelta& on_delta);

 private:
  Session() = default;
  Result<Request> request_of(std::vector<TokenId> ids, const AnswerOptions& options,
                             std::string_view chat_format) const;

  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<Result<const ChatFormat*>> format_;
  std::unique_ptr<Engine> engine_;
  std::vector<std::string> memory_notes_;  ///< what memory did not allow
};

}  // namespace hadal
