#include "server/task_pool.h"

namespace hadal::server {

TaskPool::TaskPool(int threads, size_t most_waiting) : most_waiting_(most_waiting) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { loop(); });
}

void TaskPool::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

bool TaskPool::add(std::function<void()> task) {
  {
    const std::scoped_lock lock(mutex_);
    if (stop_ || tasks_.size() >= most_waiting_) return false;
    tasks_.push_back(std::move(task));
  }
  work_.notify_one();
  return true;
}

void TaskPool::loop() {
  for (;;) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      work_.wait(lock, [&] { return stop_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace hadal::server
