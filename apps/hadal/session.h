// Session: an opened checkpoint with its tokenizer, and an engine on it; and how one request is run
// to its end.
#pragma once

#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "command.h"
#include "engine/engine.h"
#include "text/chat/chat.h"
#include "text/tokenizer/tokenizer.h"

namespace hadal::app {

/// Sampling as the command line gives it; what is not given comes from the model's own
/// recommendation.
struct SamplingOptions {
  std::optional<float> temperature, top_p, min_p, repetition_penalty, presence_penalty,
      frequency_penalty;
  std::optional<int32_t> top_k;
  std::optional<uint64_t> seed;
  bool greedy = false;
  std::vector<std::string> stop;

  void declare(CLI::App& command);
  /// The command line's values, over generation_config.json, over what is recommended for the chat
  /// format (may be "").
  [[nodiscard]] Result<SamplingParams> params(const TokenizerData& data,
                                              std::string_view chat_format,
                                              const std::string& origin) const;
};

/// Tokens, times and the reason of the end of one request.
struct Outcome {
  int64_t prompt_tokens = 0, new_tokens = 0;
  double first_token_seconds = 0, total_seconds = 0;
  FinishReason finish = FinishReason::kNone;
  bool stopped = false;      ///< by on_token
  bool interrupted = false;  ///< by Ctrl-C

  [[nodiscard]] double tokens_per_second() const;
  [[nodiscard]] std::string finish_text() const;
};

/// The format that --chat-format names, else the checkpoint's own.
Result<const ChatFormat*> choose_chat_format(const std::optional<std::string>& name,
                                             const Checkpoint& checkpoint);

/// Help text of --chat-format: the formats with their descriptions.
std::string chat_format_help();

/// Model's limit of positions, read before anything is loaded.
Result<int64_t> model_context(const Checkpoint& checkpoint);

/// Runs one request; on_token returns false to stop. An interrupt ends the request and is reported
/// in the outcome.
Result<Outcome> run_request(Engine& engine, Request request,
                            const std::function<bool(TokenId)>& on_token);

/// While it lives, Ctrl-C makes the running step of `engine` give up.
class InterruptGuard {
 public:
  explicit InterruptGuard(Engine& engine);
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  struct sigaction before_;
};

/// Holds back text that may turn into one of the stop strings, and ends at the first that is
/// complete.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  /// The text that is certain now.
  std::string push(const std::string& text);
  std::string finish() { return std::exchange(held_, {}); }
  [[nodiscard]] bool hit() const { return hit_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool hit_ = false;
};

}  // namespace hadal::app
