// Worker threads that sleep between regions, and a barrier inside a region.
//
// No OpenMP. The calling thread is worker 0. Waiting is short spinning, then yielding, then
// sleeping in the kernel, so that a step stays fast when another process keeps a core busy. Threads
// are not pinned: the kernel may then move a worker away from a core that somebody else uses.
// Called by chips/cpu and by src/quantize.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/result.h"

namespace hadal {

class ThreadPool {
 public:
  /// A pool of `threads` workers, the caller among them. kMemory if the system gives no more
  /// threads; the message names the worker and the limits that are set.
  static Result<std::unique_ptr<ThreadPool>> create(int threads);
  /// The one pool of so many workers that all in this process share who ask for it; it ends with
  /// its last user. Errors: as create().
  static Result<std::shared_ptr<ThreadPool>> shared(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int size() const { return size_; }

  /// Runs body(context, worker) on every worker and returns when all are done. One region at a
  /// time: the caller holds lock().
  void run(void (*body)(void* context, int worker), void* context);
  std::mutex& lock() { return lock_; }

  template <typename Body>
  void run(Body& body) {
    run([](void* context, int worker) { (*static_cast<Body*>(context))(worker); }, &body);
  }

  /// Runs task(i) for every i in [0, count), each on whichever worker is free; takes lock().
  template <typename Task>
  void for_each(int64_t count, Task task) {
    std::atomic<int64_t> next{0};
    auto body = [&](int) {
      for (int64_t i = next.fetch_add(1, std::memory_order_relaxed); i < count;
           i = next.fetch_add(1, std::memory_order_relaxed))
        task(i);
    };
    const std::lock_guard guard(lock_);
    run(body);
  }

  /// Waits for all workers. True if worker 0 asked to stop before it arrived; then all workers get
  /// true.
  bool barrier(int worker, bool stop = false);

 private:
  explicit ThreadPool(int threads);
  void loop(int worker);

  const int size_;
  std::mutex lock_;
  std::vector<std::thread> threads_;
  void (*body_)(void*, int) = nullptr;
  void* context_ = nullptr;
  bool quit_ = false;
  bool stop_ = false;  ///< written by worker 0 before it arrives, read by the last that arrives
  alignas(64) std::atomic<int> epoch_{0};       ///< grows by one a region
  alignas(64) std::atomic<int> generation_{0};  ///< of the barrier; bit 0: stop
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> done_{0};
};

}  // namespace hadal
