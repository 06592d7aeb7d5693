// Cost of an operator: FLOPs and bytes, from the expressions in operator_costs.inc. The planner,
// the bench and the kit's level `speed` count alike.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "hadal/chip.h"

namespace hadal::contract {

/// The numbers that HADAL_OP_COST expressions are written over.
struct OpShape {
  double m = 0;         ///< rows
  double n = 0;         ///< outputs a row
  double k = 0;         ///< inputs a row (a reduction's length; head width in attention)
  double h = 1;         ///< heads
  double c = 0;         ///< context positions that attention reads for each row
  double w_bytes = 0;   ///< stored bytes of the weights
  double io_bytes = 0;  ///< bytes of all other operands
};

struct OpCost {
  double flops = 0, bytes = 0;
};

/// rows: this step's row counts by hadal_dim; context: positions that attention reads.
OpCost op_cost(const hadal_op& op, std::span<const hadal_tensor> tensors,
               const std::array<int64_t, HADAL_DIM_COUNT>& rows, double context);

}  // namespace hadal::contract
