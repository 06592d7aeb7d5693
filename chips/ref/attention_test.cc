#include <gtest/gtest.h>

#include <cmath>

#include "test_rig.h"

namespace hadal::ref {
namespace {

constexpr int64_t kSlots = 4, kBlocks = 6, kHeads = 6, kKvHeads = 2, kD = 5, kDv = 3;

struct Case {
  std::vector<int32_t> position = {9, 0, 3, 4};
  std::vector<int32_t> row_seq = {1, 0, 0, 1};
  std::vector<int32_t> block_table = {4, -1, -1, 1, 0, 5};  // [2, 3]
  std::vector<int32_t> first = {0, 2};
  uint32_t window = 0;
  bool sink = false;
};

// The formula once more, over plain arrays in long double, with a softmax that takes no maximum.
std::vector<long double> expected(const Case& c, const std::vector<float>& q,
                                  const std::vector<float>& k, const std::vector<float>& v,
                                  const std::vector<float>& sink) {
  std::vector<long double> out;
  for (size_t t = 0; t < c.position.size(); ++t)
    for (int64_t h = 0; h < kHeads; ++h) {
      const int64_t kv = h / (kHeads / kKvHeads);
      const auto s = static_cast<size_t>(c.row_seq[t]);
      long double total =
          c.sink ? std::exp(static_cast<long double>(sink[static_cast<size_t>(h)])) : 0;
      std::vector<long double> sum(kDv, 0);
      for (int32_t j = 0; j <= c.position[t]; ++j) {
        if (j < c.first[s] ||
            (c.window != 0 && j + static_cast<int32_t>(c.window) <= c.position[t]))
          continue;
        const int64_t at =
            c.block_table[s * 3 + static_cast<size_t>(j / kSlots)] * kSlots + j % kSlots;
        long double score = 0;
        for (int64_t i = 0; i < kD; ++i)
          score += static_cast<long double>(
                       q[static_cast<size_t>((static_cast<int64_t>(t) * kHeads + h) * kD + i)]) *
                   static_cast<long double>(k[static_cast<size_t>((at * kKvHeads + kv) * kD + i)]);
        const long double p = std::exp(0.75L * score);
        total += p;
        for (int64_t i = 0; i < kDv; ++i)
          sum[static_cast<size_t>(i)] +=
              p * static_cast<long double>(v[static_cast<size_t>((at * kKvHeads + kv) * kDv + i)]);
      }
      for (const long double x : sum) out.push_back(x / total);
    }
  return out;
}

void check(const Case& c) {
  const auto tokens = static_cast<int64_t>(c.position.size());
  const auto q = numbers(static_cast<size_t>(tokens * kHeads * kD), 21);
  const auto k = numbers(static_cast<size_t>(kBlocks * kSlots * kKvHeads * kD), 22);
  const auto v = numbers(static_cast<size_t>(kBlocks * kSlots * kKvHeads * kDv), 23);
  const auto sink = numbers(kHeads, 24);
  Rig rig(HADAL_OP_GQA_ATTENTION);
  rig.f32(HADAL_GQA_ATTENTION_Q, {tokens, kHeads, kD}, q);
  rig.f32(HADAL_GQA_ATTENTION_K, {kBlocks, kSlots, kKvHeads * kD}, k);
  rig.f32(HADAL_GQA_ATTENTION_V, {kBlocks, kSlots, kKvHeads * kDv}, v);
  rig.i32(HADAL_GQA_ATTENTION_POSITION, {tokens}, c.position);
  rig.i32(HADAL_GQA_ATTENTION_ROW_SEQ, {tokens}, c.row_seq);
  rig.i32(HADAL_GQA_ATTENTION_BLOCK_TABLE, {2, 3}, c.block_table);
  rig.i32(HADAL_GQA_ATTENTION_FIRST, {2}, c.first);
  if (c.sink) rig.weight(HADAL_GQA_ATTENTION_SINK, {kHeads}, sink, HADAL_F32);
  rig.f32(HADAL_GQA_ATTENTION_OUT, {tokens, kHeads, kDv}, {});
  rig.op.attr.attention = {.scale = 0.75f, .kv_heads = kKvHeads, .window = c.window};
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  const auto found = rig.floats(HADAL_GQA_ATTENTION_OUT);
  const auto wanted = expected(c, q, k, v, sink);
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(static_cast<double>(found[i]), static_cast<double>(wanted[i]), 0x1p-24) << i;
}

TEST(RefAttention, SequencesInShuffledBlocks) { check({}); }
TEST(RefAttention, Window) { check({.window = 3}); }
TEST(RefAttention, Sink) { check({.sink = true}); }

TEST(RefAttention, ARowThatSeesNothingGetsZeros) {
  Rig rig(HADAL_OP_GQA_ATTENTION);
  rig.f32(HADAL_GQA_ATTENTION_Q, {1, 1, 1}, {1});
  rig.f32(HADAL_GQA_ATTENTION_K, {1, 2, 1}, {1, 1});
  rig.f32(HADAL_GQA_ATTENTION_V, {1, 2, 1}, {1, 1});
  rig.i32(HADAL_GQA_ATTENTION_POSITION, {1}, {0});
  rig.i32(HADAL_GQA_ATTENTION_ROW_SEQ, {1}, {0});
  rig.i32(HADAL_GQA_ATTENTION_BLOCK_TABLE, {1, 1}, {0});
  rig.i32(HADAL_GQA_ATTENTION_FIRST, {1}, {1});
  rig.f32(HADAL_GQA_ATTENTION_OUT, {1, 1, 1}, {5});
  rig.op.attr.attention = {.scale = 1, .kv_heads = 1, .window = 0};
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_GQA_ATTENTION_OUT), (std::vector<float>{0}));
}

TEST(RefAttention, RefusesAVisiblePositionWithoutABlock) {
  Rig rig(HADAL_OP_GQA_ATTENTION);
  rig.f32(HADAL_GQA_ATTENTION_Q, {1, 1, 1}, {1});
  rig.f32(HADAL_GQA_ATTENTION_K, {1, 2, 1}, {1, 1});
  rig.f32(HADAL_GQA_ATTENTION_V, {1, 2, 1}, {1, 1});
  rig.i32(HADAL_GQA_ATTENTION_POSITION, {1}, {3});
  rig.i32(HADAL_GQA_ATTENTION_ROW_SEQ, {1}, {0});
  rig.i32(HADAL_GQA_ATTENTION_BLOCK_TABLE, {1, 2}, {0, -1});
  rig.i32(HADAL_GQA_ATTENTION_FIRST, {1}, {0});
  rig.f32(HADAL_GQA_ATTENTION_OUT, {1, 1, 1}, {5});
  rig.op.attr.attention = {.scale = 1, .kv_heads = 1, .window = 0};
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_STREQ(rig.error.text, "gqa_attention: block_table[1] = -1 is outside [0, 1)");
}

/// One head at position 3 of a sequence in blocks 1 and 0, of two entries of two numbers and one.
/// Against the query (1, 0; 1) the entries score 0, ln 3, 0 and 100; their values are (0, 8),
/// (1, 4), (9, 9) and (7, 7).
struct LatentRig : Rig {
  explicit LatentRig(const char* kernels = nullptr) : Rig(HADAL_OP_LATENT_ATTENTION, kernels) {
    f32(HADAL_LATENT_ATTENTION_Q, {1, 1, 2}, {1, 0});
    f32(HADAL_LATENT_ATTENTION_TAIL, {1, 1, 1}, {1});
    i32(HADAL_LATENT_ATTENTION_POSITION, {1}, {3});
    i32(HADAL_LATENT_ATTENTION_ROW_SEQ, {1}, {0});
    f32(HADAL_LATENT_ATTENTION_PLANE, {2, 2, 3}, {9, 9, -9, 7, 7, 93, 0, 8, 0, 1, 4, ln(3) - 1});
    i32(HADAL_LATENT_ATTENTION_BLOCK_TABLE, {1, 2}, {1, 0});
    i32(HADAL_LATENT_ATTENTION_FIRST, {1}, {0});
    f32(HADAL_LATENT_ATTENTION_OUT, {1, 1, 2}, {});
    op.attr.latent.scale = 1;
    op.attr.latent.segments[0].ratio = op.attr.latent.segments[1].ratio = 1;
  }
  void expect(const std::vector<double>& out) {
    ASSERT_EQ(run(), HADAL_OK) << error.text;
    expect_near(floats(HADAL_LATENT_ATTENTION_OUT), out);
  }
};

TEST(RefLatentAttention, AnEntryForTwoPositions) {
  LatentRig rig;
  rig.op.attr.latent.segments[0].ratio = 2;  // entries 0 and 1
  rig.expect({0.75, 5});
  rig.op.attr.latent.segments[0].window = 1;
  rig.expect({1, 4});
  rig.i32(HADAL_LATENT_ATTENTION_POSITION, {1}, {2});
  rig.expect({0, 8});
  rig.i32(HADAL_LATENT_ATTENTION_FIRST, {1}, {1});  // inside entry 0
  rig.expect({0, 0});
}

TEST(RefLatentAttention, AListNamesWhatIsSeen) {
  LatentRig rig;
  rig.i32(HADAL_LATENT_ATTENTION_LIST, {1, 3}, {0, 1, -1});
  rig.expect({0.75, 5});
  rig.i32(HADAL_LATENT_ATTENTION_POSITION, {1}, {0});  // entry 1 is not there yet
  rig.expect({0, 8});
  rig.i32(HADAL_LATENT_ATTENTION_LIST, {1, 3}, {1, 1, -1});
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_STREQ(rig.error.text, "latent_attention: list[1] = 1 is outside [0, 4)");
}

TEST(RefLatentAttention, TwoSegmentsAndASink) {
  const std::vector<float> sink = {ln(4)};
  LatentRig rig;
  rig.i32(HADAL_LATENT_ATTENTION_LIST, {1, 1}, {1});
  rig.f32(HADAL_LATENT_ATTENTION_PLANE2, {1, 4, 3}, {0, 8, 0});
  rig.i32(HADAL_LATENT_ATTENTION_BLOCK_TABLE2, {1, 1}, {0});
  rig.i32(HADAL_LATENT_ATTENTION_FIRST2, {1}, {0});
  rig.op.attr.latent.segments[1].ratio = 4;  // its entry 0
  rig.expect({0.75, 5});
  rig.weight(HADAL_LATENT_ATTENTION_SINK, {1}, sink, HADAL_F32);
  rig.expect({0.375, 2.5});  // weights 3, 1, and 4 for nothing
}

// ---- the tables that round ----

constexpr float kTie = 1 + 0x1p-8f;  ///< half a step of bf16 above 1

/// Two positions of one number, scores 1 and 0 by a q that is 1 after rounding, values -1 and 3.
std::vector<float> two_positions(const char* table, const std::vector<float>& sink = {}) {
  Rig rig(HADAL_OP_GQA_ATTENTION, table);
  rig.f32(HADAL_GQA_ATTENTION_Q, {1, 1, 1}, {kTie});
  rig.f32(HADAL_GQA_ATTENTION_K, {1, 2, 1}, {kTie, 0});
  rig.f32(HADAL_GQA_ATTENTION_V, {1, 2, 1}, {-kTie, 3 * kTie});
  rig.i32(HADAL_GQA_ATTENTION_POSITION, {1}, {1});
  rig.i32(HADAL_GQA_ATTENTION_ROW_SEQ, {1}, {0});
  rig.i32(HADAL_GQA_ATTENTION_BLOCK_TABLE, {1, 1}, {0});
  rig.i32(HADAL_GQA_ATTENTION_FIRST, {1}, {0});
  if (!sink.empty()) rig.weight(HADAL_GQA_ATTENTION_SINK, {1}, sink, HADAL_F32);
  rig.f32(HADAL_GQA_ATTENTION_OUT, {1, 1, 1}, {});
  rig.op.attr.attention = {.scale = 1, .kv_heads = 1, .window = 0};
  EXPECT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  const bool rounds = rig.support().numerics == HADAL_NUMERICS_HALF;
  EXPECT_EQ(rig.support().numerics, rounds ? HADAL_NUMERICS_HALF : HADAL_NUMERICS_EXACT);
  EXPECT_EQ(rounds, std::string(table) == "half" || std::string(table) == "fp8" ||
                        std::string(table) == "row8");
  return rig.floats(HADAL_GQA_ATTENTION_OUT);
}

// exp(-1) = 0.36788 lies nearest 0.3671875 = 47 / 128; 3 (1 + 2^-8) = 3.0117 nearest 3.015625.
TEST(RefAttention, RoundsQKVAndPByHalves) {
  for (const char* table : {"half", "fp8", "row8"}) {
    EXPECT_EQ(two_positions(table),
              (std::vector<float>{static_cast<float>((-1 + 3.015625 * 0.3671875) / 1.3671875)}));
    // The sink is not rounded, and p is relative to it where it is the largest.
    EXPECT_EQ(
        two_positions(table, {0.3f}),
        (std::vector<float>{static_cast<float>(
            (-1 + 3.015625 * 0.3671875) / (1.3671875 + std::exp(static_cast<double>(0.3f) - 1)))}));
    EXPECT_EQ(two_positions(table, {2}),
              (std::vector<float>{static_cast<float>((-0.3671875 + 3.015625 * 139.0 / 1024) /
                                                     (1 + 0.3671875 + 139.0 / 1024))}));
  }
  for (const char* table : {"int8", "int8-256"})
    EXPECT_EQ(two_positions(table), two_positions("ref"));
}

// An entry's K and V, the query and its tail.
TEST(RefLatentAttention, RoundsByHalves) {
  for (const char* table : {"ref", "int8", "int8-256", "half", "fp8", "row8"}) {
    LatentRig rig(table);
    rig.f32(HADAL_LATENT_ATTENTION_Q, {1, 1, 2}, {kTie, 0});
    rig.f32(HADAL_LATENT_ATTENTION_TAIL, {1, 1, 1}, {kTie});
    rig.f32(HADAL_LATENT_ATTENTION_PLANE, {2, 2, 3},
            {9, 9, -9, 7, 7, 93, kTie, -kTie, 0, 0, 3 * kTie, 0});
    rig.i32(HADAL_LATENT_ATTENTION_LIST, {1, 2}, {0, 1});
    const bool rounds = rig.support().numerics == HADAL_NUMERICS_HALF;
    const double one = rounds ? 1 : static_cast<double>(kTie);
    const double p = rounds ? 0.3671875 : std::exp(-one * one);
    const double three = rounds ? 3.015625 : 3 * one;
    rig.expect({one / (1 + p), (-one + three * p) / (1 + p)});
  }
}

/// The bound of docs/numerics.md, "Attention in half, fp8 and row8", for one row of one head.
/// k [positions, D], v [positions, Dv].
struct HalfBound {
  std::vector<double> allowed, deviation;  // [Dv]

  HalfBound(const std::vector<float>& q, const std::vector<float>& k, const std::vector<float>& v,
            double scale) {
    const size_t d = q.size(), count = k.size() / d, dv = v.size() / count;
    const auto at = [](const std::vector<float>& from, size_t i) {
      return static_cast<double>(from[i]);
    };
    const auto step = [](double x) { return std::max(0x1p-7 * std::fabs(x), 0x1p-24); };
    std::vector<double> p(count);
    double total = 0, largest = 0, delta = 0;
    for (size_t j = 0; j < count; ++j) {
      double score = 0, worst = 0, squares = 0;
      for (size_t i = 0; i < d; ++i) {
        const double a = at(q, i), b = at(k, j * d + i), s = step(a), t = step(b);
        score += scale * a * b;
        worst += std::fabs(b) * s / 2 + std::fabs(a) * t / 2 + s * t / 4;
        squares += (b * b * s * s + a * a * t * t) / 12 + s * s * t * t / 144;
      }
      delta = std::max(delta, scale * std::min(worst, 6 * std::sqrt(squares)));
      total += p[j] = std::exp(score);
    }
    for (double& x : p) largest = std::max(largest, x /= total);
    for (size_t c = 0; c < dv; ++c) {
      double out = 0, worst = 0, squares = 0;
      const auto add = [&](double derivative, double s) {
        worst += std::fabs(derivative) * s / 2;
        squares += derivative * derivative * s * s / 12;
      };
      for (size_t j = 0; j < count; ++j) out += p[j] * at(v, j * dv + c);
      for (size_t i = 0; i < d; ++i) {
        double by_q = 0;
        for (size_t j = 0; j < count; ++j) {
          const double pull = scale * p[j] * (at(v, j * dv + c) - out);
          by_q += pull * at(k, j * d + i);
          add(pull * at(q, i), step(at(k, j * d + i)));
        }
        add(by_q, step(at(q, i)));
      }
      for (size_t j = 0; j < count; ++j) add(p[j], step(at(v, j * dv + c)));
      // The denominator sums rounded p, or not.
      double with[2] = {}, without[2] = {};  // sums of the sizes, of the squares
      for (size_t j = 0; j < count; ++j) {
        const double s = std::max(0x1p-7 * p[j], 0x1p-24 * largest), value = at(v, j * dv + c);
        with[0] += s * std::fabs(value - out);
        with[1] += s * s * (value - out) * (value - out);
        without[0] += s * std::fabs(value);
        without[1] += s * s * value * value;
      }
      worst += std::max(with[0], without[0]) / 2;
      squares += std::max(with[1], without[1]) / 12;
      deviation.push_back(std::sqrt(squares));
      allowed.push_back(std::exp(4 * delta) * std::min(worst, 6 * deviation.back()));
    }
  }
};

TEST(RefAttention, ErrorsObeyHalf) {
  constexpr int64_t positions = 48, d = 16, dv = 8, rows = 40;
  const auto k = numbers(positions * d, 71);
  auto v = numbers(positions * dv, 72);
  for (const float loud : {1.0f, 4.0f, 16.0f})
    for (const float mean : {0.0f, 2.0f})
      for (const int32_t last : {0, 1, 47}) {
        auto q = numbers(rows * d, 73), values = v;
        for (float& x : q) x *= loud;
        for (float& x : values) x += mean;
        const auto run = [&](const char* table) {
          Rig rig(HADAL_OP_GQA_ATTENTION, table);
          rig.f32(HADAL_GQA_ATTENTION_Q, {rows, 1, d}, q);
          rig.f32(HADAL_GQA_ATTENTION_K, {1, positions, d}, k);
          rig.f32(HADAL_GQA_ATTENTION_V, {1, positions, dv}, values);
          rig.i32(HADAL_GQA_ATTENTION_POSITION, {rows}, std::vector<int32_t>(rows, last));
          rig.i32(HADAL_GQA_ATTENTION_ROW_SEQ, {rows}, std::vector<int32_t>(rows, 0));
          rig.i32(HADAL_GQA_ATTENTION_BLOCK_TABLE, {1, 1}, {0});
          rig.i32(HADAL_GQA_ATTENTION_FIRST, {1}, {0});
          rig.f32(HADAL_GQA_ATTENTION_OUT, {rows, 1, dv}, {});
          rig.op.attr.attention = {.scale = 0.5f, .kv_heads = 1, .window = 0};
          EXPECT_EQ(rig.run(), HADAL_OK) << rig.error.text;
          return rig.floats(HADAL_GQA_ATTENTION_OUT);
        };
        const auto exact = run("ref"), half = run("half");
        double squares = 0;
        for (int64_t t = 0; t < rows; ++t) {
          const HalfBound bound({q.begin() + t * d, q.begin() + (t + 1) * d},
                                {k.begin(), k.begin() + (last + 1) * d},
                                {values.begin(), values.begin() + (last + 1) * dv}, 0.5);
          for (int64_t c = 0; c < dv; ++c) {
            const auto i = static_cast<size_t>(t * dv + c);
            const double error =
                std::fabs(static_cast<double>(half[i]) - static_cast<double>(exact[i]));
            EXPECT_LE(error, bound.allowed[static_cast<size_t>(c)] +
                                 0x1p-22 * std::fabs(static_cast<double>(exact[i])));
            squares += std::pow(error / bound.deviation[static_cast<size_t>(c)], 2);
          }
        }
        const double rms = std::sqrt(squares / (rows * dv));
        EXPECT_GT(rms, 0.4) << loud << " " << mean << " " << last;
        EXPECT_LT(rms, 1.0) << loud << " " << mean << " " << last;
      }
}

}  // namespace
}  // namespace hadal::ref
