/* Every type of chip.h and operators.h in one shared object, whose debugging information
 * check_abi.py reads: what a chip that was built once relies on. Nothing of it is ever called. */
#include "hadal/chip.h"

/* Codes travel as integers, so no function names their enums; the table of functions reaches all
 * structs but these. */
struct chip_contract {
  hadal_status status;
  hadal_numerics numerics;
  hadal_dim dim;
  hadal_space space;
  hadal_role role;
  hadal_op_id op;
  hadal_dtype dtype;
  hadal_plane_role plane_role;
  hadal_log_level log_level;
  hadal_router_score router_score;
  hadal_sample_param sample_param;
  hadal_error error;
  hadal_tensor tensor;
  hadal_op operation;
  hadal_tape tape;
  hadal_step step;
  hadal_host host;
  hadal_chip chip;
/* the order of each operator's operands */
#define HADAL_OP(name, code, level, formula, detail) hadal_operands_##name operands_of_##name;
#define HADAL_OPERAND(op, name, role, shape, dtypes, meaning)
#include "hadal/operators.inc"
#undef HADAL_OP
#undef HADAL_OPERAND
};

__attribute__((visibility("default"))) hadal_status hadal_chip_query(const hadal_host* host,
                                                                     uint32_t abi, hadal_chip* out);
hadal_status hadal_chip_query(const hadal_host* host, uint32_t abi, hadal_chip* out) {
  return (void)host, (void)abi, (void)out, HADAL_UNSUPPORTED;
}

extern __attribute__((visibility("default"))) struct chip_contract hadal_chip_contract;
struct chip_contract hadal_chip_contract;
