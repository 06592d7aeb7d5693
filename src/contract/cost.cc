#include "contract/cost.h"

#include <algorithm>
#include <cmath>

#include "base/dtype.h"
#include "contract/operators.h"

namespace hadal::contract {
namespace {

/// The part of `experts` that `pairs` random choices touch.
double touched(double pairs, double experts) { return 1.0 - std::pow(1.0 - 1.0 / experts, pairs); }

using Rows = std::array<int64_t, HADAL_DIM_COUNT>;

/// Adds what the operands outside the cache hold to `s`.
void add_operands(OpShape& s, const hadal_op& op, std::span<const hadal_tensor> tensors,
                  const Rows& rows) {
  const auto count = static_cast<uint32_t>(tensors.size());
  for (uint32_t i = 0; i < count; ++i) {
    const hadal_tensor& t = tensors[i];
    if (t.space == HADAL_SPACE_NONE || t.space == HADAL_SPACE_PLANE) continue;
    double values = static_cast<double>(rows[t.row_dim]);
    for (uint32_t d = 0; d < t.rank; ++d) values *= static_cast<double>(t.extents[d]);
    const DTypeInfo* type = dtype_info(static_cast<DType>(t.dtype));
    const double bytes = values / type->block_values * type->block_bytes;
    // A block table and the like are read sparsely; a table that is gathered from costs its rows,
    // counted at the output.
    if (op.id == HADAL_OP_EMBED && i == HADAL_EMBED_TABLE) continue;
    if (t.space == HADAL_SPACE_INPUT && t.rank == 2 && t.row_dim == HADAL_DIM_S) continue;
    (t.space == HADAL_SPACE_WEIGHT ? s.w_bytes : s.io_bytes) += bytes;
  }
}

/// Adds a cache's bytes: each sequence's is read once a step.
void add_cache(OpShape& s, const hadal_tensor& plane, const Rows& rows, double entries) {
  const double slot = static_cast<double>(plane.strides[0]) / static_cast<double>(plane.extents[1]);
  s.io_bytes += static_cast<double>(rows[HADAL_DIM_S]) * entries * slot;
}

void add_segments(OpShape& s, const hadal_op& op, std::span<const hadal_tensor> tensors,
                  const Rows& rows, double context) {
  s.c = 0;
  for (const int i : {0, 1}) {
    const SegmentOperands& operands = kLatentSegments[i];
    if (!present(tensors[operands.plane])) continue;
    const hadal_segment_attr& segment = op.attr.latent.segments[i];
    double entries = context / segment.ratio;
    if (segment.window != 0) entries = std::min(entries, static_cast<double>(segment.window));
    const hadal_tensor& list = tensors[operands.list];
    if (present(list)) entries = std::min(entries, static_cast<double>(list.extents[1]));
    s.c += entries;
    add_cache(s, tensors[operands.plane], rows, entries);
  }
}

/// A row goes through R · K numbers of A and N · R of B; of E adapters, a sequence uses one.
void shape_lora(OpShape& s, const hadal_tensor& a, const hadal_tensor& b, const Rows& rows) {
  s.n = static_cast<double>(a.extents[1]);
  s.k = static_cast<double>(a.extents[2] + b.extents[1]);
  s.w_bytes *= touched(static_cast<double>(rows[HADAL_DIM_S]), static_cast<double>(a.extents[0]));
}

OpShape shape_of(const hadal_op& op, std::span<const hadal_tensor> tensors, const Rows& rows,
                 double context) {
  OpShape s;
  add_operands(s, op, tensors, rows);
  const hadal_tensor& x = tensors[0];
  s.m = static_cast<double>(x.extents[0] * rows[x.row_dim]);
  s.n = 1;
  for (uint32_t d = 1; d < x.rank; ++d) s.n *= static_cast<double>(x.extents[d]);
  s.k = s.n;
  const auto cache = [&](uint32_t plane, double entries) {
    add_cache(s, tensors[plane], rows, entries);
  };
  switch (op.id) {
    case HADAL_OP_MATMUL:
    case HADAL_OP_GATED_MATMUL: {
      const hadal_tensor& w = tensors[1];
      s.k = static_cast<double>(w.extents[w.rank - 1]);
      s.n = static_cast<double>(w.extents[w.rank - 2]) *
            (w.rank == 3 ? static_cast<double>(w.extents[0]) : 1.0);
      break;
    }
    case HADAL_OP_GROUPED_MATMUL: {
      const hadal_tensor &w = tensors[HADAL_GROUPED_MATMUL_W],
                         &out = tensors[HADAL_GROUPED_MATMUL_OUT];
      s.m = static_cast<double>(out.extents[0] * rows[out.row_dim]);
      s.n = static_cast<double>(w.extents[1]);
      s.k = static_cast<double>(w.extents[2]);
      s.w_bytes *= touched(s.m, static_cast<double>(w.extents[0]));
      break;
    }
    case HADAL_OP_LORA_ADD:
      shape_lora(s, tensors[HADAL_LORA_ADD_A], tensors[HADAL_LORA_ADD_B], rows);
      break;
    case HADAL_OP_MOE_EXPERTS: {
      const hadal_tensor& w = tensors[HADAL_MOE_EXPERTS_GATE];
      s.m *= static_cast<double>(op.attr.experts.fan);
      if (op.attr.experts.of > 0)  // the part of the pairs that is here, by chance
        s.m *= static_cast<double>(w.extents[0]) / static_cast<double>(op.attr.experts.of);
      s.n = static_cast<double>(w.extents[1]);
      s.k = static_cast<double>(w.extents[2]);
      s.w_bytes *= touched(s.m, static_cast<double>(w.extents[0]));
      break;
    }
    case HADAL_OP_GQA_ATTENTION:
      s.h = static_cast<double>(x.extents[1]);
      s.k = static_cast<double>(x.extents[2]);
      s.c = context;
      cache(HADAL_GQA_ATTENTION_K, context);
      cache(HADAL_GQA_ATTENTION_V, context);
      break;
    case HADAL_OP_LATENT_ATTENTION:
      s.h = static_cast<double>(x.extents[1]);
      s.k = static_cast<double>(tensors[HADAL_LATENT_ATTENTION_PLANE].extents[2]);
      add_segments(s, op, tensors, rows, context);
      break;
    case HADAL_OP_INDEX_BLOCKS:
    case HADAL_OP_INDEX_TOPK:
      static_assert(uint32_t{HADAL_INDEX_TOPK_PLANE} == uint32_t{HADAL_INDEX_BLOCKS_PLANE});
      s.h = static_cast<double>(x.extents[1]);
      s.k = static_cast<double>(x.extents[2]);
      s.c = context / op.attr.index.ratio;
      if (op.id == HADAL_OP_INDEX_TOPK &&
          tensors[HADAL_INDEX_TOPK_CANDIDATES].space != HADAL_SPACE_NONE)
        s.c = std::min(s.c, static_cast<double>(tensors[HADAL_INDEX_TOPK_CANDIDATES].extents[1] *
                                                op.attr.index.block_size));
      cache(HADAL_INDEX_TOPK_PLANE, s.c);
      break;
    case HADAL_OP_MLA_ATTENTION:
      s.h = static_cast<double>(x.extents[1]);
      s.k = static_cast<double>(tensors[HADAL_MLA_ATTENTION_PLANE].extents[2]);
      s.c = context;
      cache(HADAL_MLA_ATTENTION_PLANE, context);
      break;
    default:
      break;
  }
  return s;
}

}  // namespace

OpCost op_cost(const hadal_op& op, std::span<const hadal_tensor> tensors,
               const std::array<int64_t, HADAL_DIM_COUNT>& rows, double context) {
  const OpShape s = shape_of(op, tensors, rows, context);
  switch (op.id) {
#define HADAL_OP_COST(name, flops, bytes) \
  case HADAL_OP_##name:                   \
    return {static_cast<double>(flops), static_cast<double>(bytes)};
#include "contract/operator_costs.inc"
#undef HADAL_OP_COST
    default:
      return {};
  }
}

}  // namespace hadal::contract
