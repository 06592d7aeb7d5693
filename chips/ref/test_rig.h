// One operator of the chip `ref`, run on operands given as vectors. For the tests of this folder.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "base/builtin_chips.h"
#include "base/dtype.h"
#include "contract/operators.h"
#include "hadal/chip.h"

namespace hadal::ref {

class Rig {
 public:
  /// `kernels`: a kernel table; null: the default.
  explicit Rig(hadal_op_id id, const char* kernels = nullptr) {
    chip.size = sizeof chip;
    hadal_ref_chip_query(nullptr, HADAL_ABI, &chip);
    hadal_device_options options{};
    options.size = sizeof options;
    options.kernels = kernels;
    chip.device_open(&chip, 0, &options, &device, &error);
    chip.queue_create(device, &queue, &error);
    chip.mem_alloc(device, kBytes, &memory, &error);
    op.id = id;
    for (int32_t& operand : op.operands) operand = -1;
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;
  ~Rig() {
    for (hadal_weight* w : weights_) chip.weight_destroy(w);
    for (hadal_memory* m : imports_) chip.mem_free(m);
    chip.mem_free(memory);
    chip.queue_destroy(queue);
    chip.device_close(device);
    chip.close(&chip);
  }

  /// An operand with its values; for outputs the values that stand there before.
  template <typename T>
  void set(uint32_t operand, std::initializer_list<int64_t> shape, const std::vector<T>& values,
           hadal_dtype dtype) {
    hadal_tensor t = tensor(shape, dtype, HADAL_SPACE_SCRATCH);
    int64_t stride = static_cast<int64_t>(sizeof(T));
    for (uint32_t d = t.rank; d-- > 0;) {
      t.strides[d] = stride;
      stride *= t.extents[d];
    }
    t.offset = used_;
    if (!values.empty()) std::memcpy(at(t.offset), values.data(), values.size() * sizeof(T));
    used_ += (static_cast<uint64_t>(stride) + 63) / 64 * 64;
    put(operand, t);
  }
  void f32(uint32_t operand, std::initializer_list<int64_t> shape,
           const std::vector<float>& values) {
    set(operand, shape, values, HADAL_F32);
  }
  void i32(uint32_t operand, std::initializer_list<int64_t> shape,
           const std::vector<int32_t>& values) {
    set(operand, shape, values, HADAL_I32);
  }
  /// The memory of `operand` again.
  void alias(uint32_t operand, uint32_t of) { op.operands[operand] = op.operands[of]; }

  /// A weight of one piece. `bytes` must outlive the rig.
  template <typename T>
  void weight(uint32_t operand, std::initializer_list<int64_t> shape, const std::vector<T>& data,
              hadal_dtype dtype) {
    hadal_tensor t = tensor(shape, dtype, HADAL_SPACE_WEIGHT);
    hadal_weight_desc desc{};
    desc.size = sizeof desc;
    desc.dtype = dtype;
    desc.uses = contract::operand_use(op.id, operand);
    desc.uses = contract::operand_use(op.id, operand);
    desc.keeps_source = 1;
    desc.batch = t.rank == 3 ? t.extents[0] : 1;
    desc.rows = t.rank == 1 ? 1 : t.extents[t.rank - 2];
    desc.cols = t.extents[t.rank - 1];
    hadal_piece piece{};
    piece.memory = import(data);
    piece.rows = desc.batch * desc.rows;
    piece.row_stride = *row_bytes(dtype, desc.cols);
    chip.weight_create(device, &desc, &piece, 1, &t.weight, &error);
    weights_.push_back(t.weight);
    put(operand, t);
  }
  template <typename T>
  hadal_memory* import(const std::vector<T>& data) {
    hadal_memory* m = nullptr;
    chip.mem_import(device, data.data(), data.size() * sizeof(T), &m, &error);
    imports_.push_back(m);
    return m;
  }

  /// What the chip answers to op_support. HADAL_NUMERICS_UNSAID: a no.
  hadal_op_answer support() {
    hadal_tensor operands[HADAL_MAX_OPERANDS] = {};
    for (size_t i = 0; i < HADAL_MAX_OPERANDS; ++i)
      if (op.operands[i] >= 0) operands[i] = tensors[static_cast<size_t>(op.operands[i])];
    const int64_t limits[HADAL_DIM_COUNT] = {1, 1, 1, 1, 1};
    hadal_op_answer answer{};
    answer.size = sizeof answer;
    error.size = sizeof error;
    error.text[0] = '\0';
    chip.op_support(device, &op, operands, limits, &answer, &error);
    return answer;
  }
  hadal_status run() {
    hadal_tape tape{};
    tape.size = sizeof tape;
    tape.tensor_count = static_cast<uint32_t>(tensors.size());
    tape.tensors = tensors.data();
    tape.op_count = 1;
    tape.ops = &op;
    for (int64_t& limit : tape.limits) limit = 1;
    hadal_step step{};
    step.size = sizeof step;
    for (int64_t& rows : step.rows) rows = 1;
    step.scratch = memory;
    error.size = sizeof error;
    error.text[0] = '\0';
    return chip.op_run(queue, &tape, 0, 1, &step, &error);
  }

  template <typename T>
  std::vector<T> get(uint32_t operand) {
    const hadal_tensor& t = tensors[static_cast<size_t>(op.operands[operand])];
    int64_t count = 1;
    for (uint32_t d = 0; d < t.rank; ++d) count *= t.extents[d];
    std::vector<T> values(static_cast<size_t>(count));
    if (count != 0) std::memcpy(values.data(), at(t.offset), values.size() * sizeof(T));
    return values;
  }
  std::vector<float> floats(uint32_t operand) { return get<float>(operand); }
  hadal_tensor& operator[](uint32_t operand) {
    return tensors[static_cast<size_t>(op.operands[operand])];
  }
  void put(uint32_t operand, const hadal_tensor& t) {
    op.operands[operand] = static_cast<int32_t>(tensors.size());
    tensors.push_back(t);
  }
  static hadal_tensor tensor(std::initializer_list<int64_t> shape, hadal_dtype dtype,
                             hadal_space space) {
    hadal_tensor t{};
    t.dtype = dtype;
    t.space = space;
    for (int64_t& e : t.extents) e = 1;
    for (const int64_t e : shape) t.extents[t.rank++] = e;
    return t;
  }

  hadal_chip chip{};
  hadal_device* device = nullptr;
  hadal_queue* queue = nullptr;
  hadal_memory* memory = nullptr;
  hadal_op op{};
  std::vector<hadal_tensor> tensors;
  hadal_error error{};

 private:
  static constexpr uint64_t kBytes = uint64_t{64} << 20;
  std::byte* at(uint64_t offset) { return static_cast<std::byte*>(chip.mem_host(memory)) + offset; }
  uint64_t used_ = 0;
  std::vector<hadal_weight*> weights_;
  std::vector<hadal_memory*> imports_;
};

inline float ln(double x) { return static_cast<float>(std::log(x)); }

/// Computed in another order, each number is off by an ulp or two.
inline void expect_near(const std::vector<float>& found, const std::vector<double>& wanted) {
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(static_cast<double>(found[i]), wanted[i],
                2e-7 * std::max(1.0, std::fabs(wanted[i])))
        << i;
}

/// Numbers between -1 and 1 that look random and never change.
inline std::vector<float> numbers(size_t count, uint32_t seed) {
  std::vector<float> values(count);
  for (float& v : values) {
    seed = seed * 1664525u + 1013904223u;
    v = static_cast<float>(static_cast<int32_t>(seed)) * 0x1p-31f;
  }
  return values;
}

}  // namespace hadal::ref
