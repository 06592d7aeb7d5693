// The engine against the table of limits: what a request's numbers may be is the table's to say.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>

#include "base/limits.h"
#include "engine/engine.h"

namespace hadal {
namespace {

TEST(RequestLimits, TheEngineTakesTheBoundsOfTheTableAndRefusesWhatIsBeyond) {
  auto checkpoint = Checkpoint::open(std::filesystem::path(HADAL_GOLDEN_MODELS) / "llama");
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  auto engine = Engine::load(**checkpoint, {.device = {.threads = 1}, .context = 64});
  ASSERT_TRUE(engine) << engine.error().message;
  const auto error_of = [&](const std::function<void(SamplingParams&)>& set) {
    Request request{.prompt = {1}, .max_new_tokens = 1};
    set(request.sampling);
    const auto id = (*engine)->add(std::move(request));
    if (!id) return id.error().message;
    (*engine)->cancel(*id);
    return std::string("none");
  };
  struct Row {
    const Limit& limit;
    float SamplingParams::* member;
  };
  for (const Row& row :
       {Row{limit("temperature"), &SamplingParams::temperature},
        Row{limit("top_p"), &SamplingParams::top_p}, Row{limit("min_p"), &SamplingParams::min_p},
        Row{limit("repetition_penalty"), &SamplingParams::repetition_penalty},
        Row{limit("presence_penalty"), &SamplingParams::presence_penalty},
        Row{limit("frequency_penalty"), &SamplingParams::frequency_penalty}}) {
    const auto low = static_cast<float>(row.limit.low), high = static_cast<float>(row.limit.high);
    const auto said = [&](float value) {
      return error_of([&](SamplingParams& s) { s.*row.member = value; });
    };
    EXPECT_EQ(said(low), "none") << row.limit.name;
    EXPECT_EQ(said(high), "none") << row.limit.name;
    for (const float value :
         {std::nextafterf(low, -HUGE_VALF), std::nextafterf(high, HUGE_VALF), std::nanf("")})
      EXPECT_EQ(said(value).find(std::string(row.limit.name) + ": "), 0U) << value;
  }
  const auto top_k = [&](int64_t value) {
    return error_of([&](SamplingParams& s) { s.top_k = static_cast<int32_t>(value); });
  };
  EXPECT_EQ(top_k(limit("top_k").least), "none");
  EXPECT_EQ(top_k(limit("top_k").most), "none");
  EXPECT_EQ(top_k(limit("top_k").least - 1).find("top_k: -2 was found"), 0U);
}

}  // namespace
}  // namespace hadal
