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

TEST(RefChip, AQueryThatFailsSaysWhy) {
  hadal_error error{};
  error.size = sizeof error;
  hadal_host host{};
  host.size = sizeof host;
  host.query_error = &error;
  hadal_chip chip{};
  chip.size = sizeof chip;
  EXPECT_EQ(hadal_ref_chip_query(&host, (HADAL_ABI_MAJOR + 1) << 16, &chip), HADAL_UNSUPPORTED);
  EXPECT_STREQ(error.text, "ref is built for another major version of the chip contract");
}

/// Opens a device, closes it, and gives what is said if it does not open.
std::string open_error(hadal_device_options options) {
  Rig rig(HADAL_OP_ADD);
  if (options.size == 0) options.size = sizeof options;
  rig.error.size = sizeof rig.error;
  hadal_device* device = nullptr;
  const hadal_status status = rig.chip.device_open(&rig.chip, 0, &options, &device, &rig.error);
  EXPECT_EQ(status == HADAL_OK, device != nullptr);
  if (device) rig.chip.device_close(device);
  return rig.error.text;
}

TEST(RefChip, DeviceOptions) {
  hadal_device_options options{};
  EXPECT_EQ(open_error(options), "");
  options.kernels = "half";
  EXPECT_EQ(open_error(options), "");
  options.numerics = HADAL_NUMERICS_EXACT;
  EXPECT_EQ(open_error(options),
            "exact numerics are asked for, ref's kernel table \"half\" rounds; leave one of both "
            "out");
  options.size = offsetof(hadal_device_options, numerics);  // a host of 1.0
  EXPECT_EQ(open_error(options), "");
  options.size = 0;
  options.kernels = nullptr;
  EXPECT_EQ(open_error(options), "");
  const char* const texts[] = {"tiles"};
  options.option_count = 1;
  options.option_names = options.option_values = texts;
  EXPECT_EQ(open_error(options),
            "ref has no option \"tiles\", nor any other; leave --chip-option out");
  options.option_count = 0;
  options.kernels = "int4";
  EXPECT_EQ(open_error(options),
            "ref has no kernel table \"int4\", but these: ref int8 int8-256 half fp8 row8");
}

TEST(RefChip, TellsItsTables) {
  Rig rig(HADAL_OP_ADD, "int8-256");
  hadal_device_info info{};
  info.size = sizeof info;
  ASSERT_EQ(rig.chip.device_info(rig.device, &info), HADAL_OK);
  EXPECT_STREQ(info.kernels, "int8-256");
  EXPECT_STREQ(info.all_kernels, "ref int8 int8-256 half fp8 row8");
  EXPECT_EQ(info.kernels_version, 1u);
}

TEST(RefChip, WeightFormsAreCountedAndFilled) {
  for (const auto& [table, numerics] :
       {std::pair{"ref", HADAL_NUMERICS_EXACT}, std::pair{"int8", HADAL_NUMERICS_EXACT},
        std::pair{"row8", HADAL_NUMERICS_ROW8}}) {
    Rig rig(HADAL_OP_ADD, table);
    uint32_t count = 0;
    ASSERT_EQ(rig.chip.weight_forms(rig.device, HADAL_USE_MATMUL, nullptr, &count, &rig.error),
              HADAL_OK);
    ASSERT_EQ(count, 1u);
    hadal_weight_form form{};
    form.size = sizeof form;
    for (const uint32_t use : {HADAL_USE_MATMUL, HADAL_USE_GATHER, HADAL_USE_VECTOR}) {
      ASSERT_EQ(rig.chip.weight_forms(rig.device, use, &form, &count, &rig.error), HADAL_OK);
      EXPECT_EQ(form.dtype, uint32_t{HADAL_F32});
      EXPECT_EQ(form.scale_dtype, uint32_t{HADAL_DTYPE_NONE});
      EXPECT_EQ(form.numerics, use == HADAL_USE_MATMUL ? numerics : HADAL_NUMERICS_EXACT);
    }
  }
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
