// Session: a model opened for text: checkpoint, tokenizer, chat format and engine, and how a
// request in text becomes an answer in text. `run`, `generate`, a server and the C library share
// it.
//
// prepare_…() turn messages or text into an engine's request and what reads its tokens; any thread
// may call them, also while another one drives the engine. Whoever serves many users hands the
// requests to the engine's thread (engine/engine_thread.h) and its events to the answers. answer()
// drives one request to its end, where nobody else uses the engine.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "engine/engine.h"
#include "session/answer.h"
#include "session/answer_options.h"
#include "text/chat/chat.h"
#include "text/grammar/grammar.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal {

/// Rows of logits of a step beside one for each request: for guesses that are verified.
inline constexpr int64_t kGuessRows = 16;

/// Names everything that an answer's bits depend on beside the request: the model, the chip with
/// its kernels, types and versions. Under one fingerprint the same request has the same answer.
/// identity: of ModelRunner, which is another one when the cpu took the part of a lost device.
std::string fingerprint_of(const Digest& identity);

struct SessionOptions {
  RunnerOptions runner;
  EngineOptions engine;
  SwapOptions swap;           ///< where the prefix cache goes that memory has no room for
  bool prompt_lookup = true;  ///< where a request does not say
  std::optional<std::string> chat_format;  ///< instead of the one recognised
  /// Without a context of the caller's: as much of the model's limit as memory holds.
  bool fit_context = false;
  /// Without a number of the caller's: the cache of all sequences together takes the memory that is
  /// free beside the weights, and no more than the sequences' contexts.
  bool fit_cache = false;
  bool needs_tokenizer = true;  ///< false: a broken one is no error, ids are all that is asked
};

/// A request on its way to the engine, and what reads the tokens of each of its answers.
struct PreparedRequest {
  Request request;
  std::vector<AnswerBuilder> answers;  ///< AnswerOptions::n of them
  std::vector<TokenId> prompt;         ///< the request's
  /// With AnswerOptions::prompt_logprobs: the prompt's tokens, filled while the request runs; the
  /// first has no log-probability.
  std::shared_ptr<std::vector<AnswerToken>> prompt_scores;
};

/// What the answer's next part is; false ends the answer there.
using OnDelta = std::function<bool(const OutputDelta& delta)>;

/// The chat format of a checkpoint: the one named, else its own. Errors: kUsage with all names.
Result<const ChatFormat*> choose_chat_format(const std::optional<std::string>& name,
                                             const Checkpoint& checkpoint);

/// The model's limit of positions, read before anything is loaded.
Result<int64_t> model_context(const Checkpoint& checkpoint);

/// A model that is bound and planned, and not loaded; where memory does not hold what the caller
/// left to it, with as much as it holds, which `notes` say.
Result<std::unique_ptr<ModelRunner>> open_runner(const Checkpoint& checkpoint,
                                                 const SessionOptions& options,
                                                 std::vector<std::string>& notes);

class Session {
 public:
  /// Around an opened checkpoint, whose tokenizer may be missing where ids are all that is asked.
  static Result<std::unique_ptr<Session>> open(std::unique_ptr<Checkpoint> checkpoint,
                                               const SessionOptions& options,
                                               const LoadProgress& progress = {});

  [[nodiscard]] Engine& engine() { return *engine_; }
  [[nodiscard]] const Engine& engine() const { return *engine_; }
  [[nodiscard]] const Checkpoint& checkpoint() const { return *checkpoint_; }
  [[nodiscard]] const Tokenizer* tokenizer() const { return tokenizer_.get(); }
  /// Sentences for people: what checkpoint and tokenizer leave out or hold in vain.
  [[nodiscard]] std::vector<std::string> notes() const;
  /// The chat format, or why there is none.
  [[nodiscard]] Result<const ChatFormat*> chat_format() const;

  /// Whether a prompt and an answer of so many tokens fit. Errors: kMemory, both numbers.
  [[nodiscard]] Status check_length(int64_t prompt, int64_t answer) const;
  /// Whether a text of so many bytes may do so, before it is taken apart. Errors: the same.
  [[nodiscard]] Status check_text(size_t bytes) const;

  /// Errors: kUsage (what the format cannot express, a grammar that is refused, an adapter that is
  /// not there), kMemory (longer than the context: both numbers).
  Result<PreparedRequest> prepare_chat(ChatRequest chat, const AnswerOptions& options) const;
  /// Raw continuation of ids; special tokens are not shown, there is no thought.
  Result<PreparedRequest> prepare_ids(std::vector<TokenId> ids, const AnswerOptions& options) const;

  /// Compiles a grammar for the model's tokens: AnswerOptions::grammar. Any thread may call it.
  /// Errors: of GrammarCompiler; a model without a tokenizer.
  Result<std::shared_ptr<const CompiledGrammar>> compile(const GrammarSource& source) const;

  /// Runs one request to its end. An interrupt of the engine ends it and is told in the answer.
  Result<Answer> answer(PreparedRequest prepared, const OnDelta& on_delta);

 private:
  Session() = default;
  Result<Request> request_of(std::vector<TokenId> ids, const AnswerOptions& options,
                             std::string_view chat_format) const;
  /// The state of an answer's grammar and thought, where options ask for one.
  Status constrain(Request& request, const AnswerOptions& options, const ChatRequest* chat,
                   const Prompt* prompt) const;

  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<Result<const ChatFormat*>> format_;
  std::unique_ptr<Engine> engine_;
  bool prompt_lookup_ = true;
  std::vector<std::string> memory_notes_;  ///< what memory did not allow
  mutable std::mutex compiler_mutex_;      // of its making
  mutable std::unique_ptr<GrammarCompiler> compiler_;
};

}  // namespace hadal
