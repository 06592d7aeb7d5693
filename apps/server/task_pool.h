// TaskPool: a few threads that work through a bounded queue of tasks.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace hadal::server {

class TaskPool {
 public:
  TaskPool(int threads, size_t most_waiting);
  ~TaskPool() { stop(); }
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;

  /// False: too many wait, and the task is not taken. A task must not throw.
  bool add(std::function<void()> task);
  /// Runs what is queued to its end, and takes nothing more. By one thread.
  void stop();

 private:
  void loop();

  const size_t most_waiting_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::deque<std::function<void()>> tasks_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace hadal::server
