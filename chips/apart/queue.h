// The queue: a worker thread and the commands that it runs in the order of the calls.
//
// A command owns all that it needs, so callers may overwrite their arguments at once. After a
// command failed the worker drops the following ones, until sync() has told the failure; what they
// own still dies in order. One thread at a time calls a queue. Called by the table of the chip.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "hadal/chip.h"

namespace hadal::apart {

struct Device;

/// What a device that fails on purpose says.
constexpr const char* kFellOff = "the device fell off the bus (--chip-option fail-at-run)";

class Queue {
 public:
  using Work = std::function<hadal_status(hadal_error*)>;

  /// Starts the worker; throws what std::thread throws.
  explicit Queue(Device& device);
  /// Runs what is queued, then ends the worker.
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  void push(Work work);
  /// `dead` is let go when all work queued so far is done, failed or not.
  void release(std::shared_ptr<void> dead);
  /// Waits for the worker; tells the first failure since the last sync and forgets it.
  hadal_status sync(hadal_error* error);
  /// Waits for the worker and forgets nothing.
  void wait();

  [[nodiscard]] Device& device() const { return device_; }

 private:
  struct Command {
    Work work;  ///< empty: only `dead` counts
    std::shared_ptr<void> dead;
  };
  void append(Command command);
  void work_off();
  void run(Command command);

  Device& device_;
  std::mutex mutex_;  ///< of everything below it, up to the thread
  std::condition_variable changed_;
  std::deque<Command> commands_;
  bool busy_ = false;
  bool closing_ = false;
  hadal_status status_ = HADAL_OK;
  hadal_error error_{};
  std::thread thread_;
};

inline Queue* queue_of(hadal_queue* queue) { return reinterpret_cast<Queue*>(queue); }

}  // namespace hadal::apart
