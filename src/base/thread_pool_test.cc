#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <numeric>

namespace hadal {
namespace {

std::unique_ptr<ThreadPool> pool_of(int threads) {
  auto pool = ThreadPool::create(threads);
  EXPECT_TRUE(pool) << pool.error().message;
  return *std::move(pool);
}

TEST(ThreadPool, EveryWorkerRunsOnceARegion) {
  for (const int threads : {1, 2, 7}) {
    const auto pool = pool_of(threads);
    ASSERT_EQ(pool->size(), threads);
    std::vector<int> runs(static_cast<size_t>(threads));
    auto body = [&](int worker) { ++runs[static_cast<size_t>(worker)]; };
    for (int i = 0; i < 100; ++i) pool->run(body);
    EXPECT_EQ(runs, std::vector<int>(static_cast<size_t>(threads), 100));
  }
}

TEST(ThreadPool, LessThanOneThreadIsOne) { EXPECT_EQ(pool_of(0)->size(), 1); }

TEST(ThreadPool, ForEachTakesEveryIndexOnce) {
  const auto pool = pool_of(4);
  for (const int64_t count : {0, 1, 3, 1000}) {
    std::vector<std::atomic<int>> taken(static_cast<size_t>(count));
    pool->for_each(count, [&](int64_t i) { ++taken[static_cast<size_t>(i)]; });
    for (const auto& times : taken) EXPECT_EQ(times, 1);
  }
}

TEST(ThreadPool, WhatWasWrittenBeforeABarrierIsSeenBehindIt) {
  const auto pool = pool_of(5);
  std::vector<int> written(5);
  std::vector<int> sums(5);
  auto body = [&](int worker) {
    for (int round = 1; round <= 200; ++round) {
      written[static_cast<size_t>(worker)] = round * (worker + 1);
      pool->barrier(worker);
      sums[static_cast<size_t>(worker)] = std::accumulate(written.begin(), written.end(), 0);
      pool->barrier(worker);
      if (sums[static_cast<size_t>(worker)] != 15 * round) return;
    }
  };
  pool->run(body);
  EXPECT_EQ(sums, std::vector<int>(5, 15 * 200));
}

TEST(ThreadPool, WorkerZeroStopsAllAtTheSameBarrier) {
  const auto pool = pool_of(3);
  std::vector<int> rounds(3);
  auto body = [&](int worker) {
    while (!pool->barrier(worker, worker == 0 && rounds[0] == 10))
      ++rounds[static_cast<size_t>(worker)];
  };
  pool->run(body);
  EXPECT_EQ(rounds, std::vector<int>(3, 10));
}

TEST(ThreadPool, AThreadThatCannotStartIsAnErrorThatNamesIt) {
  // Threads with a stack larger than the address space cannot start.
  pthread_attr_t usual, huge;
  ASSERT_EQ(pthread_getattr_default_np(&usual), 0);
  ASSERT_EQ(pthread_attr_init(&huge), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&huge, size_t{1} << 56), 0);
  ASSERT_EQ(pthread_setattr_default_np(&huge), 0);
  const auto pool = ThreadPool::create(8);
  ASSERT_EQ(pthread_setattr_default_np(&usual), 0);
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().code, ErrorCode::kMemory);
  EXPECT_TRUE(pool.error().message.starts_with("cannot start worker thread 2 of 8: "))
      << pool.error().message;
  EXPECT_TRUE(pool.error().message.ends_with("; fewer with --threads")) << pool.error().message;
  EXPECT_EQ(pool_of(8)->size(), 8);
}

}  // namespace
}  // namespace hadal
