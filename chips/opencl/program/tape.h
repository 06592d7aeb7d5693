// A program's own copy of a tape, in which moe_experts is taken apart into operators that can stand
// beside others in one launch. What goes between these lies in the program's workspace.
#pragma once

#include <vector>

#include "hadal/chip.h"
#include "runtime/plan_layout.h"

namespace hadal::opencl {

/// A space of tensors beside the contract's: the program's workspace.
constexpr uint32_t kSpaceWorkspace = 0x10000;

struct ProgramOp {
  hadal_op op{};
  uint32_t origin = 0;  ///< the operator of the tape that it comes from
};

class ProgramTape {
 public:
  /// Checks every operator; its tensors and handles must live as long as the copy.
  static hadal_status make(const hadal_tape& from, ProgramTape* to, hadal_error* error);

  [[nodiscard]] const hadal_tensor* tensor(const hadal_op& op, uint32_t operand) const {
    const int32_t index = op.operands[operand];
    if (index < 0) return nullptr;
    const hadal_tensor& t = tensors[static_cast<size_t>(index)];
    return t.space == HADAL_SPACE_NONE ? nullptr : &t;
  }

  std::vector<hadal_tensor> tensors;
  std::vector<ProgramOp> ops;
  int64_t limits[HADAL_DIM_COUNT] = {};
  uint64_t scratch_bytes = 0, input_bytes = 0, output_bytes = 0;
  uint32_t plane_count = 0;
  uint64_t workspace_bytes = 0;

 private:
  void take_apart(const hadal_op& experts);
  int32_t work(uint32_t dtype, const hadal_tensor& rows, int64_t first, int64_t columns);

  uint64_t used_ = 0;  ///< of the workspace, by the operator that is taken apart
};

/// Operands of an operator of the contract or of this chip's own.
uint32_t operand_count_of(uint32_t id);
hadal_role operand_role_of(uint32_t id, uint32_t operand);

}  // namespace hadal::opencl
