#include <gtest/gtest.h>

#include <cstddef>

#include "test_rig.h"

namespace hadal::ref {
namespace {

TEST(RefChip, AnOlderHostGetsWhatItKnows) {
  hadal_chip chip{};
  chip.size = offsetof(hadal_chip, op_query);
  ASSERT_EQ(hadal_ref_chip_query(nullptr, HADAL_ABI, &chip), HADAL_OK);
  EXPECT_EQ(chip.size, offsetof(hadal_chip, op_query));
  EXPECT_NE(chip.weight_destroy, nullptr);
  EXPECT_EQ(chip.op_query, nullptr);
  EXPECT_EQ(chip.op_run, nullptr);
}

TEST(RefChip, AnotherMajorVersionIsRefused) {
  hadal_chip chip{};
  chip.size = sizeof chip;
  EXPECT_EQ(hadal_ref_chip_query(nullptr, (HADAL_ABI_MAJOR + 1) << 16, &chip), HADAL_UNSUPPORTED);
}

TEST(RefChip, UnknownOperatorsAreDeclinedWithAReason) {
  Rig rig(HADAL_OP_ADD);
  rig.op.id = 60;
  const hadal_tensor tensors[HADAL_MAX_OPERANDS] = {};
  const int64_t limits[HADAL_DIM_COUNT] = {1, 1, 1, 1, 1};
  uint64_t workspace = 1;
  rig.error.size = sizeof rig.error;
  EXPECT_EQ(rig.chip.op_query(rig.device, &rig.op, tensors, limits, &workspace, &rig.error),
            HADAL_UNSUPPORTED);
  EXPECT_STREQ(rig.error.text, "ref does not know operator 60");
  EXPECT_EQ(workspace, 0u);
}

TEST(RefChip, StopAndLimits) {
  Rig rig(HADAL_OP_ADD);
  rig.f32(HADAL_ADD_X, {1, 1}, {1});
  rig.f32(HADAL_ADD_Y, {1, 1}, {1});
  hadal_tape tape{};
  tape.size = sizeof tape;
  tape.tensors = rig.tensors.data();
  tape.tensor_count = 2;
  tape.ops = &rig.op;
  tape.op_count = 1;
  for (int64_t& limit : tape.limits) limit = 1;
  hadal_step step{};
  step.size = sizeof step;
  for (int64_t& rows : step.rows) rows = 1;
  step.scratch = rig.memory;
  const volatile int32_t stop = 1;
  step.stop = &stop;
  EXPECT_EQ(rig.chip.op_run(rig.queue, &tape, 0, 1, &step, nullptr), HADAL_STOPPED);
  step.stop = nullptr;
  step.rows[HADAL_DIM_T] = 2;
  EXPECT_EQ(rig.chip.op_run(rig.queue, &tape, 0, 1, &step, nullptr), HADAL_INVALID);
  step.rows[HADAL_DIM_T] = 0;
  EXPECT_EQ(rig.chip.op_run(rig.queue, &tape, 0, 1, &step, nullptr), HADAL_OK);
  EXPECT_EQ(rig.chip.op_run(rig.queue, &tape, 1, 1, &step, nullptr), HADAL_INVALID);
}

TEST(RefChip, WeightsAreCheckedAgainstTheirMemory) {
  Rig rig(HADAL_OP_MATMUL);
  const std::vector<float> data(6);
  hadal_weight_desc desc{};
  desc.size = sizeof desc;
  desc.dtype = HADAL_F32;
  desc.batch = 1;
  desc.rows = 2;
  desc.cols = 3;
  hadal_piece piece{};
  piece.memory = rig.import(data);
  piece.rows = 2;
  piece.row_stride = 12;
  hadal_weight* w = nullptr;
  rig.error.size = sizeof rig.error;
  const auto create = [&] {
    return rig.chip.weight_create(rig.device, &desc, &piece, 1, &w, &rig.error);
  };
  ASSERT_EQ(create(), HADAL_OK) << rig.error.text;
  rig.chip.weight_destroy(w);
  piece.offset = 4;
  EXPECT_EQ(create(), HADAL_INVALID);
  EXPECT_STREQ(rig.error.text, "weight: piece 0: 2 rows do not lie inside its memory");
  piece.offset = 0;
  desc.rows = 3;
  EXPECT_EQ(create(), HADAL_INVALID);
  EXPECT_STREQ(rig.error.text, "weight: the pieces hold 2 rows, 3 are expected");
  desc.rows = 2;
  desc.dtype = HADAL_Q8_0;
  EXPECT_EQ(create(), HADAL_INVALID);
  desc.dtype = HADAL_BOOL;
  EXPECT_EQ(create(), HADAL_UNSUPPORTED);
}

}  // namespace
}  // namespace hadal::ref
