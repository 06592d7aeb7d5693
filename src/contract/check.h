// The checks that hold for every chip: an operator's operands against hadal/operators.inc.
#pragma once

#include <cstdint>
#include <string>

#include "hadal/chip.h"

namespace hadal::contract {

/// Number and presence of operands, dtypes, shapes, strides, attributes. HADAL_OK,
/// HADAL_UNSUPPORTED for an operator that the list does not have, or HADAL_INVALID; both with a
/// text. tensors[i] belongs to operand i; absent ones have space NONE. Weight handles are not
/// looked at.
hadal_status check_operands(const hadal_op& op, const hadal_tensor* tensors, hadal_error* error);

/// Why a weight made by `desc` cannot be operand `operand`, whose tensor is `t`; empty if it can.
std::string check_handle(const hadal_weight_desc& desc, const hadal_op& op, uint32_t operand,
                         const hadal_tensor& t);

/// Every operand of the operator lies in the tape, in a plane that the tape has, and is bound if it
/// is a weight. Fills tensors[HADAL_MAX_OPERANDS], absent ones with space NONE.
hadal_status gather_operands(const hadal_tape& tape, const hadal_op& op, hadal_tensor* tensors,
                             hadal_error* error);

// The parts of check_operands: texts that say what is wrong, empty if nothing is.
std::string check_shapes(const hadal_op& op, const hadal_tensor* tensors);
std::string check_attributes(const hadal_op& op, const hadal_tensor* tensors);

}  // namespace hadal::contract
