// compress, with numbers computed by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "test_rig.h"

namespace hadal::ref {
namespace {

/// Entries of one number, of two rows each.
struct CompressRig : Rig {
  explicit CompressRig(uint32_t overlap) : Rig(HADAL_OP_COMPRESS) {
    i32(HADAL_COMPRESS_ROW_SEQ, {1}, {0});
    i32(HADAL_COMPRESS_BLOCK_TABLE, {1, 2}, {1, 0});
    f32(HADAL_COMPRESS_OUT, {1, 1}, {5});
    op.attr.compress = {.ratio = 2, .overlap = overlap};
  }
  void expect(int32_t position, double out) {
    i32(HADAL_COMPRESS_POSITION, {1}, {position});
    ASSERT_EQ(run(), HADAL_OK) << error.text;
    expect_near(floats(HADAL_COMPRESS_OUT), {out});
  }
};

TEST(RefCompress, ARowWithItsApe) {
  const std::vector<float> ape = {ln(3), 0};
  CompressRig rig(0);
  rig.f32(HADAL_COMPRESS_PLANE, {2, 2, 2}, {1, 0, 2, 0, 4, 0, 8, ln(3)});
  rig.expect(1, 7);    // weights 1 and 3
  rig.expect(3, 1.5);  // the other block
  rig.weight(HADAL_COMPRESS_APE, {2}, ape, HADAL_F32);
  rig.expect(1, 6);     // 3 and 3
  rig.expect(3, 1.25);  // 3 and 1
  rig.expect(2, 0);
  rig.expect(0, 0);
}

TEST(RefCompress, AnOverlap) {
  const std::vector<float> ape = {ln(3), 0, 0, ln(2)};
  CompressRig rig(1);
  rig.f32(HADAL_COMPRESS_PLANE, {2, 2, 4},
          {90, 12, 9, ln(2), 90, 20, 9, ln(2), 4, 60, 0, 0, 8, 80, ln(3), 0});
  rig.expect(1, 70);    // nothing is before it
  rig.expect(3, 11.5);  // weights 1, 3, 2 and 2
  rig.weight(HADAL_COMPRESS_APE, {4}, ape, HADAL_F32);
  rig.expect(3, 140.0 / 12);  // 3, 3, 2 and 4
}

}  // namespace
}  // namespace hadal::ref
