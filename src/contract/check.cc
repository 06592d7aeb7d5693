#include "contract/check.h"

#include <algorithm>
#include <string_view>

#include "base/dtype.h"
#include "contract/operators.h"
#include "contract/report.h"

namespace hadal::contract {
namespace {

bool takes_dtype(std::string_view list, const DTypeInfo& type) {
  if (list == "any") return type.dtype != HADAL_BOOL;
  while (!list.empty()) {
    const size_t end = std::min(list.find(' '), list.size());
    if (list.substr(0, end) == type.name) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

// A weight by itself: no axis is empty, and its rows are whole blocks of its type.
std::string check_weight(const hadal_tensor& t, const DTypeInfo& type) {
  if (t.offset != 0) return "is a weight with an offset";
  for (uint32_t d = 0; d < t.rank; ++d)
    if (t.extents[d] < 1) return "must not be empty";
  return t.extents[t.rank - 1] % type.block_values != 0
             ? "has rows that are no multiple of the " + std::to_string(type.block_values) +
                   " values of a block"
             : "";
}

std::string check_strides(const hadal_tensor& t, const DTypeInfo& type) {
  if (t.strides[t.rank - 1] != type.block_bytes)
    return "must be contiguous along its innermost extent";
  for (uint32_t d = 0; d < t.rank; ++d)
    if (t.strides[d] < 0 || t.strides[d] % type.block_bytes != 0)
      return "has a stride that is no multiple of its element";
  return t.offset % static_cast<uint64_t>(type.block_bytes) != 0
             ? "has an offset that is no multiple of its element"
             : "";
}

// One operand by itself: where it lies, its type, its strides.
std::string check_tensor(const hadal_op& op, uint32_t operand, const hadal_tensor& t) {
  const bool weight = is_weight(operand_role(op.id, operand));
  if (weight != (t.space == HADAL_SPACE_WEIGHT))
    return weight ? "must be a weight" : "must not be a weight";
  if (t.rank < 1 || t.rank > HADAL_MAX_RANK) return "has rank " + std::to_string(t.rank);
  if (t.row_dim >= HADAL_DIM_COUNT) return "has an unknown row count";
  const bool plane = t.space == HADAL_SPACE_PLANE;
  if (t.row_dim != HADAL_DIM_CONST && (weight || plane))
    return "cannot change its size from step to step";
  const DTypeInfo* type = dtype_info(static_cast<DType>(t.dtype));
  if (!type) return "has an unknown dtype";
  const std::string_view dtypes = operand_dtypes(op.id, operand);
  if (!takes_dtype(dtypes, *type))
    return "is " + std::string(type->name) + ", expected " + std::string(dtypes);
  for (uint32_t d = 0; d < t.rank; ++d)
    if (t.extents[d] < 0) return "has a negative extent";
  if (plane && t.rank == 3 && t.extents[1] < 1) return "has blocks of 0 slots";
  return weight ? check_weight(t, *type) : check_strides(t, *type);
}

}  // namespace

hadal_status check_operands(const hadal_op& op, const hadal_tensor* tensors, hadal_error* error) {
  const uint32_t n = operand_count(op.id);
  if (n == 0)
    return report(error, HADAL_UNSUPPORTED,
                  "operator " + std::to_string(op.id) + " is unknown to this chip");
  std::string why;
  for (uint32_t i = 0; why.empty() && i < n; ++i) {
    if (!present(tensors[i]))
      why = is_optional(operand_role(op.id, i)) ? "" : " is missing";
    else if (const std::string wrong = check_tensor(op, i, tensors[i]); !wrong.empty())
      why = " " + wrong;
    if (!why.empty()) why = operand_name(op.id, i) + why;
  }
  if (why.empty()) why = check_shapes(op, tensors);
  if (why.empty()) why = check_attributes(op, tensors);
  return why.empty() ? HADAL_OK : report(error, HADAL_INVALID, describe(op, tensors) + ": " + why);
}

std::string check_handle(const hadal_weight_desc& desc, const hadal_op& op, uint32_t operand,
                         const hadal_tensor& t) {
  const uint32_t use = operand_use(op.id, operand);
  const std::string name = operand_name(op.id, operand);
  if ((desc.uses & use) == 0) return name + " was not created for this use";
  const int64_t shape[] = {desc.batch, desc.rows, desc.cols};
  bool same = t.dtype == desc.dtype;
  for (uint32_t d = 0; d < 3; ++d)
    same = same && shape[2 - d] == (d < t.rank ? t.extents[t.rank - 1 - d] : 1);
  return same ? "" : name + " does not have the shape and dtype of its handle";
}

hadal_status gather_operands(const hadal_tape& tape, const hadal_op& op, hadal_tensor* tensors,
                             hadal_error* error) {
  for (uint32_t i = 0; i < HADAL_MAX_OPERANDS; ++i) tensors[i] = {};
  for (uint32_t i = 0; i < operand_count(op.id); ++i) {
    const auto refuse = [&](const char* why) {
      return report(error, HADAL_INVALID,
                    std::string(op_name(op.id)) + ": " + operand_name(op.id, i) + why);
    };
    if (op.operands[i] >= static_cast<int32_t>(tape.tensor_count))
      return refuse(" is not in the tape");
    if (op.operands[i] >= 0) tensors[i] = tape.tensors[op.operands[i]];
    if (tensors[i].space == HADAL_SPACE_PLANE && tensors[i].index >= tape.plane_count)
      return refuse(" is in a plane that the tape does not have");
    if (tensors[i].space == HADAL_SPACE_WEIGHT && !tensors[i].weight)
      return refuse(" is not bound to a weight");
  }
  return HADAL_OK;
}

}  // namespace hadal::contract
