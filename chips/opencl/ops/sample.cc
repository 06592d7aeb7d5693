// sample, where a row of logits is long. Kernel: kernels/sample.cl.
//
// A short row is left to the host, which samples by the same formula: the copy of a few KiB costs
// less than the passes of one work-group over it.
#include "ops/operators.h"

namespace hadal::opencl {
namespace {

constexpr int64_t kLeastVocabulary = 2048;

std::string refuse(const hadal_op&, const hadal_tensor* t) {
  const int64_t vocabulary = t[HADAL_SAMPLE_LOGITS].extents[1];
  return vocabulary >= kLeastVocabulary
             ? ""
             : "leaves rows of fewer than " + std::to_string(kLeastVocabulary) +
                   " logits to the host, these are " + std::to_string(vocabulary);
}

uint64_t workspace(const hadal_op&, const hadal_tensor* t, const int64_t* limits) {
  const hadal_tensor& logits = t[HADAL_SAMPLE_LOGITS];
  return static_cast<uint64_t>(logits.extents[0] * limits[logits.row_dim] * logits.extents[1] * 4);
}

hadal_status run(Call& call) {
  const Operand& logits = call[HADAL_SAMPLE_LOGITS];
  return Launch(call, "sample", "sample")
      .matrix(HADAL_SAMPLE_LOGITS)
      .matrix(HADAL_SAMPLE_PARAMS)
      .matrix(HADAL_SAMPLE_SEED)
      .vector(HADAL_SAMPLE_POSITION)
      .matrix(HADAL_SAMPLE_ENTRY_START)
      .matrix(HADAL_SAMPLE_ENTRY)
      .number(call[HADAL_SAMPLE_ENTRY].extents[0])
      .vector(HADAL_SAMPLE_ENTRY_BIAS)
      .matrix(HADAL_SAMPLE_MASK)
      .given(HADAL_SAMPLE_MASK)
      .vector(HADAL_SAMPLE_TOKEN)
      .vector(HADAL_SAMPLE_LOGPROB)
      .matrix(HADAL_SAMPLE_TOP_TOKEN)
      .matrix(HADAL_SAMPLE_TOP_LOGPROB)
      .number(call.op->attr.sample.top)
      .number(logits.extents[1])
      .workspace_matrix(0, logits.extents[1])
      .run_groups(1, logits.extents[0]);
}

}  // namespace

const Operator kSample = {HADAL_OP_SAMPLE, refuse, workspace, run};

}  // namespace hadal::opencl
