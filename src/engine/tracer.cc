#include "engine/tracer.h"

#include <cmath>
#include <cstring>

#include "contract/operators.h"
#include "engine/working_memory.h"

namespace hadal {
namespace {

/// What the rounding of fp32 sums explains, by the size of a row.
constexpr double kFp32 = 2e-5;

/// The numbers of a row, side by side.
template <typename T>
std::vector<T> row_of(const Tensor& t, std::span<const std::byte> bytes, int64_t row) {
  const int64_t middle = t.rank > 2 ? t.extents[1] : 1,
                inner = t.rank > 1 ? t.extents[t.rank - 1] : 1;
  const int64_t stride = t.rank > 2 ? t.strides[1] : 0;
  std::vector<T> numbers(static_cast<size_t>(middle * inner));
  for (int64_t m = 0; m < middle; ++m)
    std::memcpy(numbers.data() + m * inner, bytes.data() + row * t.strides[0] + m * stride,
                static_cast<size_t>(inner) * sizeof(T));
  return numbers;
}

/// Over numbers that are finite in both: what the model itself makes infinite leaves nothing.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    if (std::isfinite(a[i]) && std::isfinite(b[i]))
      sum += (double{a[i]} - double{b[i]}) * (double{a[i]} - double{b[i]});
  return std::sqrt(sum);
}

/// The operator with the shapes of this step: a tensor's own are of one row.
std::string shapes_of(const hadal_op& op, std::span<const Tensor> tensors, const hadal_step& step) {
  std::vector<Tensor> of_step(tensors.begin(), tensors.end());
  for (Tensor& t : of_step)
    if (t.space != HADAL_SPACE_NONE) t.extents[0] *= step.rows[t.row_dim];
  return contract::describe(op, of_step.data());
}

/// How far the chip is off, by what its class allows, and where most.
std::pair<double, size_t> off_by(const std::vector<float>& found, const std::vector<float>& exact,
                                 const std::vector<float>& in_class) {
  size_t worst = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!std::isfinite(found[i]) && std::isfinite(exact[i])) return {INFINITY, i};
    if (std::abs(found[i] - exact[i]) > std::abs(found[worst] - exact[worst])) worst = i;
  }
  const std::vector<float> zero(exact.size(), 0.0F);
  const double allowed =
      std::max(Tracer::kAllowed * distance(in_class, exact), kFp32 * distance(exact, zero) + 1e-30);
  return {distance(found, exact) / allowed, worst};
}

}  // namespace

Result<Tracer::Reference*> Tracer::reference(const Numerics& numerics) {
  const std::string table = contract::reference_table(numerics.numerics, numerics.block);
  const auto known = references_.find(table);
  if (known != references_.end()) return &known->second;
  RunnerOptions options = chip_.options();
  options.device = {.chip = "ref", .kernels = table};
  options.alignment = chip_.layout().limits.alignment;
  Reference reference;
  HADAL_TRY(reference.runner, ModelRunner::open(checkpoint_, options));
  HADAL_TRY(reference.runner->load());
  const Place& place = reference.runner->places()[0];
  // One that joins in the middle of a step has its inputs, and no caches of steps before.
  HADAL_TRY(place.device->copy_in(place.inputs, 0,
                                  std::span(inputs_->data(), chip_.layout().input_bytes)));
  reference.step = reference.runner->make_step(place, inputs_->rows);
  reference.step.host_inputs = inputs_->data();
  return &references_.emplace(table, std::move(reference)).first->second;
}

Status Tracer::begin(const StepInputs& inputs, const hadal_step& step) {
  inputs_ = &inputs;
  step_ = step;
  operators_ = 0;
  ++steps_;
  for (auto& [table, reference] : references_) {
    const Place& place = reference.runner->places()[0];
    HADAL_TRY(place.device->copy_in(place.inputs, 0,
                                    std::span(inputs.data(), chip_.layout().input_bytes)));
    reference.step = reference.runner->make_step(place, inputs.rows);
    reference.step.host_inputs = inputs.data();
  }
  // All of them from the first step on, so that each has every row of the caches.
  if (steps_ > 1) return {};
  for (const Numerics& numerics :
       {Numerics{HADAL_NUMERICS_EXACT, 0}, Numerics{HADAL_NUMERICS_BLOCK8, 32},
        Numerics{HADAL_NUMERICS_BLOCK8, 256}, Numerics{HADAL_NUMERICS_HALF, 0},
        Numerics{HADAL_NUMERICS_FP8, 0}, Numerics{HADAL_NUMERICS_ROW8, 0}})
    if (const auto opened = reference(numerics); !opened) return opened.error();
  return {};
}

void Tracer::op(const hadal_op& op, std::span<const Tensor> tensors) {
  if (!status_) return;
  status_ = compare(op, tensors);
  ++operators_;
}

Result<std::vector<std::byte>> Tracer::read(const Place& place, const Tensor& t) const {
  std::vector<std::byte> bytes(reach(t, step_.rows[t.row_dim]));
  HADAL_TRY(place.device->copy_out(bytes, memory_of(place, t), t.offset));
  HADAL_TRY(place.device->sync());
  return bytes;
}

Status Tracer::run_on(Reference& reference, const hadal_op& op, std::span<const Tensor> tensors) {
  ModelRunner& runner = *reference.runner;
  std::array<Tensor, HADAL_MAX_OPERANDS> held{};
  std::copy(tensors.begin(), tensors.end(), held.begin());
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (held[i].space == HADAL_SPACE_WEIGHT) held[i] = runner.weights()[held[i].index].tensor;
    if (held[i].space == HADAL_SPACE_PLANE) held[i] = runner.step_planes().tensor(held[i].index);
  }
  EagerSink sink(runner.device(), reference.step, runner.step_planes().count());
  sink.op(op, std::span(held).first(tensors.size()));
  HADAL_TRY(sink.status());
  return runner.sync();
}

Status Tracer::compare(const hadal_op& op, std::span<const Tensor> tensors) {
  const Place& place = chip_.places()[0];
  EagerSink chip(*place.device, step_, chip_.step_planes().count());
  if (op.id == HADAL_OP_SAMPLE) {
    chip.op(op, tensors);
    return chip.status();
  }
  const auto limits = chip_.layout().limits.dims();
  const OpSupport support = place.device->query(op, tensors, limits.data());
  HADAL_TRY(Reference* const exact, reference({HADAL_NUMERICS_EXACT, 0}));
  HADAL_TRY(Reference* const in_class, reference(support.numerics));
  // The reference works on what the chip has.
  for (const Tensor& t : tensors) {
    if (!is_working_memory(t)) continue;
    HADAL_TRY(const std::vector<std::byte> bytes, read(place, t));
    for (auto& [name, reference] : references_) {
      const Place& to = reference.runner->places()[0];
      HADAL_TRY(to.device->copy_in(memory_of(to, t), t.offset, bytes));
    }
  }
  chip.op(op, tensors);
  HADAL_TRY(chip.status());
  HADAL_TRY(chip_.sync());
  const bool to_cache = op.id == HADAL_OP_KV_WRITE || op.id == HADAL_OP_COPY_BLOCKS;
  for (auto& [name, reference] : references_)
    if (to_cache || &reference == exact || &reference == in_class)
      HADAL_TRY(run_on(reference, op, tensors));
  ++totals_[contract::op_name(op.id)].operators;
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    const Tensor& t = tensors[i];
    if (!is_working_memory(t) || !is_written(contract::operand_role(op.id, i))) continue;
    HADAL_TRY(const std::vector<std::byte> found, read(place, t));
    HADAL_TRY(const std::vector<std::byte> a, read(exact->runner->places()[0], t));
    HADAL_TRY(const std::vector<std::byte> b, read(in_class->runner->places()[0], t));
    judge(op, tensors, i, support.numerics.name(), {found, a, b});
  }
  return {};
}

void Tracer::judge(const hadal_op& op, std::span<const Tensor> tensors, uint32_t operand,
                   const std::string& numerics, const Answers& answers) {
  const Tensor& t = tensors[operand];
  Total& total = totals_[contract::op_name(op.id)];
  const std::string operands = shapes_of(op, tensors, step_);
  bool off = false;
  for (int64_t row = 0; row < t.extents[0] * step_.rows[t.row_dim]; ++row) {
    Finding finding{.operator_number = operators_,
                    .region = region_,
                    .operands = operands,
                    .numerics = numerics,
                    .step = steps_,
                    .row = row};
    if (t.dtype == HADAL_F32) {
      const auto found = row_of<float>(t, answers.found, row),
                 exact = row_of<float>(t, answers.exact, row);
      const auto [ratio, column] = off_by(found, exact, row_of<float>(t, answers.in_class, row));
      finding.ratio = ratio;
      finding.column = static_cast<int64_t>(column);
      finding.found = found[column];
      finding.expected = exact[column];
    } else {
      // Choices may differ where two are as good: one in four is no longer that.
      const auto found = row_of<int32_t>(t, answers.found, row),
                 exact = row_of<int32_t>(t, answers.exact, row);
      size_t different = 0;
      for (size_t i = 0; i < found.size(); ++i) {
        if (found[i] == exact[i] || different++ > 0) continue;
        finding.column = static_cast<int64_t>(i);
        finding.found = static_cast<float>(found[i]);
        finding.expected = static_cast<float>(exact[i]);
      }
      finding.ratio = 4 * static_cast<double>(different) / static_cast<double>(found.size());
    }
    if (!(finding.ratio <= total.worst.ratio)) total.worst = finding;
    if (finding.ratio <= 1) continue;
    off = true;
    if (!first_) first_ = finding;
  }
  if (off) ++total.off;
}

}  // namespace hadal
