#include "base/thread_pool.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>

#include "base/cpu_info.h"

namespace hadal {
namespace {

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A pause takes 10 ns (Zen) to 40 ns (Intel): some µs of spinning at a barrier, some tens between
// regions, where the host prepares the next step; then a few offers of the core to others; then the
// kernel wakes us.
constexpr int kSpinBarrier = 400, kSpinIdle = 2000, kYields = 30;

// What a sleeper waits for is written with seq_cst: notify_all looks first whether anybody sleeps,
// and that look must not overtake the write (with a plain store it does, on x86 too, and the last
// one to fall asleep is never woken).
constexpr auto kBeforeNotify = std::memory_order_seq_cst;

// Until `word` differs from `old`.
int wait_changed(const std::atomic<int>& word, int old, int spins) {
  for (int i = 0; i < spins; ++i) {
    const int now = word.load(std::memory_order_acquire);
    if (now != old) return now;
    pause();
  }
  for (int i = 0; i < kYields; ++i) {
    const int now = word.load(std::memory_order_acquire);
    if (now != old) return now;
    std::this_thread::yield();
  }
  word.wait(old, std::memory_order_acquire);
  return word.load(std::memory_order_acquire);
}

/// What may keep the system from starting another thread; "" if nothing is limited.
std::string thread_limits() {
  std::string text;
  const auto add = [&](std::string_view what, uint64_t number, std::string_view unit) {
    text += fmt::format("{}{} {}{}", text.empty() ? "" : ", ", what, number, unit);
  };
  rlimit limit{};
  if (::getrlimit(RLIMIT_NPROC, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    add("ulimit -u", limit.rlim_cur, " threads");
  if (::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    add("ulimit -v", limit.rlim_cur >> 10, " KiB");
  if (const auto most = cgroup_threads()) add("pids.max of the control group", *most, "");
  return text;
}

}  // namespace

ThreadPool::ThreadPool(int threads) : size_(std::max(1, threads)) {
  threads_.reserve(static_cast<size_t>(size_ - 1));
}

Result<std::unique_ptr<ThreadPool>> ThreadPool::create(int threads) {
  std::unique_ptr<ThreadPool> pool(new ThreadPool(threads));
  for (int w = 1; w < pool->size_; ++w) {
    try {
      pool->threads_.emplace_back([p = pool.get(), w] { p->loop(w); });
    } catch (const std::system_error& error) {
      const std::string limits = thread_limits();
      return memory_error(fmt::format(
          "cannot start worker thread {} of {}: {}{}; fewer with --threads", w + 1, pool->size_,
          error.code().message(), limits.empty() ? "" : fmt::format(" (limits: {})", limits)));
    }
  }
  return pool;
}

Result<std::shared_ptr<ThreadPool>> ThreadPool::shared(int threads) {
  // The one thing in the process that its engines have in common: threads beyond the cores would
  // only wait for each other at every barrier.
  static std::mutex mutex;
  static std::map<int, std::weak_ptr<ThreadPool>> pools;
  const std::lock_guard guard(mutex);
  std::weak_ptr<ThreadPool>& known = pools[std::max(1, threads)];
  if (std::shared_ptr<ThreadPool> pool = known.lock()) return pool;
  HADAL_TRY(std::shared_ptr<ThreadPool> fresh, create(threads));
  known = fresh;
  return fresh;
}

ThreadPool::~ThreadPool() {
  quit_ = true;
  epoch_.fetch_add(1, kBeforeNotify);
  epoch_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void ThreadPool::loop(int worker) {
  int seen = 0;
  for (;;) {
    seen = wait_changed(epoch_, seen, kSpinIdle);
    if (quit_) return;
    body_(context_, worker);
    if (done_.fetch_add(1, kBeforeNotify) + 1 == size_ - 1) done_.notify_all();
  }
}

void ThreadPool::run(void (*body)(void*, int), void* context) {
  if (size_ == 1) {
    body(context, 0);
    return;
  }
  body_ = body;
  context_ = context;
  stop_ = false;
  done_.store(0, std::memory_order_relaxed);
  epoch_.fetch_add(1, kBeforeNotify);
  epoch_.notify_all();
  body(context, 0);
  int done = done_.load(std::memory_order_acquire);
  while (done != size_ - 1) done = wait_changed(done_, done, kSpinBarrier);
}

bool ThreadPool::barrier(int worker, bool stop) {
  if (size_ == 1) return stop;
  const int generation = generation_.load(std::memory_order_relaxed);
  if (worker == 0) stop_ = stop;
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    arrived_.store(0, std::memory_order_relaxed);
    const int next = ((generation | 1) + 1) | (stop_ ? 1 : 0);
    generation_.store(next, kBeforeNotify);
    generation_.notify_all();
    return (next & 1) != 0;
  }
  return (wait_changed(generation_, generation, kSpinBarrier) & 1) != 0;
}

}  // namespace hadal
