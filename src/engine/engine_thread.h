// EngineThread: the one thread that drives an engine, and the door for all others.
//
// Any thread submits requests and cancels them; what comes of a request is told to its listener,
// in order, on the engine's thread. Bounded: beyond so many requests or prompt tokens that wait,
// submit() refuses, so that nobody waits in a queue without end. An error of a device ends the
// requests that run, with its text; those that wait go on when the device was opened again. If it
// stays away, they end, too, and whoever comes meanwhile, and it is tried again every few seconds.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/token_source.h"

namespace hadal {

class EngineThread final : public TokenSource {
 public:
  static constexpr double kReopenSeconds = 5;
  struct Limits {
    int64_t waiting_requests = 1024;            ///< answers: a request of n counts n times
    int64_t waiting_tokens = int64_t{4} << 20;  ///< of their prompts
    int64_t places = 0;  ///< answers that run at once: those that are free count as room
    double reopen_seconds = kReopenSeconds;  ///< between attempts to open a device again
    /// Told, on the engine's thread, that no answer can be generated in this process any more.
    std::function<void(const Error& why)> on_end = {};
  };
  /// What the engine looks like from outside.
  struct Snapshot {
    EngineCounts counts;
    int64_t waiting = 0, running = 0, preemptions = 0;
    double cache_used = 0;  ///< 0 … 1, blocks that running requests hold, of the fullest group
    DeviceState devices;
    Digest identity{};  ///< ModelRunner::identity() of the answers that begin now
  };

  /// The engine must outlive the thread, and nobody else may use it meanwhile.
  explicit EngineThread(Engine& engine) : EngineThread(engine, Limits{}) {}
  EngineThread(Engine& engine, const Limits& limits);
  /// Ends every request with kInterrupted.
  ~EngineThread() override;
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  /// kBusy: too much waits already (what alone is more than the bound may wait alone);
  /// kInterrupted: the thread stops.
  Result<std::vector<Ticket>> submit_all(std::vector<Request> requests, int64_t n,
                                         PartListener listener) override;
  void cancel(Ticket ticket) override;
  /// Runs `work` on the engine's thread between two steps, and waits for it: what changes an engine
  /// that lives (its adapters). Not from a listener. Errors: the work's own; kInterrupted (the
  /// thread stops).
  Status between_steps(const std::function<Status(Engine& engine)>& work);
  [[nodiscard]] Snapshot snapshot() const;
  /// Waits until nothing is left to do.
  void drain();

 private:
  struct Live {
    Ticket ticket;
    int64_t sample = 0;
    std::shared_ptr<const Listener> listener;
  };
  struct Submitted {
    Ticket ticket;
    Request request;
    int64_t n = 1;
    std::shared_ptr<const Listener> listener;
  };
  struct Visit {
    const std::function<Status(Engine& engine)>& work;
    Status result;
    bool done = false;
  };
  void loop();
  void receive(const std::vector<Visit*>& visits);
  void take(std::vector<Submitted> submitted);
  void drop(const std::vector<Ticket>& cancelled);
  void step();
  void reopen();
  [[nodiscard]] bool may_reopen() const;
  /// Ends those that `chosen` says; how many.
  int64_t end(TokenEvent last, const std::function<bool(int64_t seq)>& chosen);
  int64_t end_running(const TokenEvent& last);
  void end_all(const TokenEvent& last);
  void tell(const TokenEvent& event);
  void publish();

  Engine& engine_;
  Limits limits_;
  // Of the engine's thread alone:
  std::map<int64_t, Live> live_;  ///< by the number of the sequence
  std::optional<std::chrono::steady_clock::time_point>
      next_reopening_;  ///< of a device that is away
  Digest identity_;
  // Of all threads, under the mutex:
  mutable std::mutex mutex_;
  std::condition_variable work_, idle_, visited_;
  std::vector<Submitted> submitted_;
  std::vector<Ticket> cancelled_;
  std::vector<Visit*> visits_;
  int64_t next_ticket_ = 0;
  int64_t waiting_ = 0, waiting_tokens_ = 0;  ///< submitted and not known to run; their prompts
  bool stop_ = false, busy_ = false;
  Snapshot snapshot_;
  std::thread thread_;
};

}  // namespace hadal
