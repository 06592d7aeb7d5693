// The tracer: a chip that is right is followed to the end of the model; of one that is wrong, the
// first operator that is so has a name.
#include "engine/tracer.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "checkpoint/testing.h"
#include "engine/testing.h"

namespace hadal {
namespace {

using namespace hadal::testing;  // NOLINT: the tests' own words

/// What the tracer finds on a chip that runs a prompt and two tokens behind it.
std::optional<Tracer::Finding> traced(const char* model, const char* chip) {
  RunnerOptions options = small_options();
  options.device.chip = chip;
  options.lower_all = true;
  const Loaded l = load(golden(model), options);
  Tracer tracer(*l.checkpoint, l.engine->runner());
  l.engine->runner().run_by(&tracer);
  (void)run(*l.engine, {request(1, 40, 3, l.engine->spec().vocab_size)}, false);
  EXPECT_TRUE(tracer.status()) << tracer.status().error().message;
  EXPECT_GT(tracer.totals().at("matmul").operators, 0);
  l.engine->runner().run_by(nullptr);
  return tracer.first();
}

TEST(Tracer, AChipThatIsRightLeavesTheReferenceNowhere) {
  for (const char* model : {"llama", "deepseek-v3", "deepseek-v32"})
    for (const char* chip : {"cpu", HADAL_APART_HALF_FILE})
      EXPECT_FALSE(traced(model, chip)) << model << " on " << chip;
}

TEST(Tracer, NamesTheFirstOperatorThatIsWrong) {
  ::setenv("HADAL_FAULT", "139", 1);  // the router's scores are always a softmax
  const auto found = traced("deepseek-v3", HADAL_FAULTY_CHIP);
  ::unsetenv("HADAL_FAULT");
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->operands.starts_with("router(")) << found->operands;
  EXPECT_NE(found->operands.find(" [40, "), std::string::npos) << found->operands;  // that step's
  EXPECT_EQ(found->region.layer, 1);  // the first with experts
  EXPECT_EQ(found->step, 1);
}

}  // namespace
}  // namespace hadal
