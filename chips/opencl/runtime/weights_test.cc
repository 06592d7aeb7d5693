// Weights on the first device of this machine: forms with scales against a loop, parts against
// whole ones bit by bit, limits and options in words. Skipped where OpenCL has no device.
#include "runtime/weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>

#include "base/dtype.h"
#include "base/floats.h"
#include "base/quant.h"
#include "runtime/sub_groups.h"

extern "C" hadal_status hadal_chip_query(const hadal_host* host, uint32_t abi, hadal_chip* out);

namespace hadal::opencl {
namespace {

using Bytes = std::vector<std::byte>;
using NameValue = std::pair<const char*, const char*>;

/// A weight as a file holds it, with the numbers that it stands for.
struct File {
  hadal_weight_desc desc{};
  Bytes rows, scales;
  std::vector<float> values;
};

uint32_t next(uint32_t& state) { return (state = state * 1664525u + 1013904223u) >> 8; }

/// Random numbers; scales are powers of two around 1. Decoded here, number by number.
File make_file(uint32_t dtype, int64_t batch, int64_t rows, int64_t cols,
               uint32_t scale_dtype = HADAL_DTYPE_NONE, int64_t block_rows = 0,
               int64_t block_cols = 0) {
  File f;
  f.desc = {sizeof f.desc,
            dtype,
            HADAL_USE_MATMUL | HADAL_USE_GATHER,
            0,
            batch,
            rows,
            cols,
            scale_dtype,
            0,
            block_rows,
            block_cols};
  uint32_t state = 7;
  const int64_t row = *row_bytes(static_cast<DType>(dtype), cols), all = batch * rows;
  f.rows.resize(static_cast<size_t>(all * row));
  for (std::byte& b : f.rows) {
    b = static_cast<std::byte>(next(state));
    if (dtype == HADAL_F8_E4M3 && (b & std::byte{0x7f}) == std::byte{0x7f}) b = std::byte{0x11};
  }
  if (dtype == HADAL_F32)
    for (int64_t i = 0; i < all * cols; ++i) {
      const float v = static_cast<float>(next(state) & 0xffffu) * 0x1p-15f - 1.0f;
      std::memcpy(f.rows.data() + 4 * i, &v, 4);
    }
  const int64_t across = block_cols > 0 ? (cols + block_cols - 1) / block_cols : 0;
  const int64_t down = block_rows > 0 ? (all + block_rows - 1) / block_rows : 0;
  std::vector<float> scale(static_cast<size_t>(across * down));
  f.scales.resize(scale.size() * (scale_dtype == HADAL_F32 ? 4 : 1));
  for (size_t i = 0; i < scale.size(); ++i) {
    const auto code = static_cast<uint8_t>(125 + next(state) % 5);
    scale[i] = e8m0_to_f32(code);
    if (scale_dtype == HADAL_F32)
      std::memcpy(f.scales.data() + 4 * i, &scale[i], 4);
    else
      f.scales[i] = static_cast<std::byte>(code);
  }
  f.values.resize(static_cast<size_t>(all * cols));
  decode_to_f32(static_cast<DType>(dtype), f.rows.data(), all * cols, f.values.data());
  for (int64_t r = 0; r < all && across > 0; ++r)
    for (int64_t c = 0; c < cols; ++c)
      f.values[static_cast<size_t>(r * cols + c)] *=
          scale[static_cast<size_t>(r / block_rows * across + c / block_cols)];
  return f;
}

class WeightsTest : public testing::Test {
 protected:
  void SetUp() override {
    chip_.size = sizeof chip_;
    error_.size = sizeof error_;
    ASSERT_EQ(hadal_chip_query(nullptr, HADAL_ABI, &chip_), HADAL_OK);
    if (chip_.device_count(&chip_) == 0) GTEST_SKIP() << "OpenCL has no device";
  }
  void TearDown() override {
    close();
    chip_.close(&chip_);
  }
  void close() {
    for (hadal_weight* w : weights_) chip_.weight_destroy(w);
    for (hadal_memory* m : memories_) chip_.mem_free(m);
    weights_.clear();
    memories_.clear();
    if (queue_) chip_.queue_destroy(std::exchange(queue_, nullptr));
    if (device_) chip_.device_close(std::exchange(device_, nullptr));
  }
  hadal_status open(const std::vector<NameValue>& given = {}) {
    close();
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
    const hadal_status s = chip_.device_open(&chip_, 0, &options, &device_, &error_);
    return s != HADAL_OK ? s : chip_.queue_create(device_, &queue_, &error_);
  }
  hadal_memory* imported(const Bytes& bytes) {
    hadal_memory* m = nullptr;
    chip_.mem_import(device_, bytes.data(), bytes.size(), &m, &error_);
    memories_.push_back(m);
    return m;
  }
  hadal_weight* load(const File& f) {
    hadal_piece piece{};
    piece.memory = imported(f.rows);
    piece.rows = f.desc.batch * f.desc.rows;
    piece.row_stride = *row_bytes(static_cast<DType>(f.desc.dtype), f.desc.cols);
    if (!f.scales.empty()) {
      piece.scale_memory = imported(f.scales);
      piece.scale_row_stride = (f.desc.cols + f.desc.scale_block_cols - 1) /
                               f.desc.scale_block_cols * (f.desc.scale_dtype == HADAL_F32 ? 4 : 1);
    }
    hadal_weight* w = nullptr;
    EXPECT_EQ(chip_.weight_create(device_, &f.desc, &piece, 1, &w, &error_), HADAL_OK)
        << error_.text;
    weights_.push_back(w);
    return w;
  }

  /// x times every matrix, and that added to itself: x [rows, batch, cols], out [rows, batch, n].
  std::vector<float> multiply(const File& f, const std::vector<float>& x, int64_t rows,
                              bool program) {
    const hadal_weight_desc& d = f.desc;
    hadal_tensor tensors[3]{};
    const int64_t shapes[3][3] = {
        {rows, d.batch, d.cols}, {d.batch, d.rows, d.cols}, {rows, d.batch, d.rows}};
    uint64_t used = 0;
    for (int i = 0; i < 3; ++i) {
      hadal_tensor& t = tensors[i];
      t.rank = 3;
      t.dtype = i == 1 ? d.dtype : uint32_t{HADAL_F32};
      t.space = i == 1 ? HADAL_SPACE_WEIGHT : HADAL_SPACE_SCRATCH;
      t.extents[3] = 1;
      std::copy(shapes[i], shapes[i] + 3, t.extents);
      if (i == 1) {
        t.weight = load(f);
        continue;
      }
      for (int64_t k = 2, stride = 4; k >= 0; stride *= t.extents[k--]) t.strides[k] = stride;
      t.offset = used;
      used += static_cast<uint64_t>(t.extents[0] * t.strides[0] + 63) / 64 * 64;
    }
    hadal_op ops[2]{};
    for (hadal_op& op : ops) {
      op.id = HADAL_OP_MATMUL;
      std::fill(std::begin(op.operands), std::end(op.operands), -1);
      op.operands[HADAL_MATMUL_X] = 0;
      op.operands[HADAL_MATMUL_W] = 1;
      op.operands[HADAL_MATMUL_OUT] = 2;
    }
    ops[1].operands[HADAL_MATMUL_ADD] = 2;
    hadal_tape tape{};
    tape.size = sizeof tape;
    tape.tensors = tensors;
    tape.tensor_count = 3;
    tape.ops = ops;
    tape.op_count = 2;
    for (int64_t& limit : tape.limits) limit = 1;
    tape.scratch_bytes = used;
    hadal_step step{};
    step.size = sizeof step;
    std::fill(std::begin(step.rows), std::end(step.rows), 1);
    EXPECT_EQ(chip_.mem_alloc(device_, used, &step.scratch, &error_), HADAL_OK) << error_.text;
    memories_.push_back(step.scratch);
    EXPECT_EQ(chip_.copy_in(queue_, step.scratch, 0, x.data(), x.size() * 4, &error_), HADAL_OK);
    hadal_program* made = nullptr;
    if (program) {
      EXPECT_EQ(chip_.program->prepare(device_, &tape, &made, &error_), HADAL_OK) << error_.text;
      EXPECT_EQ(chip_.program->run(made, queue_, &step, &error_), HADAL_OK) << error_.text;
    } else {
      EXPECT_EQ(chip_.op_run(queue_, &tape, 0, 2, &step, &error_), HADAL_OK) << error_.text;
    }
    std::vector<float> out(static_cast<size_t>(rows * d.batch * d.rows));
    EXPECT_EQ(chip_.copy_out(queue_, out.data(), step.scratch, tensors[2].offset, out.size() * 4,
                             &error_),
              HADAL_OK);
    EXPECT_EQ(chip_.queue_sync(queue_, &error_), HADAL_OK) << error_.text;
    if (made) chip_.program->destroy(made);
    return out;
  }

  hadal_chip chip_{};
  hadal_error error_{};
  hadal_device* device_ = nullptr;
  hadal_queue* queue_ = nullptr;
  std::vector<hadal_memory*> memories_;
  std::vector<hadal_weight*> weights_;
};

std::vector<float> numbers(int64_t count) {
  std::vector<float> x(static_cast<size_t>(count));
  uint32_t state = 3;
  for (float& v : x) v = static_cast<float>(next(state) & 0xffffu) * 0x1p-15f - 1.0f;
  return x;
}

/// Every form that has scales, whole blocks and not, and one number of each type without.
std::vector<File> files() {
  return {make_file(HADAL_F8_E4M3, 1, 130, 256, HADAL_F32, 128, 128),
          make_file(HADAL_F8_E4M3, 1, 9, 200, HADAL_F8_E8M0, 1, 32),
          make_file(HADAL_F8_E4M3, 2, 5, 20),
          make_file(HADAL_I8, 1, 17, 150, HADAL_F32, 1, 150),
          make_file(HADAL_F4_E2M1, 3, 7, 64, HADAL_F8_E8M0, 1, 32),
          make_file(HADAL_F4_E2M1, 1, 6, 72, HADAL_F8_E8M0, 1, 32),
          make_file(HADAL_F32, 3, 11, 37)};
}

TEST_F(WeightsTest, ProductsAreThoseOfALoop) {
  ASSERT_EQ(open(), HADAL_OK) << error_.text;
  constexpr int64_t kRows = 3;
  for (const File& f : files()) {
    const hadal_weight_desc& d = f.desc;
    const std::vector<float> x = numbers(kRows * d.batch * d.cols);
    const std::vector<float> out = multiply(f, x, kRows, false);
    for (int64_t i = 0; i < kRows * d.batch * d.rows; ++i) {
      const int64_t xi = i / d.rows * d.cols, matrix = i / d.rows % d.batch;
      const int64_t wi = (matrix * d.rows + i % d.rows) * d.cols;
      double sum = 0, size = 0;
      for (int64_t c = 0; c < d.cols; ++c) {
        const double p = static_cast<double>(x[static_cast<size_t>(xi + c)]) *
                         static_cast<double>(f.values[static_cast<size_t>(wi + c)]);
        sum += 2 * p;
        size += std::fabs(2 * p);
      }
      ASSERT_NEAR(static_cast<double>(out[static_cast<size_t>(i)]), sum, 1e-6 * size + 1e-30)
          << dtype_name(static_cast<DType>(d.dtype)) << ", number " << i;
    }
  }
}

TEST_F(WeightsTest, PartsHaveTheBitsOfTheWhole) {
  for (const File& f : files()) {
    const std::vector<float> x = numbers(2 * f.desc.batch * f.desc.cols);
    std::vector<std::vector<float>> found;
    for (const char* kib : {"1000", "1", "2"})
      for (const bool program : {false, true}) {
        ASSERT_EQ(open({{"split-kib", kib}}), HADAL_OK) << error_.text;
        found.push_back(multiply(f, x, 2, program));
      }
    const Weight& parts = weight_of(weights_.back());
    EXPECT_EQ(parts.parts.size() > 1, parts.bytes > 2048);
    for (const std::vector<float>& other : found)
      EXPECT_EQ(std::memcmp(other.data(), found[0].data(), other.size() * 4), 0)
          << dtype_name(static_cast<DType>(f.desc.dtype));
  }
}

TEST_F(WeightsTest, ASmallDeviceRefusesInWords) {
  ASSERT_EQ(open({{"largest-mib", "1"}}), HADAL_OK) << error_.text;
  hadal_device_info info{};
  info.size = sizeof info;
  chip_.device_info(device_, &info);
  EXPECT_EQ(info.largest_allocation, uint64_t{1} << 20);
  hadal_memory* m = nullptr;
  EXPECT_EQ(chip_.mem_alloc(device_, (1 << 20) + 1, &m, &error_), HADAL_OUT_OF_MEMORY);
  EXPECT_NE(std::strstr(error_.text, "1048576"), nullptr) << error_.text;
  EXPECT_NE(std::strstr(error_.text, "smaller context"), nullptr) << error_.text;
  hadal_weight_desc d = make_file(HADAL_F32, 1, 1, 1).desc;
  uint64_t bytes = 0;
  d.rows = 3;
  d.cols = 1 << 18;  // rows of 1 MiB
  EXPECT_EQ(chip_.weight_bytes(device_, &d, &bytes, &error_), HADAL_OK) << error_.text;
  d.cols += 1;
  EXPECT_EQ(chip_.weight_bytes(device_, &d, &bytes, &error_), HADAL_UNSUPPORTED);
  EXPECT_NE(std::strstr(error_.text, "another device"), nullptr) << error_.text;
}

TEST_F(WeightsTest, OptionsAreNamed) {
  for (const NameValue& wrong :
       {NameValue{"split-kib", "0"}, {"split-kib", "1k"}, {"spilt", "1"}}) {
    EXPECT_EQ(open({wrong}), HADAL_INVALID);
    EXPECT_NE(std::strstr(error_.text, "split-kib"), nullptr) << error_.text;
  }
}

// The builds for sub-groups are only known to compile; whether a build is used is decided by its
// bits.
TEST_F(WeightsTest, ABuildWithOtherSumsIsNotUsed) {
  ASSERT_EQ(open(), HADAL_OK) << error_.text;
  Device& device = *device_of(device_);
  EXPECT_TRUE(same_trees(device, "-cl-std=CL1.2 -DOTHER_NAME_OF_THE_SAME"));
  EXPECT_FALSE(same_trees(device, "-cl-std=CL1.2 -DSUM_OF_TWO=fmin"));
  EXPECT_FALSE(same_trees(device, "-cl-std=CL1.2 -DSUB_GROUPS_THAT_DO_NOT_COMPILE -Dbarrier=none"));
  EXPECT_EQ(find_sub_groups(device, "cl_khr_fp64 cl_khr_subgroups", "OpenCL C 1.2 x"), "");
}

}  // namespace
}  // namespace hadal::opencl
