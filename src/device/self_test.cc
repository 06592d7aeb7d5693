#include "device/self_test.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <vector>

#include "base/weight_form.h"
#include "contract/operators.h"

namespace hadal {
namespace {

constexpr int64_t kRows = 5, kCols = 256, kHeads = 2, kOut = 24, kSlots = 4;
constexpr uint64_t kPlace = uint64_t{64} << 10;  ///< bytes between operands: any alignment
constexpr uint32_t kPlaces = 12;

/// About what each class may be off, by the size of a result.
double tolerance(const Numerics& numerics) {
  if (numerics.numerics == HADAL_NUMERICS_EXACT) return 1e-4;
  return numerics.numerics == HADAL_NUMERICS_HALF ? 0.03 : 0.15;
}

/// Numbers between -1 and 1 that no two places share.
std::vector<float> numbers(int64_t count, int64_t seed) {
  std::vector<float> out(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    out[static_cast<size_t>(i)] =
        static_cast<float>(std::sin(0.7 * static_cast<double>(i) + static_cast<double>(seed)));
  return out;
}

/// The same as multiples of 1/8, which every form of weights but int8 holds as they are.
std::vector<float> eighths(int64_t count, int64_t seed) {
  std::vector<float> out = numbers(count, seed);
  for (float& x : out) x = std::round(x * 8) / 8;
  return out;
}

class SelfTest {
 public:
  explicit SelfTest(const Device& device) : device_(device) {}

  Status run() {
    Result<DeviceMemory> memory = device_.allocate(kPlace * kPlaces);
    Result<DeviceMemory> workspace = device_.allocate(kWorkspace);
    if (!memory || !workspace) return {};  // no model fits there: who wants to run one is told
    memory_ = *std::move(memory);
    workspace_ = *std::move(workspace);
    HADAL_TRY(matmul());
    HADAL_TRY(pointwise());
    HADAL_TRY(rope());
    return attention();
  }

 private:
  static constexpr uint64_t kWorkspace = uint64_t{1} << 20;

  /// An operand in the memory, filled.
  Result<hadal_tensor> put(const std::vector<float>& values, std::vector<int64_t> extents) {
    return put_bytes(std::as_bytes(std::span(values)), HADAL_F32, std::move(extents));
  }
  Result<hadal_tensor> put(const std::vector<int32_t>& values, std::vector<int64_t> extents) {
    return put_bytes(std::as_bytes(std::span(values)), HADAL_I32, std::move(extents));
  }
  Result<hadal_tensor> put_bytes(std::span<const std::byte> bytes, uint32_t dtype,
                                 std::vector<int64_t> extents) {
    hadal_tensor t = shaped(dtype, std::move(extents));
    t.space = HADAL_SPACE_SCRATCH;
    t.offset = kPlace * next_++;
    HADAL_TRY(device_.copy_in(memory_, t.offset, bytes));
    return t;
  }
  static hadal_tensor shaped(uint32_t dtype, const std::vector<int64_t>& extents) {
    hadal_tensor t{};
    t.dtype = dtype;
    t.rank = static_cast<uint32_t>(extents.size());
    std::fill(std::begin(t.extents), std::end(t.extents), 1);
    std::copy(extents.begin(), extents.end(), t.extents);
    int64_t stride = 4;
    for (int d = static_cast<int>(t.rank) - 1; d >= 0; --d) {
      t.strides[d] = stride;
      stride *= t.extents[d];
    }
    return t;
  }

  /// A weight in a form that the device lists for the use; none: it lists none that can be made.
  Result<std::optional<hadal_tensor>> weight(const std::vector<float>& values, int64_t rows,
                                             int64_t cols, uint32_t use) {
    for (const hadal_weight_form& listed : device_.weight_forms(use)) {
      const WeightForm form =
          use == HADAL_USE_VECTOR ? WeightForm{.dtype = HADAL_F32} : weight_form(listed);
      if (!can_encode(form)) continue;
      hadal_weight_desc desc{};
      desc.size = sizeof desc;
      desc.dtype = form.dtype;
      desc.uses = use;
      desc.batch = 1;
      desc.rows = rows;
      desc.cols = cols;
      desc.scale_dtype = form.scale_dtype;
      desc.scale_block_rows = form.block_rows;
      desc.scale_block_cols = form.scaled() && form.block_cols == 0 ? cols : form.block_cols;
      if (!device_.weight_bytes(desc)) continue;
      // The rows of a block of scales are encoded together.
      const int64_t block = form.scaled() ? form.block_rows : 1;
      std::vector<std::byte> elements(form.bytes(1, rows, cols)), scales(form.bytes(1, rows, cols));
      const int64_t stride = row_bytes(form.dtype, cols).value_or(0);
      const int64_t scale_stride =
          form.scaled() ? row_bytes(form.scale_dtype, form.scale_cols(cols)).value_or(0) : 0;
      for (int64_t r = 0; r < rows; r += block)
        encode_rows(form, values.data() + r * cols, std::min(block, rows - r), cols,
                    elements.data() + r * stride, scales.data() + r / block * scale_stride);
      HADAL_TRY(const DeviceMemory source, device_.import(elements));
      HADAL_TRY(const DeviceMemory source_scales, device_.import(scales));
      hadal_piece piece{};
      piece.memory = source.get();
      piece.rows = rows;
      piece.row_stride = stride;
      if (form.scaled()) {
        piece.scale_memory = source_scales.get();
        piece.scale_row_stride = scale_stride;
      }
      HADAL_TRY(DeviceWeight made, device_.create_weight(desc, {&piece, 1}));
      HADAL_TRY(device_.sync());
      hadal_tensor t =
          shaped(form.dtype, use == HADAL_USE_VECTOR ? std::vector<int64_t>{cols}
                                                     : std::vector<int64_t>{rows, cols});
      std::fill(std::begin(t.strides), std::end(t.strides), 0);
      t.space = HADAL_SPACE_WEIGHT;
      t.weight = made.get();
      weights_.push_back(std::move(made));
      return std::optional(t);
    }
    return std::optional<hadal_tensor>();
  }

  /// Runs an operator; false if the device declines it, or anything that it needs.
  Result<bool> operate(uint32_t id, std::vector<hadal_tensor> tensors,
                       const hadal_attributes& attr) {
    hadal_op op{};
    op.id = id;
    op.attr = attr;
    std::fill(std::begin(op.operands), std::end(op.operands), -1);
    for (size_t i = 0; i < tensors.size(); ++i)
      if (tensors[i].space != HADAL_SPACE_NONE) op.operands[i] = static_cast<int32_t>(i);
    hadal_tape tape{};
    tape.size = sizeof tape;
    tape.tensors = tensors.data();
    tape.tensor_count = static_cast<uint32_t>(tensors.size());
    tape.ops = &op;
    tape.op_count = 1;
    std::fill(std::begin(tape.limits), std::end(tape.limits), 1);
    tape.scratch_bytes = kPlace * kPlaces;
    tape.plane_count = static_cast<uint32_t>(plane_handles_.size());
    const OpSupport support = device_.query(op, tensors, tape.limits);
    if (!support.supported || support.workspace_bytes > kWorkspace) return false;
    numerics_ = support.numerics;
    hadal_step step{};
    step.size = sizeof step;
    std::fill(std::begin(step.rows), std::end(step.rows), 1);
    step.scratch = step.inputs = step.outputs = memory_.get();
    step.workspace = workspace_.get();
    step.planes = plane_handles_.data();
    step.plane_count = tape.plane_count;
    HADAL_TRY(device_.run_ops(tape, 0, 1, step));
    HADAL_TRY(device_.sync());
    return true;
  }

  /// Compares an operand with what each of its numbers should be.
  Status expect(const char* what, const hadal_tensor& t,
                const std::function<double(int64_t row, int64_t column)>& formula) {
    const int64_t rows = t.extents[0], cols = t.extents[1] * t.extents[2];
    std::vector<float> found(static_cast<size_t>(rows * cols));
    HADAL_TRY(device_.copy_out(std::as_writable_bytes(std::span(found)), memory_, t.offset));
    HADAL_TRY(device_.sync());
    double size = 0;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) size = std::max(size, std::abs(formula(r, c)));
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) {
        const double expected = formula(r, c), got = found[static_cast<size_t>(r * cols + c)];
        if (std::abs(got - expected) <= tolerance(numerics_) * size) continue;
        return failed("chip " + std::string(device_.chip_name()) + " computes " + what +
                      " wrong: row " + std::to_string(r) + ", number " + std::to_string(c) +
                      " is " + std::to_string(got) + ", expected " + std::to_string(expected) +
                      "; hadal chip test tells more");
      }
    return {};
  }

  Status matmul() {
    const auto x = numbers(kRows * kCols, 1), w = eighths(kOut * kCols, 2);
    next_ = 0;
    HADAL_TRY(const hadal_tensor xs, put(x, {kRows, kCols}));
    HADAL_TRY(const hadal_tensor out, put(std::vector<float>(kRows * kOut, NAN), {kRows, kOut}));
    HADAL_TRY(const auto ws, weight(w, kOut, kCols, HADAL_USE_MATMUL));
    if (!ws) return {};
    HADAL_TRY(const bool taken, operate(HADAL_OP_MATMUL, {xs, *ws, {}, {}, out}, {}));
    if (!taken) return {};
    return expect("matmul", out, [&](int64_t r, int64_t c) {
      double sum = 0;
      for (int64_t k = 0; k < kCols; ++k)
        sum +=
            double{x[static_cast<size_t>(r * kCols + k)]} * w[static_cast<size_t>(c * kCols + k)];
      return sum;
    });
  }

  Status pointwise() {
    const auto x = numbers(kRows * kCols, 3), y = numbers(kRows * kCols, 4), w = numbers(kCols, 5);
    const auto at = [](const std::vector<float>& v, int64_t r, int64_t c) {
      return double{v[static_cast<size_t>(r * kCols + c)]};
    };
    next_ = 0;
    HADAL_TRY(const hadal_tensor xs, put(x, {kRows, kCols}));
    HADAL_TRY(const hadal_tensor ys, put(y, {kRows, kCols}));
    HADAL_TRY(const hadal_tensor out, put(std::vector<float>(kRows * kCols, NAN), {kRows, kCols}));
    HADAL_TRY(const auto ws, weight(w, 1, kCols, HADAL_USE_VECTOR));
    hadal_attributes attr{};
    attr.norm.eps = 1e-6f;
    HADAL_TRY(bool taken,
              ws ? operate(HADAL_OP_NORM, {xs, *ws, {}, {}, out}, attr) : Result<bool>(false));
    if (taken)
      HADAL_TRY(expect("norm", out, [&](int64_t r, int64_t c) {
        double squares = 0;
        for (int64_t k = 0; k < kCols; ++k) squares += at(x, r, k) * at(x, r, k);
        return at(x, r, c) / std::sqrt(squares / kCols + 1e-6) * w[static_cast<size_t>(c)];
      }));
    HADAL_TRY(taken, operate(HADAL_OP_SWIGLU, {xs, ys, {}, out}, {}));
    if (taken)
      HADAL_TRY(expect("swiglu", out, [&](int64_t r, int64_t c) {
        return at(x, r, c) / (1 + std::exp(-at(x, r, c))) * at(y, r, c);
      }));
    HADAL_TRY(taken, operate(HADAL_OP_ADD, {xs, ys}, {}));
    if (!taken) return {};
    return expect("add", xs, [&](int64_t r, int64_t c) { return at(x, r, c) + at(y, r, c); });
  }

  Status rope() {
    constexpr int64_t kDims = 16;
    const auto x = numbers(kRows * kHeads * kDims, 6);
    std::vector<float> frequencies(kDims / 2);
    for (size_t i = 0; i < frequencies.size(); ++i)
      frequencies[i] = 1.0F / static_cast<float>(i + 1);
    std::vector<int32_t> positions(kRows);
    for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(3 * i + 1);
    next_ = 0;
    HADAL_TRY(const hadal_tensor xs, put(x, {kRows, kHeads, kDims}));
    HADAL_TRY(const hadal_tensor at, put(positions, {kRows}));
    HADAL_TRY(const auto ws, weight(frequencies, 1, kDims / 2, HADAL_USE_VECTOR));
    if (!ws) return {};
    hadal_attributes attr{};
    attr.rope = {
        .first = 0, .dims = kDims, .interleaved = 1, .inverse = 0, .ratio = 1, .amplitude = 1};
    HADAL_TRY(const bool taken, operate(HADAL_OP_ROPE, {xs, at, *ws}, attr));
    if (!taken) return {};
    return expect("rope", xs, [&](int64_t r, int64_t c) {
      const auto pair = static_cast<size_t>(r * kHeads * kDims + c / 2 * 2);
      const double angle = positions[static_cast<size_t>(r)] *
                           double{frequencies[static_cast<size_t>(c % kDims / 2)]};
      return c % 2 == 0 ? x[pair] * std::cos(angle) - x[pair + 1] * std::sin(angle)
                        : x[pair] * std::sin(angle) + x[pair + 1] * std::cos(angle);
    });
  }

  /// A plane of so many numbers a slot; none: not in this type.
  Result<std::optional<hadal_tensor>> plane(uint32_t role, int64_t width) {
    hadal_plane_desc desc{.size = sizeof(hadal_plane_desc),
                          .role = role,
                          .dtype = HADAL_F16,
                          .heads = kHeads,
                          .slots = kSlots,
                          .width = width};
    const Result<uint64_t> bytes = device_.plane_block_bytes(desc);
    if (!bytes) return std::optional<hadal_tensor>();
    HADAL_TRY(DeviceMemory memory, device_.allocate(*bytes * 3));
    hadal_tensor t = shaped(HADAL_F16, {3, kSlots, width});
    t.space = HADAL_SPACE_PLANE;
    t.strides[2] = 2;
    t.strides[1] = 2 * width;
    t.strides[0] = static_cast<int64_t>(*bytes);
    t.index = static_cast<uint32_t>(plane_handles_.size());
    t.flags = role;
    plane_handles_.push_back(memory.get());
    planes_.push_back(std::move(memory));
    return std::optional(t);
  }

  Status attention() {
    constexpr int64_t kDim = 16, kWidth = kHeads * kDim;
    const auto q = numbers(kRows * kWidth, 7), k = numbers(kRows * kWidth, 8),
               v = numbers(kRows * kWidth, 9);
    HADAL_TRY(const auto keys, plane(HADAL_PLANE_KEY, kWidth));
    HADAL_TRY(const auto values, plane(HADAL_PLANE_VALUE, kWidth));
    if (!keys || !values) return {};
    next_ = 0;
    HADAL_TRY(const hadal_tensor qs, put(q, {kRows, kHeads, kDim}));
    HADAL_TRY(const hadal_tensor ks, put(k, {kRows, kWidth}));
    HADAL_TRY(const hadal_tensor vs, put(v, {kRows, kWidth}));
    HADAL_TRY(const hadal_tensor at, put(std::vector<int32_t>{0, 1, 2, 3, 4}, {kRows}));
    HADAL_TRY(const hadal_tensor seq, put(std::vector<int32_t>(kRows, 0), {kRows}));
    HADAL_TRY(const hadal_tensor table, put(std::vector<int32_t>{2, 0}, {1, 2}));
    HADAL_TRY(const hadal_tensor zero, put(std::vector<int32_t>{0}, {1}));
    HADAL_TRY(const hadal_tensor out,
              put(std::vector<float>(kRows * kWidth, NAN), {kRows, kHeads, kDim}));
    hadal_attributes write{};
    write.kv_write.ratio = 1;
    for (const auto& [rows, plane] : {std::pair(ks, *keys), std::pair(vs, *values)}) {
      HADAL_TRY(const bool taken,
                operate(HADAL_OP_KV_WRITE, {rows, plane, at, seq, table, zero}, write));
      if (!taken) return {};
    }
    hadal_attributes attr{};
    attr.attention = {.scale = 0.5F, .kv_heads = kHeads, .window = 0};
    HADAL_TRY(const bool taken, operate(HADAL_OP_GQA_ATTENTION,
                                        {qs, *keys, *values, at, seq, table, zero, {}, out}, attr));
    if (!taken) return {};
    numerics_ = {HADAL_NUMERICS_HALF, 0};  // the cache is rounded to f16
    return expect("gqa_attention", out, [&](int64_t r, int64_t c) {
      const auto number = [&](const std::vector<float>& from, int64_t row, int64_t i) {
        return double{from[static_cast<size_t>(row * kWidth + c / kDim * kDim + i)]};
      };
      double sum = 0, weighted = 0;
      for (int64_t j = 0; j <= r; ++j) {
        double dot = 0;
        for (int64_t i = 0; i < kDim; ++i) dot += number(q, r, i) * number(k, j, i);
        const double e = std::exp(0.5 * dot);
        sum += e;
        weighted += e * number(v, j, c % kDim);
      }
      return weighted / sum;
    });
  }

  const Device& device_;
  DeviceMemory memory_, workspace_;
  std::vector<DeviceMemory> planes_;
  std::vector<hadal_memory*> plane_handles_;
  std::vector<DeviceWeight> weights_;
  uint32_t next_ = 0;
  Numerics numerics_;
};

}  // namespace

Status self_test(const Device& device) { return SelfTest(device).run(); }

}  // namespace hadal
