// Pages on disk: what is written comes back, and what is broken, foreign or too much does not. Then
// an engine that swaps and one that starts from another's pages: the same bits as without.
#include "engine/page_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "checkpoint/testing.h"
#include "engine/testing.h"

namespace hadal {
namespace {

using namespace hadal::testing;  // NOLINT: the tests' own words

Digest key(uint64_t number) { return Sha256().add(number).finish(); }

std::vector<std::byte> page(uint64_t number, size_t bytes = 5000) {
  std::vector<std::byte> out(bytes);
  for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::byte>((number * 31 + i * 7) & 0xff);
  return out;
}

class PageFiles : public ::testing::Test {
 protected:
  PageFile::Options options(uint64_t slots = 4, uint64_t model = 1) {
    return {.path = folder_.path() / "pages",
            .max_bytes = 4096 + slots * 8192,
            .page_bytes = 5000,
            .identity = key(model)};
  }
  static std::unique_ptr<PageFile> open(const PageFile::Options& options) {
    auto file = PageFile::open(options);
    EXPECT_TRUE(file) << file.error().message;
    return *std::move(file);
  }
  static bool holds(PageFile& file, uint64_t number, size_t bytes = 5000) {
    std::vector<std::byte> got(bytes);
    return file.read(key(number), got) && got == page(number, bytes);
  }
  ::hadal::testing::TempFolder folder_;
};

TEST_F(PageFiles, OutliveTheProcess) {
  {
    const auto file = open(options());
    ASSERT_TRUE(file->write(key(1), 3, page(1)));
    ASSERT_TRUE(file->write(key(2), 1, page(2, 100)));
    ASSERT_TRUE(file->write(key(1), 7, page(1)));
    EXPECT_FALSE(PageFile::open(options()));  // it is in use
  }
  const auto file = open(options());
  EXPECT_EQ(file->found(), 2);
  EXPECT_EQ(file->parts(key(1)), 7U);
  EXPECT_EQ(file->parts(key(3)), 0U);
  EXPECT_TRUE(holds(*file, 1));
  EXPECT_TRUE(holds(*file, 2, 100));
}

TEST_F(PageFiles, TheLongestUnusedGivesItsPlace) {
  const auto file = open(options());
  for (uint64_t n = 0; n < 4; ++n) ASSERT_TRUE(file->write(key(n), 1, page(n)));
  EXPECT_TRUE(holds(*file, 0));
  ASSERT_TRUE(file->write(key(4), 1, page(4)));
  EXPECT_EQ(file->parts(key(1)), 0U);
  for (const uint64_t n : {0, 2, 3, 4}) EXPECT_TRUE(holds(*file, n)) << n;
  EXPECT_LE(std::filesystem::file_size(folder_.path() / "pages"), options().max_bytes);
}

TEST_F(PageFiles, OfAnotherModelAreNotRead) {
  open(options())->write(key(1), 1, page(1)).value();
  const auto other = open(options(4, 2));
  EXPECT_TRUE(other->was_foreign());
  EXPECT_EQ(other->found(), 0);
}

TEST_F(PageFiles, EveryBrokenByteIsFound) {
  open(options())->write(key(1), 1, page(1, 300)).value();
  const auto size = std::filesystem::file_size(folder_.path() / "pages");
  for (uint64_t at = 4096; at < std::min<uint64_t>(size, 4096 + 88 + 300); at += 3) {
    const auto flip = [&] {
      std::fstream file(folder_.path() / "pages", std::ios::binary | std::ios::in | std::ios::out);
      file.seekg(static_cast<std::streamoff>(at));
      const int byte = file.get();
      file.seekp(static_cast<std::streamoff>(at));
      file.put(static_cast<char>(byte ^ 0x10));
    };
    flip();
    EXPECT_FALSE(holds(*open(options()), 1, 300)) << at;
    flip();
  }
  EXPECT_TRUE(holds(*open(options()), 1, 300));
  // Cut off in the middle of a page.
  std::filesystem::resize_file(folder_.path() / "pages", 4096 + 200);
  EXPECT_FALSE(holds(*open(options()), 1, 300));
}

TEST_F(PageFiles, SomebodyElsesFileIsLeftAlone) {
  std::ofstream(folder_.path() / "pages") << "my diary";
  const auto file = PageFile::open(options());
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::kUsage);
  std::string text;
  std::getline(std::ifstream(folder_.path() / "pages"), text);
  EXPECT_EQ(text, "my diary");
  EXPECT_FALSE(PageFile::open({.path = folder_.path() / "none" / "pages",
                               .max_bytes = 1 << 20,
                               .page_bytes = 10,
                               .identity = {}}));
  EXPECT_FALSE(PageFile::open(
      {.path = folder_.path() / "small", .max_bytes = 8191, .page_bytes = 4000, .identity = {}}));
}

TEST_F(PageFiles, AFullDiskTurnsThemOff) {
  const auto file = open(options());
  ASSERT_TRUE(file->write(key(1), 1, page(1)));
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit full{.rlim_cur = 4096 + 8192 + 100, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &full);
  const Status refused = file->write(key(2), 1, page(2));
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, ignored);
  EXPECT_FALSE(refused);
  EXPECT_TRUE(file->off());
  EXPECT_TRUE(holds(*file, 1));
  EXPECT_EQ(file->parts(key(2)), 0U);
}

class Swapped : public ::testing::TestWithParam<const char*> {};

TEST_P(Swapped, PagesHaveTheBitsOfComputedOnes) {
  const ::hadal::testing::TempFolder folder;
  RunnerOptions options = small_options();
  options.context = 512;
  const Loaded plain = load(golden(GetParam()), options);
  const int64_t vocab = plain.engine->spec().vocab_size;
  const int64_t unit = plain.engine->spec().reuse_unit;
  const auto requests = [&] {
    std::vector<Request> all;
    for (uint32_t i = 0; i < 6; ++i) all.push_back(request(i % 3, 2 * unit + 20, unit / 2, vocab));
    for (uint32_t i = 3; i < 6; ++i) all[i].sampling.seed = i;
    return all;
  };
  std::vector<Got> expected;
  for (Request& r : requests()) {
    r.reuse_prefix = false;
    expected.push_back(run(*plain.engine, {std::move(r)}, false)[0]);
  }
  options.max_sequences = 2;
  options.cache_tokens = 4 * unit;
  options.context = 4 * unit;
  const SwapOptions swap{.file = folder.path() / "pages", .max_bytes = 64 << 20};
  {
    const Loaded l = load(golden(GetParam()), options);
    ASSERT_TRUE(l.engine->swap_to(swap));
    const auto got = run(*l.engine, requests(), false);
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i].tokens, expected[i].tokens) << i;
    EXPECT_GT(l.engine->swap()->file().reads(), 0);
    l.engine->save_pages();
  }
  // Another process, with one of the pages broken on the way.
  const Loaded again = load(golden(GetParam()), options);
  ASSERT_TRUE(again.engine->swap_to(swap));
  EXPECT_GT(again.engine->swap()->file().found(), 0);
  const auto got = run(*again.engine, requests(), false);
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].tokens, expected[i].tokens) << i;
    EXPECT_EQ(got[i].events.back().stats.cached_tokens, 2 * unit) << i;
  }
  // Other settings, other pages.
  RunnerOptions bf16 = options;
  bf16.kv_cache_dtype = HADAL_BF16;
  const Loaded other = load(golden(GetParam()), bf16);
  EXPECT_NE(other.engine->runner().identity(), plain.engine->runner().identity());
  EXPECT_EQ(again.engine->runner().identity(), plain.engine->runner().identity());
}

INSTANTIATE_TEST_SUITE_P(Golden, Swapped,
                         ::testing::Values("llama", "deepseek-v3", "deepseek-v32", "deepseek-v4",
                                           "deepseek-v41"));

}  // namespace
}  // namespace hadal
