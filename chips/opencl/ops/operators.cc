#include "ops/operators.h"

#include <algorithm>
#include <array>

#include "base/dtype.h"
#include "contract/check.h"
#include "contract/operators.h"
#include "contract/report.h"

namespace hadal::opencl {
namespace {

using contract::report;

constexpr const Operator* kOperators[] = {
    &kAdd,          &kCompress,      &kConvert,     &kCopyBlocks,
    &kEmbed,        &kEngramGate,    &kGatedMatmul, &kGatherRows,
    &kGqaAttention, &kGroupedMatmul, &kHcPost,      &kHcPre,
    &kIndexBlocks,  &kIndexTopk,     &kKvWrite,     &kLatentAttention,
    &kLoraAdd,      &kMatmul,        &kMoeCombine,  &kMoeExperts,
    &kMoeSort,      &kNorm,          &kRope,        &kRouter,
    &kSample,       &kSwiglu};

Memory* memory_at(const hadal_tensor& t, const hadal_step& step) {
  switch (t.space) {
    case HADAL_SPACE_SCRATCH:
      return memory_of(step.scratch);
    case HADAL_SPACE_INPUT:
      return memory_of(step.inputs);
    case HADAL_SPACE_OUTPUT:
      return memory_of(step.outputs);
    case HADAL_SPACE_PLANE:
      return t.index < step.plane_count ? memory_of(step.planes[t.index]) : nullptr;
    default:
      return nullptr;
  }
}

/// Bytes from the first to behind the last element; 0 if it has none.
uint64_t span_of(const Operand& o) {
  uint64_t bytes = static_cast<uint64_t>(dtype_info(static_cast<DType>(o.dtype))->block_bytes);
  for (uint32_t d = 0; d < o.rank; ++d) {
    if (o.extents[d] == 0) return 0;
    bytes += static_cast<uint64_t>(o.extents[d] - 1) * static_cast<uint64_t>(o.strides[d]);
  }
  return bytes;
}

/// What changes from step to step; why it cannot be used, or nothing.
std::string bind_step(const hadal_op& op, uint32_t operand, const hadal_tensor& t,
                      const hadal_step& step, Operand* to) {
  const std::string name = contract::operand_name(op.id, operand);
  const Memory* memory = memory_at(t, step);
  if (!memory) return name + " lies in a memory that the step does not bring";
  if (!memory->buffer) return name + " lies in imported memory";
  to->memory = memory->buffer;
  to->extents[0] =
      t.space == HADAL_SPACE_PLANE ? blocks_in(t, *memory) : t.extents[0] * step.rows[t.row_dim];
  const uint64_t span = span_of(*to);
  return span == 0 || (t.offset <= memory->bytes && span <= memory->bytes - t.offset)
             ? ""
             : name + " does not lie inside the step's memory";
}

}  // namespace

Operand operand_of(const hadal_tensor& t) {
  Operand o;
  o.dtype = t.dtype;
  o.rank = t.rank;
  std::copy(std::begin(t.extents), std::end(t.extents), o.extents);
  std::copy(std::begin(t.strides), std::end(t.strides), o.strides);
  if (t.space == HADAL_SPACE_WEIGHT) {
    o.weight = &weight_of(t.weight);
    o.memory = o.weight->parts.front().buffer;
  } else {
    o.offset = t.offset;
  }
  return o;
}

// A plane's extent is a limit: the memory says how many blocks there are.
int64_t blocks_in(const hadal_tensor& plane, const Memory& memory) {
  const int64_t block = plane.strides[0];
  if (block <= 0) return plane.extents[0];
  const uint64_t bytes = memory.bytes - std::min(memory.bytes, plane.offset);
  return std::min(plane.extents[0], static_cast<int64_t>(bytes / static_cast<uint64_t>(block)));
}

const Operator* find_operator(uint32_t id) {
  for (const Operator* o : kOperators)
    if (o->id == id) return o;
  return nullptr;
}

hadal_status check_support(const hadal_op& op, const hadal_tensor* tensors, hadal_error* error) {
  const Operator* known = find_operator(op.id);
  if (!known)
    return report(error, HADAL_UNSUPPORTED,
                  contract::operand_count(op.id) == 0
                      ? "opencl does not know operator " + std::to_string(op.id)
                      : std::string("opencl leaves ") + contract::op_name(op.id) + " to the host");
  if (const hadal_status s = contract::check_operands(op, tensors, error); s != HADAL_OK) return s;
  std::string why;
  for (uint32_t i = 0; why.empty() && i < contract::operand_count(op.id); ++i)
    if (contract::present(tensors[i]) && tensors[i].space == HADAL_SPACE_WEIGHT)
      why = check_dtype(contract::operand_use(op.id, i), tensors[i].dtype);
  if (why.empty() && known->refuse) why = known->refuse(op, tensors);
  return why.empty() ? HADAL_OK
                     : report(error, HADAL_UNSUPPORTED,
                              contract::describe(op, tensors) + ": opencl " + why);
}

hadal_status run_operator(Queue& queue, const hadal_tape& tape, const hadal_op& op,
                          const hadal_step& step, hadal_error* error) {
  std::array<hadal_tensor, HADAL_MAX_OPERANDS> tensors{};
  if (const hadal_status s = contract::gather_operands(tape, op, tensors.data(), error);
      s != HADAL_OK)
    return s;
  if (const hadal_status s = check_support(op, tensors.data(), error); s != HADAL_OK) return s;
  Call call;
  call.op = &op;
  call.told_as = op.id;
  call.device = &queue.device;
  call.queue = &queue;
  call.error = error;
  if (step.workspace) call.workspace = memory_of(step.workspace)->buffer;
  for (uint32_t i = 0; i < contract::operand_count(op.id); ++i) {
    const hadal_tensor& t = tensors[i];
    if (!contract::present(t)) continue;
    call.operands[i] = operand_of(t);
    const std::string why = t.space == HADAL_SPACE_WEIGHT
                                ? contract::check_handle(weight_of(t.weight).desc, op, i, t)
                                : bind_step(op, i, t, step, &call.operands[i]);
    if (!why.empty())
      return report(error, HADAL_INVALID, std::string(contract::op_name(op.id)) + ": " + why);
  }
  return find_operator(op.id)->run(call);
}

}  // namespace hadal::opencl
