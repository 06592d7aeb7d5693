// How far chips are from the reference over whole models: a right one is near enough on one device,
// over several and in ranks; a wrong one is not, wherever the rest of the model runs.
#include "engine/model_distance.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/testing_devices.h"

namespace hadal {
namespace {

using namespace hadal::testing;  // NOLINT: the tests' own words

ModelDistance distance(const char* model, const RunnerOptions& options) {
  const std::unique_ptr<Checkpoint> checkpoint = *Checkpoint::open(golden(model));
  DistanceRun run{.options = options, .prompt = {}, .where = "the chip", .numerics = {}};
  run.options.max_sequences = 1;
  run.options.compressed_vocabulary = [&] { return any_vocabulary(checkpoint->config()); };
  for (TokenId i = 0; i < 40; ++i) run.prompt.ids.push_back((i * i * 31 + i * 17 + 5) % 200);
  run.prompt.alone = 4;
  auto numerics = ask_numerics(*checkpoint, run.options);
  EXPECT_TRUE(numerics) << numerics.error().message;
  EXPECT_EQ(numerics->declined, "");
  run.numerics = *std::move(numerics);
  auto found = measure_model(*checkpoint, run);
  EXPECT_TRUE(found) << found.error().message;
  return found ? *std::move(found) : ModelDistance();
}

TEST(ModelDistance, AModelWithoutChoicesIsRunOnce) {
  const ModelDistance d = distance("llama", apart_options({}));
  EXPECT_EQ(d.why, "");
  EXPECT_FALSE(d.followed);
  EXPECT_GT(d.distance.class_kl, 0);
  EXPECT_LE(d.distance.part, 1);
}

TEST(ModelDistance, ChoicesAreFollowedOnOneDeviceOverSeveralAndInRanks) {
  RunnerOptions one = apart_options({}), experts = one, halves = one, ranks = one;
  experts.place = "experts: cpu";
  halves.place = "layers 1-: " + one.device.chip + "#2; head: cpu";
  ranks.rank_threads = 2;
  for (const char* model : {"deepseek-v3", "deepseek-v32", "deepseek-v41"})
    for (const RunnerOptions* options : {&one, &experts, &halves, &ranks}) {
      const ModelDistance d = distance(model, *options);
      const std::string how = std::string(model) + ", " + options->place + ", " +
                              std::to_string(options->rank_threads) + " ranks";
      EXPECT_EQ(d.why, "") << how;
      EXPECT_TRUE(d.followed) << how;
      EXPECT_GT(d.chip.rows, 40) << how;
      EXPECT_EQ(d.distance.positions, 40) << how;
    }
}

TEST(ModelDistance, ARouterThatIsWrongIsFoundWhereverTheRestRuns) {
  ::setenv("HADAL_FAULT", "133", 1);  // a group's score is its largest alone
  RunnerOptions options = small_options();
  options.device.chip = HADAL_FAULTY_CHIP;
  for (const char* place : {"", "experts: cpu", "layers 2-: cpu; head: cpu"}) {
    options.place = place;
    const ModelDistance d = distance("deepseek-v3", options);
    EXPECT_NE(d.why.find("choices of experts or entries are not ref's"), std::string::npos)
        << place << ": " << d.why;
  }
  ::unsetenv("HADAL_FAULT");
}

}  // namespace
}  // namespace hadal
