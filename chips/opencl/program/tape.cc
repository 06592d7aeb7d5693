#include "program/tape.h"

#include <algorithm>
#include <array>

#include "contract/check.h"
#include "contract/operators.h"
#include "contract/report.h"
#include "ops/operators.h"
#include "program/patterns.h"

namespace hadal::opencl {
namespace {

constexpr uint64_t kWorkAlignment = 64;

hadal_op operator_of(uint32_t id) {
  hadal_op op{};
  op.id = id;
  std::fill(std::begin(op.operands), std::end(op.operands), -1);
  return op;
}

}  // namespace

uint32_t operand_count_of(uint32_t id) {
  return id == kOpExperts ? uint32_t{kExpertsOperands} : contract::operand_count(id);
}

hadal_role operand_role_of(uint32_t id, uint32_t operand) {
  if (id != kOpExperts) return contract::operand_role(id, operand);
  if (operand == kExpertsOut) return HADAL_ROLE_OUT;
  return operand == kExpertsGate || operand == kExpertsUp ? HADAL_ROLE_WEIGHT : HADAL_ROLE_IN;
}

/// A tensor in the workspace with the rows of another: `first` for each of them.
int32_t ProgramTape::work(uint32_t dtype, const hadal_tensor& rows, int64_t first,
                          int64_t columns) {
  hadal_tensor t{};
  t.dtype = dtype;
  t.space = kSpaceWorkspace;
  t.rank = columns > 0 ? 2 : 1;
  t.row_dim = rows.row_dim;
  t.extents[0] = rows.extents[0] * first;
  t.extents[1] = std::max<int64_t>(1, columns);
  t.extents[2] = t.extents[3] = 1;
  t.strides[0] = 4 * t.extents[1];
  t.strides[1] = t.strides[2] = t.strides[3] = 4;
  t.offset = used_;
  const int64_t bytes = t.strides[0] * t.extents[0] * limits[t.row_dim];
  used_ += (static_cast<uint64_t>(bytes) + kWorkAlignment - 1) / kWorkAlignment * kWorkAlignment;
  tensors.push_back(t);
  return static_cast<int32_t>(tensors.size()) - 1;
}

// The launches of ops/products.cc, as operators.
void ProgramTape::take_apart(const hadal_op& experts) {
  const auto operand = [&](uint32_t i) { return experts.operands[i]; };
  const auto shape = [&](uint32_t i) { return tensors[static_cast<size_t>(operand(i))]; };
  const hadal_tensor chosen = shape(HADAL_MOE_EXPERTS_EXPERT);
  const hadal_tensor down = shape(HADAL_MOE_EXPERTS_DOWN);
  const int64_t fan = chosen.extents[1];
  hadal_tensor one{};
  one.extents[0] = 1;
  used_ = 0;
  const int32_t order = work(HADAL_I32, chosen, fan, 0), place = work(HADAL_I32, chosen, fan, 0),
                row_weight = work(HADAL_F32, chosen, fan, 0),
                offset = work(HADAL_I32, one, down.extents[0] + 1, 0),
                hidden = work(HADAL_F32, chosen, fan, down.extents[2]),
                result = work(HADAL_F32, chosen, fan, down.extents[1]);
  workspace_bytes = std::max(workspace_bytes, used_);
  const auto push = [&](hadal_op op, std::initializer_list<std::pair<uint32_t, int32_t>> operands) {
    for (const auto& [i, index] : operands) op.operands[i] = index;
    op.attr.experts = experts.attr.experts;
    op.attr.experts.fan = static_cast<uint32_t>(fan);
    ops.push_back({op, HADAL_OP_MOE_EXPERTS});
  };
  push(operator_of(HADAL_OP_MOE_SORT), {{HADAL_MOE_SORT_EXPERT, operand(HADAL_MOE_EXPERTS_EXPERT)},
                                        {HADAL_MOE_SORT_WEIGHT, operand(HADAL_MOE_EXPERTS_WEIGHT)},
                                        {HADAL_MOE_SORT_ORDER, order},
                                        {HADAL_MOE_SORT_PLACE, place},
                                        {HADAL_MOE_SORT_OFFSET, offset},
                                        {HADAL_MOE_SORT_ROW_WEIGHT, row_weight}});
  push(operator_of(kOpExperts), {{kExpertsX, operand(HADAL_MOE_EXPERTS_X)},
                                 {kExpertsGate, operand(HADAL_MOE_EXPERTS_GATE)},
                                 {kExpertsUp, operand(HADAL_MOE_EXPERTS_UP)},
                                 {kExpertsOffset, offset},
                                 {kExpertsOrder, order},
                                 {kExpertsRowWeight, row_weight},
                                 {kExpertsOut, hidden}});
  push(operator_of(HADAL_OP_GROUPED_MATMUL),
       {{HADAL_GROUPED_MATMUL_X, hidden},
        {HADAL_GROUPED_MATMUL_W, operand(HADAL_MOE_EXPERTS_DOWN)},
        {HADAL_GROUPED_MATMUL_OFFSET, offset},
        {HADAL_GROUPED_MATMUL_OUT, result}});
  push(operator_of(HADAL_OP_MOE_COMBINE),
       {{HADAL_MOE_COMBINE_X, result},
        {HADAL_MOE_COMBINE_PLACE, place},
        {HADAL_MOE_COMBINE_SHARED, operand(HADAL_MOE_EXPERTS_SHARED)},
        {HADAL_MOE_COMBINE_ADD, operand(HADAL_MOE_EXPERTS_ADD)},
        {HADAL_MOE_COMBINE_OUT, operand(HADAL_MOE_EXPERTS_OUT)}});
}

hadal_status ProgramTape::make(const hadal_tape& from, ProgramTape* to, hadal_error* error) {
  to->tensors.assign(from.tensors, from.tensors + from.tensor_count);
  std::copy(std::begin(from.limits), std::end(from.limits), to->limits);
  to->limits[HADAL_DIM_CONST] = 1;
  to->scratch_bytes = from.scratch_bytes;
  to->input_bytes = from.input_bytes;
  to->output_bytes = from.output_bytes;
  to->plane_count = from.plane_count;
  for (uint32_t i = 0; i < from.op_count; ++i) {
    const hadal_op& op = from.ops[i];
    std::array<hadal_tensor, HADAL_MAX_OPERANDS> tensors{};
    if (const hadal_status s = contract::gather_operands(from, op, tensors.data(), error);
        s != HADAL_OK)
      return s;
    if (const hadal_status s = check_support(op, tensors.data(), error); s != HADAL_OK) return s;
    for (uint32_t operand = 0; operand < contract::operand_count(op.id); ++operand) {
      const hadal_tensor& t = tensors[operand];
      if (t.space != HADAL_SPACE_WEIGHT) continue;
      const std::string why = contract::check_handle(weight_of(t.weight).desc, op, operand, t);
      if (!why.empty())
        return contract::report(error, HADAL_INVALID,
                                std::string(contract::op_name(op.id)) + ": " + why);
    }
    if (op.id == HADAL_OP_MOE_EXPERTS && is_plain(tensors[HADAL_MOE_EXPERTS_GATE]) &&
        is_plain(tensors[HADAL_MOE_EXPERTS_UP])) {
      to->take_apart(op);
      continue;
    }
    const Operator& known = *find_operator(op.id);
    if (known.workspace)
      to->workspace_bytes =
          std::max(to->workspace_bytes, known.workspace(op, tensors.data(), to->limits));
    to->ops.push_back({op, op.id});
  }
  return HADAL_OK;
}

}  // namespace hadal::opencl
