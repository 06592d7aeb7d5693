// The operators of this chip, a row each; the files of this folder define them.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "ops/launch.h"

namespace hadal::opencl {

struct Operator {
  uint32_t id;
  /// Why it is not taken although its operands are sound; null: always is.
  std::string (*refuse)(const hadal_op&, const hadal_tensor* tensors);
  /// Bytes; null: none.
  uint64_t (*workspace)(const hadal_op&, const hadal_tensor* tensors, const int64_t* limits);
  hadal_status (*run)(Call& call);
};

extern const Operator kAdd, kCompress, kConvert, kCopyBlocks, kEmbed, kEngramGate, kGatedMatmul,
    kGatherRows, kGqaAttention, kGroupedMatmul, kHcPost, kHcPre, kIndexBlocks, kIndexTopk, kKvWrite,
    kLatentAttention, kLoraAdd, kMatmul, kMoeCombine, kMoeExperts, kMoeSort, kNorm, kRope, kRouter,
    kSample, kSwiglu;

/// Null where this chip does not have the operator.
const Operator* find_operator(uint32_t id);

/// Is it taken? Handles are not looked at.
hadal_status check_support(const hadal_op& op, const hadal_tensor* tensors, hadal_error* error);

/// A tensor as an operand, but for the memory and the rows that a step brings.
Operand operand_of(const hadal_tensor& t);
/// How many blocks of a plane a memory holds.
int64_t blocks_in(const hadal_tensor& plane, const Memory& memory);

/// Queues one operator of a tape.
hadal_status run_operator(Queue& queue, const hadal_tape& tape, const hadal_op& op,
                          const hadal_step& step, hadal_error* error);

}  // namespace hadal::opencl
