// CallDesk: calls that were made ready, through a source of tokens, to their clients: whole or as
// streams. One thread brings every event to its call and what is new of a call to its client, in
// order; a client that reads slowly makes nobody else wait.
//
// Refuses nothing itself: the source's bounded queue does (kBusy). A client that leaves ends its
// call within one step and touches no other. Knows no API (reply.h) and no route.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "server/http_server.h"
#include "server/keys.h"
#include "server/running_call.h"
#include "server/task_pool.h"

namespace hadal::server {

/// What is known of a call once it is over, for the log and the metrics.
struct CallRecord {
  int status = 200;   ///< of the response; of a stream that broke, of its error
  std::string end;    ///< "stop", "length", …, "gone" (the client left), or the error's code
  std::string error;  ///< its text, for the log
  UsageCounts usage;
  double first_token_seconds = -1;  ///< from the call's arrival; -1: there was none
  double seconds = 0;               ///< to its end
};

/// A call that can run, with whoever waits for it.
struct DeskCall {
  std::shared_ptr<HttpExchange> exchange;
  std::unique_ptr<RunningCall> call;
  std::unique_ptr<Reply> reply;
  bool stream = false;
  bool slow_end = false;  ///< its last word may wait for a disk: a thread of its own says it
  std::chrono::steady_clock::time_point arrived;
  std::shared_ptr<RateLimiter::Slot> slot;  ///< null: nobody counts
  HttpHeaders headers;                      ///< of the response
  /// The body of an error, in the shape of the call's API.
  std::function<std::string(const ApiError& error)> error_body;
  std::function<void(const CallRecord& record)> on_over;  ///< once, on a thread of the desk's
  /// Seconds between tokens of a call with one answer, as they come. On the desk's thread.
  std::function<void(double seconds, int64_t tokens)> on_tokens;
};

class CallDesk {
 public:
  struct Options {
    double ping_seconds = 10;  ///< of silence on a stream, behind which it says that it lives
    /// Seconds after which somebody whom the source refused may try again.
    std::function<int64_t()> retry_after;
    /// Of the answers that begin now (Session); empty: none is told.
    std::function<std::string()> fingerprint;
  };
  /// The source must outlive the desk.
  CallDesk(TokenSource& source, Options options);
  ~CallDesk() { stop(); }
  CallDesk(const CallDesk&) = delete;
  CallDesk& operator=(const CallDesk&) = delete;

  /// Any thread; not behind stop().
  void take(DeskCall call);
  /// Ends what is left with 503. By one thread.
  void stop();
  /// Calls that were taken and are not over.
  [[nodiscard]] int64_t open() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Event {
    int64_t id = 0;
    RunningCall::Origin from;
    TokenEvent event;
  };
  /// What other threads leave for the desk's; shared with the source's listeners, which may outlive
  /// it.
  struct Inbox {
    std::mutex mutex;
    std::condition_variable arrived;
    std::vector<DeskCall> calls;
    std::vector<Event> events;
    std::vector<int64_t> gone;
    bool stop = false;
    int64_t open = 0;
  };
  struct Live {
    DeskCall call;
    bool head_sent = false;  ///< of a stream
    bool begun = false;      ///< its first bytes were written
    bool touched = false;
    bool heard = false;    ///< of it anything was
    bool counted = false;  ///< DeskCall::on_over was told
    bool over = false;
    Clock::time_point last_sent;
    std::optional<Clock::time_point> first_token, last_token;
    int64_t tokens = 0;  ///< told so far
  };
  void loop();
  void take_in(std::vector<DeskCall> calls);
  void tell(const std::vector<Event>& events);
  void break_off(Live& live, const std::string& why) noexcept;
  /// Runs what concerns one call; what it throws ends that call alone.
  template <typename Work>
  void guarded(int64_t id, const Work& work);
  void begin(int64_t id);
  void flush(int64_t id, Live& live);
  void end(Live& live, const std::vector<RunningCall::News>& news);
  /// What a stream says of the news.
  std::string streamed(Live& live, const std::vector<RunningCall::News>& news);
  void measure(Live& live);
  void send(Live& live, std::string bytes);
  void fail(Live& live, const Error& error);
  void count(Live& live, CallRecord record);
  void over(Live& live);
  void ping();
  void leave(int64_t id);

  TokenSource& source_;
  Options options_;
  std::shared_ptr<Inbox> inbox_;
  // Of the desk's thread alone:
  std::map<int64_t, Live> live_;
  int64_t next_id_ = 0;
  TaskPool keeper_{1, 1024};  ///< says the last word of calls whose reply waits for a disk
  std::thread thread_;
};

}  // namespace hadal::server
