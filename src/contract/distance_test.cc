#include "contract/distance.h"

#include <gtest/gtest.h>

#include <random>

namespace hadal::contract {
namespace {

constexpr size_t kRows = 30, kTokens = 40, kBest = 7, kOther = 11;

/// Three runs of one model.
struct Model {
  LogitRows exact, classed, found;
  [[nodiscard]] Distance distance() const { return measure_distance(exact, classed, found); }
};

/// kBest leads by 2 and more everywhere; the classes and the chip move each logit by about `moved`.
Model make_model(uint32_t seed, float moved) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Model m;
  for (size_t row = 0; row < kRows; ++row) {
    std::vector<float> logits(kTokens);
    for (float& l : logits) l = std::min(1.0f, 0.4f * normal(random));
    logits[kBest] = 3;
    m.exact.push_back(logits);
    for (LogitRows* rows : {&m.classed, &m.found}) {
      rows->push_back(logits);
      for (float& l : rows->back()) l += moved * normal(random);
    }
  }
  return m;
}

/// Of one row, kOther comes out.
void flip(LogitRows& rows, size_t row) { std::swap(rows[row][kBest], rows[row][kOther]); }

TEST(Distance, RoundingOfTheClassesPasses) {
  const Distance d = make_model(1, 0.05f).distance();
  EXPECT_EQ(d.why(), "");
  EXPECT_EQ(d.flips, 0);
  EXPECT_NEAR(d.sigma, 0.05, 0.005);
  EXPECT_NEAR(d.part, 0.5, 0.2);
}

TEST(Distance, ATokenBeyondSixSigmaIsNamedAlsoWhereTheMeanIsTooFar) {
  Model m = make_model(2, 0.05f);
  flip(m.found, 4);
  const Distance d = m.distance();
  EXPECT_GT(d.part, 1);
  EXPECT_NE(d.mean, "");
  EXPECT_NE(d.rows.find("position 4: the most likely token is 11, in ref 7"), std::string::npos);
  EXPECT_EQ(d.why(), d.rows);
}

TEST(Distance, OneRowMayMoveByMoreThanAllOthersIfItDoesSoInTheClasses) {
  Model m = make_model(3, 0.05f);
  flip(m.classed, 4);
  flip(m.found, 4);
  EXPECT_EQ(m.distance().why(), "");
}

TEST(Distance, MeansOfJoinedModelsAreOfAllRows) {
  Model far = make_model(4, 0.05f);
  for (size_t i = 0; i < kTokens; ++i) far.found[9][i] += i % 2 != 0 ? 0.5f : -0.5f;
  Distance all = far.distance();
  EXPECT_EQ(all.rows, "");
  EXPECT_NE(all.mean, "");
  const double kl = all.kl, class_kl = all.class_kl;
  const Distance near = make_model(5, 0.3f).distance();
  all.join(near);
  EXPECT_EQ(all.why(), "");
  EXPECT_EQ(all.positions, 60);
  EXPECT_NEAR(all.kl, (kl + near.kl) / 2, 1e-12);
  EXPECT_NEAR(all.class_kl, (class_kl + near.class_kl) / 2, 1e-12);
  EXPECT_NEAR(all.part, all.kl / (2 * all.class_kl), 1e-12);
}

// What moves a token in one model is nothing to the same number in other weights: neither do calm
// models make a restless one's rows wrong, nor does a restless one excuse a calm one's.
TEST(Distance, TokensOfJoinedModelsAreJudgedInEachByItself) {
  Model restless = make_model(6, 0.05f);
  flip(restless.classed, 4);
  flip(restless.found, 4);
  Distance all = restless.distance();
  for (uint32_t seed = 10; seed < 15; ++seed) all.join(make_model(seed, 0.05f).distance());
  EXPECT_EQ(all.why(), "");

  Model broken = make_model(7, 0.01f);
  flip(broken.found, 4);
  all = make_model(8, 1.0f).distance();
  all.join(broken.distance());
  EXPECT_EQ(all.mean, "");
  EXPECT_NE(all.rows, "");
}

TEST(Distance, RowsMustBeComparable) {
  Model m = make_model(9, 0.05f);
  m.found[3][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(m.distance().why(), "row 3 holds logits not finite");
  m.found.pop_back();
  EXPECT_EQ(m.distance().why(), "29 rows of logits, expected 30");
}

TEST(Distance, WhereNothingIsRoundedLogitsAreThoseOfRef) {
  Model m = make_model(10, 0.0f);
  EXPECT_EQ(m.distance().why(), "");
  for (std::vector<float>& row : m.found)
    for (float& l : row) l *= 1.05f;
  EXPECT_NE(m.distance().rows, "");
}

}  // namespace
}  // namespace hadal::contract
