// What the checks of the level `queues` share: memories and a tape on one device, whose result is
// known, and which the caller may spoil.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "report.h"

namespace hadal::conformance::queues {

inline constexpr const char* kName = "queues";
inline constexpr int64_t kStepRows = 24, kLimit = 32, kWidth = 256;
inline constexpr uint32_t kRepeats = 12;  // operators of a tape: work that may still go on

/// Memories, weights and one tape on one device; whatever is left is freed at its end.
class Bench {
 public:
  explicit Bench(const Device& device) : device_(device), chip_(*device.chip) {}
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;
  ~Bench() {
    chip_.queue_sync(device_.queue, nullptr);
    for (hadal_weight* w : weights_) chip_.weight_destroy(w);
    for (hadal_memory* m : memories_) chip_.mem_free(m);
  }

  /// A memory that holds `values`; null, and failed(), if that cannot be had.
  hadal_memory* hold(const std::vector<float>& values) {
    hadal_memory* m = make(values.size() * sizeof(float));
    if (m) put(m, values);
    return m;
  }
  hadal_memory* make(uint64_t bytes) {
    hadal_memory* m = nullptr;
    if (good(chip_.mem_alloc(device_.device, bytes, &m, &error_))) memories_.push_back(m);
    return m;
  }
  void put(hadal_memory* m, const std::vector<float>& values) {
    good(chip_.copy_in(device_.queue, m, 0, values.data(), values.size() * sizeof(float), &error_));
  }
  /// Queues a copy of `to`'s size; it is there after sync().
  void get(std::vector<float>& to, hadal_memory* from) {
    good(chip_.copy_out(device_.queue, to.data(), from, 0, to.size() * sizeof(float), &error_));
  }
  void fill(hadal_memory* m, uint64_t bytes, uint8_t with) {
    good(chip_.fill(device_.queue, m, 0, bytes, with, &error_));
  }
  void sync() { good(chip_.queue_sync(device_.queue, &error_)); }
  std::vector<float> read(hadal_memory* from, size_t count) {
    std::vector<float> values(count);
    get(values, from);
    sync();
    return values;
  }
  void free(hadal_memory* m) {
    std::erase(memories_, m);
    chip_.mem_free(m);
  }
  void destroy(hadal_weight* w) {
    std::erase(weights_, w);
    chip_.weight_destroy(w);
  }

  bool good(hadal_status status) {
    if (status != HADAL_OK && why_.empty())
      why_ = fmt::format("status {}: {}", static_cast<int>(status), error_.text);
    return status == HADAL_OK;
  }
  void fail(std::string why) {
    if (why_.empty()) why_ = std::move(why);
  }
  /// The first thing that failed, or nothing.
  [[nodiscard]] const std::string& why() const { return why_; }
  void forget() { why_.clear(); }

  const Device& device_;
  hadal_chip& chip_;
  hadal_error error_ = fresh_error();
  std::vector<hadal_weight*> weights_;

 private:
  std::vector<hadal_memory*> memories_;
  std::string why_;
};

inline hadal_tensor tensor(uint32_t dtype, uint32_t space, uint32_t row_dim,
                           std::vector<int64_t> extents, uint64_t offset) {
  hadal_tensor t{};
  t.dtype = dtype;
  t.space = space;
  t.row_dim = row_dim;
  t.rank = static_cast<uint32_t>(extents.size());
  std::fill(std::begin(t.extents), std::end(t.extents), 1);
  std::copy(extents.begin(), extents.end(), t.extents);
  t.offset = offset;
  int64_t stride = dtype_info(static_cast<DType>(dtype))->block_bytes;
  for (uint32_t d = t.rank; space != HADAL_SPACE_WEIGHT && d-- > 0;) {
    t.strides[d] = stride;
    stride *= t.extents[d];
  }
  return t;
}

/// A tape that the caller may spoil after op_run: tensors, operators and the step in memory of its
/// own.
struct Call {
  std::vector<hadal_tensor> tensors;
  std::vector<hadal_op> ops;
  std::vector<hadal_memory*> planes;
  std::vector<float> host_inputs;
  hadal_tape tape{};
  hadal_step step{};

  void add(uint32_t id, const std::vector<std::pair<uint32_t, int32_t>>& operands) {
    hadal_op op{};
    op.id = id;
    std::fill(std::begin(op.operands), std::end(op.operands), -1);
    for (const auto& [operand, index] : operands) op.operands[operand] = index;
    ops.push_back(op);
  }
  void finish(uint64_t scratch, uint64_t inputs, uint64_t outputs) {
    tape.size = sizeof tape;
    tape.tensors = tensors.data();
    tape.tensor_count = static_cast<uint32_t>(tensors.size());
    tape.ops = ops.data();
    tape.op_count = static_cast<uint32_t>(ops.size());
    for (int64_t& limit : tape.limits) limit = kLimit;
    tape.limits[HADAL_DIM_CONST] = 1;
    tape.scratch_bytes = scratch;
    tape.input_bytes = inputs;
    tape.output_bytes = outputs;
    tape.plane_count = static_cast<uint32_t>(planes.size());
    step.size = sizeof step;
    step.rows[HADAL_DIM_CONST] = 1;
    step.rows[HADAL_DIM_T] = kStepRows;
    step.rows[HADAL_DIM_S] = 1;
    step.planes = planes.data();
    step.plane_count = tape.plane_count;
  }
  hadal_status run(Bench& bench) {
    return bench.chip_.op_run(bench.device_.queue, &tape, 0, tape.op_count, &step, &bench.error_);
  }
};

inline std::vector<float> ramp(size_t count, float scale) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = scale * static_cast<float>(i % 97) + 0.5f;
  return values;
}

inline constexpr size_t kCount = kLimit * kWidth;
inline constexpr size_t kBytes = kCount * sizeof(float);

/// X += Y, kRepeats times: scratch holds X, the inputs Y, and behind it other numbers.
struct Sums {
  Bench bench;
  Call call;
  hadal_memory *scratch, *inputs, *outputs, *other;
  std::vector<float> x = ramp(kCount, 1), y = ramp(2 * kCount, 0.25f), wrong = ramp(kCount, 3);

  explicit Sums(const Device& device) : bench(device) {
    for (size_t i = kCount; i < y.size(); ++i) y[i] += 100;
    scratch = bench.hold(x);
    inputs = bench.hold(y);
    outputs = bench.make(kBytes);
    other = bench.hold(wrong);
    call.tensors = {tensor(HADAL_F32, HADAL_SPACE_SCRATCH, HADAL_DIM_T, {1, kWidth}, 0),
                    tensor(HADAL_F32, HADAL_SPACE_INPUT, HADAL_DIM_T, {1, kWidth}, 0)};
    for (uint32_t i = 0; i < kRepeats; ++i)
      call.add(HADAL_OP_ADD, {{HADAL_ADD_X, 0}, {HADAL_ADD_Y, 1}});
    call.finish(kBytes, 2 * kBytes, kBytes);
    call.step.scratch = scratch;
    call.step.inputs = inputs;
    call.step.outputs = outputs;
    make_workspace();
    bench.sync();
  }
  void make_workspace() {
    const Support support = ask_support(bench.device_, call.ops[0], call.tensors, call.tape.limits);
    if (support.status != HADAL_OK)
      bench.fail("this level computes with `add`, which the chip declines: " + support.text);
    if (support.workspace_bytes != 0) call.step.workspace = bench.make(support.workspace_bytes);
  }
  hadal_status run() { return call.run(bench); }
  [[nodiscard]] std::vector<float> expected() const {
    std::vector<float> sum(x.begin(), x.begin() + kStepRows * kWidth);
    for (uint32_t i = 0; i < kRepeats; ++i)
      for (size_t j = 0; j < sum.size(); ++j) sum[j] += y[j];
    return sum;
  }
  /// Whether X is what it must be; rows above the count may be anything.
  void check(const std::string& what, Report& report) {
    const std::vector<float> found = bench.read(scratch, kStepRows * kWidth);
    report.check(kName, bench.why().empty() && found == expected(),
                 what + (bench.why().empty() ? ": other numbers" : ": " + bench.why()));
  }
};

// Of stops.cc.
void check_errors(const Device& device, Report& report);
void check_stop(const Device& device, Report& report);
void check_stopped_before(const Device& device, Report& report);
// Of comm.cc.
void check_comm(Chip& chip, Report& report);

}  // namespace hadal::conformance::queues
