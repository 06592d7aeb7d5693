// Facts about operators, read off hadal/operators.inc: names, operands, roles, uses, the operands
// of a segment.
//
// Any chip, the host and the kit may link this library. It knows no chip and touches no data.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "hadal/chip.h"

namespace hadal::contract {

/// Name of an operator in lower case ("gqa_attention"), "?" if unknown; and of its operand i.
const char* op_name(uint32_t id);
const char* operand_name(uint32_t id, uint32_t operand);
/// 0 for an unknown operator.
uint32_t operand_count(uint32_t id);
hadal_role operand_role(uint32_t id, uint32_t operand);
/// Shape and element types as operators.inc writes them.
std::string_view operand_shape(uint32_t id, uint32_t operand);
std::string_view operand_dtypes(uint32_t id, uint32_t operand);
/// How a weight operand is read: HADAL_USE_…; 0 for an operand that is no weight.
uint32_t operand_use(uint32_t id, uint32_t operand);

/// "exact", "block8 (32)", "half", …; "not said" for HADAL_NUMERICS_UNSAID.
std::string numerics_name(uint32_t numerics, uint32_t block);

/// The kernel table of `ref` that computes in a class.
std::string reference_table(uint32_t numerics, uint32_t block);

constexpr bool is_weight(hadal_role role) {
  return role == HADAL_ROLE_WEIGHT || role == HADAL_ROLE_OPT_WEIGHT;
}
constexpr bool is_optional(hadal_role role) {
  return role == HADAL_ROLE_OPT_IN || role == HADAL_ROLE_OPT_INOUT || role == HADAL_ROLE_OPT_WEIGHT;
}
constexpr bool writes(hadal_role role) {
  return role == HADAL_ROLE_OUT || role == HADAL_ROLE_INOUT || role == HADAL_ROLE_OPT_INOUT;
}

inline bool present(const hadal_tensor& t) { return t.space != HADAL_SPACE_NONE; }

/// A plane that an operator reads, and what says which of its entries are seen.
struct SegmentOperands {
  uint32_t plane, block_table, first, list;
};
constexpr SegmentOperands kLatentSegments[] = {
    {HADAL_LATENT_ATTENTION_PLANE, HADAL_LATENT_ATTENTION_BLOCK_TABLE, HADAL_LATENT_ATTENTION_FIRST,
     HADAL_LATENT_ATTENTION_LIST},
    {HADAL_LATENT_ATTENTION_PLANE2, HADAL_LATENT_ATTENTION_BLOCK_TABLE2,
     HADAL_LATENT_ATTENTION_FIRST2, HADAL_LATENT_ATTENTION_LIST2},
};

/// "matmul(x [512, 576] F32, w [1536, 576] Q4_K, …)": for error texts. tensors[i] belongs to
/// operand i; absent ones have space NONE.
std::string describe(const hadal_op& op, const hadal_tensor* tensors);

}  // namespace hadal::contract
