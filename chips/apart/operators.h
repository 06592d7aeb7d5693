// The operators: which are taken, in which class of numerics, and how one is made ready at the
// call, so that the worker needs nothing of the caller's. Those that are not written here are those
// of chips/ref.
#pragma once

#include <cstdint>

#include "chip.h"
#include "ref/ref.h"

namespace hadal::apart {

using Operator = hadal_status (*)(const ref::Call&);

/// An operator with the places of its operands in one step.
struct Launch {
  hadal_op op{};
  Operator run = nullptr;
  host_chip::View operands[HADAL_MAX_OPERANDS];
};

/// Is the operator taken with these operands? Handles are not looked at.
hadal_status check_support(Kind kind, const hadal_op& op, const hadal_tensor* tensors,
                           hadal_error* error);
hadal_numerics numerics_of(Kind kind, uint32_t op);

/// Checks all that can be told without reading the device's memory.
hadal_status prepare(Kind kind, const hadal_tape& tape, const hadal_op& op, const hadal_step& step,
                     Launch* launch, hadal_error* error);
hadal_status run(const Launch& launch, hadal_error* error);

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
