// The rules of each operator that no shape says: attributes, and operands that go together.
#include <cmath>

#include "contract/check.h"
#include "contract/operators.h"

namespace hadal::contract {
namespace {

std::string check_streams(int64_t n) { return n < 1 || n > 16 ? "1 to 16 streams" : ""; }

std::string check_norm(const hadal_op& op, const hadal_tensor* t) {
  const hadal_norm_attr& a = op.attr.norm;
  if (!(a.eps >= 0) || !std::isfinite(a.eps)) return "eps must be a finite number, not negative";
  if (a.layer > 1) return "layer must be 0 or 1";
  if (t[HADAL_NORM_X].extents[t[HADAL_NORM_X].rank - 1] < 1) return "rows must not be empty";
  return !a.layer && present(t[HADAL_NORM_B]) ? "b belongs to a layer norm only" : "";
}

std::string check_rope(const hadal_op& op, const hadal_tensor* t) {
  const hadal_rope_attr& a = op.attr.rope;
  if (a.dims % 2 != 0 || a.dims == 0) return "dims must be even and not 0";
  if (int64_t{a.first} + a.dims > t[HADAL_ROPE_X].extents[2])
    return "first + dims is more than a head has";
  if (a.interleaved > 1 || a.inverse > 1) return "interleaved and inverse must be 0 or 1";
  return a.ratio < 1 ? "ratio must be at least 1" : "";
}

std::string check_clamp(float clamp) { return clamp >= 0 ? "" : "clamp must not be negative"; }

std::string check_swiglu(const hadal_op& op, const hadal_tensor*) {
  return check_clamp(op.attr.swiglu.clamp);
}

std::string check_kv_write(const hadal_op& op, const hadal_tensor*) {
  return op.attr.kv_write.ratio < 1 ? "ratio must be at least 1" : "";
}

std::string check_attention(const hadal_op& op, const hadal_tensor* t) {
  const hadal_attention_attr& a = op.attr.attention;
  const int64_t heads = t[HADAL_GQA_ATTENTION_Q].extents[1];
  if (a.kv_heads < 1 || heads < 1 || heads % a.kv_heads != 0)
    return "the heads must be a multiple of kv_heads";
  return std::isfinite(a.scale) ? "" : "scale must be finite";
}

std::string check_gather_rows(const hadal_op&, const hadal_tensor* t) {
  return t[HADAL_GATHER_ROWS_X].dtype == t[HADAL_GATHER_ROWS_OUT].dtype
             ? ""
             : "x and out must be of one dtype";
}

std::string check_sample(const hadal_op& op, const hadal_tensor* t) {
  const int64_t vocabulary = t[HADAL_SAMPLE_LOGITS].extents[1];
  if (vocabulary < 1 || vocabulary >= int64_t{1} << 31)
    return "a row of logits must hold 1 to 2^31 - 1 numbers";
  return int64_t{op.attr.sample.top} > vocabulary ? "top is more than there are tokens" : "";
}

std::string check_router(const hadal_op& op, const hadal_tensor* t) {
  const hadal_router_attr& a = op.attr.router;
  const int64_t experts = t[HADAL_ROUTER_LOGITS].extents[1], k = t[HADAL_ROUTER_EXPERT].extents[1];
  if (a.score > HADAL_ROUTER_SQRT_SOFTPLUS) return "score is unknown";
  if (a.groups < 1 || experts % a.groups != 0) return "the experts must be a multiple of groups";
  if (a.groups_kept < 1 || a.groups_kept > a.groups) return "groups_kept must be 1 to groups";
  const int64_t run = experts / a.groups;
  if (a.group_best < 1 || a.group_best > 2 || a.group_best > run)
    return "group_best must be 1 or 2, and no more than a run has experts";
  if (k < 1 || k > run * a.groups_kept) return "asks for more experts than the kept groups have";
  if (present(t[HADAL_ROUTER_HASH]) != present(t[HADAL_ROUTER_TOKEN]))
    return "token and hash go together";
  return std::isfinite(a.scale) && a.normalise <= 1 ? "" : "scale must be finite, normalise 0 or 1";
}

/// `pairs` has `fan` rows for each row of `tokens`; without tokens as many as `plain`.
std::string check_fan(const hadal_experts_attr& a, const hadal_tensor* tokens,
                      const hadal_tensor& plain, const hadal_tensor& pairs) {
  if (a.fan < 1) return "fan must be at least 1";
  const hadal_tensor& from = tokens ? *tokens : plain;
  const int64_t fan = tokens ? a.fan : 1;
  return from.row_dim == pairs.row_dim && from.extents[0] * fan == pairs.extents[0]
             ? ""
             : "the rows of the pairs are not fan times those of the tokens";
}

std::string check_latent(const hadal_op& op, const hadal_tensor* t) {
  const hadal_latent_attr& a = op.attr.latent;
  const SegmentOperands& other = kLatentSegments[1];
  const bool second = present(t[other.plane]);
  if (second != present(t[other.block_table]) || second != present(t[other.first]))
    return "plane2, block_table2 and first2 go together";
  if (!second && present(t[other.list])) return "list2 without plane2";
  if (t[HADAL_LATENT_ATTENTION_Q].extents[1] < 1) return "there must be at least one head";
  for (int i = 0; i <= (second ? 1 : 0); ++i)
    if (a.segments[i].ratio < 1) return "ratio must be at least 1";
  if (t[HADAL_LATENT_ATTENTION_OUT].extents[2] > t[HADAL_LATENT_ATTENTION_PLANE].extents[2])
    return "the values are wider than the entries";
  return std::isfinite(a.scale) ? "" : "scale must be finite";
}

std::string check_compress(const hadal_op& op, const hadal_tensor* t) {
  const hadal_compress_attr& a = op.attr.compress;
  const int64_t width = t[HADAL_COMPRESS_OUT].extents[1] * (a.overlap ? 2 : 1);
  if (a.ratio < 1 || a.overlap > 1) return "ratio must be at least 1, overlap 0 or 1";
  if (t[HADAL_COMPRESS_PLANE].extents[2] != 2 * width) return "the plane's rows are not 2 widths";
  const hadal_tensor& ape = t[HADAL_COMPRESS_APE];
  return !present(ape) || ape.extents[0] == int64_t{a.ratio} * width
             ? ""
             : "ape must have ratio times the width";
}

std::string check_hc_pre(const hadal_op& op, const hadal_tensor* t) {
  const hadal_hc_attr& a = op.attr.hc;
  const auto given = [&](uint32_t operand) { return present(t[operand]); };
  const int64_t n = t[HADAL_HC_PRE_X].extents[1];
  const bool all = given(HADAL_HC_PRE_POST), mixes = given(HADAL_HC_PRE_MIX);
  if (std::string why = check_streams(n); !why.empty()) return why;
  if (all != given(HADAL_HC_PRE_COMB)) return "post and comb go together";
  if (mixes != given(HADAL_HC_PRE_BASE) || mixes != given(HADAL_HC_PRE_SCALE))
    return "mix, base and scale go together";
  if (all && !mixes) return "post and comb need mix";
  if (!given(HADAL_HC_PRE_PRE) && !(mixes && given(HADAL_HC_PRE_OUT)))
    return "without pre, mix and out are needed";
  if (!mixes && !given(HADAL_HC_PRE_OUT)) return "neither mix nor out: nothing is asked";
  if (mixes && t[HADAL_HC_PRE_MIX].extents[1] != (all ? n * (n + 2) : n))
    return "mix must hold n numbers, or n (n + 2) with post and comb";
  if (mixes && t[HADAL_HC_PRE_SCALE].extents[0] != (all ? 3 : 1))
    return "scale must hold 1 or 3 numbers";
  return a.norm_eps >= 0 && a.eps >= 0 && a.iterations >= 1
             ? ""
             : "the epsilons must not be negative, iterations at least 1";
}

std::string check_index(const hadal_op& op, const hadal_tensor* t) {
  if (op.attr.index.ratio < 1) return "ratio must be at least 1";
  const bool blocks = op.id == HADAL_OP_INDEX_BLOCKS || present(t[HADAL_INDEX_TOPK_CANDIDATES]);
  return blocks == (op.attr.index.block_size > 0) ? "" : "block_size goes with candidates";
}

std::string check_grouped_matmul(const hadal_op& op, const hadal_tensor* t) {
  const hadal_tensor& x = t[HADAL_GROUPED_MATMUL_X];
  const bool ordered = present(t[HADAL_GROUPED_MATMUL_ORDER]);
  return check_fan(op.attr.experts, ordered ? &x : nullptr, x, t[HADAL_GROUPED_MATMUL_OUT]);
}

std::string check_moe_combine(const hadal_op& op, const hadal_tensor* t) {
  const hadal_tensor& out = t[HADAL_MOE_COMBINE_OUT];
  return check_fan(op.attr.experts, &out, out, t[HADAL_MOE_COMBINE_X]);
}

/// `count` experts from `first` on are here, of `of`.
std::string check_range(const hadal_experts_attr& a, int64_t count) {
  if (a.of == 0) return a.first == 0 ? "" : "first goes with of";
  return int64_t{a.first} + count <= int64_t{a.of} ? ""
                                                   : "first + the experts here is more than of";
}

std::string check_moe_sort(const hadal_op& op, const hadal_tensor* t) {
  return check_range(op.attr.experts, t[HADAL_MOE_SORT_OFFSET].extents[0] - 1);
}

std::string check_moe_experts(const hadal_op& op, const hadal_tensor* t) {
  if (std::string why = check_clamp(op.attr.experts.clamp); !why.empty()) return why;
  return check_range(op.attr.experts, t[HADAL_MOE_EXPERTS_GATE].extents[0]);
}

std::string check_all_reduce(const hadal_op&, const hadal_tensor* t) {
  const hadal_tensor& x = t[HADAL_ALL_REDUCE_X];
  return x.strides[0] == x.extents[1] * x.strides[1] ? "" : "x must be contiguous";
}

std::string check_mla(const hadal_op& op, const hadal_tensor*) {
  return std::isfinite(op.attr.latent.scale) ? "" : "scale must be finite";
}

std::string check_hc_post(const hadal_op&, const hadal_tensor* t) {
  return check_streams(t[HADAL_HC_POST_X].extents[1]);
}

std::string check_engram_gate(const hadal_op& op, const hadal_tensor* t) {
  const hadal_engram_attr& a = op.attr.engram;
  if (std::string why = check_streams(t[HADAL_ENGRAM_GATE_X].extents[1]); !why.empty()) return why;
  return a.eps >= 0 && a.floor >= 0 ? "" : "eps and floor must not be negative";
}

struct Rule {
  uint32_t op;
  std::string (*check)(const hadal_op& op, const hadal_tensor* tensors);
};
constexpr Rule kRules[] = {
    {HADAL_OP_NORM, check_norm},
    {HADAL_OP_ROPE, check_rope},
    {HADAL_OP_SWIGLU, check_swiglu},
    {HADAL_OP_GATED_MATMUL, check_swiglu},
    {HADAL_OP_KV_WRITE, check_kv_write},
    {HADAL_OP_GQA_ATTENTION, check_attention},
    {HADAL_OP_GATHER_ROWS, check_gather_rows},
    {HADAL_OP_SAMPLE, check_sample},
    {HADAL_OP_ROUTER, check_router},
    {HADAL_OP_MOE_SORT, check_moe_sort},
    {HADAL_OP_GROUPED_MATMUL, check_grouped_matmul},
    {HADAL_OP_MOE_COMBINE, check_moe_combine},
    {HADAL_OP_MOE_EXPERTS, check_moe_experts},
    {HADAL_OP_LATENT_ATTENTION, check_latent},
    {HADAL_OP_MLA_ATTENTION, check_mla},
    {HADAL_OP_INDEX_TOPK, check_index},
    {HADAL_OP_INDEX_BLOCKS, check_index},
    {HADAL_OP_COMPRESS, check_compress},
    {HADAL_OP_HC_PRE, check_hc_pre},
    {HADAL_OP_HC_POST, check_hc_post},
    {HADAL_OP_ENGRAM_GATE, check_engram_gate},
    {HADAL_OP_ALL_REDUCE, check_all_reduce},
};

}  // namespace

std::string check_attributes(const hadal_op& op, const hadal_tensor* tensors) {
  for (const Rule& rule : kRules)
    if (rule.op == op.id) return rule.check(op, tensors);
  return {};
}

}  // namespace hadal::contract
