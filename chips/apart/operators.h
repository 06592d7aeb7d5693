// The operators: which are taken, in which class of numerics, and how one is made ready at the
// call, so that the worker needs nothing of the caller's. Those that are not written here are those
// of chips/ref.
#pragma once

#include <cstdint>
#include <memory>

#include "chip.h"
#include "memory.h"
#include "ref/ref.h"

namespace hadal::apart {

using Operator = hadal_status (*)(const ref::Call&);

/// An operator with the places of its operands in one step.
struct Launch {
  hadal_op op{};
  Operator run = nullptr;
  host_chip::View operands[HADAL_MAX_OPERANDS];
  std::shared_ptr<const Comm> comm;          ///< of all_reduce
  uint32_t row_seq = 0, with_sequences = 0;  ///< an operand; a bit for each that has such rows
};

/// Is the operator taken with these operands? Handles are not looked at.
hadal_status check_support(Kind kind, const hadal_op& op, const hadal_tensor* tensors,
                           hadal_error* error);
hadal_numerics numerics_of(Kind kind, uint32_t op);

/// Checks all that can be told without reading the device's memory.
hadal_status prepare(const Device& device, const hadal_tape& tape, const hadal_op& op,
                     const hadal_step& step, Launch* launch, hadal_error* error);
/// `filled`: the host fills steps up (hadal_device_info.row_buckets). Rows of no sequence get
/// results that are not numbers from every operator that knows sequences.
hadal_status run(const Launch& launch, bool filled, hadal_error* error);

/// Sum of products in fp32: a tile of 32 becomes eight sums by a fixed tree, tiles are added in
/// ascending order, and the eight by a fixed tree at the end.
float dot(const float* a, const float* b, int64_t n);

/// Rounded to bf16.
void round_half(const float* from, int64_t count, float* to);

// matmul.cc
hadal_status matmul(const ref::Call& call);
hadal_status grouped_matmul(const ref::Call& call);
// attention.cc
hadal_status gqa_attention(const ref::Call& call);
hadal_status latent_attention(const ref::Call& call);
// rows.cc
hadal_status kv_write(const ref::Call& call);
hadal_status copy_blocks(const ref::Call& call);
hadal_status index_topk(const ref::Call& call);
hadal_status index_blocks(const ref::Call& call);
hadal_status compress(const ref::Call& call);

}  // namespace hadal::apart
