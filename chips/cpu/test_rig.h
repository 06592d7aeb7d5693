// A tape on a device of the cpu chip, built by hand. For the tests and the benchmark of this
// folder.
#pragma once

#include <cmath>
#include <cstring>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "base/builtin_chips.h"
#include "base/dtype.h"
#include "base/quant.h"
#include "hadal/chip.h"

namespace hadal::cpu::testing {

/// Numbers that look random and never change.
class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed * 2654435761u + 12345u) {}
  uint32_t bits() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_;
  }
  /// In (-1, 1).
  float number() { return static_cast<float>(static_cast<int32_t>(bits())) * 0x1p-31f; }
  std::vector<float> numbers(int64_t n, float scale = 1.0f) {
    std::vector<float> v(static_cast<size_t>(n));
    for (float& x : v) x = number() * scale;
    return v;
  }

 private:
  uint32_t state_;
};

/// Bytes of rows x cols values of any type, whose numbers are finite and of ordinary size.
inline std::vector<std::byte> random_weights(DType dtype, int64_t rows, int64_t cols,
                                             uint32_t seed) {
  static const std::map<uint32_t, std::vector<size_t>> halves = {
      {HADAL_F16, {0}},     {HADAL_Q4_0, {0}},    {HADAL_Q4_1, {0, 2}}, {HADAL_Q5_0, {0}},
      {HADAL_Q5_1, {0, 2}}, {HADAL_Q8_0, {0}},    {HADAL_Q8_1, {0, 2}}, {HADAL_Q2_K, {80, 82}},
      {HADAL_Q3_K, {108}},  {HADAL_Q4_K, {0, 2}}, {HADAL_Q5_K, {0, 2}}, {HADAL_Q6_K, {208}},
      {HADAL_IQ2_XXS, {0}}, {HADAL_IQ2_XS, {0}},  {HADAL_IQ3_XXS, {0}}, {HADAL_IQ1_S, {0}},
      {HADAL_IQ4_NL, {0}},  {HADAL_IQ3_S, {0}},   {HADAL_IQ2_S, {0}},   {HADAL_IQ4_XS, {0}},
      {HADAL_TQ1_0, {52}},  {HADAL_TQ2_0, {64}}};
  const DTypeInfo& info = *dtype_info(dtype);
  const auto size = static_cast<size_t>(info.block_bytes);
  std::vector<std::byte> bytes(static_cast<size_t>(rows * cols / info.block_values) * size);
  std::vector<float> values(static_cast<size_t>(info.block_values));
  Random random(seed);
  for (size_t at = 0; at < bytes.size(); at += size) {
    for (int tries = 0; tries < 1000; ++tries) {
      for (size_t i = 0; i < size; ++i) bytes[at + i] = static_cast<std::byte>(random.bits() >> 11);
      if (const auto it = halves.find(dtype); it != halves.end())
        for (const size_t h : it->second)  // f16 between 2^-6 and 2^-5 in size
          bytes[at + h + 1] =
              static_cast<std::byte>(0x24 | (static_cast<unsigned>(bytes[at + h + 1]) & 0x83));
      if (dtype == HADAL_F32 || dtype == HADAL_Q8_K) {
        const float x = random.number();
        std::memcpy(&bytes[at], &x, 4);
      }
      if (dtype == HADAL_BF16) {
        const float x = random.number();
        std::memcpy(&bytes[at], reinterpret_cast<const std::byte*>(&x) + 2, 2);
      }
      if (dtype == HADAL_F64) {
        const double x = static_cast<double>(random.number());
        std::memcpy(&bytes[at], &x, 8);
      }
      if (dtype == HADAL_MXFP4) bytes[at] = static_cast<std::byte>(120 + random.bits() % 8);
      decode_to_f32(dtype, &bytes[at], info.block_values, values.data());
      bool good = true;
      for (const float v : values)
        good = good && std::isfinite(v) && (std::fabs(v) < 1e4f || info.block_values == 1) &&
               std::fabs(v) < 1e20f;
      if (good) break;
    }
  }
  return bytes;
}

/// Block scales of a weight.
struct Scales {
  hadal_dtype dtype = HADAL_DTYPE_NONE;
  int64_t block_rows = 0, block_cols = 0;
  const std::vector<std::byte>* data = nullptr;
};

class Rig {
 public:
  explicit Rig(int threads = 1, const char* kernels = nullptr,
               hadal_chip_query_fn query = hadal_cpu_chip_query) {
    chip.size = sizeof chip;
    error.size = sizeof error;
    query(nullptr, HADAL_ABI, &chip);
    hadal_device_options options{sizeof options, threads, kernels};
    opened = chip.device_open(&chip, 0, &options, &device, &error) == HADAL_OK;
    if (!opened) return;
    chip.queue_create(device, &queue, &error);
    for (int64_t& limit : limits) limit = 1;
    for (int64_t& r : rows) r = 1;
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;
  ~Rig() {
    if (!opened) return;
    for (hadal_weight* w : weights_) chip.weight_destroy(w);
    for (hadal_memory* m : memories_) chip.mem_free(m);
    chip.queue_destroy(queue);
    chip.device_close(device);
  }

  /// A tensor with values; the first extent is multiplied by `dim`'s rows. Returns its index.
  template <typename T>
  int32_t tensor(hadal_space space, hadal_dtype dtype, std::vector<int64_t> shape,
                 const std::vector<T>& values, hadal_dim dim = HADAL_DIM_CONST) {
    hadal_tensor t = blank(dtype, space, shape);
    t.row_dim = dim;
    int64_t stride = static_cast<int64_t>(sizeof(T));
    for (uint32_t d = t.rank; d-- > 0;) {
      t.strides[d] = stride;
      stride *= std::max<int64_t>(1, t.extents[d]);
    }
    std::vector<std::byte>& arena = arenas[space];
    t.offset = arena.size();
    const size_t bytes =
        std::max(values.size() * sizeof(T), static_cast<size_t>(stride * limits[dim]));
    arena.resize(arena.size() + (bytes + 63) / 64 * 64 + 64);
    if (!values.empty())
      std::memcpy(arena.data() + t.offset, values.data(), values.size() * sizeof(T));
    tensors.push_back(t);
    return static_cast<int32_t>(tensors.size()) - 1;
  }
  int32_t f32(std::vector<int64_t> shape, const std::vector<float>& values = {},
              hadal_dim dim = HADAL_DIM_CONST, hadal_space space = HADAL_SPACE_SCRATCH) {
    return tensor(space, HADAL_F32, std::move(shape), values, dim);
  }
  int32_t i32(std::vector<int64_t> shape, const std::vector<int32_t>& values,
              hadal_dim dim = HADAL_DIM_CONST, hadal_space space = HADAL_SPACE_INPUT) {
    return tensor(space, HADAL_I32, std::move(shape), values, dim);
  }
  /// A plane of its own, filled with zeros.
  int32_t plane(hadal_dtype dtype, std::vector<int64_t> shape) {
    hadal_tensor t = blank(dtype, HADAL_SPACE_PLANE, shape);
    int64_t stride = dtype_info(dtype)->block_bytes;
    for (uint32_t d = t.rank; d-- > 0;) {
      t.strides[d] = stride;
      stride *= t.extents[d];
    }
    t.index = static_cast<uint32_t>(planes.size());
    hadal_memory* m = nullptr;
    chip.mem_alloc(device, static_cast<uint64_t>(stride), &m, &error);
    memories_.push_back(m);
    planes.push_back(m);
    tensors.push_back(t);
    return static_cast<int32_t>(tensors.size()) - 1;
  }
  /// A weight of one piece; `data` must outlive the rig if keeps_source. -1 if it was refused.
  int32_t weight(hadal_dtype dtype, std::vector<int64_t> shape, const std::vector<std::byte>& data,
                 uint32_t uses, bool keeps_source = true, const Scales& scales = {}) {
    hadal_tensor t = blank(dtype, HADAL_SPACE_WEIGHT, shape);
    hadal_weight_desc desc{};
    desc.size = sizeof desc;
    desc.dtype = dtype;
    desc.uses = uses;
    desc.keeps_source = keeps_source ? 1 : 0;
    desc.batch = t.rank == 3 ? t.extents[0] : 1;
    desc.rows = t.rank == 1 ? 1 : t.extents[t.rank - 2];
    desc.cols = t.extents[t.rank - 1];
    hadal_piece piece{};
    piece.memory = import(data);
    piece.rows = desc.batch * desc.rows;
    piece.row_stride = *row_bytes(dtype, desc.cols);
    if (scales.data) {
      desc.scale_dtype = scales.dtype;
      desc.scale_block_rows = scales.block_rows;
      desc.scale_block_cols = scales.block_cols;
      piece.scale_memory = import(*scales.data);
      piece.scale_row_stride =
          *row_bytes(scales.dtype, (desc.cols + scales.block_cols - 1) / scales.block_cols);
    }
    status = chip.weight_create(device, &desc, &piece, 1, &t.weight, &error);
    if (status != HADAL_OK) return -1;
    weights_.push_back(t.weight);
    tensors.push_back(t);
    return static_cast<int32_t>(tensors.size()) - 1;
  }
  int32_t vector(const std::vector<float>& values) {
    std::vector<std::byte> bytes(values.size() * 4);
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return weight(HADAL_F32, {static_cast<int64_t>(values.size())}, bytes, HADAL_USE_VECTOR, false);
  }
  hadal_op& op(hadal_op_id id, std::initializer_list<int32_t> operands) {
    hadal_op o{};
    o.id = id;
    std::fill(o.operands, o.operands + HADAL_MAX_OPERANDS, -1);
    std::copy(operands.begin(), operands.end(), o.operands);
    ops.push_back(o);
    return ops.back();
  }

  hadal_tape tape() {
    hadal_tape t{};
    t.size = sizeof t;
    t.tensor_count = static_cast<uint32_t>(tensors.size());
    t.op_count = static_cast<uint32_t>(ops.size());
    t.tensors = tensors.data();
    t.ops = ops.data();
    std::copy(limits, limits + HADAL_DIM_COUNT, t.limits);
    t.scratch_bytes = arenas[HADAL_SPACE_SCRATCH].size();
    t.input_bytes = arenas[HADAL_SPACE_INPUT].size();
    t.output_bytes = arenas[HADAL_SPACE_OUTPUT].size();
    t.plane_count = static_cast<uint32_t>(planes.size());
    return t;
  }
  hadal_step step() {
    hadal_step s{};
    s.size = sizeof s;
    s.plane_count = static_cast<uint32_t>(planes.size());
    std::copy(rows, rows + HADAL_DIM_COUNT, s.rows);
    s.scratch = import(arenas[HADAL_SPACE_SCRATCH]);
    s.inputs = import(arenas[HADAL_SPACE_INPUT]);
    s.outputs = import(arenas[HADAL_SPACE_OUTPUT]);
    s.planes = planes.data();
    s.stop = stop;
    return s;
  }
  /// All ops, one op_run each, or as a program.
  hadal_status run(bool program) {
    const hadal_tape t = tape();
    hadal_step s = step();
    if (program) {
      hadal_program* p = nullptr;
      status = chip.program->prepare(device, &t, &p, &error);
      if (status == HADAL_OK) status = chip.program->run(p, queue, &s, &error);
      if (p) chip.program->destroy(p);
      return status;
    }
    status = HADAL_OK;
    for (uint32_t i = 0; i < t.op_count && status == HADAL_OK; ++i) {
      hadal_tensor operands[HADAL_MAX_OPERANDS] = {};
      for (uint32_t j = 0; j < HADAL_MAX_OPERANDS; ++j)
        if (ops[i].operands[j] >= 0) operands[j] = tensors[static_cast<size_t>(ops[i].operands[j])];
      uint64_t workspace = 0;
      status = chip.op_query(device, &ops[i], operands, limits, &workspace, &error);
      if (status != HADAL_OK) return status;
      hadal_memory* m = nullptr;
      chip.mem_alloc(device, workspace, &m, &error);
      s.workspace = m;
      status = chip.op_run(queue, &t, i, 1, &s, &error);
      chip.mem_free(m);
    }
    return status;
  }

  template <typename T>
  T* at(int32_t index) {
    const hadal_tensor& t = tensors[static_cast<size_t>(index)];
    if (t.space == HADAL_SPACE_PLANE) return static_cast<T*>(chip.mem_host(planes[t.index]));
    return reinterpret_cast<T*>(arenas[t.space].data() + t.offset);
  }
  template <typename T>
  std::vector<T> get(int32_t index) {
    const hadal_tensor& t = tensors[static_cast<size_t>(index)];
    int64_t n = rows[t.row_dim];
    for (uint32_t d = 0; d < t.rank; ++d) n *= t.extents[d];
    return std::vector<T>(at<T>(index), at<T>(index) + n);
  }

  hadal_chip chip{};
  hadal_device* device = nullptr;
  hadal_queue* queue = nullptr;
  bool opened = false;
  hadal_error error{};
  hadal_status status = HADAL_OK;
  std::vector<hadal_tensor> tensors;
  std::vector<hadal_op> ops;
  std::map<uint32_t, std::vector<std::byte>> arenas;
  std::vector<hadal_memory*> planes;
  int64_t limits[HADAL_DIM_COUNT];
  int64_t rows[HADAL_DIM_COUNT];
  const volatile int32_t* stop = nullptr;

 private:
  static hadal_tensor blank(hadal_dtype dtype, hadal_space space,
                            const std::vector<int64_t>& shape) {
    hadal_tensor t{};
    t.dtype = dtype;
    t.space = space;
    for (int64_t& e : t.extents) e = 1;
    for (const int64_t e : shape) t.extents[t.rank++] = e;
    return t;
  }
  hadal_memory* import(const std::vector<std::byte>& bytes) {
    hadal_memory* m = nullptr;
    chip.mem_import(device, bytes.data(), bytes.size(), &m, &error);
    memories_.push_back(m);
    return m;
  }
  std::vector<hadal_weight*> weights_;
  std::vector<hadal_memory*> memories_;
};

/// Names of the kernel tables that this machine runs.
inline std::vector<std::string> kernel_names() {
  Rig rig;
  hadal_device_info info{};
  info.size = sizeof info;
  rig.chip.device_info(rig.device, &info);
  std::vector<std::string> names;
  std::string all = std::string(info.all_kernels) + " ";
  for (size_t at = 0; at < all.size(); at = all.find(' ', at) + 1)
    names.push_back(all.substr(at, all.find(' ', at) - at));
  return names;
}

}  // namespace hadal::cpu::testing
