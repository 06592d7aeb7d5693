// sample: contract/sample.h for every row.
#include "contract/sample.h"

#include "ref.h"

namespace hadal::ref {
namespace {

/// The row's entries lie in the list, their tokens in the vocabulary.
hadal_status check_entries(const Call& call, int64_t r) {
  const auto& entries = call[HADAL_SAMPLE_ENTRY];
  const int32_t* range = call[HADAL_SAMPLE_ENTRY_START].row<int32_t>(r);
  if (range[0] < 0 || range[1] > entries.extents[0])
    return call.outside(HADAL_SAMPLE_ENTRY_START, r, range[0], entries.extents[0]);
  const int64_t vocabulary = call[HADAL_SAMPLE_LOGITS].extents[1];
  for (int64_t e = range[0]; e < range[1]; ++e)
    if (const int32_t token = *entries.row<int32_t>(e); token < 0 || token >= vocabulary)
      return call.outside(HADAL_SAMPLE_ENTRY, e, token, vocabulary);
  return HADAL_OK;
}

}  // namespace

hadal_status sample(const Call& call) {
  const auto& logits = call[HADAL_SAMPLE_LOGITS];
  const auto& entries = call[HADAL_SAMPLE_ENTRY];
  const auto& bias = call[HADAL_SAMPLE_ENTRY_BIAS];
  const auto& mask = call[HADAL_SAMPLE_MASK];
  const size_t top = call.op->attr.sample.top;
  for (int64_t r = 0; r < logits.extents[0]; ++r) {
    if (const hadal_status status = check_entries(call, r); status != HADAL_OK) return status;
    const int32_t* range = call[HADAL_SAMPLE_ENTRY_START].row<int32_t>(r);
    // Rows of entries may be strided.
    std::vector<int32_t> triples;
    std::vector<float> biases;
    for (int64_t e = range[0]; e < range[1]; ++e) {
      const int32_t* entry = entries.row<int32_t>(e);
      triples.insert(triples.end(), entry, entry + 3);
      biases.push_back(*bias.row<float>(e));
    }
    const contract::SampledToken sampled = contract::sample_row(
        {.logits = {logits.row<float>(r), static_cast<size_t>(logits.extents[1])},
         .params = call[HADAL_SAMPLE_PARAMS].row<float>(r),
         .key = call[HADAL_SAMPLE_SEED].row<uint32_t>(r),
         .position = *call[HADAL_SAMPLE_POSITION].row<int32_t>(r),
         .entries = triples,
         .bias = biases.data(),
         .mask = mask.present() ? mask.row<uint32_t>(r) : nullptr},
        {call[HADAL_SAMPLE_TOP_TOKEN].row<int32_t>(r), top},
        {call[HADAL_SAMPLE_TOP_LOGPROB].row<float>(r), top});
    *call[HADAL_SAMPLE_TOKEN].row<int32_t>(r) = sampled.token;
    *call[HADAL_SAMPLE_LOGPROB].row<float>(r) = sampled.logprob;
  }
  return HADAL_OK;
}

}  // namespace hadal::ref
