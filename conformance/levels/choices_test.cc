// Whether rounding explains an expert's choice: what comes out of moved logits must be explained,
// and what cannot come out must not be.
#include "levels/choices.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace hadal::conformance {
namespace {

constexpr int64_t kExperts = 8;
constexpr double kSigmas = 6;

/// A router on ref, and how far scores may move there.
class Routing {
 public:
  Routing(uint32_t score, uint32_t groups, uint32_t groups_kept, uint32_t group_best, uint64_t seed)
      : random(seed) {
    EXPECT_EQ(ref_.open("ref", {}), "");
    router_.op.id = HADAL_OP_ROUTER;
    router_.op.attr.router = {.score = score,
                              .groups = groups,
                              .groups_kept = groups_kept,
                              .group_best = group_best,
                              .normalise = 1,
                              .scale = 1};
    router_.fan = 2;
    if (score != HADAL_ROUTER_SOFTMAX) router_.bias = random.normals(kExperts, 0.05f);
  }

  /// As ref chooses.
  Choice choose(const std::vector<float>& logits) {
    const auto k = static_cast<size_t>(router_.fan);
    Case c;
    c.id = HADAL_OP_ROUTER;
    c.attr = router_.op.attr;
    c.rows[HADAL_DIM_T] = 1;
    c.operands[HADAL_ROUTER_LOGITS] = floats({1, kExperts}, HADAL_DIM_T, logits);
    if (!router_.bias.empty())
      c.operands[HADAL_ROUTER_BIAS] = weight_operand(make_vector(router_.bias), {kExperts});
    c.operands[HADAL_ROUTER_EXPERT] = output(HADAL_I32, {1, router_.fan}, HADAL_DIM_T);
    c.operands[HADAL_ROUTER_WEIGHT] = output(HADAL_F32, {1, router_.fan}, HADAL_DIM_T);
    const Layout layout = lay_out(c, ref_.device(1).placement);
    const Outcome outcome = run_case(c, layout, ref_.device(1), 0);
    EXPECT_EQ(outcome.status, HADAL_OK) << outcome.text;
    const Bytes bytes = extract(layout, outcome.images, HADAL_ROUTER_EXPERT);
    Choice choice(k);
    std::memcpy(choice.data(), bytes.data(), k * sizeof(int32_t));
    return choice;
  }

  /// Why a choice is not explained where two logits may move by `moved` against each other.
  std::string judge(const std::vector<float>& logits, const Choice& choice, double moved) {
    Choices found;
    ByChoice<Candidates> exact, classed;
    found.at(0, 0, 0) = choice;
    exact.at(0, 0, 0) = {.scores = logits, .own = choose(logits)};
    Candidates& other = classed.at(0, 0, 0) = exact.at(0, 0, 0);
    for (float& l : other.scores) l += static_cast<float>(moved / kSigmas / std::sqrt(2.0));
    int64_t differ = 0;
    return judge_choices({router_}, found, exact, classed, ref_.device(1), differ);
  }

  Random random;

 private:
  Chip ref_;
  Chooser router_;
};

/// Each logit goes as far as it may in either direction, or to anywhere between.
std::vector<float> shaken(const std::vector<float>& logits, double by, Random& random) {
  std::vector<float> moved = logits;
  for (float& l : moved) {
    const double part = random.coin() ? (random.coin() ? 1.0 : -1.0)
                                      : static_cast<double>(random.range(-100, 100)) / 100.0;
    l += static_cast<float>(by * part);
  }
  return moved;
}

void expect_all_explained(uint32_t score, uint32_t groups, uint32_t kept, uint32_t best) {
  Routing routing(score, groups, kept, best, 7 + groups + best);
  int64_t others = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::vector<float> logits = routing.random.normals(kExperts);
    const double moved = i % 2 == 0 ? 0.05 : 0.5;
    const Choice choice = routing.choose(shaken(logits, moved / 2 * 0.999, routing.random));
    others += choice != routing.choose(logits);
    ASSERT_EQ(routing.judge(logits, choice, moved), "") << "draw " << i;
  }
  EXPECT_GT(others, 100);  // or nothing was tried
}

TEST(Choices, WhatComesOutOfMovedLogitsIsExplained) {
  expect_all_explained(HADAL_ROUTER_SOFTMAX, 1, 1, 1);
  expect_all_explained(HADAL_ROUTER_SIGMOID, 4, 2, 2);
  expect_all_explained(HADAL_ROUTER_SQRT_SOFTPLUS, 4, 2, 2);
  expect_all_explained(HADAL_ROUTER_SQRT_SOFTPLUS, 4, 2, 1);
  expect_all_explained(HADAL_ROUTER_SIGMOID, 2, 1, 2);
}

TEST(Choices, WhatCannotComeOutIsNot) {
  Routing one(HADAL_ROUTER_SOFTMAX, 1, 1, 1, 3);
  const std::vector<float> logits = {3, 2, 1.9f, 0, 0, 0, 0, 0};
  EXPECT_EQ(one.judge(logits, {0, 2}, 0.11), "");
  EXPECT_NE(one.judge(logits, {0, 2}, 0.09), "");
  EXPECT_NE(one.judge(logits, {0, 3}, 1.8), "");
  EXPECT_NE(one.judge(logits, {0, 8}, 100), "");
  // Experts of three groups, of which two are kept.
  Routing grouped(HADAL_ROUTER_SIGMOID, 4, 2, 2, 3);
  const std::vector<float> apart = {2, 1, 2, 1, -4, -4, -4, -4};
  EXPECT_NE(grouped.judge(apart, {0, 4}, 2), "");
}

}  // namespace
}  // namespace hadal::conformance
