// Hosts that know other sizes than today's, with today's chips: one of contract 1.0, and one of a
// later minor whose structs are longer. Each opens a device and multiplies, over the raw table.
// Behind what the older host knows lies garbage, which nobody may read or write.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "base/builtin_chips.h"

namespace hadal {
namespace {

constexpr int64_t kRows = 3, kIn = 64, kOut = 32;

/// What a host knows of each struct, and the version that it says.
struct Sizes {
  const char* name;
  uint32_t abi, answered;  ///< the chip's answer: the highest minor that both know
  size_t host, chip, options, info, step;
};

constexpr Sizes kOld = {"contract 1.0",
                        1U << 16,
                        1U << 16,
                        offsetof(hadal_host, query_error),
                        offsetof(hadal_chip, op_support),
                        offsetof(hadal_device_options, numerics),
                        offsetof(hadal_device_info, kernels_version),
                        offsetof(hadal_step, host_inputs)};
constexpr Sizes kNewer = {"a later minor",
                          HADAL_ABI + 1,
                          HADAL_ABI,
                          sizeof(hadal_host) + 32,
                          sizeof(hadal_chip) + 128,
                          sizeof(hadal_device_options) + 64,
                          sizeof(hadal_device_info) + 256,
                          sizeof(hadal_step) + 64};

/// A struct of which the host knows `size` bytes; behind them stands 0xA5.
template <typename T>
class Known {
 public:
  explicit Known(size_t size) : size_(size), bytes_(size, 0) {
    bytes_.resize(std::max(size, sizeof(T)) + 64, 0xa5);
    get().size = static_cast<uint32_t>(size);
  }
  T& get() { return *reinterpret_cast<T*>(bytes_.data()); }
  T* operator->() { return &get(); }
  /// Nothing was written behind what the host knows, nor into what only it knows.
  [[nodiscard]] bool kept() const {
    for (size_t i = sizeof(T); i < size_; ++i)
      if (bytes_[i] != 0) return false;
    for (size_t i = size_; i < bytes_.size(); ++i)
      if (bytes_[i] != 0xa5) return false;
    return true;
  }

 private:
  size_t size_;
  std::vector<unsigned char> bytes_;
};

hadal_chip_query_fn find_query(const std::string& chip) {
  if (chip == "ref") return &hadal_ref_chip_query;
  if (chip == "cpu") return &hadal_cpu_chip_query;
  void* library = ::dlopen(chip.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  return library ? reinterpret_cast<hadal_chip_query_fn>(::dlsym(library, "hadal_chip_query"))
                 : nullptr;
}

/// -1, 0 and 1, of which products are exact in every class.
std::vector<float> numbers(int64_t count, int64_t step) {
  std::vector<float> out(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    out[static_cast<size_t>(i)] = static_cast<float>((i * step + i / 7) % 3 - 1);
  return out;
}

hadal_tensor tensor(uint32_t space, uint32_t row_dim, int64_t rows, int64_t cols) {
  hadal_tensor t{};
  t.dtype = HADAL_F32;
  t.space = space;
  t.rank = 2;
  t.row_dim = row_dim;
  t.extents[0] = rows;
  t.extents[1] = cols;
  t.extents[2] = t.extents[3] = 1;
  if (space != HADAL_SPACE_WEIGHT) {
    t.strides[1] = sizeof(float);
    t.strides[0] = cols * t.strides[1];
  }
  return t;
}

class OtherHosts : public ::testing::TestWithParam<std::tuple<const char*, const Sizes*>> {
 protected:
  OtherHosts()
      : sizes_(*std::get<1>(GetParam())),
        host_(sizes_.host),
        table_(sizes_.chip),
        options_(sizes_.options),
        info_(sizes_.info),
        step_(sizes_.step) {
    error_.size = sizeof error_;
    host_->log = [](void*, uint32_t, const char*) {};
  }

  void open();
  hadal_weight* make_weight(const std::vector<float>& values);
  void multiply(hadal_weight* weight, const std::vector<float>& x, std::vector<float>& y);

  const Sizes& sizes_;
  Known<hadal_host> host_;
  Known<hadal_chip> table_;
  Known<hadal_device_options> options_;
  Known<hadal_device_info> info_;
  Known<hadal_step> step_;
  hadal_device* device_ = nullptr;
  hadal_queue* queue_ = nullptr;
  hadal_memory *imported_ = nullptr, *imported_scales_ = nullptr;
  uint32_t dtype_ = HADAL_F32;  ///< of the weight
  std::vector<unsigned char> stored_;
  std::vector<float> scales_ = std::vector<float>(kOut, 1.0F);
  hadal_error error_{};
};

void OtherHosts::open() {
  const hadal_chip_query_fn query = find_query(std::get<0>(GetParam()));
  ASSERT_NE(query, nullptr);
  ASSERT_EQ(query(&host_.get(), sizes_.abi, &table_.get()), HADAL_OK);
  EXPECT_TRUE(table_.kept());
  EXPECT_EQ(table_->abi, sizes_.answered);
  EXPECT_EQ(table_->size, sizes_.chip);
  hadal_chip& chip = table_.get();
  options_->threads = 1;
  ASSERT_EQ(chip.device_open(&chip, 0, &options_.get(), &device_, &error_), HADAL_OK)
      << error_.text;
  ASSERT_EQ(chip.queue_create(device_, &queue_, &error_), HADAL_OK) << error_.text;
  ASSERT_EQ(chip.device_info(device_, &info_.get()), HADAL_OK);
  EXPECT_TRUE(info_.kept());
  EXPECT_EQ(info_->size, sizes_.info);
  EXPECT_NE(info_->name[0], '\0');
}

/// -1, 0 or 1 as a type that a chip may take: their bytes.
std::vector<unsigned char> stored_as(uint32_t dtype, const std::vector<float>& values) {
  std::vector<unsigned char> out;
  for (const float value : values) {
    if (dtype == HADAL_I8) {
      out.push_back(static_cast<unsigned char>(static_cast<signed char>(value)));
      continue;
    }
    unsigned char bytes[sizeof(float)];
    std::memcpy(bytes, &value, sizeof value);
    out.insert(out.end(), dtype == HADAL_BF16 ? bytes + 2 : bytes, bytes + sizeof value);
  }
  return out;
}

hadal_weight* OtherHosts::make_weight(const std::vector<float>& values) {
  hadal_chip& chip = table_.get();
  hadal_weight_desc desc{};
  desc.size = sizeof desc;
  desc.uses = HADAL_USE_MATMUL;
  desc.keeps_source = 1;
  desc.batch = 1;
  desc.rows = kOut;
  desc.cols = kIn;
  // The first that the chip takes: a host of 1.0 asks by weight_bytes, having no weight_forms.
  for (const uint32_t dtype : {HADAL_F32, HADAL_BF16, HADAL_I8}) {
    desc.dtype = dtype_ = dtype;
    if (dtype == HADAL_I8) {
      desc.scale_dtype = HADAL_F32;
      desc.scale_block_rows = 1;
      desc.scale_block_cols = kIn;
    }
    uint64_t bytes = 0;
    if (chip.weight_bytes(device_, &desc, &bytes, &error_) == HADAL_OK) break;
  }
  stored_ = stored_as(dtype_, values);
  EXPECT_EQ(chip.mem_import(device_, stored_.data(), stored_.size(), &imported_, &error_),
            HADAL_OK);
  EXPECT_EQ(chip.mem_import(device_, scales_.data(), scales_.size() * sizeof(float),
                            &imported_scales_, &error_),
            HADAL_OK);
  hadal_piece piece{};
  piece.memory = imported_;
  piece.rows = kOut;
  piece.row_stride = static_cast<int64_t>(stored_.size()) / kOut;
  if (dtype_ == HADAL_I8) {
    piece.scale_memory = imported_scales_;
    piece.scale_row_stride = sizeof(float);
  }
  hadal_weight* weight = nullptr;
  EXPECT_EQ(chip.weight_create(device_, &desc, &piece, 1, &weight, &error_), HADAL_OK)
      << error_.text;
  return weight;
}

void OtherHosts::multiply(hadal_weight* weight, const std::vector<float>& x,
                          std::vector<float>& y) {
  hadal_chip& chip = table_.get();
  hadal_tensor tensors[HADAL_MAX_OPERANDS] = {};
  tensors[HADAL_MATMUL_X] = tensor(HADAL_SPACE_INPUT, HADAL_DIM_T, 1, kIn);
  tensors[HADAL_MATMUL_W] = tensor(HADAL_SPACE_WEIGHT, HADAL_DIM_CONST, kOut, kIn);
  tensors[HADAL_MATMUL_W].dtype = dtype_;
  tensors[HADAL_MATMUL_OUT] = tensor(HADAL_SPACE_OUTPUT, HADAL_DIM_T, 1, kOut);
  hadal_op op{};
  op.id = HADAL_OP_MATMUL;
  for (int32_t& operand : op.operands) operand = -1;
  for (const int32_t operand : {HADAL_MATMUL_X, HADAL_MATMUL_W, HADAL_MATMUL_OUT})
    op.operands[operand] = operand;
  hadal_tape tape{};
  tape.size = sizeof tape;
  tape.tensor_count = HADAL_MATMUL_OPERANDS;
  tape.op_count = 1;
  tape.tensors = tensors;
  tape.ops = &op;
  tape.limits[HADAL_DIM_CONST] = 1;
  tape.limits[HADAL_DIM_T] = kRows;
  tape.input_bytes = x.size() * sizeof(float);
  tape.output_bytes = y.size() * sizeof(float);
  uint64_t workspace = 0;
  ASSERT_EQ(chip.op_query(device_, &op, tensors, tape.limits, &workspace, &error_), HADAL_OK)
      << error_.text;
  tensors[HADAL_MATMUL_W].weight = weight;
  step_->rows[HADAL_DIM_CONST] = 1;
  step_->rows[HADAL_DIM_T] = kRows;
  const std::pair<hadal_memory**, uint64_t> memories[] = {{&step_->inputs, tape.input_bytes},
                                                          {&step_->outputs, tape.output_bytes},
                                                          {&step_->scratch, 64},
                                                          {&step_->workspace, workspace}};
  for (const auto& [memory, bytes] : memories)
    ASSERT_EQ(chip.mem_alloc(device_, bytes, memory, &error_), HADAL_OK) << error_.text;
  ASSERT_EQ(chip.copy_in(queue_, step_->inputs, 0, x.data(), tape.input_bytes, &error_), HADAL_OK);
  ASSERT_EQ(chip.op_run(queue_, &tape, 0, 1, &step_.get(), &error_), HADAL_OK) << error_.text;
  ASSERT_EQ(chip.copy_out(queue_, y.data(), step_->outputs, 0, tape.output_bytes, &error_),
            HADAL_OK);
  ASSERT_EQ(chip.queue_sync(queue_, &error_), HADAL_OK) << error_.text;
  for (const auto& [memory, bytes] : memories) chip.mem_free(*memory);
}

TEST_P(OtherHosts, OpenADeviceAndMultiply) {
  open();
  if (HasFatalFailure()) return;
  const std::vector<float> x = numbers(kRows * kIn, 5), w = numbers(kOut * kIn, 11);
  std::vector<float> y(kRows * kOut, NAN);
  hadal_weight* weight = make_weight(w);
  ASSERT_NE(weight, nullptr);
  multiply(weight, x, y);
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t n = 0; n < kOut; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < kIn; ++k)
        sum += double{x[static_cast<size_t>(row * kIn + k)]} * w[static_cast<size_t>(n * kIn + k)];
      EXPECT_NEAR(y[static_cast<size_t>(row * kOut + n)], sum, 1e-4) << row << " " << n;
    }
  hadal_chip& chip = table_.get();
  chip.weight_destroy(weight);
  chip.mem_free(imported_);
  chip.mem_free(imported_scales_);
  chip.queue_destroy(queue_);
  chip.device_close(device_);
  chip.close(&chip);
  EXPECT_TRUE(host_.kept() && options_.kept() && step_.kept() && info_.kept() && table_.kept());
}

std::string name_of(const ::testing::TestParamInfo<OtherHosts::ParamType>& info) {
  static const char* const names[] = {"ref", "cpu", "apart_half", "apart_row8"};
  return std::string(names[info.index / 2]) +
         (std::get<1>(info.param) == &kOld ? "_1_0" : "_newer");
}

INSTANTIATE_TEST_SUITE_P(Chips, OtherHosts,
                         ::testing::Combine(::testing::Values("ref", "cpu", HADAL_APART_HALF,
                                                              HADAL_APART_ROW8),
                                            ::testing::Values(&kOld, &kNewer)),
                         name_of);

}  // namespace
}  // namespace hadal
