#include "server/response_store.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

namespace hadal::server {
namespace {

/// A folder of its own for each test.
class ResponseStoreFile : public testing::Test {
 protected:
  ResponseStoreFile() {
    std::string name = (std::filesystem::temp_directory_path() / "hadal_store_XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~ResponseStoreFile() override { std::filesystem::remove_all(folder_); }
  [[nodiscard]] std::string path() const { return (folder_ / "responses.db").string(); }

  std::filesystem::path folder_;
};

std::unique_ptr<ResponseStore> opened(const std::string& path, StoreBounds bounds = {}) {
  auto store = ResponseStore::open(path, bounds);
  EXPECT_TRUE(store) << store.error().message;
  return store ? *std::move(store) : nullptr;
}
std::string error_of(const std::string& path) {
  const auto store = ResponseStore::open(path, {});
  return store ? "none" : store.error().message;
}
bool has(ResponseStore& store, const std::string& id, const std::string& owner = "a") {
  const auto found = store.find(owner, id);
  EXPECT_TRUE(found || found.error().code == ErrorCode::kNotFound);
  return found.has_value();
}

TEST(ResponseStore, KeepsWhatWasSaved) {
  const auto store = opened("");
  ASSERT_TRUE(store);
  const std::string zero("x\0y", 3);
  ASSERT_TRUE(store->save("a", "resp_1", {.response = "{}", .items = "[1]", .created = 7}));
  ASSERT_TRUE(store->save("a", "resp_2", {.response = zero, .items = ""}));
  const auto found = store->find("a", "resp_1");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->response, "{}");
  EXPECT_EQ(found->items, "[1]");
  EXPECT_EQ(found->created, 7);
  EXPECT_EQ(store->find("a", "resp_2")->response, zero);
  EXPECT_EQ(store->responses(), 2);
  EXPECT_EQ(store->bytes(), (1 + 6 + 2 + 3) + (1 + 6 + 3));
}

TEST(ResponseStore, AForeignOwnerFindsAndErasesNothing) {
  const auto store = opened("");
  ASSERT_TRUE(store->save("a", "resp_1", {.response = "of a"}));
  EXPECT_FALSE(has(*store, "resp_1", "b"));
  EXPECT_FALSE(has(*store, "resp_1", ""));
  EXPECT_FALSE(has(*store, "resp_%", "a"));
  EXPECT_EQ(store->erase("b", "resp_1").error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(has(*store, "resp_1"));
  ASSERT_TRUE(store->save("b", "resp_1", {.response = "of b"}));
  EXPECT_EQ(store->find("a", "resp_1")->response, "of a");
  EXPECT_EQ(store->find("b", "resp_1")->response, "of b");
}

TEST(ResponseStore, ErasesAndReplaces) {
  const auto store = opened("");
  ASSERT_TRUE(store->save("a", "resp_1", {.response = "first"}));
  ASSERT_TRUE(store->save("a", "resp_1", {.response = "2"}));
  EXPECT_EQ(store->find("a", "resp_1")->response, "2");
  EXPECT_EQ(store->responses(), 1);
  EXPECT_EQ(store->bytes(), 8);
  ASSERT_TRUE(store->erase("a", "resp_1"));
  EXPECT_EQ(store->responses(), 0);
  EXPECT_EQ(store->bytes(), 0);
  EXPECT_EQ(store->erase("a", "resp_1").error().message, "no response \"resp_1\" is stored here");
}

TEST(ResponseStore, TheOldestGoBeyondTheBounds) {
  const auto few = opened("", {.most_responses = 3});
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(few->save("a", std::to_string(i), {.response = "x"}));
  EXPECT_EQ(few->responses(), 3);
  EXPECT_FALSE(has(*few, "1"));
  EXPECT_TRUE(has(*few, "2"));
  const auto small = opened("", {.most_bytes = 100});
  for (int i = 0; i < 9; ++i)
    ASSERT_TRUE(small->save("a", std::to_string(i), {.response = std::string(38, 'x')}));
  EXPECT_EQ(small->responses(), 2);
  EXPECT_EQ(small->bytes(), 80);
  EXPECT_TRUE(has(*small, "8"));
  // 98 bytes and two of the names fill it; one more is refused, and takes nobody's place.
  ASSERT_TRUE(small->save("a", "x", {.response = std::string(98, 'x')}));
  EXPECT_EQ(small->responses(), 1);
  const Status large = small->save("a", "y", {.response = std::string(99, 'x')});
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().message,
            "the store of responses: \"y\" has 101 bytes, the bound of all responses is 100; it is "
            "not stored");
  EXPECT_TRUE(has(*small, "x"));
}

TEST_F(ResponseStoreFile, IsThereTheNextTime) {
  opened(path())->save("a", "resp_1", {.response = "{}", .items = "[]"}).value();
  {
    const auto store = opened(path());
    EXPECT_TRUE(has(*store, "resp_1"));
    EXPECT_EQ(store->responses(), 1);
    for (int i = 0; i < 9; ++i) ASSERT_TRUE(store->save("a", std::to_string(i), {}));
  }
  const auto smaller = opened(path(), {.most_responses = 2});
  EXPECT_EQ(smaller->responses(), 2);
  EXPECT_TRUE(has(*smaller, "8"));
  EXPECT_FALSE(has(*smaller, "6"));
  struct stat state{};
  ASSERT_EQ(::stat(path().c_str(), &state), 0);
  EXPECT_EQ(state.st_mode & 0777U, 0600U);
}

TEST_F(ResponseStoreFile, ABrokenFileIsRefusedAndStays) {
  std::ofstream(path()) << std::string(9000, 'x');
  EXPECT_EQ(error_of(path()).find(path() + ": is no sound store of responses"), 0U)
      << error_of(path());
  EXPECT_EQ(std::filesystem::file_size(path()), 9000U);
  std::filesystem::remove(path());

  {
    const auto store = opened(path());
    for (int i = 0; i < 50; ++i)
      ASSERT_TRUE(store->save("a", std::to_string(i), {.response = std::string(3000, 'x')}));
  }
  // Pages in the middle become noise, the header stays.
  const auto size = std::filesystem::file_size(path());
  {
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096);
    file << std::string(static_cast<size_t>(size) - 4096, '\x5A');
  }
  EXPECT_NE(error_of(path()).find("broken; move it away"), std::string::npos) << error_of(path());
  EXPECT_EQ(std::filesystem::file_size(path()), size);
}

TEST_F(ResponseStoreFile, WhatIsNotOursIsRefused) {
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open(path().c_str(), &other), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(other, "CREATE TABLE t (x)", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(other);
  EXPECT_NE(error_of(path()).find("another program's database"), std::string::npos);
  std::filesystem::remove(path());
  opened(path());
  ASSERT_EQ(sqlite3_open(path().c_str(), &other), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(other, "PRAGMA user_version = 2", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(other);
  EXPECT_NE(error_of(path()).find("of version 2, version 1 is expected"), std::string::npos);
  EXPECT_NE(error_of(folder_.string()).find("cannot be opened"), std::string::npos);
  EXPECT_NE(error_of((folder_ / "no" / "file").string()).find("No such file"), std::string::npos);
  EXPECT_EQ(error_of("/dev/null"),
            "/dev/null: is no plain file; give another path to the store of responses");
}

TEST_F(ResponseStoreFile, IsOneProcesssAlone) {
  const auto first = opened(path());
  EXPECT_NE(error_of(path()).find("open in another process"), std::string::npos)
      << error_of(path());
}

TEST_F(ResponseStoreFile, IsSharedByThreads) {
  const auto store = opened(path(), {.most_responses = 40});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&store, t] {
      const std::string owner(1, static_cast<char>('a' + t));
      for (int i = 0; i < 25; ++i) {
        EXPECT_TRUE(store->save(owner, std::to_string(i), {.response = owner}));
        const auto found = store->find(owner, std::to_string(i));
        EXPECT_EQ(found ? found->response : owner, owner);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store->responses(), 40);
  EXPECT_EQ(store->bytes() > 0, true);
}

// A file may not grow: as if the disk were full.
TEST_F(ResponseStoreFile, AFullDiskFailsOneSave) {
  const auto store = opened(path());
  ASSERT_TRUE(store->save("a", "before", {.response = "x"}));
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 256 * 1024;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status full = store->save("a", "large", {.response = std::string(1 << 20, 'x')});
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(full);
  EXPECT_NE(full.error().message.find("a response cannot be stored"), std::string::npos);
  EXPECT_EQ(store->responses(), 1);
  EXPECT_EQ(store->bytes(), 8);
  EXPECT_FALSE(has(*store, "large"));
  EXPECT_TRUE(has(*store, "before"));
  ASSERT_TRUE(store->save("a", "after", {.response = std::string(1 << 20, 'x')}));
  EXPECT_TRUE(has(*store, "after"));
}

/// Saves until it is killed; tells each number that was acknowledged.
[[noreturn]] void save_forever(const std::string& path, int first, int pipe) {
  auto store = ResponseStore::open(path, {.most_responses = 1000000});
  if (!store) ::_exit(1);
  for (int i = first;; ++i) {
    const std::string text(static_cast<size_t>(100 + (i * 7919) % 20000), 'x');
    if (!(*store)->save("a", std::to_string(i), {.response = text, .items = text})) ::_exit(2);
    if (::write(pipe, &i, sizeof i) != sizeof i) ::_exit(3);
  }
}

TEST_F(ResponseStoreFile, AKilledProcessLosesNothingThatWasAcknowledged) {
  std::vector<int> acknowledged;
  for (int round = 0; round < 20; ++round) {
    // The one behind the last may have been saved and not told of.
    const int first = acknowledged.empty() ? 0 : acknowledged.back() + 2;
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) save_forever(path(), first, ends[1]);
    ::close(ends[1]);
    int told = 0;
    for (int i = 0; i < 3 + round && ::read(ends[0], &told, sizeof told) == sizeof told; ++i)
      acknowledged.push_back(told);
    ::usleep(static_cast<useconds_t>(round * 137));
    ::kill(child, SIGKILL);
    while (::read(ends[0], &told, sizeof told) == sizeof told) acknowledged.push_back(told);
    ::close(ends[0]);
    int state = 0;
    ::waitpid(child, &state, 0);
    ASSERT_TRUE(WIFSIGNALED(state)) << state;
    ASSERT_GE(acknowledged.back(), first + 2 + round);
    const auto store = opened(path());
    ASSERT_TRUE(store);
    for (const int i : acknowledged) {
      const auto found = store->find("a", std::to_string(i));
      ASSERT_TRUE(found) << i << " in round " << round;
      EXPECT_EQ(found->items.size(), static_cast<size_t>(100 + (i * 7919) % 20000));
    }
  }
}

}  // namespace
}  // namespace hadal::server
