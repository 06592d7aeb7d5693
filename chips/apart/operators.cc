#include "operators.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "base/dtype.h"
#include "contract/check.h"
#include "contract/operators.h"
#include "contract/report.h"
#include "events.h"
#include "planes.h"
#include "weights.h"

namespace hadal::apart {
namespace {

using contract::report;

constexpr std::pair<uint32_t, Operator> kOperators[] = {
    {HADAL_OP_EMBED, ref::embed},
    {HADAL_OP_MATMUL, matmul},
    {HADAL_OP_NORM, ref::norm},
    {HADAL_OP_ROPE, ref::rope},
    {HADAL_OP_SWIGLU, ref::swiglu},
    {HADAL_OP_ADD, ref::add},
    {HADAL_OP_KV_WRITE, kv_write},
    {HADAL_OP_GQA_ATTENTION, gqa_attention},
    {HADAL_OP_GATHER_ROWS, ref::gather_rows},
    {HADAL_OP_COPY_BLOCKS, copy_blocks},
    {HADAL_OP_CONVERT, ref::convert},
    {HADAL_OP_SAMPLE, ref::sample},
    {HADAL_OP_ROUTER, ref::router},
    {HADAL_OP_MOE_SORT, ref::moe_sort},
    {HADAL_OP_GROUPED_MATMUL, grouped_matmul},
    {HADAL_OP_MOE_COMBINE, ref::moe_combine},
    {HADAL_OP_LATENT_ATTENTION, latent_attention},
    {HADAL_OP_INDEX_TOPK, index_topk},
    {HADAL_OP_INDEX_BLOCKS, index_blocks},
    {HADAL_OP_COMPRESS, compress},
    {HADAL_OP_HC_PRE, ref::hc_pre},
    {HADAL_OP_HC_POST, ref::hc_post},
    {HADAL_OP_ENGRAM_GATE, ref::engram_gate},
    {HADAL_OP_LORA_ADD, ref::lora_add},
};

Operator find_operator(uint32_t id) {
  for (const auto& [known, run] : kOperators)
    if (known == id) return run;
  return nullptr;
}

/// What this device asks of the place of an operand, beyond the contract's shapes.
std::string check_place(const hadal_tensor& t) {
  if (t.offset % kAlignment != 0 && (t.flags & HADAL_TENSOR_COLUMNS) == 0)
    return "has offset " + std::to_string(t.offset) + ", which is no multiple of " +
           std::to_string(kAlignment);
  if (t.space != HADAL_SPACE_PLANE) return {};
  const uint64_t bytes = block_bytes(t.dtype, t.extents[1], t.extents[2]);
  if (static_cast<uint64_t>(t.strides[0]) == bytes) return {};
  return "has blocks of " + std::to_string(t.strides[0]) + " bytes, plane_bytes tells " +
         std::to_string(bytes);
}

std::string check_bound(const hadal_op& op, uint32_t operand, const hadal_tensor& t,
                        const hadal_step& step, const host_chip::View& view) {
  if (t.space == HADAL_SPACE_WEIGHT)
    return contract::check_handle(ref::weight(t.weight).desc, op, operand, t);
  const std::string name = contract::operand_name(op.id, operand);
  if (t.space == HADAL_SPACE_PLANE && t.index >= step.plane_count)
    return name + " is in a plane that the step does not bring";
  return host_chip::lies_inside(view, t, step) ? ""
                                               : name + " does not lie inside the step's memory";
}

/// Which operand tells each row's sequence, and which have a row for each of those.
void find_rows_of_sequences(Launch* launch, const hadal_tensor* tensors) {
  const uint32_t count = contract::operand_count(launch->op.id);
  uint32_t& row_seq = launch->row_seq;
  while (row_seq < count &&
         std::string("row_seq") != contract::operand_name(launch->op.id, row_seq))
    ++row_seq;
  if (row_seq == count) return;
  for (uint32_t i = 0; i < count; ++i)
    if (contract::present(tensors[i]) && tensors[i].row_dim == tensors[row_seq].row_dim)
      launch->with_sequences |= 1U << i;
}

/// Takes the rows of no sequence, which stand behind all others, out of the call.
void leave_out_rows_of_nobody(const Launch& launch, ref::Call& call) {
  if (launch.with_sequences == 0) return;
  const host_chip::View sequences = call.operands[launch.row_seq];
  const int64_t rows = sequences.extents[0];
  int64_t kept = rows;
  while (kept > 0 && *sequences.row<int32_t>(kept - 1) == -1) --kept;
  for (uint32_t i = 0; i < contract::operand_count(launch.op.id); ++i) {
    if ((launch.with_sequences >> i & 1) == 0) continue;
    host_chip::View& v = call.operands[i];
    for (int64_t t = kept; contract::operand_role(launch.op.id, i) == HADAL_ROLE_OUT && t < rows;
         ++t)
      std::memset(v.row<std::byte>(t), 0xFF, static_cast<size_t>(v.extents[1] * v.strides[1]));
    v.extents[0] = kept;
  }
}

}  // namespace

hadal_numerics numerics_of(Kind kind, uint32_t op) {
  switch (op) {
    case HADAL_OP_MATMUL:
    case HADAL_OP_GROUPED_MATMUL:
      return kind == Kind::kHalf ? HADAL_NUMERICS_HALF : HADAL_NUMERICS_ROW8;
    case HADAL_OP_GQA_ATTENTION:
    case HADAL_OP_LATENT_ATTENTION:
      return HADAL_NUMERICS_HALF;
    default:
      return HADAL_NUMERICS_EXACT;
  }
}

hadal_status check_support(Kind kind, const hadal_op& op, const hadal_tensor* tensors,
                           hadal_error* error) {
  const std::string chip = chip_name(kind);
  if (!find_operator(op.id) && op.id != HADAL_OP_ALL_REDUCE)
    return report(error, HADAL_UNSUPPORTED,
                  contract::operand_count(op.id) == 0
                      ? chip + " does not know operator " + std::to_string(op.id)
                      : chip + " fuses nothing: it runs the parts of " + contract::op_name(op.id));
  if (kind == Kind::kRow8 && op.id == HADAL_OP_SAMPLE)
    return report(error, HADAL_UNSUPPORTED, chip + " leaves sampling to the host");
  if (kind == Kind::kRow8 && op.id == HADAL_OP_LORA_ADD)
    return report(error, HADAL_UNSUPPORTED, chip + " knows no adapters");
  if (const hadal_status s = contract::check_operands(op, tensors, error); s != HADAL_OK) return s;
  for (uint32_t i = 0; i < contract::operand_count(op.id); ++i) {
    if (!contract::present(tensors[i])) continue;
    const bool weight = tensors[i].space == HADAL_SPACE_WEIGHT;
    const std::string why =
        weight ? check_dtype(kind, contract::operand_use(op.id, i), tensors[i].dtype)
               : check_place(tensors[i]);
    if (!why.empty())
      return report(error, weight ? HADAL_UNSUPPORTED : HADAL_INVALID,
                    contract::describe(op, tensors) + ": " + contract::operand_name(op.id, i) +
                        (weight ? ": " : " ") + why);
  }
  return HADAL_OK;
}

hadal_status prepare(const Device& device, const hadal_tape& tape, const hadal_op& op,
                     const hadal_step& step, Launch* launch, hadal_error* error) {
  std::array<hadal_tensor, HADAL_MAX_OPERANDS> tensors{};
  if (const hadal_status s = contract::gather_operands(tape, op, tensors.data(), error);
      s != HADAL_OK)
    return s;
  if (const hadal_status s = check_support(device.kind, op, tensors.data(), error); s != HADAL_OK)
    return s;
  launch->op = op;
  launch->comm = device.comm;
  if (op.id == HADAL_OP_ALL_REDUCE && !launch->comm)
    return report(error, HADAL_INVALID, "all_reduce: the device has joined no communicator");
  launch->run = find_operator(op.id);
  find_rows_of_sequences(launch, tensors.data());
  for (uint32_t i = 0; i < contract::operand_count(op.id); ++i) {
    if (!contract::present(tensors[i])) continue;
    launch->operands[i] = host_chip::view(tape, op.operands[i], step);
    const std::string why = check_bound(op, i, tensors[i], step, launch->operands[i]);
    if (!why.empty())
      return report(error, HADAL_INVALID, std::string(contract::op_name(op.id)) + ": " + why);
  }
  return HADAL_OK;
}

hadal_status run(const Launch& launch, bool filled, hadal_error* error) {
  if (launch.op.id == HADAL_OP_ALL_REDUCE) {
    const host_chip::View& x = launch.operands[HADAL_ALL_REDUCE_X];
    return all_reduce(*launch.comm, x.row<float>(0),
                      static_cast<uint64_t>(x.extents[0] * x.extents[1]), error);
  }
  ref::Call call;
  call.op = &launch.op;
  call.error = error;
  std::copy(std::begin(launch.operands), std::end(launch.operands), call.operands);
  if (filled) leave_out_rows_of_nobody(launch, call);
  return launch.run(call);
}

}  // namespace hadal::apart
