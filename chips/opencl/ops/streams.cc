// The streams of DeepSeek-V4 and V4.1: hc_pre, hc_post, engram_gate. Kernels: kernels/streams.cl.
#include "ops/operators.h"

namespace hadal::opencl {
namespace {

hadal_status run_hc_pre(Call& call) {
  const hadal_hc_attr& a = call.op->attr.hc;
  const Operand& x = call[HADAL_HC_PRE_X];
  return Launch(call, "streams", "hc_pre")
      .cube(HADAL_HC_PRE_X)
      .matrix(HADAL_HC_PRE_MIX)
      .vector(HADAL_HC_PRE_BASE)
      .vector(HADAL_HC_PRE_SCALE)
      .matrix(HADAL_HC_PRE_OUT)
      .matrix(HADAL_HC_PRE_POST)
      .cube(HADAL_HC_PRE_COMB)
      .matrix(HADAL_HC_PRE_PRE)
      .number(x.extents[1])
      .number(x.extents[2])
      .given(HADAL_HC_PRE_MIX)
      .given(HADAL_HC_PRE_OUT)
      .given(HADAL_HC_PRE_POST)
      .given(HADAL_HC_PRE_PRE)
      .real(a.norm_eps)
      .real(a.eps)
      .number(a.iterations)
      .run_groups(1, x.extents[0]);
}

hadal_status run_hc_post(Call& call) {
  const Operand& x = call[HADAL_HC_POST_X];
  return Launch(call, "streams", "hc_post")
      .cube(HADAL_HC_POST_X)
      .matrix(HADAL_HC_POST_F)
      .matrix(HADAL_HC_POST_POST)
      .cube(HADAL_HC_POST_COMB)
      .number(x.extents[1])
      .number(x.extents[2])
      .run_items(x.extents[2], x.extents[0]);
}

hadal_status run_engram_gate(Call& call) {
  const hadal_engram_attr& a = call.op->attr.engram;
  const Operand& x = call[HADAL_ENGRAM_GATE_X];
  return Launch(call, "streams", "engram_gate")
      .cube(HADAL_ENGRAM_GATE_X)
      .cube(HADAL_ENGRAM_GATE_KEY)
      .matrix(HADAL_ENGRAM_GATE_VALUE)
      .vector(HADAL_ENGRAM_GATE_Q_WEIGHT)
      .vector(HADAL_ENGRAM_GATE_K_WEIGHT)
      .number(x.extents[2])
      .real(a.eps)
      .real(a.floor)
      .run_groups(x.extents[1], x.extents[0]);
}

}  // namespace

const Operator kHcPre = {HADAL_OP_HC_PRE, nullptr, nullptr, run_hc_pre};
const Operator kHcPost = {HADAL_OP_HC_POST, nullptr, nullptr, run_hc_post};
const Operator kEngramGate = {HADAL_OP_ENGRAM_GATE, nullptr, nullptr, run_engram_gate};

}  // namespace hadal::opencl
