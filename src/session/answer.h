// Answer: what a request came to, and what builds it from the engine's events: text, thought,
// calls, log-probabilities, usage, and how it ended.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/request.h"
#include "session/answer_stream.h"
#include "text/output/output.h"

namespace hadal {

/// Tokens and times of one answer.
struct Usage {
  int64_t prompt_tokens = 0, new_tokens = 0;
  int64_t cached_tokens = 0;                        ///< of the prompt: from the prefix cache
  int64_t thought_tokens = 0;                       ///< of the new ones
  int64_t drafted_tokens = 0, accepted_tokens = 0;  ///< guesses that were verified, and right
  double first_token_seconds = 0, total_seconds = 0;
  /// Of the tokens behind the first.
  [[nodiscard]] double tokens_per_second() const;
};

enum class AnswerEnd { kStop, kLength, kContext, kDeadline, kInterrupted };
/// "stop", "length", "context full", "deadline", "interrupted"
std::string_view name_of(AnswerEnd end);

/// A token with its log-probability and its rivals'.
struct AnswerToken {
  TokenId id = -1;
  float logprob = 0;
  std::vector<TokenLogprob> top = {};  ///< most likely first
  bool in_thought = false;
};

struct Answer {
  std::string reasoning = {}, content = {};
  std::vector<ToolCall> tool_calls = {};
  std::vector<TokenId> ids = {};         ///< as generated, the ending one included
  std::vector<AnswerToken> tokens = {};  ///< where log-probabilities were asked for; no ending one
  AnswerEnd end = AnswerEnd::kStop;
  std::string stop = {};  ///< the stop text that ended it, "" if none did
  Usage usage = {};
};

/// Collects one answer, event by event.
class AnswerBuilder {
 public:
  struct Options {
    int64_t prompt_tokens = 0;
    std::vector<TokenId> ending = {};  ///< ids that are not part of the answer
    bool tokens = false;               ///< Answer::tokens is wanted
    bool one_call = false;             ///< the answer ends behind its first call of a tool
  };
  /// Without a stream (a model without a tokenizer) there are ids alone.
  AnswerBuilder(std::optional<AnswerStream> stream, Options options);

  /// What the event makes certain. Nothing once the answer is over.
  OutputDelta push(const TokenEvent& event);
  /// Nothing that follows belongs to the answer.
  [[nodiscard]] bool over() const { return over_; }
  /// It is over while the engine goes on: the request should be cancelled.
  [[nodiscard]] bool cut() const { return cut_; }
  /// What ended it, if it failed.
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }
  /// Ends it here, as `end` says.
  void stop(AnswerEnd end);
  /// What was held back; once, when it is over.
  OutputDelta finish();
  [[nodiscard]] const Answer& answer() const { return answer_; }
  [[nodiscard]] Answer take() { return std::move(answer_); }

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(Clock::now() - start_).count();
  }
  void add(OutputDelta& delta);

  std::optional<AnswerStream> stream_;
  Options options_;
  Answer answer_;
  std::optional<Error> error_;
  Clock::time_point start_ = Clock::now();
  bool over_ = false, cut_ = false, finished_ = false;
};

}  // namespace hadal
