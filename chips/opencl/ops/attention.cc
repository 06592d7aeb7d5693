// gqa_attention, and latent_attention, where one row of a plane is K and V of all heads;
// mla_attention is left to the host's lowering. Kernels: kernels/attention.cl.
#include "contract/operators.h"
#include "ops/operators.h"

namespace hadal::opencl {
namespace {

constexpr int64_t kHeads = 8;  ///< HEADS of the kernel: they share the entries that are read
/// The weighted sums of kHeads heads lie in local memory, beside 3 KiB of scores.
constexpr int64_t kMostValues = 896;

std::string refuse_values(int64_t dv) {
  return dv <= kMostValues ? ""
                           : "takes values of at most " + std::to_string(kMostValues) +
                                 " numbers, not " + std::to_string(dv);
}

std::string refuse_gqa(const hadal_op&, const hadal_tensor* t) {
  return refuse_values(t[HADAL_GQA_ATTENTION_OUT].extents[2]);
}

std::string refuse_latent(const hadal_op&, const hadal_tensor* t) {
  return refuse_values(t[HADAL_LATENT_ATTENTION_OUT].extents[2]);
}

hadal_status run_gqa(Call& call) {
  const hadal_attention_attr& a = call.op->attr.attention;
  const Operand &q = call[HADAL_GQA_ATTENTION_Q], &table = call[HADAL_GQA_ATTENTION_BLOCK_TABLE];
  const int64_t dv = call[HADAL_GQA_ATTENTION_OUT].extents[2];
  const int64_t group = q.extents[1] / a.kv_heads;
  return Launch(call, "attention", "gqa_attention")
      .cube(HADAL_GQA_ATTENTION_Q)
      .plane(HADAL_GQA_ATTENTION_K)
      .plane(HADAL_GQA_ATTENTION_V)
      .vector(HADAL_GQA_ATTENTION_POSITION)
      .vector(HADAL_GQA_ATTENTION_ROW_SEQ)
      .matrix(HADAL_GQA_ATTENTION_BLOCK_TABLE)
      .number(table.extents[0])
      .number(table.extents[1] * call[HADAL_GQA_ATTENTION_K].extents[1])
      .vector(HADAL_GQA_ATTENTION_FIRST)
      .vector(HADAL_GQA_ATTENTION_SINK)
      .given(HADAL_GQA_ATTENTION_SINK)
      .cube(HADAL_GQA_ATTENTION_OUT)
      .number(a.kv_heads)
      .number(group)
      .number(q.extents[2])
      .number(dv)
      .number(a.window)
      .real(a.scale)
      .local(kHeads * ((dv + 7) / 8 * 8))
      .run_groups(a.kv_heads * ((group + kHeads - 1) / kHeads), q.extents[0]);
}

void add_segment(Launch& launch, const Call& call, const contract::SegmentOperands& at,
                 const hadal_segment_attr& a) {
  const Operand &plane = call[at.plane], &table = call[at.block_table], &list = call[at.list];
  launch.plane(at.plane)
      .matrix(at.block_table)
      .number(plane.present() ? table.extents[1] * plane.extents[1] : 0)
      .vector(at.first)
      .matrix(at.list)
      .number(list.present() ? list.extents[1] : -1)
      .number(a.ratio)
      .number(a.window);
}

hadal_status run_latent(Call& call) {
  const hadal_latent_attr& a = call.op->attr.latent;
  const Operand& q = call[HADAL_LATENT_ATTENTION_Q];
  const int64_t dv = call[HADAL_LATENT_ATTENTION_OUT].extents[2];
  Launch launch(call, "attention", "latent_attention");
  launch.cube(HADAL_LATENT_ATTENTION_Q)
      .cube(HADAL_LATENT_ATTENTION_TAIL)
      .vector(HADAL_LATENT_ATTENTION_POSITION)
      .vector(HADAL_LATENT_ATTENTION_ROW_SEQ)
      .number(call[HADAL_LATENT_ATTENTION_BLOCK_TABLE].extents[0]);
  for (size_t i = 0; i < 2; ++i)
    add_segment(launch, call, contract::kLatentSegments[i], a.segments[i]);
  return launch.given(HADAL_LATENT_ATTENTION_PLANE2)
      .vector(HADAL_LATENT_ATTENTION_SINK)
      .given(HADAL_LATENT_ATTENTION_SINK)
      .cube(HADAL_LATENT_ATTENTION_OUT)
      .number(q.extents[1])
      .number(q.extents[2])
      .number(call[HADAL_LATENT_ATTENTION_PLANE].extents[2])
      .number(dv)
      .real(a.scale)
      .local(kHeads * ((dv + 7) / 8 * 8))
      .run_groups((q.extents[1] + kHeads - 1) / kHeads, q.extents[0]);
}

}  // namespace

const Operator kGqaAttention = {HADAL_OP_GQA_ATTENTION, refuse_gqa, nullptr, run_gqa};
const Operator kLatentAttention = {HADAL_OP_LATENT_ATTENTION, refuse_latent, nullptr, run_latent};

}  // namespace hadal::opencl
