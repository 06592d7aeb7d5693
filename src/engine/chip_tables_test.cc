// What a device may ask or offer beyond the mandatory, as the engine uses it: steps that are filled
// up with rows of no sequence, copies between devices on their queues, sums over ranks. The
// stand-in `apart` has the tables, and asks for counts of rows if it is told to.
#include <gtest/gtest.h>

#include "engine/testing_devices.h"

namespace hadal {
namespace {

using namespace hadal::testing;  // NOLINT: the tests' own words

class RowBuckets : public ::testing::TestWithParam<const char*> {};

/// Rows of no sequence give the stand-in's results that are no numbers: whoever read one would
/// show.
TEST_P(RowBuckets, ChangeNoBits) {
  RunnerOptions options = apart_options({});
  options.draft = options_for(GetParam()).draft;
  const std::vector<Got> as_they_come = answers(GetParam(), options);
  for (const char* buckets : {"8+32+64", "100"}) {
    options.device.chip_options = {{"row-buckets", buckets}};
    EXPECT_TRUE(answers(GetParam(), options) == as_they_come) << buckets;
  }
}

TEST_P(RowBuckets, OfOneDeviceOfSeveralLeaveTheOthersAlone) {
  RunnerOptions options = apart_options({});
  options.draft = options_for(GetParam()).draft;
  options.place = "layers 1-: ref; experts: ref";
  if (!std::string(GetParam()).starts_with("deepseek")) options.place = "layers 1-: ref";
  const std::vector<Got> as_they_come = answers(GetParam(), options);
  options.device.chip_options = {{"row-buckets", "48"}};
  EXPECT_TRUE(answers(GetParam(), options) == as_they_come);
}

INSTANTIATE_TEST_SUITE_P(Families, RowBuckets,
                         ::testing::Values("llama", "qwen3", "deepseek-moe", "deepseek-v3",
                                           "deepseek-v32", "deepseek-v4", "deepseek-v4-dspark"));

/// The stand-ins copy between themselves; so does a third with the host's memory in between.
TEST(Events, DevicesOfAChipCopyAmongThemselves) {
  for (const char* model : {"llama", "deepseek-v3", "deepseek-v4"}) {
    RunnerOptions options = apart_options({});
    options.draft = options_for(model).draft;
    const std::vector<Got> alone = answers(model, options);
    const std::string other = std::string(HADAL_APART_HALF_FILE) + ":0#2";
    options.place = "layers 1-: " + other;
    EXPECT_TRUE(answers(model, options) == alone) << model;
    const Loaded l = load(golden(model), options);
    const std::vector<Place>& places = l.engine->runner().places();
    EXPECT_TRUE(places[1].device->is_peer(*places[0].device));
    options.place = "layer 0: " + other;
    EXPECT_TRUE(answers(model, options) == alone) << model;
    if (!std::string(model).starts_with("deepseek")) continue;
    options.place = "experts: " + other;
    EXPECT_TRUE(answers(model, options) == alone) << model;
  }
}

TEST(Comm, DevicesSumAmongThemselves) {
  for (const char* model : {"llama", "deepseek-v3"}) {
    RunnerOptions options = apart_options({});
    options.rank_threads = 2;
    const std::vector<Got> by_devices = answers(model, options);
    EXPECT_TRUE(answers(model, options) == by_devices) << model;
    const Loaded l = load(golden(model), options);
    EXPECT_EQ(l.engine->runner().placement_text()[0],
              "sums over the ranks are made by the devices");
    options.place = std::string("head: ") + HADAL_APART_HALF_FILE + ":0#2";  // two devices a rank
    const Loaded host = load(golden(model), options);
    EXPECT_EQ(host.engine->runner().placement_text()[0],
              "sums over the ranks are made by the host");
    EXPECT_TRUE(answers(model, options) == by_devices) << model;
  }
}

/// Work of one rank fails behind the call that queued it, while the other waits for its numbers.
TEST(Comm, WorkThatFailsEndsTheRunForAll) {
  RunnerOptions options = apart_options({{"break-at-run", "6"}});
  options.rank_threads = 2;
  const Loaded l = load(golden("llama"), options);
  const auto id = l.engine->add(request(1, 40, 30, l.engine->spec().vocab_size));
  Result<std::vector<TokenEvent>> events = std::vector<TokenEvent>();
  for (int step = 0; step < 100 && events; ++step) events = l.engine->step();
  ASSERT_FALSE(events);
  // Whichever met it, and not what the others saw of that.
  EXPECT_TRUE(events.error().message.starts_with("rank ")) << events.error().message;
  EXPECT_NE(events.error().message.find("broken on purpose"), std::string::npos)
      << events.error().message;
  l.engine->cancel(*id);
}

}  // namespace
}  // namespace hadal
