// Programs on the first device of this machine: what a wrong index, a wrong step and a wrong option
// are told as. Skipped where OpenCL has no device. Bits are the kit's (level `models`).
#include "program/program.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "contract/operators.h"

extern "C" hadal_status hadal_chip_query(const hadal_host* host, uint32_t abi, hadal_chip* out);

namespace hadal::opencl {
namespace {

constexpr int64_t kRows = 4, kWidth = 8, kSlots = 4, kBlocks = 2;

/// Two kv_write, of two buffers into two planes, and a gather_rows: they share a launch.
class ProgramTest : public testing::Test {
 protected:
  void SetUp() override {
    chip_.size = sizeof chip_;
    error_.size = sizeof error_;
    hadal_host host{};
    host.size = sizeof host;
    host.context = &told_;
    host.log = [](void* context, uint32_t, const char* text) {
      static_cast<std::string*>(context)->append(text).append("\n");
    };
    ASSERT_EQ(hadal_chip_query(&host, HADAL_ABI, &chip_), HADAL_OK);
    if (chip_.device_count(&chip_) == 0) GTEST_SKIP() << "OpenCL has no device";
    ASSERT_EQ(open({}), HADAL_OK) << error_.text;
    ASSERT_EQ(chip_.queue_create(device_, &queue_, &error_), HADAL_OK);
    make_tape();
    step_.size = sizeof step_;
    step_.plane_count = 2;
    step_.rows[HADAL_DIM_CONST] = step_.rows[HADAL_DIM_S] = 1;
    step_.rows[HADAL_DIM_T] = step_.rows[HADAL_DIM_R] = 2;
    step_.scratch = memory(tape_.scratch_bytes);
    step_.inputs = memory(tape_.input_bytes);
    for (hadal_memory*& plane : planes_) plane = memory(kBlocks * kSlots * kWidth * 4);
    step_.planes = planes_;
  }
  void TearDown() override {
    if (program_) chip_.program->destroy(program_);
    for (hadal_memory* m : memories_) chip_.mem_free(m);
    if (queue_) chip_.queue_destroy(queue_);
    if (device_) chip_.device_close(device_);
    chip_.close(&chip_);
  }

  hadal_status open(const std::vector<std::pair<const char*, const char*>>& given) {
    hadal_device_options options{};
    options.size = sizeof options;
    std::vector<const char*> names, values;
    for (const auto& [name, value] : given) {
      names.push_back(name);
      values.push_back(value);
    }
    options.option_count = static_cast<uint32_t>(names.size());
    options.option_names = names.data();
    options.option_values = values.data();
    return chip_.device_open(&chip_, 0, &options, &device_, &error_);
  }
  hadal_memory* memory(uint64_t bytes) {
    hadal_memory* m = nullptr;
    EXPECT_EQ(chip_.mem_alloc(device_, bytes, &m, &error_), HADAL_OK) << error_.text;
    memories_.push_back(m);
    EXPECT_EQ(chip_.fill(queue_, m, 0, bytes, 0, &error_), HADAL_OK);
    return m;
  }

  int32_t tensor(uint32_t space, uint32_t dtype, hadal_dim dim, std::vector<int64_t> shape) {
    hadal_tensor t{};
    t.space = space;
    t.dtype = dtype;
    t.row_dim = dim;
    t.rank = static_cast<uint32_t>(shape.size());
    int64_t stride = 4;
    for (uint32_t d = HADAL_MAX_RANK; d-- > 0;) {
      t.extents[d] = d < t.rank ? shape[d] : 1;
      t.strides[d] = stride;
      stride *= t.extents[d];
    }
    if (space == HADAL_SPACE_PLANE) {
      t.index = planes_used_++;
    } else {
      uint64_t& used = space == HADAL_SPACE_INPUT ? tape_.input_bytes : tape_.scratch_bytes;
      t.offset = used;
      used += static_cast<uint64_t>((stride * kRows + 63) / 64 * 64);
    }
    tensors_.push_back(t);
    return static_cast<int32_t>(tensors_.size()) - 1;
  }
  hadal_op& op(uint32_t id, const std::vector<int32_t>& operands) {
    hadal_op made{};
    made.id = id;
    std::fill(std::begin(made.operands), std::end(made.operands), -1);
    std::copy(operands.begin(), operands.end(), made.operands);
    ops_.push_back(made);
    return ops_.back();
  }
  void make_tape() {
    tape_.size = sizeof tape_;
    const auto input = [&](hadal_dim dim, std::vector<int64_t> shape) {
      return tensor(HADAL_SPACE_INPUT, HADAL_I32, dim, std::move(shape));
    };
    const auto rows = [&](hadal_dim dim) {
      return tensor(HADAL_SPACE_SCRATCH, HADAL_F32, dim, {1, kWidth});
    };
    const int32_t position = input(HADAL_DIM_T, {1}), table = input(HADAL_DIM_S, {1, kBlocks}),
                  from = input(HADAL_DIM_S, {1});
    row_seq_ = input(HADAL_DIM_T, {1});
    index_ = input(HADAL_DIM_R, {1});
    const int32_t k = rows(HADAL_DIM_T);
    for (int i = 0; i < 2; ++i)
      op(HADAL_OP_KV_WRITE,
         {i == 0 ? k : rows(HADAL_DIM_T),
          tensor(HADAL_SPACE_PLANE, HADAL_F32, HADAL_DIM_CONST, {kBlocks, kSlots, kWidth}),
          position, row_seq_, table, from})
          .attr.kv_write.ratio = 1;
    op(HADAL_OP_GATHER_ROWS, {k, index_, rows(HADAL_DIM_R)});
    for (int64_t& limit : tape_.limits) limit = kRows;
    tape_.limits[HADAL_DIM_CONST] = 1;
    tape_.plane_count = 2;
    tape_.tensors = tensors_.data();
    tape_.tensor_count = static_cast<uint32_t>(tensors_.size());
    tape_.ops = ops_.data();
    tape_.op_count = static_cast<uint32_t>(ops_.size());
  }
  hadal_status prepare() { return chip_.program->prepare(device_, &tape_, &program_, &error_); }
  hadal_status run() {
    const hadal_status s = chip_.program->run(program_, queue_, &step_, &error_);
    return s != HADAL_OK ? s : chip_.queue_sync(queue_, &error_);
  }
  /// Puts a number into the second row of an input.
  void put(int32_t input, int32_t value) {
    const uint64_t at = tensors_[static_cast<size_t>(input)].offset + 4;
    ASSERT_EQ(chip_.copy_in(queue_, step_.inputs, at, &value, 4, &error_), HADAL_OK);
  }

  std::string told_;
  hadal_chip chip_{};
  hadal_error error_{};
  hadal_device* device_ = nullptr;
  hadal_queue* queue_ = nullptr;
  hadal_program* program_ = nullptr;
  std::vector<hadal_memory*> memories_;
  hadal_memory* planes_[2] = {};
  std::vector<hadal_tensor> tensors_;
  std::vector<hadal_op> ops_;
  uint32_t planes_used_ = 0;
  int32_t row_seq_ = 0, index_ = 0;
  hadal_tape tape_{};
  hadal_step step_{};
};

TEST_F(ProgramTest, AWrongIndexNamesItsOperatorAndOperand) {
  ASSERT_EQ(prepare(), HADAL_OK) << error_.text;
  ASSERT_EQ(run(), HADAL_OK) << error_.text;
  put(row_seq_, 7);
  EXPECT_EQ(run(), HADAL_INVALID);
  EXPECT_STREQ(error_.text, "kv_write: row_seq[1] = 7 is outside [0, 1)");
  put(row_seq_, 0);
  put(index_, -3);
  EXPECT_EQ(run(), HADAL_INVALID);
  EXPECT_STREQ(error_.text, "gather_rows: index[1] = -3 is outside [0, 2)");
  put(index_, 1);
  EXPECT_EQ(run(), HADAL_OK) << error_.text;
}

TEST_F(ProgramTest, AStepMustBringWhatTheTapeSays) {
  ASSERT_EQ(prepare(), HADAL_OK) << error_.text;
  const hadal_step sound = step_;
  step_.inputs = memory(64);
  EXPECT_EQ(run(), HADAL_INVALID);
  EXPECT_EQ(std::string(error_.text), "the step brings no inputs of " +
                                          std::to_string(tape_.input_bytes) +
                                          " bytes, as the tape says");
  step_ = sound;
  step_.plane_count = 1;
  EXPECT_EQ(run(), HADAL_INVALID);
  EXPECT_STREQ(error_.text, "kv_write: plane lies in a plane that the step does not bring");
  step_ = sound;
  step_.rows[HADAL_DIM_T] = kRows + 1;
  EXPECT_EQ(run(), HADAL_INVALID);
  EXPECT_STREQ(error_.text, "the step brings 5 rows, the tape's limit is 4");
  step_ = sound;
  EXPECT_EQ(run(), HADAL_OK) << error_.text;
}

TEST_F(ProgramTest, OperandsBeyondTheTapesMemoryAreRefused) {
  tape_.scratch_bytes = 64;
  EXPECT_EQ(prepare(), HADAL_INVALID);
  EXPECT_STREQ(error_.text, "kv_write: x does not lie inside the tape's memory");
}

TEST_F(ProgramTest, AStepWithoutRowsAndAStoppedStep) {
  ASSERT_EQ(prepare(), HADAL_OK) << error_.text;
  for (int64_t& rows : step_.rows) rows = 0;
  EXPECT_EQ(run(), HADAL_OK) << error_.text;
  const volatile int32_t stop = 1;
  step_.stop = &stop;
  EXPECT_EQ(run(), HADAL_STOPPED);
  EXPECT_GT(chip_.program->bytes(program_), 0u);
}

TEST_F(ProgramTest, OptionsAreRefusedByName) {
  chip_.queue_destroy(queue_);
  for (hadal_memory* m : memories_) chip_.mem_free(m);
  memories_.clear();
  queue_ = nullptr;
  chip_.device_close(device_);
  device_ = nullptr;
  EXPECT_EQ(open({{"speed", "9"}}), HADAL_INVALID);
  EXPECT_STREQ(error_.text,
               "opencl has the options largest-mib (1 to 1073741824), split-kib (1 to "
               "1073741824), sub-groups (0 to 1), stats (0 to 1), not \"speed\"");
  EXPECT_EQ(open({{"stats", "2"}}), HADAL_INVALID);
  EXPECT_STREQ(error_.text, "the option stats of opencl is a number from 0 to 1, not \"2\"");
  EXPECT_EQ(open({{"stats", "1x"}}), HADAL_INVALID);
  ASSERT_EQ(open({{"stats", "1"}}), HADAL_OK) << error_.text;
  ASSERT_EQ(prepare(), HADAL_OK) << error_.text;
  EXPECT_EQ(told_,
            "opencl: a program of 3 operators in 1 parts: 1 x items (kv_write + kv_write + "
            "gather_rows)\n");
}

}  // namespace
}  // namespace hadal::opencl
