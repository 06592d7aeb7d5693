// matmul and gated_matmul: every type against a dot product in double, and the rule of bits.
#include <gtest/gtest.h>

#include "cpu/kernels/kernels.h"
#include "test_rig.h"

namespace hadal::cpu::testing {
namespace {

constexpr hadal_dtype kTypes[] = {
    HADAL_F32,     HADAL_F16,   HADAL_BF16,    HADAL_F64,     HADAL_I8,    HADAL_U8,
    HADAL_I16,     HADAL_I32,   HADAL_F8_E4M3, HADAL_F8_E5M2, HADAL_Q4_0,  HADAL_Q4_1,
    HADAL_Q5_0,    HADAL_Q5_1,  HADAL_Q8_0,    HADAL_Q8_1,    HADAL_Q2_K,  HADAL_Q3_K,
    HADAL_Q4_K,    HADAL_Q5_K,  HADAL_Q6_K,    HADAL_Q8_K,    HADAL_IQ1_S, HADAL_IQ1_M,
    HADAL_IQ2_XXS, HADAL_IQ2_S, HADAL_IQ2_XS,  HADAL_IQ3_XXS, HADAL_IQ3_S, HADAL_IQ4_NL,
    HADAL_IQ4_XS,  HADAL_TQ1_0, HADAL_TQ2_0,   HADAL_MXFP4,   HADAL_NVFP4, HADAL_F4_E2M1};

bool rounds_activations(hadal_dtype d) {
  switch (d) {
    case HADAL_Q4_0:
    case HADAL_Q4_1:
    case HADAL_Q5_0:
    case HADAL_Q5_1:
    case HADAL_Q8_0:
    case HADAL_Q2_K:
    case HADAL_Q3_K:
    case HADAL_Q4_K:
    case HADAL_Q5_K:
    case HADAL_Q6_K:
    case HADAL_IQ4_NL:
    case HADAL_IQ4_XS:
    case HADAL_MXFP4:
    case HADAL_NVFP4:
      return true;
    default:
      return false;
  }
}

struct Case {
  hadal_dtype dtype;
  int64_t n, k;
};

std::vector<float> multiply(const Case& c, const std::vector<std::byte>& w,
                            const std::vector<float>& x, int64_t m, int threads,
                            const char* kernels, bool program, bool keeps_source = true) {
  Rig rig(threads, kernels);
  rig.limits[HADAL_DIM_T] = rig.rows[HADAL_DIM_T] = m;
  const int32_t xi =
      rig.f32({1, c.k}, std::vector<float>(x.begin(), x.begin() + m * c.k), HADAL_DIM_T);
  const int32_t wi = rig.weight(c.dtype, {c.n, c.k}, w, HADAL_USE_MATMUL, keeps_source);
  const int32_t out = rig.f32({1, c.n}, {}, HADAL_DIM_T);
  rig.op(HADAL_OP_MATMUL, {xi, wi, -1, -1, out});
  EXPECT_EQ(rig.run(program), HADAL_OK) << rig.error.text;
  return rig.get<float>(out);
}

void check_close(const Case& c, const std::vector<std::byte>& bytes, const std::vector<float>& x,
                 const std::vector<float>& out, int64_t m) {
  std::vector<float> w(static_cast<size_t>(c.n * c.k));
  ASSERT_TRUE(decode_to_f32(c.dtype, bytes.data(), c.n * c.k, w.data()));
  for (int64_t r = 0; r < m; ++r)
    for (int64_t n = 0; n < c.n; ++n) {
      double exact = 0, size = 0, rounding = 0;
      for (int64_t b = 0; b < c.k; b += 32) {
        double amax = 0, weights = 0;
        for (int64_t k = b; k < std::min(c.k, b + 32); ++k) {
          const double xv = static_cast<double>(x[static_cast<size_t>(r * c.k + k)]),
                       wv = static_cast<double>(w[static_cast<size_t>(n * c.k + k)]);
          exact += xv * wv;
          size += std::fabs(xv * wv);
          weights += std::fabs(wv);
          amax = std::max(amax, std::fabs(xv));
        }
        rounding += weights * amax / 254.0;
      }
      const double bound =
          (2.0 * std::sqrt(static_cast<double>(c.k)) + 2.0) * 0x1p-24 * (size + 100 * rounding) +
          (rounds_activations(c.dtype) ? rounding : 0.0);
      ASSERT_NEAR(static_cast<double>(out[static_cast<size_t>(r * c.n + n)]), exact, bound)
          << dtype_name(c.dtype) << " N " << c.n << " K " << c.k << " row " << r << " output " << n;
    }
}

TEST(CpuMatmul, EveryTypeOnEveryTable) {
  for (const std::string& kernels : kernel_names())
    for (const hadal_dtype dtype : kTypes)
      for (const int64_t n : {1, 15, 33}) {
        const int64_t k = dtype_info(dtype)->block_values >= 32 ? 512 : 96;
        const Case c{dtype, n, k};
        const auto w = random_weights(dtype, n, k, static_cast<uint32_t>(dtype + n));
        const auto x = Random(7).numbers(5 * k);
        check_close(c, w, x, multiply(c, w, x, 5, 2, kernels.c_str(), true), 5);
        if (HasFatalFailure()) return;
      }
}

TEST(CpuMatmul, ShapesOfFloats) {
  for (const hadal_dtype dtype : {HADAL_F32, HADAL_F16, HADAL_BF16, HADAL_F8_E4M3})
    for (const int64_t n : {1, 16, 17})
      for (const int64_t k : {1, 7, 33, 576, 1536}) {
        const Case c{dtype, n, k};
        const auto w = random_weights(dtype, n, k, static_cast<uint32_t>(k));
        const auto x = Random(8).numbers(6 * k);
        check_close(c, w, x, multiply(c, w, x, 6, 1, nullptr, false), 6);
        if (HasFatalFailure()) return;
      }
}

TEST(CpuMatmul, BitsDoNotDependOnRowsThreadsOrTape) {
  for (const std::string& kernels : kernel_names())
    for (const hadal_dtype dtype : kTypes) {
      const bool portable = kernels == "portable";
      const int64_t k = dtype_info(dtype)->block_values > 1 ? 512 : 131;
      const Case c{dtype, 33, k};
      const auto w = random_weights(dtype, c.n, k, 3);
      const auto x = Random(9).numbers(130 * k, 3.0f);
      std::vector<float> single;
      for (int64_t m = 0; m < 130; ++m) {
        const std::vector<float> row(x.begin() + m * k, x.begin() + (m + 1) * k);
        if (portable && m > 20) break;
        const auto y = multiply(c, w, row, 1, 1, kernels.c_str(), false, m % 2 == 0);
        single.insert(single.end(), y.begin(), y.end());
      }
      for (const int64_t m : {2, 3, 7, 8, 16, 17, 63, 64, 65, 130}) {
        if (portable && m > 17) break;
        for (const int threads : {1, 2, 3}) {
          const auto y = multiply(c, w, x, m, threads, kernels.c_str(), threads != 2);
          ASSERT_EQ(std::memcmp(y.data(), single.data(), y.size() * 4), 0)
              << dtype_name(dtype) << " rows " << m << " threads " << threads << " " << kernels;
        }
      }
    }
}

// In place, four rows and four blocks go together, and sums and scales take turns every
// kInPlaceBlocks: what is left over at the end, and more than one turn.
TEST(CpuMatmul, InPlaceGivesThePanelsBitsAtEveryLength) {
  constexpr int64_t kRows = 6;
  for (const std::string& kernels : kernel_names())
    for (const hadal_dtype dtype : kTypes) {
      if (!rounds_activations(dtype)) continue;
      const int64_t step = std::max<int64_t>(kBlock, dtype_info(dtype)->block_values);
      for (const int64_t k : {step, 2 * step, 3 * step, kInPlaceBlocks * kBlock + step,
                              2 * kInPlaceBlocks * kBlock + 3 * step}) {
        const Case c{dtype, 19, k};
        const auto w = random_weights(dtype, c.n, k, static_cast<uint32_t>(k));
        const auto x = Random(11).numbers(kRows * k, 3.0f);
        const auto panels = multiply(c, w, x, kRows, 2, kernels.c_str(), true);
        check_close(c, w, x, panels, kRows);
        if (HasFatalFailure()) return;
        for (const int64_t m : {1, 2, 3, 4}) {
          const auto some = multiply(c, w, x, m, 2, kernels.c_str(), true);
          ASSERT_EQ(std::memcmp(some.data(), panels.data(), some.size() * 4), 0)
              << dtype_name(dtype) << " k " << k << " rows " << m << " " << kernels;
        }
      }
    }
}

TEST(CpuMatmul, TablesWithFmaAgree) {
  const auto names = kernel_names();
  if (names.size() < 3) GTEST_SKIP() << "one table with FMA here";
  for (const hadal_dtype dtype : kTypes) {
    if (!rounds_activations(dtype)) continue;
    const Case c{dtype, 33, 512};
    const auto w = random_weights(dtype, c.n, c.k, 3);
    const auto x = Random(9).numbers(7 * c.k, 3.0f);
    EXPECT_EQ(multiply(c, w, x, 7, 1, names[0].c_str(), false),
              multiply(c, w, x, 7, 1, names[1].c_str(), false))
        << dtype_name(dtype);
  }
}

TEST(CpuMatmul, BlockScales) {
  struct ScaleCase {
    hadal_dtype dtype, scale;
    int64_t block_rows, block_cols;
  };
  for (const ScaleCase s : {ScaleCase{HADAL_F8_E4M3, HADAL_F32, 128, 128},
                            {HADAL_F8_E4M3, HADAL_BF16, 24, 40},
                            {HADAL_F8_E5M2, HADAL_F8_E8M0, 1, 32},
                            {HADAL_F4_E2M1, HADAL_F8_E8M0, 1, 32},
                            {HADAL_F4_E2M1, HADAL_F32, 16, 64},
                            {HADAL_I8, HADAL_F32, 1, 320}})
    for (const auto& [keeps, m] :
         {std::pair{true, int64_t{35}}, {false, 35}, {true, 3}, {false, 1}}) {
      const int64_t n = 150, k = 320, across = (k + s.block_cols - 1) / s.block_cols,
                    down = (n + s.block_rows - 1) / s.block_rows;
      const auto bytes = random_weights(s.dtype, n, k, 4);
      auto scales = random_weights(s.scale, down, across, 5);
      if (s.scale == HADAL_F8_E8M0)
        for (std::byte& b : scales) b = static_cast<std::byte>(118 + static_cast<int>(b) % 16);
      if (s.scale == HADAL_BF16)
        for (size_t i = 1; i < scales.size(); i += 2) scales[i] = static_cast<std::byte>(0x3e);
      std::vector<float> w(static_cast<size_t>(n * k)), scale(static_cast<size_t>(down * across));
      decode_to_f32(s.dtype, bytes.data(), n * k, w.data());
      decode_to_f32(s.scale, scales.data(), down * across, scale.data());
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < k; ++j)
          w[static_cast<size_t>(i * k + j)] *=
              scale[static_cast<size_t>(i / s.block_rows * across + j / s.block_cols)];
      Rig rig(2);
      const auto x = Random(6).numbers(m * k);
      const int32_t xi = rig.f32({m, k}, x);
      const int32_t wi = rig.weight(s.dtype, {n, k}, bytes, HADAL_USE_MATMUL | HADAL_USE_GATHER,
                                    keeps, {s.scale, s.block_rows, s.block_cols, &scales});
      ASSERT_GE(wi, 0) << rig.error.text;
      const int32_t out = rig.f32({m, n});
      const int32_t ids = rig.i32({n}, [&] {
        std::vector<int32_t> v;
        for (int32_t i = 0; i < n; ++i) v.push_back(i);
        return v;
      }());
      const int32_t rows = rig.f32({n, k});
      rig.op(HADAL_OP_MATMUL, {xi, wi, -1, -1, out});
      rig.op(HADAL_OP_EMBED, {ids, wi, rows});
      ASSERT_EQ(rig.run(true), HADAL_OK) << rig.error.text;
      ASSERT_EQ(rig.get<float>(rows), w) << dtype_name(s.dtype);
      for (int64_t r = 0; r < m; ++r)
        for (int64_t j = 0; j < n; ++j) {
          double exact = 0, size = 0;
          for (int64_t i = 0; i < k; ++i) {
            const double p = static_cast<double>(x[static_cast<size_t>(r * k + i)]) *
                             static_cast<double>(w[static_cast<size_t>(j * k + i)]);
            exact += p;
            size += std::fabs(p);
          }
          const bool int8 = s.dtype == HADAL_F4_E2M1 && s.scale == HADAL_F8_E8M0;
          double w_sum = 0;
          for (int64_t i = 0; i < k; ++i)
            w_sum += std::fabs(static_cast<double>(w[static_cast<size_t>(j * k + i)]));
          ASSERT_NEAR(static_cast<double>(rig.at<float>(out)[r * n + j]), exact,
                      1e-5 * size + (int8 ? w_sum / 254 : 0))
              << dtype_name(s.dtype) << r << " " << j;
        }
    }
}

TEST(CpuMatmul, BatchedBiasAndAdd) {
  const int64_t m = 37, b = 3, n = 21, k = 64;
  for (const hadal_dtype dtype : {HADAL_Q8_0, HADAL_F16, HADAL_IQ4_NL, HADAL_Q8_1}) {
    const auto bytes = random_weights(dtype, b * n, k, 4);
    std::vector<float> w(static_cast<size_t>(b * n * k));
    decode_to_f32(dtype, bytes.data(), b * n * k, w.data());
    const auto x = Random(6).numbers(m * b * k), bias = Random(7).numbers(n),
               add = Random(8).numbers(m * b * n);
    Rig rig(2);
    const int32_t xi = rig.f32({m, b, k}, x), out = rig.f32({m, b, n}, add);
    const int32_t wi = rig.weight(dtype, {b, n, k}, bytes, HADAL_USE_MATMUL);
    rig.op(HADAL_OP_MATMUL, {xi, wi, rig.vector(bias), out, out});
    ASSERT_EQ(rig.run(true), HADAL_OK) << rig.error.text;
    for (int64_t r = 0; r < m; ++r)
      for (int64_t i = 0; i < b; ++i)
        for (int64_t j = 0; j < n; ++j) {
          double exact = static_cast<double>(bias[static_cast<size_t>(j)]) +
                         static_cast<double>(add[static_cast<size_t>((r * b + i) * n + j)]),
                 w_sum = 0;
          for (int64_t c = 0; c < k; ++c) {
            const double wv = static_cast<double>(w[static_cast<size_t>((i * n + j) * k + c)]);
            exact += static_cast<double>(x[static_cast<size_t>((r * b + i) * k + c)]) * wv;
            w_sum += std::fabs(wv);
          }
          ASSERT_NEAR(static_cast<double>(rig.at<float>(out)[(r * b + i) * n + j]), exact,
                      w_sum / 250 + 1e-5);
        }
  }
}

TEST(CpuMatmul, GatedEqualsItsLowering) {
  for (const hadal_dtype dtype : {HADAL_Q4_1, HADAL_F32, HADAL_IQ2_S}) {
    const int64_t m = 40, n = 50, k = 256;
    const auto gate = random_weights(dtype, n, k, 1), up = random_weights(HADAL_Q8_0, n, k, 2);
    Rig rig(2);
    const int32_t x = rig.f32({m, k}, Random(3).numbers(m * k, 0.1f));
    const int32_t g = rig.weight(dtype, {n, k}, gate, HADAL_USE_MATMUL),
                  u = rig.weight(HADAL_Q8_0, {n, k}, up, HADAL_USE_MATMUL);
    const int32_t fused = rig.f32({m, n}), a = rig.f32({m, n}), b = rig.f32({m, n}),
                  out = rig.f32({m, n});
    rig.op(HADAL_OP_GATED_MATMUL, {x, g, u, fused});
    rig.op(HADAL_OP_MATMUL, {x, g, -1, -1, a});
    rig.op(HADAL_OP_MATMUL, {x, u, -1, -1, b});
    rig.op(HADAL_OP_SWIGLU, {a, b, -1, out});
    for (const bool program : {false, true}) {
      ASSERT_EQ(rig.run(program), HADAL_OK) << rig.error.text;
      EXPECT_EQ(rig.get<float>(fused), rig.get<float>(out));
    }
  }
}

}  // namespace
}  // namespace hadal::cpu::testing
