// The mixture of experts, but for its products: router, moe_sort, moe_combine. Kernels:
// kernels/experts.cl.
#include "ops/operators.h"

namespace hadal::opencl {
namespace {

/// Scores and selection scores of a row, and what is known of its groups, lie in local memory.
constexpr int64_t kMostExperts = 2048;

std::string refuse_router(const hadal_op&, const hadal_tensor* t) {
  const int64_t experts = t[HADAL_ROUTER_LOGITS].extents[1];
  if (experts > kMostExperts)
    return "routes among at most " + std::to_string(kMostExperts) + " experts, not " +
           std::to_string(experts);
  return {};
}

hadal_status run_router(Call& call) {
  const hadal_router_attr& a = call.op->attr.router;
  const int64_t experts = call[HADAL_ROUTER_LOGITS].extents[1];
  const int64_t k = call[HADAL_ROUTER_EXPERT].extents[1];
  const Operand& hash = call[HADAL_ROUTER_HASH];
  return for_parts(call, {HADAL_ROUTER_HASH}, [&](const Rows& rows) {
    return Launch(call, "experts", "router")
        .matrix(HADAL_ROUTER_LOGITS)
        .vector(HADAL_ROUTER_BIAS)
        .given(HADAL_ROUTER_BIAS)
        .vector(HADAL_ROUTER_TOKEN)
        .weight(HADAL_ROUTER_HASH, rows)
        .number(hash.present() ? hash.extents[0] : 0)
        .rows(rows)
        .matrix(HADAL_ROUTER_EXPERT)
        .matrix(HADAL_ROUTER_WEIGHT)
        .number(experts)
        .number(k)
        .number(a.score)
        .number(a.groups)
        .number(a.groups_kept)
        .number(a.group_best)
        .number(a.normalise)
        .real(a.scale)
        .local(experts)
        .local(experts)
        .local(a.groups)
        .local(a.groups)
        .local(k)
        .run_groups(1, call[HADAL_ROUTER_LOGITS].extents[0]);
  });
}

// A range of experts, or all of them.
hadal_status run_moe_sort(Call& call) {
  const hadal_experts_attr& a = call.op->attr.experts;
  const int64_t experts = call[HADAL_MOE_SORT_OFFSET].extents[0] - 1;
  return Launch(call, "experts", "moe_sort")
      .matrix(HADAL_MOE_SORT_EXPERT)
      .matrix(HADAL_MOE_SORT_WEIGHT)
      .vector(HADAL_MOE_SORT_ORDER)
      .vector(HADAL_MOE_SORT_PLACE)
      .vector(HADAL_MOE_SORT_OFFSET)
      .vector(HADAL_MOE_SORT_ROW_WEIGHT)
      .number(call[HADAL_MOE_SORT_EXPERT].extents[0])
      .number(call[HADAL_MOE_SORT_EXPERT].extents[1])
      .number(experts)
      .number(a.of == 0 ? 0 : a.first)
      .number(a.of == 0 ? experts : a.of)
      .run_items(experts, 1);
}

hadal_status run_moe_combine(Call& call) {
  const Operand& out = call[HADAL_MOE_COMBINE_OUT];
  return Launch(call, "experts", "moe_combine")
      .matrix(HADAL_MOE_COMBINE_X)
      .vector(HADAL_MOE_COMBINE_PLACE)
      .matrix(HADAL_MOE_COMBINE_SHARED)
      .given(HADAL_MOE_COMBINE_SHARED)
      .matrix(HADAL_MOE_COMBINE_ADD)
      .given(HADAL_MOE_COMBINE_ADD)
      .matrix(HADAL_MOE_COMBINE_OUT)
      .number(out.extents[1])
      .number(call.op->attr.experts.fan)
      .number(call[HADAL_MOE_COMBINE_X].extents[0])
      .run_items(out.extents[1], out.extents[0]);
}

}  // namespace

const Operator kRouter = {HADAL_OP_ROUTER, refuse_router, nullptr, run_router};
const Operator kMoeSort = {HADAL_OP_MOE_SORT, nullptr, nullptr, run_moe_sort};
const Operator kMoeCombine = {HADAL_OP_MOE_COMBINE, nullptr, nullptr, run_moe_combine};

}  // namespace hadal::opencl
