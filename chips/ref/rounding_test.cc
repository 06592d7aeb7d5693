// The kernel tables of `ref`, one for each class of numerics: what they round, by hand, and that
// the distance from exact keeps the bound of docs/numerics.md.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/floats.h"
#include "base/quant.h"
#include "base/quantize.h"
#include "test_rig.h"

namespace hadal::ref {
namespace {

constexpr const char* kTables[] = {"ref", "int8", "int8-256", "half", "fp8", "row8"};

/// A weight [n, k] as stored, and what it decodes to.
struct Matrix {
  Matrix(int64_t rows, int64_t cols, const std::vector<float>& from, hadal_dtype type = HADAL_F32)
      : n(rows), k(cols), dtype(type), bytes(static_cast<size_t>(rows * *row_bytes(type, cols))) {
    if (type == HADAL_I8 || type == HADAL_F8_E4M3)  // given as codes
      for (size_t i = 0; i < from.size(); ++i) bytes[i] = static_cast<uint8_t>(from[i]);
    else
      EXPECT_TRUE(encode_from_f32(type, from.data(), rows * cols, bytes.data()));
    values.resize(from.size());
    EXPECT_TRUE(decode_to_f32(type, bytes.data(), rows * cols, values.data()));
  }
  int64_t n, k;
  hadal_dtype dtype;
  std::vector<uint8_t> bytes;
  std::vector<float> values;
};

struct Product {
  std::vector<float> out;
  hadal_op_answer answer;
};

Product multiply(const char* table, const std::vector<float>& x, const Matrix& w) {
  const auto m = static_cast<int64_t>(x.size()) / w.k;
  Rig rig(HADAL_OP_MATMUL, table);
  rig.f32(HADAL_MATMUL_X, {m, w.k}, x);
  rig.weight(HADAL_MATMUL_W, {w.n, w.k}, w.bytes, w.dtype);
  rig.f32(HADAL_MATMUL_OUT, {m, w.n}, {});
  EXPECT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  return {rig.floats(HADAL_MATMUL_OUT), rig.support()};
}

/// A number that a table keeps where it is the largest: its scale is 1 then.
float one_of(const std::string& table) {
  if (table == "fp8") return 448;
  return table == "row8" || table.starts_with("int8") ? 127 : 1;
}

std::vector<float> unit_matrix(int64_t k, float one) {
  std::vector<float> unit(static_cast<size_t>(k * k));
  for (int64_t i = 0; i < k; ++i) unit[static_cast<size_t>(i * k + i)] = one;
  return unit;
}

std::vector<float> divided(std::vector<float> values, float by) {
  for (float& v : values) v /= by;
  return values;
}

/// What a table makes of each of the `x`, read off by multiplying with a multiple of the unit
/// matrix.
std::vector<float> rounded(const char* table, std::vector<float> x, hadal_dtype dtype = HADAL_F32) {
  const auto k = static_cast<int64_t>((x.size() + 31) / 32 * 32);
  const size_t count = x.size();
  const float one = one_of(table);
  x.resize(static_cast<size_t>(k));
  std::vector<float> out =
      divided(multiply(table, x, Matrix(k, k, unit_matrix(k, one), dtype)).out, one);
  out.resize(count);
  return out;
}

/// What a table makes of weights, likewise: [K, N].
std::vector<float> rounded_weights(const char* table, const Matrix& w) {
  const float one = one_of(table);
  return divided(multiply(table, unit_matrix(w.k, one), w).out, one);
}

TEST(RefTables, RefIsExact) {
  const std::vector<float> x = {1 + 0x1p-23f, 0x1p-60f, 1e30f, -3};
  EXPECT_EQ(rounded("ref", x), x);
}

TEST(RefTables, Int8SharesAScaleAmong32) {
  std::vector<float> x(64, 0.0f), expected(64, 0.0f);
  x[0] = -127, x[1] = 0.4f, x[2] = 0.6f, x[3] = 2.5f, x[4] = -3.5f;
  expected[0] = -127, expected[2] = 1, expected[3] = 2, expected[4] = -4;
  x[32] = 254, x[33] = 3.5f;
  expected[32] = 254, expected[33] = 4;
  EXPECT_EQ(rounded("int8", x, HADAL_Q8_0), expected);
  EXPECT_EQ(rounded("int8", x), x) << "weights that are no integers";
}

TEST(RefTables, Int8Of256HasAPartialLastBlock) {
  std::vector<float> x(288, 0.0f), expected(288, 0.0f);
  x[0] = 127, x[255] = 0.4f, x[254] = 1.5f;
  expected[0] = 127, expected[254] = 2;
  x[256] = 12.7f, x[257] = 0.26f;
  const std::vector<float> out = rounded("int8-256", x, HADAL_Q8_0);
  expected[256] = out[256], expected[257] = out[257];
  EXPECT_EQ(out, expected);
  EXPECT_NEAR(static_cast<double>(out[256]), 12.7, 1e-5);
  EXPECT_NEAR(static_cast<double>(out[257]), 0.3, 1e-6);
  EXPECT_EQ(rounded("int8-256", x), x) << "weights that are no integers";
}

TEST(RefTables, HalfRoundsBothOperandsToNearestEven) {
  const std::vector<float> x = {1 + 0x1p-8f, 1 + 3 * 0x1p-8f, -1 - 0x1.1p-8f, 0x1p100f, 0.5f, 0};
  const std::vector<float> expected = {1, 1 + 0x1p-6f, -1 - 0x1p-7f, 0x1p100f, 0.5f, 0};
  EXPECT_EQ(rounded("half", x), expected);
  EXPECT_EQ(rounded_weights("half", Matrix(1, 6, x)), expected);
}

TEST(RefTables, HalfOfBf16NumbersIsExact) {
  std::vector<float> x = numbers(3 * 64, 31), w = numbers(5 * 64, 32);
  for (float& v : x) v = bf16_to_f32(f32_to_bf16(v));
  const Matrix stored(5, 64, w, HADAL_BF16);
  EXPECT_EQ(multiply("half", x, stored).out, multiply("ref", x, stored).out);
}

TEST(RefTables, Fp8RoundsActivationsInRunsOf128) {
  std::vector<float> x(160, 0.0f);
  std::vector<float> expected = x;
  const std::vector<std::pair<float, float>> cases = {{448, 448},
                                                      {17, 16},
                                                      {19, 20},
                                                      {-17.5f, -18},
                                                      {0x1p-6f, 0x1p-6f},
                                                      {0x1p-10f, 0},
                                                      {3 * 0x1p-10f, 0x1p-8f},
                                                      {0x1.1p-10f, 0x1p-9f},
                                                      {430, 416},
                                                      {440, 448}};
  for (size_t i = 0; i < cases.size(); ++i) std::tie(x[i], expected[i]) = cases[i];
  x[128] = -896, expected[128] = -896;  // a block with scale 2
  x[129] = 34, expected[129] = 32;
  EXPECT_EQ(rounded("fp8", x), expected);
}

TEST(RefTables, Fp8RoundsWeightsInBlocksOf128By128) {
  // Of 130 rows and 129 columns: row 1 gives row 0 its scale, row 129 row 128, column 128 has
  // another.
  std::vector<float> w(130 * 129, 0.0f), expected = w;
  const auto at = [](size_t row, size_t col) { return row * 129 + col; };
  w[at(1, 5)] = expected[at(1, 5)] = 448;
  w[at(0, 0)] = 17, expected[at(0, 0)] = 16;
  w[at(127, 127)] = 19, expected[at(127, 127)] = 20;
  w[at(129, 5)] = expected[at(129, 5)] = 672;  // scale 1.5
  w[at(128, 0)] = 17, expected[at(128, 0)] = 16.5f;
  w[at(3, 128)] = expected[at(3, 128)] = 10.5f;  // scale 1.5 / 64
  w[at(4, 128)] = expected[at(4, 128)] = 14 * 1.5f / 64;
  w[at(5, 128)] = 14.5f * 1.5f / 64, expected[at(5, 128)] = 14 * 1.5f / 64;
  std::vector<float> out = rounded_weights("fp8", Matrix(130, 129, w));  // [129, 130]
  for (size_t row = 0; row < 130; ++row)
    for (size_t col = 0; col < 129; ++col)
      EXPECT_EQ(out[col * 130 + row], expected[at(row, col)]) << row << ", " << col;
}

TEST(RefTables, Fp8BlocksBeginWithEachMatrix) {
  // Two matrices of one row each: neither takes the other's scale.
  Rig rig(HADAL_OP_MATMUL, "fp8");
  const std::vector<float> w = {17, 448, 17, 672};
  rig.f32(HADAL_MATMUL_X, {1, 2, 2}, {1, 0, 1, 0});
  rig.weight(HADAL_MATMUL_W, {2, 1, 2}, w, HADAL_F32);
  rig.f32(HADAL_MATMUL_OUT, {1, 2, 1}, {});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_MATMUL_OUT), (std::vector<float>{16, 16.5f}));
}

TEST(RefTables, Fp8KeepsWeightsThatAreStoredAsE4m3) {
  const Matrix w(1, 4, {0x7e, 0x01, 0x39, 0xc5}, HADAL_F8_E4M3);
  EXPECT_EQ(rounded_weights("fp8", w), w.values);
  const Matrix small(1, 2, {0x39, 0x3b}, HADAL_F8_E4M3);  // their maximum is not 448
  EXPECT_EQ(rounded_weights("fp8", small), small.values);
}

TEST(RefTables, Row8HasAScaleForARow) {
  std::vector<float> x(300, 0.0f), expected = x;
  x[299] = expected[299] = -127;
  x[0] = 0.4f, x[1] = 1.5f, x[150] = -2.5f;
  expected[1] = 2, expected[150] = -2;
  EXPECT_EQ(rounded("row8", x), expected);
  // Each output has its own.
  const std::vector<float> w = {127, 1.5f, 254, 3.5f};
  EXPECT_EQ(rounded_weights("row8", Matrix(2, 2, w)), (std::vector<float>{127, 254, 2, 4}));
  const Matrix stored(1, 3, {3, 1, 255}, HADAL_I8);
  EXPECT_EQ(rounded_weights("row8", stored), (std::vector<float>{3, 1, -1}));
}

TEST(RefTables, ZerosStayZeros) {
  for (const char* table : kTables) {
    EXPECT_EQ(rounded(table, std::vector<float>(40, 0.0f)), std::vector<float>(40, 0.0f));
    EXPECT_EQ(rounded_weights(table, Matrix(1, 5, std::vector<float>(5, 0.0f))),
              std::vector<float>(5, 0.0f));
  }
}

// Outputs of the tables "ref" and "int8" from before there were others.
TEST(RefTables, RefAndInt8AreUnchanged) {
  const Matrix w(2, 96, numbers(2 * 96, 41), HADAL_Q8_0);
  const auto x = numbers(2 * 96, 42);
  EXPECT_EQ(multiply("ref", x, w).out,
            (std::vector<float>{-0x1.4629ccp-1f, 0x1.db278ep+0f, -0x1.79e106p+1f, 0x1.e2e202p-1f}));
  EXPECT_EQ(multiply("int8", x, w).out,
            (std::vector<float>{-0x1.437f4ep-1f, 0x1.db20cap+0f, -0x1.7a1d7ep+1f, 0x1.e946acp-1f}));
}

TEST(RefTables, GatedAndGroupedHaveTheBitsOfMatmul) {
  const int64_t m = 3, k = 288, n = 4;
  const auto x = numbers(static_cast<size_t>(m * k), 51);
  const auto numbers_of_gate = numbers(static_cast<size_t>(n * k), 52);
  const Matrix gate(n, k, numbers_of_gate, HADAL_Q8_0);
  const Matrix up(n, k, numbers(static_cast<size_t>(n * k), 53), HADAL_BF16);
  for (const char* table : kTables) {
    Rig lowered(HADAL_OP_SWIGLU);
    lowered.f32(HADAL_SWIGLU_GATE, {m, n}, multiply(table, x, gate).out);
    lowered.f32(HADAL_SWIGLU_UP, {m, n}, multiply(table, x, up).out);
    lowered.f32(HADAL_SWIGLU_OUT, {m, n}, {});
    ASSERT_EQ(lowered.run(), HADAL_OK) << lowered.error.text;
    Rig fused(HADAL_OP_GATED_MATMUL, table);
    fused.f32(HADAL_GATED_MATMUL_X, {m, k}, x);
    fused.weight(HADAL_GATED_MATMUL_GATE, {n, k}, gate.bytes, gate.dtype);
    fused.weight(HADAL_GATED_MATMUL_UP, {n, k}, up.bytes, up.dtype);
    fused.f32(HADAL_GATED_MATMUL_OUT, {m, n}, {});
    ASSERT_EQ(fused.run(), HADAL_OK) << fused.error.text;
    EXPECT_EQ(fused.floats(HADAL_GATED_MATMUL_OUT), lowered.floats(HADAL_SWIGLU_OUT)) << table;
    EXPECT_EQ(fused.support().numerics, multiply(table, x, gate).answer.numerics) << table;

    Rig grouped(HADAL_OP_GROUPED_MATMUL, table);  // two experts, each half of the rows of `gate`
    grouped.op.attr.experts.fan = 1;
    grouped.f32(HADAL_GROUPED_MATMUL_X, {m, k}, x);
    grouped.weight(HADAL_GROUPED_MATMUL_W, {2, n / 2, k}, gate.bytes, gate.dtype);
    grouped.i32(HADAL_GROUPED_MATMUL_OFFSET, {3}, {0, 1, 3});
    grouped.i32(HADAL_GROUPED_MATMUL_ORDER, {3}, {2, 0, 1});
    grouped.f32(HADAL_GROUPED_MATMUL_OUT, {m, n / 2}, {});
    ASSERT_EQ(grouped.run(), HADAL_OK) << grouped.error.text;
    std::vector<float> expected;  // each expert alone
    for (const auto& [row, expert] : {std::pair{2, 0}, std::pair{0, 1}, std::pair{1, 1}}) {
      const auto first = numbers_of_gate.begin() + expert * n / 2 * k;
      const Matrix alone(n / 2, k, {first, first + n / 2 * k}, HADAL_Q8_0);
      const auto out = multiply(table, {x.begin() + row * k, x.begin() + (row + 1) * k}, alone).out;
      expected.insert(expected.end(), out.begin(), out.end());
    }
    EXPECT_EQ(grouped.floats(HADAL_GROUPED_MATMUL_OUT), expected) << table;
  }
}

// ---- the bounds of docs/numerics.md, "Products: the bound of a class" ----

float largest(const float* from, const float* end) {
  float top = 0;
  for (; from < end; ++from) top = std::max(top, std::fabs(*from));
  return top;
}

double half_step(float v) { return std::max(0x1p-7 * std::fabs(static_cast<double>(v)), 0x1p-24); }

double fp8_step(float v, float top) {
  return std::max(0x1p-3 * std::fabs(static_cast<double>(v)),
                  0x1p-8 * static_cast<double>(top) / 448);
}

/// The steps s_i of a row of activations, or t_i of a row of weights (of a matrix of up to 128
/// rows, `matrix`).
std::vector<double> steps(const Product& p, const float* row, int64_t k, const Matrix* matrix) {
  std::vector<double> s;
  for (int64_t i = 0; i < k; ++i) {
    const auto top = [&](int64_t block) {
      const int64_t first = i / block * block;
      float most = largest(row + first, row + std::min(first + block, k));
      for (int64_t r = 0; matrix && block == 128 && r < matrix->n; ++r)
        most = std::max(most, largest(matrix->values.data() + r * k + first,
                                      matrix->values.data() + r * k + std::min(first + block, k)));
      return most;
    };
    switch (p.answer.numerics) {
      case HADAL_NUMERICS_BLOCK8:
        s.push_back(matrix ? 0 : static_cast<double>(top(p.answer.block)) / 127);
        break;
      case HADAL_NUMERICS_HALF:
        s.push_back(half_step(row[i]));
        break;
      case HADAL_NUMERICS_FP8:
        s.push_back(matrix && matrix->dtype == HADAL_F8_E4M3 ? 0 : fp8_step(row[i], top(128)));
        break;
      case HADAL_NUMERICS_ROW8:
        s.push_back(matrix && matrix->dtype == HADAL_I8 ? 0 : static_cast<double>(top(k)) / 127);
        break;
      default:
        s.push_back(0);
    }
  }
  return s;
}

struct Bound {
  double worst = 0;
  double deviation = 0;
};

Bound bound(const float* x, const std::vector<double>& s, const float* w,
            const std::vector<double>& t, bool fp8) {
  Bound b;
  double squares = 0;
  // Of |w|, and for fp8 its block: the step, the sum of x.
  std::map<std::pair<size_t, double>, std::pair<double, double>> groups;
  for (size_t i = 0; i < s.size(); ++i) {
    const auto xi = static_cast<double>(x[i]), wi = static_cast<double>(w[i]);
    b.worst += std::fabs(wi) * s[i] / 2 + std::fabs(xi) * t[i] / 2 + s[i] * t[i] / 4;
    squares += wi * wi * s[i] * s[i] / 12 + s[i] * s[i] * t[i] * t[i] / 144;
    auto& [step, sum] = groups[{fp8 ? i / 128 : 0, std::fabs(wi)}];
    step = t[i];
    sum += wi < 0 ? -xi : xi;
  }
  for (const auto& [key, group] : groups)
    squares += group.first * group.first * group.second * group.second / 12;
  b.deviation = std::sqrt(squares);
  return b;
}

// Errors stay within min(W, 6 S), and S is their size: their root mean square in units of S is near
// 1, or 0.7 where the steps are upper bounds.
TEST(RefTables, ErrorsObeyTheirClass) {
  const int64_t m = 12, k = 512, n = 20;
  for (const float mean : {0.0f, 1.0f})
    for (const hadal_dtype dtype : {HADAL_F32, HADAL_Q8_0, HADAL_Q4_0, HADAL_Q5_1, HADAL_Q4_K}) {
      auto x = numbers(static_cast<size_t>(m * k), 61), w = numbers(static_cast<size_t>(n * k), 62);
      for (float& v : x) v += mean;
      for (float& v : w) v = v * 0.1f + mean * 0.05f;
      const Matrix matrix(n, k, w, dtype);
      const Product exact = multiply("ref", x, matrix);
      for (const char* table : kTables) {
        const Product p = multiply(table, x, matrix);
        std::vector<std::vector<double>> t;
        for (int64_t j = 0; j < n; ++j)
          t.push_back(steps(p, matrix.values.data() + j * k, k, &matrix));
        double squares = 0;
        for (int64_t i = 0; i < m; ++i) {
          const float* row = x.data() + i * k;
          const std::vector<double> s = steps(p, row, k, nullptr);
          for (int64_t j = 0; j < n; ++j) {
            const Bound b = bound(row, s, matrix.values.data() + j * k, t[static_cast<size_t>(j)],
                                  p.answer.numerics == HADAL_NUMERICS_FP8);
            const auto at = static_cast<size_t>(i * n + j);
            const double error =
                std::fabs(static_cast<double>(p.out[at]) - static_cast<double>(exact.out[at]));
            ASSERT_LE(error, std::min(b.worst, 6 * b.deviation) +
                                 0x1p-22 * std::fabs(static_cast<double>(exact.out[at])))
                << table << " " << dtype_name(dtype) << " mean " << mean;
            if (b.deviation > 0) squares += error * error / (b.deviation * b.deviation);
          }
        }
        const double rms = std::sqrt(squares / static_cast<double>(m * n));
        if (p.answer.numerics == HADAL_NUMERICS_EXACT) {
          EXPECT_EQ(p.out, exact.out) << table;
          continue;
        }
        EXPECT_GT(rms, 0.5) << table << " " << dtype_name(dtype) << " mean " << mean;
        EXPECT_LT(rms, 1.2) << table << " " << dtype_name(dtype) << " mean " << mean;
      }
    }
}

TEST(RefTables, AnswerWithTheirClass) {
  const std::vector<float> x(256, 1.0f);
  const Matrix plain(1, 256, x), integers(1, 256, x, HADAL_Q4_K);
  const std::map<std::string, std::pair<uint32_t, uint32_t>> expected = {
      {"ref", {HADAL_NUMERICS_EXACT, 0}},         {"int8", {HADAL_NUMERICS_BLOCK8, 32}},
      {"int8-256", {HADAL_NUMERICS_BLOCK8, 256}}, {"half", {HADAL_NUMERICS_HALF, 0}},
      {"fp8", {HADAL_NUMERICS_FP8, 0}},           {"row8", {HADAL_NUMERICS_ROW8, 0}}};
  for (const char* table : kTables) {
    const auto [numerics, block] = expected.at(table);
    const hadal_op_answer answer = multiply(table, x, integers).answer;
    EXPECT_EQ(answer.numerics, numerics) << table;
    EXPECT_EQ(answer.block, block) << table;
    EXPECT_EQ(answer.workspace_bytes, 0u);
    EXPECT_EQ(multiply(table, x, plain).answer.numerics,
              numerics == HADAL_NUMERICS_BLOCK8 ? uint32_t{HADAL_NUMERICS_EXACT} : numerics);
    Rig add(HADAL_OP_ADD, table);
    add.f32(HADAL_ADD_X, {1, 1}, {1});
    add.f32(HADAL_ADD_Y, {1, 1}, {1});
    EXPECT_EQ(add.support().numerics, HADAL_NUMERICS_EXACT);
    add.op.id = 60;
    EXPECT_EQ(add.support().numerics, HADAL_NUMERICS_UNSAID);
    EXPECT_STREQ(add.error.text, "ref does not know operator 60");
  }
}

// A weight is not bound while a plan is made: V4's FP4 is taken to have the scales it comes with.
TEST(RefTables, AnswerWithoutAHandle) {
  for (const auto& [dtype, numerics] : {std::pair{HADAL_F4_E2M1, HADAL_NUMERICS_BLOCK8},
                                        std::pair{HADAL_Q8_0, HADAL_NUMERICS_BLOCK8},
                                        std::pair{HADAL_IQ2_S, HADAL_NUMERICS_EXACT}}) {
    Rig rig(HADAL_OP_MATMUL, "int8");
    rig.f32(HADAL_MATMUL_X, {1, 256}, std::vector<float>(256));
    rig.put(HADAL_MATMUL_W, Rig::tensor({3, 256}, dtype, HADAL_SPACE_WEIGHT));
    rig.f32(HADAL_MATMUL_OUT, {1, 3}, {});
    EXPECT_EQ(rig.support().numerics, numerics) << dtype_name(dtype) << rig.error.text;
  }
}

}  // namespace
}  // namespace hadal::ref
