#include "device/thread_group.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <thread>

namespace hadal {
namespace {

using Body = std::function<Status(Communicator&)>;

/// Runs body on every rank, each a thread; what they ended with.
std::vector<Status> run(int64_t ranks, const Body& body) {
  std::vector<std::unique_ptr<Communicator>> all = ThreadGroup::make(ranks);
  std::vector<Status> ended(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (size_t r = 0; r < ended.size(); ++r)
    threads.emplace_back([&, r] {
      const std::unique_ptr<Communicator> own = std::move(all[r]);  // gone when its thread ends
      ended[r] = body(*own);
    });
  for (std::thread& t : threads) t.join();
  return ended;
}

/// A number of a rank, of a size that makes the order of a sum show.
float number(int64_t rank, int64_t i) {
  return std::ldexp(1.0f + static_cast<float>((rank * 7919 + i * 104729) % 1000) / 1024.0f,
                    static_cast<int>((rank * 5 + i) % 13) - 6);
}

TEST(ThreadGroup, SumsInTheOrderOfTheRanks) {
  for (const int64_t ranks : {1, 2, 3, 4})
    for (const int64_t n : {0, 1, 3, 1000, 5001}) {
      std::vector<std::vector<float>> found(static_cast<size_t>(ranks));
      const auto ended = run(ranks, [&](Communicator& c) -> Status {
        EXPECT_EQ(c.ranks(), ranks);
        std::vector<float>& values = found[static_cast<size_t>(c.rank())];
        for (int round = 0; round < 3; ++round) {  // what a rank brings is its own again
          values.clear();
          for (int64_t i = 0; i < n; ++i) values.push_back(number(c.rank(), i));
          HADAL_TRY(c.all_reduce(values));
        }
        return c.leave();
      });
      for (const Status& s : ended) ASSERT_TRUE(s) << s.error().message;
      for (int64_t i = 0; i < n; ++i) {
        float sum = number(0, i);
        for (int64_t r = 1; r < ranks; ++r) sum += number(r, i);
        for (const auto& values : found) ASSERT_EQ(values[static_cast<size_t>(i)], sum);
      }
    }
}

TEST(ThreadGroup, BroadcastsFromTheFirst) {
  const auto ended = run(3, [](Communicator& c) -> Status {
    std::vector<int32_t> tokens(5, c.rank() == 0 ? 42 : -1);
    HADAL_TRY(c.broadcast(std::as_writable_bytes(std::span(tokens))));
    EXPECT_EQ(tokens, std::vector<int32_t>(5, 42));
    HADAL_TRY(c.broadcast({}));
    HADAL_TRY(c.barrier());
    return c.leave();
  });
  for (const Status& s : ended) EXPECT_TRUE(s) << s.error().message;
}

TEST(ThreadGroup, AnAbortWakesWhoWaits) {
  const auto ended = run(4, [](Communicator& c) -> Status {
    std::vector<float> values(100, 1.0f);
    HADAL_TRY(c.all_reduce(values));
    if (c.rank() == 2) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      c.abort("no memory");
      return {};
    }
    return c.all_reduce(values);
  });
  for (size_t r = 0; r < ended.size(); ++r) {
    if (r == 2) continue;
    ASSERT_FALSE(ended[r]);
    EXPECT_EQ(ended[r].error().message, "rank 2 ended the run: no memory");
  }
}

TEST(ThreadGroup, ARankThatGoesWakesWhoWaits) {
  for (const bool waits : {false, true}) {
    const auto ended = run(3, [&](Communicator& c) -> Status {
      if (c.rank() == 1) return {};  // without a word
      if (!waits) return c.leave();
      std::vector<float> values(10, 1.0f);
      return c.all_reduce(values);
    });
    for (const size_t r : {size_t{0}, size_t{2}}) {
      ASSERT_FALSE(ended[r]);
      EXPECT_EQ(ended[r].error().message, "rank 1 ended the run: it is gone");
    }
  }
}

TEST(ThreadGroup, CallsThatDoNotFitAreAnErrorOnAllRanks) {
  const auto ended = run(3, [](Communicator& c) -> Status {
    std::vector<float> values(c.rank() == 2 ? 8 : 9, 1.0f);
    return c.all_reduce(values);
  });
  for (const Status& s : ended) {
    ASSERT_FALSE(s);
    EXPECT_EQ(s.error().message,
              "rank 0 calls all_reduce of 36 bytes, rank 2 calls all_reduce of 32 bytes");
  }
  const auto others =
      run(2, [](Communicator& c) -> Status { return c.rank() == 0 ? c.barrier() : c.leave(); });
  for (const Status& s : others) EXPECT_FALSE(s);
}

}  // namespace
}  // namespace hadal
