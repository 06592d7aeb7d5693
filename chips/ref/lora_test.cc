// lora_add, with numbers computed by hand.
#include "test_rig.h"

namespace hadal::ref {
namespace {

/// Two adapters of rank 2 (the second of rank 1, padded), K 3, N 2; three rows of two sequences.
void fill(Rig& rig, const std::vector<int32_t>& adapter, const std::vector<int32_t>& row_seq) {
  rig.f32(HADAL_LORA_ADD_X, {3, 3}, {1, 2, 3, -1, 0, 1, 2, 2, 2});
  static const std::vector<float> a = {1, 0, 0, 0, 1, 1, 2, 2, 2, 0, 0, 0};
  static const std::vector<float> b = {1, 10, 0, 100, 3, 0, -1, 0};
  rig.weight(HADAL_LORA_ADD_A, {2, 2, 3}, a, HADAL_F32);
  rig.weight(HADAL_LORA_ADD_B, {2, 2, 2}, b, HADAL_F32);
  rig.i32(HADAL_LORA_ADD_ADAPTER, {2}, adapter);
  rig.i32(HADAL_LORA_ADD_ROW_SEQ, {3}, row_seq);
  rig.f32(HADAL_LORA_ADD_OUT, {3, 2}, {0.5f, 0.25f, 1, 1, -1, -2});
}

TEST(RefLoraAdd, EachRowWithItsSequencesAdapter) {
  Rig rig(HADAL_OP_LORA_ADD);
  fill(rig, {1, 0}, {1, 0, 1});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  // Row 0: A x = (1, 5); B = (51, 500). Row 1: A x = (0, 0). Row 2: (2, 4); (42, 400).
  EXPECT_EQ(rig.floats(HADAL_LORA_ADD_OUT), (std::vector<float>{51.5f, 500.25f, 1, 1, 41, 398}));
}

TEST(RefLoraAdd, WithoutAnAdapterARowKeepsItsBits) {
  Rig rig(HADAL_OP_LORA_ADD);
  fill(rig, {-1, 1}, {0, 0, 1});
  ASSERT_EQ(rig.run(), HADAL_OK) << rig.error.text;
  EXPECT_EQ(rig.floats(HADAL_LORA_ADD_OUT), (std::vector<float>{0.5f, 0.25f, 1, 1, 35, -14}));
}

TEST(RefLoraAdd, WhatIsOutsideIsRefused) {
  for (const int32_t wrong : {-2, 2}) {
    Rig rig(HADAL_OP_LORA_ADD);
    fill(rig, {0, wrong}, {0, 0, 0});
    EXPECT_EQ(rig.run(), HADAL_INVALID);
    EXPECT_NE(std::string(rig.error.text).find("adapter[1] = " + std::to_string(wrong)),
              std::string::npos)
        << rig.error.text;
  }
  Rig rig(HADAL_OP_LORA_ADD);
  fill(rig, {0, 0}, {0, 0, 2});
  EXPECT_EQ(rig.run(), HADAL_INVALID);
}

}  // namespace
}  // namespace hadal::ref
