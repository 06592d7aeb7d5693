#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/floats.h"
#include "test_rig.h"

namespace hadal::ref {
namespace {

TEST(RefEmbed, DecodesTheRowsOfItsTokens) {
  const std::vector<uint16_t> table = {f32_to_bf16(1), f32_to_bf16(2), f32_to_bf16(3),
                                       f32_to_bf16(4)};  // [2, 2]
  Rig rig(HADAL_OP_EMBED);
  rig.i32(HADAL_EMBED_TOKEN, {3}, {1, 0, 1});
  rig.weight(HADAL_EMBED_TABLE, {2, 2}, table, HADAL_BF16);
  rig.f32(HADAL_EMBED_OUT, {3, 2}, {});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_EMBED_OUT), (std::vector<float>{3, 4, 1, 2, 3, 4}));
}

TEST(RefEmbed, RefusesTokensOutsideTheVocabulary) {
  const std::vector<float> table(4, 1.0f);
  for (const int32_t token : {-1, 2}) {
    Rig rig(HADAL_OP_EMBED);
    rig.i32(HADAL_EMBED_TOKEN, {2}, {0, token});
    rig.weight(HADAL_EMBED_TABLE, {2, 2}, table, HADAL_F32);
    rig.f32(HADAL_EMBED_OUT, {2, 2}, {});
    EXPECT_EQ(rig.run(), HADAL_INVALID);
    EXPECT_EQ(std::string(rig.error.text),
              "embed: token[1] = " + std::to_string(token) + " is outside [0, 2)");
  }
}

TEST(RefGatherRows, CopiesBits) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Rig rig(HADAL_OP_GATHER_ROWS);
  rig.f32(HADAL_GATHER_ROWS_X, {3, 1}, {1, nan, 3});
  rig.i32(HADAL_GATHER_ROWS_INDEX, {4}, {2, 1, 0, 2});
  rig.f32(HADAL_GATHER_ROWS_OUT, {4, 1}, {});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  const auto out = rig.floats(HADAL_GATHER_ROWS_OUT);
  EXPECT_EQ(out[0], 3);
  EXPECT_TRUE(std::isnan(out[1]));
  EXPECT_EQ(out[2], 1);
  EXPECT_EQ(out[3], 3);
}

TEST(RefGatherRows, MovesWholeNumbers) {
  Rig rig(HADAL_OP_GATHER_ROWS);
  rig.i32(HADAL_GATHER_ROWS_X, {2, 2}, {1, -1, (1 << 24) + 1, INT32_MIN});
  rig.i32(HADAL_GATHER_ROWS_INDEX, {3}, {1, 0, 1});
  rig.i32(HADAL_GATHER_ROWS_OUT, {3, 2}, {});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.get<int32_t>(HADAL_GATHER_ROWS_OUT),
            (std::vector<int32_t>{(1 << 24) + 1, INT32_MIN, 1, -1, (1 << 24) + 1, INT32_MIN}));
  rig.f32(HADAL_GATHER_ROWS_OUT, {3, 2}, {});
  EXPECT_EQ(rig.run(), HADAL_INVALID);
}

TEST(RefGatherRows, RefusesAnIndexOutside) {
  Rig rig(HADAL_OP_GATHER_ROWS);
  rig.f32(HADAL_GATHER_ROWS_X, {3, 1}, {1, 2, 3});
  rig.i32(HADAL_GATHER_ROWS_INDEX, {1}, {3});
  rig.f32(HADAL_GATHER_ROWS_OUT, {1, 1}, {});
  EXPECT_EQ(rig.run(), HADAL_INVALID);
}

// Two sequences, blocks of two slots; row 0 is a shared prefix, row 3 lies in a block that is not
// mapped.
TEST(RefKvWrite, FollowsTheBlockTable) {
  Rig rig(HADAL_OP_KV_WRITE);
  rig.f32(HADAL_KV_WRITE_X, {4, 1}, {10, 11, 12, 13});
  rig.f32(HADAL_KV_WRITE_PLANE, {3, 2, 1}, {0, 0, 0, 0, 0, 0});
  rig.i32(HADAL_KV_WRITE_POSITION, {4}, {0, 1, 2, 3});
  rig.i32(HADAL_KV_WRITE_ROW_SEQ, {4}, {0, 0, 1, 0});
  rig.i32(HADAL_KV_WRITE_BLOCK_TABLE, {2, 2}, {2, -1, -1, 0});
  rig.i32(HADAL_KV_WRITE_WRITE_FROM, {2}, {1, 0});
  rig.op.attr.kv_write.ratio = 1;
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_KV_WRITE_PLANE), (std::vector<float>{12, 0, 0, 0, 0, 11}));
}

TEST(RefKvWrite, WritesOneSlotForEveryRatioPositions) {
  Rig rig(HADAL_OP_KV_WRITE);
  rig.f32(HADAL_KV_WRITE_X, {6, 1}, {1, 2, 3, 4, 5, 6});
  rig.set(HADAL_KV_WRITE_PLANE, {1, 4, 1}, std::vector<uint16_t>(4, 0), HADAL_F16);
  rig.i32(HADAL_KV_WRITE_POSITION, {6}, {0, 1, 2, 3, 4, 5});
  rig.i32(HADAL_KV_WRITE_ROW_SEQ, {6}, {0, 0, 0, 0, 0, 0});
  rig.i32(HADAL_KV_WRITE_BLOCK_TABLE, {1, 1}, {0});
  rig.i32(HADAL_KV_WRITE_WRITE_FROM, {1}, {0});
  rig.op.attr.kv_write.ratio = 2;
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.get<uint16_t>(HADAL_KV_WRITE_PLANE),
            (std::vector<uint16_t>{f32_to_f16(2), f32_to_f16(4), f32_to_f16(6), 0}));
}

TEST(RefCopyBlocks, SkipsMinusOne) {
  Rig rig(HADAL_OP_COPY_BLOCKS);
  rig.f32(HADAL_COPY_BLOCKS_PLANE, {3, 1, 2}, {1, 2, 3, 4, 5, 6});
  rig.i32(HADAL_COPY_BLOCKS_FROM, {3}, {0, -1, 1});
  rig.i32(HADAL_COPY_BLOCKS_TO, {3}, {2, 1, -1});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_COPY_BLOCKS_PLANE), (std::vector<float>{1, 2, 3, 4, 1, 2}));
}

TEST(RefConvert, RoundsToNearestEvenAndOverflows) {
  Rig rig(HADAL_OP_CONVERT);
  rig.f32(HADAL_CONVERT_X, {1, 6}, {2049, 2051, 65519, 65520, 0x1p-24f, 0x1p-25f});
  rig.set(HADAL_CONVERT_OUT, {1, 6}, std::vector<uint16_t>(6, 0xffff), HADAL_F16);
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.get<uint16_t>(HADAL_CONVERT_OUT),
            (std::vector<uint16_t>{0x6800, 0x6802, 0x7bff, 0x7c00, 0x0001, 0x0000}));
}

TEST(RefConvert, GoesFromF16ToBf16) {
  Rig rig(HADAL_OP_CONVERT);
  rig.set(HADAL_CONVERT_X, {1, 2}, std::vector<uint16_t>{0x3c01, 0xfc00},
          HADAL_F16);  // 1 + 2^-10, -infinity
  rig.set(HADAL_CONVERT_OUT, {1, 2}, std::vector<uint16_t>(2, 0xffff), HADAL_BF16);
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.get<uint16_t>(HADAL_CONVERT_OUT), (std::vector<uint16_t>{0x3f80, 0xff80}));
}

TEST(RefRows, NoRowsAreLegal) {
  const std::vector<float> table(4, 1.0f);
  Rig rig(HADAL_OP_EMBED);
  rig.i32(HADAL_EMBED_TOKEN, {0}, {});
  rig.weight(HADAL_EMBED_TABLE, {2, 2}, table, HADAL_F32);
  rig.f32(HADAL_EMBED_OUT, {0, 2}, {});
  EXPECT_EQ(rig.run(), HADAL_OK) << rig.error.text;
}

}  // namespace
}  // namespace hadal::ref
