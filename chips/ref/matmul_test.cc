#include <gtest/gtest.h>

#include <cmath>

#include "base/floats.h"
#include "test_rig.h"

namespace hadal::ref {
namespace {

TEST(RefMatmul, ByHandWithBiasAndAddInPlace) {
  const std::vector<float> w = {1, 2, 3, 4, 5, 6};  // [2, 3]
  const std::vector<float> bias = {100, 200};
  Rig rig(HADAL_OP_MATMUL);
  rig.f32(HADAL_MATMUL_X, {2, 3}, {1, 0, -1, 2, 2, 2});
  rig.weight(HADAL_MATMUL_W, {2, 3}, w, HADAL_F32);
  rig.weight(HADAL_MATMUL_BIAS, {2}, bias, HADAL_F32);
  rig.f32(HADAL_MATMUL_OUT, {2, 2}, {1000, 2000, 3000, 4000});
  rig.alias(HADAL_MATMUL_ADD, HADAL_MATMUL_OUT);
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_MATMUL_OUT), (std::vector<float>{1098, 2198, 3112, 4230}));
}

TEST(RefMatmul, BatchedAgainstPlainLoops) {
  const int64_t m = 3, b = 2, k = 37, n = 5;
  const auto x = numbers(static_cast<size_t>(m * b * k), 1);
  const auto w = numbers(static_cast<size_t>(b * n * k), 2);
  Rig rig(HADAL_OP_MATMUL);
  rig.f32(HADAL_MATMUL_X, {m, b, k}, x);
  rig.weight(HADAL_MATMUL_W, {b, n, k}, w, HADAL_F32);
  rig.f32(HADAL_MATMUL_OUT, {m, b, n}, {});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  const auto out = rig.floats(HADAL_MATMUL_OUT);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t h = 0; h < b; ++h)
      for (int64_t j = 0; j < n; ++j) {
        long double sum = 0;
        for (int64_t c = 0; c < k; ++c)
          sum += static_cast<long double>(x[static_cast<size_t>((i * b + h) * k + c)]) *
                 static_cast<long double>(w[static_cast<size_t>((h * n + j) * k + c)]);
        EXPECT_EQ(out[static_cast<size_t>((i * b + h) * n + j)], static_cast<float>(sum));
      }
}

TEST(RefMatmul, BlockScalesWithPartialLastBlocksInTwoPieces) {
  // FP8 e4m3 ones (0x38) in blocks of 2 x 4; pieces of 3 and 2 rows, 6 columns: 2 and 1 rows of
  // scales, 2 a row.
  const std::vector<uint8_t> data(30, 0x38);
  const std::vector<uint16_t> first = {f32_to_bf16(1), f32_to_bf16(2), f32_to_bf16(4),
                                       f32_to_bf16(8)};
  const std::vector<uint16_t> second = {f32_to_bf16(16), f32_to_bf16(32)};
  for (const uint32_t keeps : {0u, 1u}) {
    Rig rig(HADAL_OP_MATMUL);
    hadal_weight_desc desc{};
    desc.size = sizeof desc;
    desc.dtype = HADAL_F8_E4M3;
    desc.uses = HADAL_USE_MATMUL;
    desc.uses = HADAL_USE_MATMUL;
    desc.keeps_source = keeps;
    desc.batch = 1;
    desc.rows = 5;
    desc.cols = 6;
    desc.scale_dtype = HADAL_BF16;
    desc.scale_block_rows = 2;
    desc.scale_block_cols = 4;
    hadal_piece pieces[2] = {};
    hadal_memory* elements = rig.import(data);
    pieces[0] = {elements, 0, 3, 6, rig.import(first), 0, 4};
    pieces[1] = {elements, 18, 2, 6, rig.import(second), 0, 4};
    hadal_tensor w = Rig::tensor({5, 6}, HADAL_F8_E4M3, HADAL_SPACE_WEIGHT);
    rig.error.size = sizeof rig.error;
    ASSERT_EQ(rig.chip.weight_create(rig.device, &desc, pieces, 2, &w.weight, &rig.error), HADAL_OK)
        << rig.error.text;
    rig.put(HADAL_MATMUL_W, w);
    rig.f32(HADAL_MATMUL_X, {1, 6}, {1, 1, 1, 1, 100, 100});
    rig.f32(HADAL_MATMUL_OUT, {1, 5}, {});
    ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
    EXPECT_EQ(rig.floats(HADAL_MATMUL_OUT), (std::vector<float>{404, 404, 1616, 6464, 6464}));
    rig.chip.weight_destroy(w.weight);
  }
}

TEST(RefMatmul, RowsDoNotDependOnTheirNeighbours) {
  const int64_t k = 100, n = 17;
  const auto x = numbers(static_cast<size_t>(9 * k), 3);
  const auto w = numbers(static_cast<size_t>(n * k), 4);
  std::vector<float> all;
  for (int64_t row = -1; row < 9; ++row) {
    const int64_t m = row < 0 ? 9 : 1;
    Rig rig(HADAL_OP_MATMUL);
    rig.f32(HADAL_MATMUL_X, {m, k},
            row < 0 ? x : std::vector<float>(x.begin() + row * k, x.begin() + (row + 1) * k));
    rig.weight(HADAL_MATMUL_W, {n, k}, w, HADAL_F32);
    rig.f32(HADAL_MATMUL_OUT, {m, n}, {});
    ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
    const auto out = rig.floats(HADAL_MATMUL_OUT);
    if (row < 0)
      all = out;
    else
      EXPECT_EQ(out, std::vector<float>(all.begin() + row * n, all.begin() + (row + 1) * n));
  }
}

TEST(RefMatmul, ShapesThatDoNotFitAreRefusedWithTheirNames) {
  const std::vector<float> w(6, 1.0f);
  Rig rig(HADAL_OP_MATMUL);
  rig.f32(HADAL_MATMUL_X, {1, 4}, {1, 1, 1, 1});
  rig.weight(HADAL_MATMUL_W, {2, 3}, w, HADAL_F32);
  rig.f32(HADAL_MATMUL_OUT, {1, 2}, {});
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_STREQ(rig.error.text,
               "matmul(x [1, 4] F32, w [2, 3] F32, out [1, 2] F32): w: extent 1 is 3, K is 4");
  rig[HADAL_MATMUL_X].extents[1] = 3;
  EXPECT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  rig[HADAL_MATMUL_OUT].offset = uint64_t{1} << 40;
  EXPECT_EQ(rig.run(), HADAL_INVALID);
  EXPECT_STREQ(rig.error.text, "matmul: out does not lie inside the step's memory");
}

TEST(RefGatedMatmul, HasTheBitsOfItsLowering) {
  const int64_t m = 3, k = 33, n = 4;
  const auto x = numbers(static_cast<size_t>(m * k), 5);
  const auto gate = numbers(static_cast<size_t>(n * k), 6);
  const auto up = numbers(static_cast<size_t>(n * k), 7);
  const auto product = [&](const std::vector<float>& w) {
    Rig rig(HADAL_OP_MATMUL);
    rig.f32(HADAL_MATMUL_X, {m, k}, x);
    rig.weight(HADAL_MATMUL_W, {n, k}, w, HADAL_F32);
    rig.f32(HADAL_MATMUL_OUT, {m, n}, {});
    EXPECT_EQ(rig.run(), HADAL_OK) << rig.error.text;
    return rig.floats(HADAL_MATMUL_OUT);
  };
  Rig lowered(HADAL_OP_SWIGLU);
  lowered.f32(HADAL_SWIGLU_GATE, {m, n}, product(gate));
  lowered.f32(HADAL_SWIGLU_UP, {m, n}, product(up));
  lowered.f32(HADAL_SWIGLU_OUT, {m, n}, {});
  lowered.op.attr.swiglu.clamp = 0.5f;
  ASSERT_EQ(lowered.run(), HADAL_OK) << lowered.error.text;
  Rig fused(HADAL_OP_GATED_MATMUL);
  fused.f32(HADAL_GATED_MATMUL_X, {m, k}, x);
  fused.weight(HADAL_GATED_MATMUL_GATE, {n, k}, gate, HADAL_F32);
  fused.weight(HADAL_GATED_MATMUL_UP, {n, k}, up, HADAL_F32);
  fused.f32(HADAL_GATED_MATMUL_OUT, {m, n}, {});
  fused.op.attr.swiglu.clamp = 0.5f;
  ASSERT_EQ(fused.run(), HADAL_OK) << fused.error.text;
  EXPECT_EQ(fused.floats(HADAL_GATED_MATMUL_OUT), lowered.floats(HADAL_SWIGLU_OUT));
}

}  // namespace
}  // namespace hadal::ref
