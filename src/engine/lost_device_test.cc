// Devices that fail, and devices that are small: running requests end and the next ones are served;
// what another device computes is not taken for theirs; what does not fit goes elsewhere.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "engine/page_file.h"
#include "engine/testing_devices.h"

namespace hadal {
namespace {

using namespace hadal::testing;  // NOLINT: the tests' own words

TEST(LostDevice, RunningRequestsEndAndTheNextOnesAreServed) {
  const Loaded alone = load(golden("llama"), apart_options({}));
  const int64_t vocab = alone.engine->spec().vocab_size;
  const Request short_one = request(3, 40, 3, vocab);
  const Got expected = run(*alone.engine, {short_one})[0];

  std::vector<std::string> log;
  EngineOptions engine;
  engine.log = [&](std::string_view line) { log.emplace_back(line); };
  const Loaded l = load(golden("llama"), apart_options({{"fail-at-run", "8"}}), engine);
  const auto id = l.engine->add(request(1, 40, 30, vocab));
  ASSERT_TRUE(id);
  Result<std::vector<TokenEvent>> events = std::vector<TokenEvent>();
  for (int i = 0; i < 100 && events; ++i) events = l.engine->step();
  ASSERT_FALSE(events);
  EXPECT_NE(events.error().message.find("fell off the bus"), std::string::npos);
  l.engine->cancel(*id);
  EXPECT_TRUE(run(*l.engine, {short_one})[0] == expected);
  ASSERT_EQ(log.size(), 2U);
  EXPECT_NE(log[0].find("fell off the bus"), std::string::npos);
  EXPECT_NE(log[1].find("open again"), std::string::npos);
}

/// Runs until the device fails.
void lose(Engine& engine) {
  const auto id = engine.add(request(1, 40, 30, engine.spec().vocab_size));
  Result<std::vector<TokenEvent>> events = std::vector<TokenEvent>();
  for (int i = 0; i < 100 && events; ++i) events = engine.step();
  EXPECT_FALSE(events);
  engine.cancel(*id);
}

/// What another device computes is not told from the file for what the lost one did.
TEST(LostDevice, LeavesThePagesOnDiskToItsOwnKind) {
  const auto file = std::filesystem::path(::testing::TempDir()) / "lost_device_pages";
  std::filesystem::remove(file);
  RunnerOptions options = apart_options({});
  options.fallback = true;
  options.device.chip_options = {{"fail-at-run", "4"}, {"stays-away", "1"}};
  uint64_t page_bytes = 0;
  Digest before{};
  {
    const Loaded l = load(golden("llama"), options);
    ModelRunner& runner = l.engine->runner();
    ASSERT_TRUE(l.engine->swap_to({.file = file}));
    before = runner.identity();
    page_bytes = runner.unit_bytes(1);
    lose(*l.engine);
    (void)run(*l.engine, {request(7, 200, 4, l.engine->spec().vocab_size)});
    EXPECT_FALSE(runner.identity() == before);
  }
  const auto pages = PageFile::open(
      {.path = file, .max_bytes = 1 << 30, .page_bytes = page_bytes, .identity = before});
  ASSERT_TRUE(pages) << pages.error().message;
  EXPECT_FALSE((*pages)->was_foreign());
  EXPECT_EQ((*pages)->found(), 0);  // what the cpu left in its cache is not there
  std::filesystem::remove(file);
}

TEST(LostDevice, TakesNoAdaptersBeforeItIsOpenAgain) {
  RunnerOptions options = apart_options({{"fail-at-run", "4"}, {"stays-away", "2"}});
  options.more_adapters = true;
  const Loaded l = load(golden("llama"), options);
  lose(*l.engine);
  (void)l.engine->add(request(3, 40, 3, l.engine->spec().vocab_size));
  EXPECT_FALSE(l.engine->step());
  const Status refused = l.engine->runner().set_adapters({});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("lost"), std::string::npos) << refused.error().message;
}

TEST(LostDevice, ThatStaysAwayIsReplacedIfTheUserAllows) {
  std::vector<std::string> log;
  EngineOptions engine;
  engine.log = [&](std::string_view line) { log.emplace_back(line); };
  RunnerOptions options = apart_options({{"fail-at-run", "4"}, {"stays-away", "3"}});
  options.fallback = true;
  const Loaded with_cpu = load(golden("llama"), options, engine);
  options.fallback = false;
  const Loaded without = load(golden("llama"), options, engine);
  const int64_t vocab = with_cpu.engine->spec().vocab_size;
  const Digest identity = with_cpu.engine->runner().identity();
  EXPECT_EQ(with_cpu.engine->counts().fallback_operators, 0);
  lose(*with_cpu.engine);
  lose(*without.engine);
  EXPECT_EQ(run(*with_cpu.engine, {request(3, 40, 3, vocab)})[0].tokens.size(), 3U);
  ASSERT_EQ(log.size(), 2U);
  EXPECT_NE(log[0].find("is lost"), std::string::npos);
  EXPECT_NE(log[1].find("the cpu takes its part"), std::string::npos);
  EXPECT_GT(with_cpu.engine->counts().fallback_operators, 0);
  EXPECT_NE(with_cpu.engine->runner().identity(), identity);
  for (int i = 0; i < 2; ++i) {  // each time anew: the process lives
    const auto id = without.engine->add(request(3, 40, 3, vocab));
    const auto events = without.engine->step();
    ASSERT_FALSE(events);
    EXPECT_NE(events.error().message.find("does not answer"), std::string::npos);
    without.engine->cancel(*id);
  }
  EXPECT_EQ(log.size(), 4U);  // of the second: lost, and the first attempt that failed
  EXPECT_TRUE(without.engine->devices().away);
}

/// Every way of a model into so little memory: it is found, and it fits.
class DeviceMemoryOf : public ::testing::TestWithParam<const char*> {};

TEST_P(DeviceMemoryOf, ThatIsShortSendsLayersToTheCpu) {
  const auto checkpoint = Checkpoint::open(golden(GetParam()));
  std::set<std::string> ways;
  for (const char* mib : {"1", "2", "3", "4", "5", "6", "8", "1000"})
    for (const bool fallback : {false, true}) {
      RunnerOptions options = apart_options({{"memory-mib", mib}});
      options.compressed_vocabulary = [&] { return any_vocabulary((*checkpoint)->config()); };
      options.fallback = fallback;
      const auto together = ModelRunner::open(**checkpoint, options);
      ASSERT_TRUE(together);
      const Status fitting = (*together)->check_memory();
      const bool fits = fitting.has_value();
      EXPECT_TRUE(fits || fitting.error().code == ErrorCode::kMemory);
      if (!fits) {
        EXPECT_NE(fitting.error().message.find("fit"), std::string::npos)
            << fitting.error().message;
      }
      options.place = "auto";
      const auto placed = ModelRunner::open(**checkpoint, options);
      ASSERT_TRUE(placed) << placed.error().message;
      const Status now = (*placed)->check_memory();
      EXPECT_TRUE(now) << mib << ": " << now.error().message;
      const auto text = (*placed)->placement_text();
      ways.insert(text.empty() ? "" : text[0].substr(0, text[0].find(':', 20)));
      if (fits) {
        EXPECT_EQ((*placed)->places().size(), 1U) << mib;
      }
    }
  EXPECT_GT(ways.size(), 1U);
}

INSTANTIATE_TEST_SUITE_P(Families, DeviceMemoryOf,
                         ::testing::Values("llama", "deepseek-v3", "deepseek-v41"));

TEST(DeviceMemory, IsCountedOnceForAllWhoShareIt) {
  const auto checkpoint = Checkpoint::open(golden("llama"));
  RunnerOptions options = apart_options({{"memory-mib", "64"}});
  const auto plan = [&] {
    const auto runner = ModelRunner::open(**checkpoint, options);
    EXPECT_TRUE(runner) << runner.error().message;
    return (*runner)->memory_plan();
  };
  const MemoryPlan alone = plan();
  options.rank_threads = 2;  // two instances of the one device
  EXPECT_EQ(plan().available, alone.available);
  EXPECT_GT(plan().scratch, alone.scratch);
  options.rank_threads = 1;
  options.place = "layers 1-: " + options.device.chip + "#2";
  EXPECT_EQ(plan().available, alone.available);
  EXPECT_EQ(plan().scratch, 2 * alone.scratch);
  EXPECT_EQ(plan().cache, alone.cache);
  EXPECT_EQ(plan().where.find(" and "), plan().where.rfind(" and "));
}

}  // namespace
}  // namespace hadal
