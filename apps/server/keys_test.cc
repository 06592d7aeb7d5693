#include "server/keys.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>
#include <vector>

namespace hadal::server {
namespace {

constexpr const char* kTwo = R"({"keys": [
  {"name": "team-a", "key": "sk-0123456789abcdef", "requests_per_minute": 60,
   "tokens_per_minute": 1000, "max_running": 2, "priority": -3, "models": ["small", "large"]},
  {"name": "team.b", "sha256": "5303C1E1f616c38d16bb077a667ddbcf7d2825b3db17cfccd22e03cbd7d223dc"}]})";

std::string message_of(const std::string& text) {
  const auto ring = KeyRing::parse(text, "keys.json");
  return ring ? "" : ring.error().message;
}

std::string one(const std::string& members) {
  return R"({"keys": [{"name": "a", "key": "sk-0123456789abcdef")" + members + "}]}";
}

TEST(KeyRing, FindsKeysByTheirDigests) {
  const auto ring = KeyRing::parse(kTwo, "keys.json");
  ASSERT_TRUE(ring.has_value()) << ring.error().message;
  const ApiKey* a = ring->find("sk-0123456789abcdef");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->name, "team-a");
  EXPECT_EQ(a->requests_per_minute, 60);
  EXPECT_EQ(a->tokens_per_minute, 1000);
  EXPECT_EQ(a->max_running, 2);
  EXPECT_EQ(a->priority, -3);
  EXPECT_TRUE(a->may_use("small"));
  EXPECT_FALSE(a->may_use("other"));
  // printf %s team-b-secret-key-0001 | sha256sum
  const ApiKey* b = ring->find("team-b-secret-key-0001");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->name, "team.b");
  EXPECT_TRUE(b->may_use("anything"));
  EXPECT_FALSE(b->requests_per_minute || b->tokens_per_minute || b->max_running);
  for (const char* wrong :
       {"", "sk-0123456789abcde", "sk-0123456789abcdefg", "SK-0123456789ABCDEF"})
    EXPECT_EQ(ring->find(wrong), nullptr);
}

TEST(KeyRing, RefusesByName) {
  const std::pair<std::string, const char*> bad[] = {
      {"", "not JSON"},
      {"{\"keys\": [\n{\"name\": \"secret", "line 2"},
      {"[]", "form"},
      {R"({"keys": []})", "no key"},
      {R"({"keys": [], "more": 1})", "form"},
      {R"({"keys": [1]})", "keys[0] is not an object"},
      {one(R"(, "rate": 5)"), "\"rate\""},
      {one(R"(, "sha256": "00")"), "not both"},
      {R"({"keys": [{"name": "a"}]})", "not both"},
      {R"({"keys": [{"key": "sk-0123456789abcdef"}]})", "name"},
      {R"({"keys": [{"name": "a b", "key": "sk-0123456789abcdef"}]})", "name"},
      {R"({"keys": [{"name": "a", "key": "secret-15-chars"}]})", "15 characters"},
      {R"({"keys": [{"name": "a", "key": "secret with spaces"}]})", "space"},
      {R"({"keys": [{"name": "a", "sha256": "0123"}]})", "64"},
      {one(R"(, "max_running": 0)"), "max_running"},
      {one(R"(, "max_running": 1.5)"), "max_running"},
      {one(R"(, "requests_per_minute": -1)"), "requests_per_minute"},
      {one(R"(, "tokens_per_minute": 18446744073709551615)"), "tokens_per_minute"},
      {one(R"(, "tokens_per_minute": "5")"), "tokens_per_minute"},
      {one(R"(, "priority": 2147483648)"), "priority"},
      {one(R"(, "models": [])"), "models"},
      {one(R"(, "models": [5])"), "models"},
      {one(R"(, "max_running": 1, "max_running": 2)"), "twice"},
      {one(R"(}, {"name": "a", "key": "sk-0123456789abcdeX")"), "twice"},
      {one(R"(}, {"name": "b", "key": "sk-0123456789abcdef")"), "another's"},
  };
  for (const auto& [text, words] : bad) {
    const std::string message = message_of(text);
    EXPECT_NE(message.find(words), std::string::npos) << text << "\n" << message;
    EXPECT_EQ(message.find("secret"), std::string::npos) << message;
    EXPECT_EQ(message.find("sk-0"), std::string::npos) << message;
  }
}

TEST(KeyRing, NotesAFileThatAllMayRead) {
  const std::string path = testing::TempDir() + "keys_test_" + std::to_string(::getpid());
  std::ofstream(path) << kTwo;
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  auto ring = KeyRing::read(path);
  ASSERT_TRUE(ring.has_value()) << ring.error().message;
  EXPECT_EQ(ring->note(), "");
  ASSERT_EQ(::chmod(path.c_str(), 0644), 0);
  ring = KeyRing::read(path);
  ASSERT_TRUE(ring.has_value());
  EXPECT_NE(ring->note().find(path), std::string::npos);
  std::filesystem::remove(path);
  EXPECT_EQ(KeyRing::read(path).error().code, ErrorCode::kNotFound);
}

TEST(KeyRing, IsMadeOfOneKey) {
  const auto ring = KeyRing::of("sk-0123456789abcdef");
  ASSERT_TRUE(ring.has_value());
  EXPECT_NE(ring->find("sk-0123456789abcdef"), nullptr);
  EXPECT_FALSE(KeyRing::of("short").has_value());
}

std::string header(const RateLimiter::Verdict& verdict, std::string_view name) {
  for (const auto& [other, value] : verdict.headers)
    if (other == name) return value;
  return "none";
}

TEST(RateLimiter, CountsRequests) {
  double now = 100;
  RateLimiter limiter([&] { return now; });
  const ApiKey key = {.name = "a", .requests_per_minute = 3};
  for (int i = 0; i < 3; ++i) {
    const auto verdict = limiter.admit(key, 1'000'000);
    EXPECT_TRUE(verdict.admitted);
    EXPECT_EQ(header(verdict, "x-ratelimit-limit-requests"), "3");
    EXPECT_EQ(header(verdict, "x-ratelimit-remaining-requests"), std::to_string(2 - i));
    EXPECT_EQ(header(verdict, "x-ratelimit-reset-requests"), std::to_string(20 * (i + 1)) + "s");
    EXPECT_EQ(header(verdict, "x-ratelimit-limit-tokens"), "none");
    EXPECT_EQ(header(verdict, "retry-after"), "none");
  }
  now += 5;
  const auto refused = limiter.admit(key, 1);
  EXPECT_FALSE(refused.admitted);
  EXPECT_EQ(refused.retry_after, 15);
  EXPECT_EQ(header(refused, "retry-after"), "15");
  EXPECT_NE(refused.reason.find("3 requests per minute"), std::string::npos);
  now += 15;
  EXPECT_TRUE(limiter.admit(key, 1).admitted);
  EXPECT_FALSE(limiter.admit(key, 1).admitted);
  EXPECT_TRUE(limiter.admit({.name = "b", .requests_per_minute = 1}, 1).admitted);
}

TEST(RateLimiter, ChargesTokensAndLetsADebtGrow) {
  double now = 0;
  RateLimiter limiter([&] { return now; });
  const ApiKey key = {.name = "a", .tokens_per_minute = 600};
  {
    auto verdict = limiter.admit(key, 400);
    ASSERT_TRUE(verdict.admitted);
    EXPECT_EQ(header(verdict, "x-ratelimit-remaining-tokens"), "200");
    verdict.slot.charge(500);
  }
  const auto refused = limiter.admit(key, 100);  // the level is -300
  EXPECT_FALSE(refused.admitted);
  EXPECT_EQ(refused.retry_after, 40);
  EXPECT_EQ(header(refused, "x-ratelimit-remaining-tokens"), "0");
  now += 40;
  EXPECT_TRUE(limiter.admit(key, 100).admitted);
  // longer than a minute's tokens: when the bucket is full, and not before
  now += 59;
  EXPECT_FALSE(limiter.admit(key, 5000).admitted);
  now += 1;
  EXPECT_TRUE(limiter.admit(key, 5000).admitted);
  EXPECT_EQ(limiter.admit(key, 1).retry_after, 441);
}

TEST(RateLimiter, BoundsWhatRuns) {
  RateLimiter limiter;
  const ApiKey key = {.name = "a", .max_running = 2};
  auto first = limiter.admit(key, 1), second = limiter.admit(key, 1);
  EXPECT_TRUE(first.admitted && second.admitted);
  const auto third = limiter.admit(key, 1);
  EXPECT_FALSE(third.admitted);
  EXPECT_EQ(third.retry_after, 1);
  EXPECT_EQ(limiter.running("a"), 2);
  RateLimiter::Slot moved = std::move(first.slot);
  first.slot = {};
  EXPECT_EQ(limiter.running("a"), 2);
  moved = {};
  EXPECT_EQ(limiter.running("a"), 1);
  EXPECT_TRUE(limiter.admit(key, 1).admitted);
}

TEST(RateLimiter, FollowsLimitsThatChange) {
  double now = 0;
  RateLimiter limiter([&] { return now; });
  EXPECT_TRUE(limiter.admit({.name = "a", .requests_per_minute = 100}, 1).admitted);
  EXPECT_TRUE(limiter.admit({.name = "a", .requests_per_minute = 1}, 1).admitted);
  EXPECT_FALSE(limiter.admit({.name = "a", .requests_per_minute = 1}, 1).admitted);
  EXPECT_TRUE(limiter.admit({.name = "a"}, 1).admitted);
  limiter.forget_others(*KeyRing::of("sk-0123456789abcdef", "b"));
  EXPECT_TRUE(limiter.admit({.name = "a", .requests_per_minute = 1}, 1).admitted);
}

TEST(RateLimiter, ServesThreads) {
  RateLimiter limiter([] { return 0.0; });
  const ApiKey key = {.name = "a", .requests_per_minute = 1000};
  std::atomic<int> admitted = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&] {
        for (int k = 0; k < 400; ++k) {
          auto verdict = limiter.admit(key, 1);
          if (verdict.admitted) ++admitted;
          verdict.slot.charge(1);
        }
      });
  }
  EXPECT_EQ(admitted, 1000);
  EXPECT_EQ(limiter.running("a"), 0);
}

}  // namespace
}  // namespace hadal::server
