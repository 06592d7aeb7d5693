// CallRunner: calls of the APIs through an engine's thread, to whole responses.
//
// One thread starts calls and takes their results; the engine runs meanwhile. A call is prepared
// (prompt, grammar) on the caller's thread, its answers are put together there, too: the engine's
// thread only leaves its events in a queue. What `hadal batch` runs on; streams are the server's.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "engine/engine_thread.h"
#include "server/api_error.h"
#include "server/openai_chat.h"
#include "server/openai_completion.h"
#include "session/session.h"

namespace hadal::server {

/// Tokens of an answer as the responses show them.
std::vector<ScoredToken> scored_tokens(const Tokenizer& tokenizer,
                                       std::span<const AnswerToken> tokens);

class CallRunner {
 public:
  using Call = std::variant<ChatCall, CompletionCall>;
  struct Done {
    int64_t tag = 0;
    int status = 200;
    std::string body;
  };
  /// `model`: the name in responses. Session and thread must outlive the runner.
  CallRunner(Session& session, EngineThread& engine, std::string model)
      : session_(session), engine_(engine), model_(std::move(model)) {}
  ~CallRunner();
  CallRunner(const CallRunner&) = delete;
  CallRunner& operator=(const CallRunner&) = delete;

  /// Begins a call; what is wrong with it is its result. `id`: of the response.
  void start(int64_t tag, Call call, std::string id);
  /// Calls that were started and whose results were not taken.
  [[nodiscard]] size_t running() const { return running_.size() + done_.size(); }
  /// Waits for a call's end. None if nothing runs, or `stop` says true (asked some times a second).
  std::optional<Done> next(const std::function<bool()>& stop = {});
  /// Tokens of all that ended so far.
  [[nodiscard]] const UsageCounts& usage() const { return usage_; }

 private:
  /// One prompt of a call: its request and the answers to it.
  struct Part {
    PreparedRequest prepared;
    std::optional<EngineThread::Ticket> ticket;
    int64_t prompt_tokens = 0;
  };
  struct Running {
    Call call;
    ReplyHead head;
    std::vector<Part> parts;
    int64_t left = 0;  ///< answers that are not over
    std::optional<Error> error;
  };
  struct Event {
    int64_t tag = 0;
    size_t part = 0;
    int64_t sample = 0;
    TokenEvent event;
  };
  Status prepare(Running& running);
  Status submit(int64_t tag, Running& running);
  void handle(Event& event);
  void finish(int64_t tag, Running& running);
  Done result_of(int64_t tag, Running& running);
  [[nodiscard]] std::string chat_body(Running& running, UsageCounts& usage) const;
  [[nodiscard]] std::string completion_body(Running& running, UsageCounts& usage) const;

  Session& session_;
  EngineThread& engine_;
  std::string model_;
  std::map<int64_t, Running> running_;
  std::vector<Done> done_;
  UsageCounts usage_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Event> events_;  // under the mutex
};

}  // namespace hadal::server
