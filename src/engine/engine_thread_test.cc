// The engine's thread: requests from many threads at once, cancelled, refused, ended; each hears of
// its own tokens alone, to its end.
#include "engine/engine_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <future>

#include "engine/testing_devices.h"

namespace hadal {
namespace {

using namespace hadal::testing;  // NOLINT: the tests' own words

/// Collects the tokens of a request's samples, and when all have ended.
class Collector {
 public:
  explicit Collector(int64_t n) : got_(static_cast<size_t>(n)), left_(n) {}
  EngineThread::Listener listener() {
    return [this](int64_t sample, const TokenEvent& event) {
      Got& got = got_[static_cast<size_t>(sample)];
      got.events.push_back(event);
      if (event.token >= 0) got.tokens.push_back(event.token);
      if (event.finish != FinishReason::kNone && --left_ == 0) done_.set_value();
    };
  }
  std::vector<Got>& wait() {
    done_.get_future().wait();
    return got_;
  }

 private:
  std::vector<Got> got_;
  std::atomic<int64_t> left_;
  std::promise<void> done_;
};

TEST(EngineThread, ManyThreadsGetWhatEachGetsAlone) {
  const Loaded l = load(golden("llama"));
  const int64_t vocab = l.engine->spec().vocab_size;
  std::vector<Request> requests;
  std::vector<Got> expected;
  for (uint32_t i = 0; i < 12; ++i) {
    requests.push_back(request(i, 5 + 7 * i, 10, vocab));
    expected.push_back(run(*l.engine, {requests.back()}, false)[0]);
  }
  EngineThread engine(*l.engine);
  std::vector<std::thread> users;
  for (size_t i = 0; i < requests.size(); ++i)
    users.emplace_back([&, i] {
      Collector collector(1);
      ASSERT_TRUE(engine.submit(requests[i], 1, collector.listener()));
      EXPECT_EQ(collector.wait()[0].tokens, expected[i].tokens) << i;
    });
  for (std::thread& user : users) user.join();
  engine.drain();
  const auto snapshot = engine.snapshot();
  EXPECT_EQ(snapshot.waiting, 0);
  EXPECT_EQ(snapshot.running, 0);
  EXPECT_EQ(snapshot.cache_used, 0);
}

TEST(EngineThread, WhatIsCancelledIsHeardOfNoMore) {
  const Loaded l = load(golden("llama"));
  const int64_t vocab = l.engine->spec().vocab_size;
  EngineThread engine(*l.engine);
  std::atomic<int64_t> heard = 0;
  const auto ticket =
      engine.submit(request(1, 10, 300, vocab), 2, [&](int64_t, const TokenEvent&) { ++heard; });
  ASSERT_TRUE(ticket);
  while (heard < 3) std::this_thread::yield();
  engine.cancel(*ticket);
  engine.drain();
  const int64_t then = heard;
  Collector other(1);
  ASSERT_TRUE(engine.submit(request(2, 10, 20, vocab), 1, other.listener()));
  EXPECT_EQ(other.wait()[0].tokens.size(), 20U);
  EXPECT_EQ(heard, then);
  EXPECT_LT(then, 600);
}

TEST(EngineThread, RefusesWhatCannotBeServedOrMustWaitTooLong) {
  const Loaded l = load(golden("llama"));
  const int64_t vocab = l.engine->spec().vocab_size;
  EngineThread engine(*l.engine, {.waiting_requests = 1000, .waiting_tokens = 300});
  Collector wrong(2);
  ASSERT_TRUE(engine.submit({}, 2, wrong.listener()));
  for (const Got& got : wrong.wait()) {
    ASSERT_EQ(got.events.size(), 1U);
    EXPECT_EQ(got.events[0].error->code, ErrorCode::kUsage);
  }
  // What alone is more than the bound is served all the same where nobody waits.
  engine.drain();
  Collector alone(1);
  ASSERT_TRUE(engine.submit(request(1, 301, 1, vocab), 1, alone.listener()));
  EXPECT_EQ(alone.wait()[0].tokens.size(), 1U);
}

TEST(EngineThread, NoMoreWaitThanMay) {
  const Loaded l = load(golden("llama"));  // runs four at once
  const int64_t vocab = l.engine->spec().vocab_size;
  EngineThread engine(*l.engine, {.waiting_requests = 3, .waiting_tokens = 300});
  Collector running(4);
  ASSERT_TRUE(engine.submit(request(1, 10, 250, vocab), 4, running.listener()));
  while (engine.snapshot().running < 4) std::this_thread::yield();
  Collector two(2), one(1);
  ASSERT_TRUE(engine.submit(request(2, 10, 2, vocab), 2, two.listener()));
  for (const int64_t n : {2, 3}) {
    const auto refused = engine.submit(request(3, 10, 2, vocab), n, {});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kBusy);
  }
  EXPECT_FALSE(engine.submit(request(4, 299, 2, vocab), 1, {}));  // too many tokens
  ASSERT_TRUE(engine.submit(request(5, 10, 2, vocab), 1, one.listener()));
  EXPECT_FALSE(engine.submit(request(6, 10, 2, vocab), 1, {}));
  EXPECT_LE(engine.snapshot().waiting, 3);
  for (Collector* c : {&running, &two, &one}) c->wait();
}

TEST(EngineThread, ALostDeviceEndsThoseThatRunAndTheOthersGoOn) {
  const Loaded alone = load(golden("llama"), apart_options({}));
  const int64_t vocab = alone.engine->spec().vocab_size;
  const std::vector<Request> short_ones = {request(11, 10, 3, vocab), request(12, 20, 3, vocab)};
  const Loaded l = load(golden("llama"), apart_options({{"fail-at-run", "12"}}));
  EngineThread engine(*l.engine);  // runs four at once
  std::deque<Collector> running, waiting;
  for (uint32_t i = 0; i < 4; ++i)
    ASSERT_TRUE(engine.submit(request(i, 10, 250, vocab), 1, running.emplace_back(1).listener()));
  for (const Request& request : short_ones)
    ASSERT_TRUE(engine.submit(request, 1, waiting.emplace_back(1).listener()));
  for (Collector& c : running) {
    const TokenEvent& last = c.wait()[0].events.back();
    ASSERT_TRUE(last.error);
    EXPECT_TRUE(last.machine);
  }
  for (size_t i = 0; i < short_ones.size(); ++i)
    EXPECT_EQ(waiting[i].wait()[0].tokens, run(*alone.engine, {short_ones[i]}, false)[0].tokens);
  engine.drain();
  const DeviceState devices = engine.snapshot().devices;
  EXPECT_EQ(devices.lost, "");
  EXPECT_EQ(devices.losses, 1);
  EXPECT_EQ(devices.reopened, 1);
}

TEST(EngineThread, TheEndOfTheThreadIsToldToAll) {
  const Loaded l = load(golden("llama"));
  const int64_t vocab = l.engine->spec().vocab_size;
  Collector collector(1), waits(1);
  {
    EngineThread engine(*l.engine);
    ASSERT_TRUE(engine.submit(request(1, 10, 300, vocab), 1, collector.listener()));
    ASSERT_TRUE(engine.submit(request(2, 10, 300, vocab), 1, waits.listener()));
  }
  for (Collector* c : {&collector, &waits}) {
    const TokenEvent& last = c->wait()[0].events.back();
    ASSERT_TRUE(last.error || last.finish == FinishReason::kLength);
  }
  // The engine itself is whole.
  EXPECT_EQ(run(*l.engine, {request(3, 10, 5, vocab)}, false)[0].tokens.size(), 5U);
}

}  // namespace
}  // namespace hadal
