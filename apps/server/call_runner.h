// CallRunner: calls of the APIs through a source of tokens, to whole responses.
//
// One thread starts calls and takes their results; the engine runs meanwhile. A call is prepared
// (prompt, grammar) on the caller's thread, its answers are put together there, too: the source's
// thread only leaves its events in a queue. What `hadal batch` runs on.
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
#include <vector>

#include "engine/engine_thread.h"
#include "server/running_call.h"

namespace hadal::server {

class CallRunner {
 public:
  struct Done {
    int64_t tag = 0;
    int status = 200;
    std::string body;
    /// Why there is no answer where the machine failed, not what was asked; else "".
    std::string machine = {};
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
  struct Running {
    std::unique_ptr<RunningCall> call;
    std::unique_ptr<Reply> reply;
    bool heard = false;  ///< of it anything was
  };
  struct Event {
    int64_t tag = 0;
    RunningCall::Origin from;
    TokenEvent event;
  };
  Status begin(int64_t tag, Call call, std::string id);
  void handle(const Event& event);
  void fail(int64_t tag, const Error& error);

  Session& session_;
  EngineThread& engine_;
  std::string model_;
  std::map<int64_t, Running> running_;
  std::vector<Done> done_;
  UsageCounts usage_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Event> events_;
};

}  // namespace hadal::server
