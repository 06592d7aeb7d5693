#include <algorithm>
#include <array>
#include <cstring>

#include "contract/cost.h"
#include "contract/operators.h"
#include "ops/sink.h"

namespace hadal {
namespace {

bool same(const Tensor& a, const Tensor& b) { return std::memcmp(&a, &b, sizeof(Tensor)) == 0; }

}  // namespace

void Tape::seal(const StepLayout& layout, uint64_t scratch_bytes, uint32_t planes) {
  head = {};
  head.size = sizeof head;
  head.tensor_count = static_cast<uint32_t>(tensors.size());
  head.op_count = static_cast<uint32_t>(ops.size());
  head.tensors = tensors.data();
  head.ops = ops.data();
  const auto dims = layout.limits.dims();
  std::copy(dims.begin(), dims.end(), head.limits);
  head.scratch_bytes = scratch_bytes;
  head.input_bytes = layout.input_bytes;
  head.output_bytes = layout.output_bytes;
  head.plane_count = planes;
}

void TapeSink::op(const hadal_op& op, std::span<const Tensor> tensors) {
  hadal_op recorded = op;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (op.operands[i] < 0) continue;
    // Operands repeat within a layer: look back a little, so that a tape names a tensor once.
    const size_t n = tape_.tensors.size();
    size_t at = n;
    for (size_t back = 1; back <= std::min<size_t>(n, 32) && at == n; ++back)
      if (same(tape_.tensors[n - back], tensors[i])) at = n - back;
    if (at == n) tape_.tensors.push_back(tensors[i]);
    recorded.operands[i] = static_cast<int32_t>(at);
  }
  tape_.ops.push_back(recorded);
}

void TapeSink::release(uint64_t begin, uint64_t end, uint64_t ops_in_scope) {
  // Every byte of the range dies; the operator of the scope that touched a tensor of it last gets
  // the mark.
  HADAL_CHECK(ops_in_scope <= tape_.ops.size());
  std::vector<uint64_t> seen;
  for (size_t back = 1; back <= ops_in_scope; ++back) {
    hadal_op& op = tape_.ops[tape_.ops.size() - back];
    for (uint32_t i = 0; i < HADAL_MAX_OPERANDS; ++i) {
      if (op.operands[i] < 0) continue;
      const Tensor& t = tape_.tensors[static_cast<size_t>(op.operands[i])];
      if (t.space != HADAL_SPACE_SCRATCH || t.offset < begin || t.offset >= end) continue;
      if (std::find(seen.begin(), seen.end(), t.offset) != seen.end()) continue;
      seen.push_back(t.offset);
      op.last_use |= 1u << i;
    }
  }
}

void CostSink::op(const hadal_op& op, std::span<const Tensor> tensors) {
  const contract::OpCost own = contract::op_cost(op, tensors, rows_, context_);
  StepCost::OpTotal& total = cost_.ops[contract::op_name(op.id)];
  ++total.count;
  total.flops += own.flops;
  total.bytes += own.bytes;
  cost_.flops += own.flops;
  cost_.bytes += own.bytes;
  if (op.id == HADAL_OP_ALL_REDUCE) return;  // the host's, where the chip declines it
  const OpSupport support = device_.query(op, tensors, limits_.data());
  if (support.supported) {
    cost_.classes[support.numerics.name()].insert(contract::op_name(op.id));
    cost_.workspace_bytes = std::max(cost_.workspace_bytes, support.workspace_bytes);
    return;
  }
  cost_.declined.emplace(contract::describe(op, tensors.data()), support.reason);
}

StepCost& StepCost::operator+=(const StepCost& other) {
  for (const auto& [name, total] : other.ops) {
    OpTotal& own = ops[name];
    own.count += total.count;
    own.flops += total.flops;
    own.bytes += total.bytes;
  }
  declined.insert(other.declined.begin(), other.declined.end());
  for (const auto& [name, operators] : other.classes)
    classes[name].insert(operators.begin(), operators.end());
  flops += other.flops;
  bytes += other.bytes;
  scratch_bytes = std::max(scratch_bytes, other.scratch_bytes);
  workspace_bytes += other.workspace_bytes;
  return *this;
}

void EagerSink::op(const hadal_op& op, std::span<const Tensor> tensors) {
  if (!status_) return;
  hadal_tape tape{};
  tape.size = sizeof tape;
  tape.tensor_count = static_cast<uint32_t>(tensors.size());
  tape.op_count = 1;
  tape.tensors = tensors.data();
  tape.ops = &op;
  std::copy(std::begin(step_.rows), std::end(step_.rows), tape.limits);
  tape.plane_count = planes_;
  status_ = device_.run_ops(tape, 0, 1, step_);
}

}  // namespace hadal
