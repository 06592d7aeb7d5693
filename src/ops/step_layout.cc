#include "ops/step_layout.h"

#include <algorithm>

#include "ops/tensor.h"

namespace hadal {
namespace {

/// Lays parts out one after another, each aligned.
class Block {
 public:
  Block(hadal_space space, const StepLimits& limits, uint64_t& bytes)
      : space_(space), dims_(limits.dims()), alignment_(limits.alignment), bytes_(bytes) {}

  hadal_tensor part(hadal_dtype dtype, hadal_dim dim, std::initializer_list<int64_t> extents) {
    hadal_tensor t = make_tensor(dtype, space_, dim, extents);
    t.offset = bytes_;
    const int64_t rows = t.extents[0] * dims_[dim];
    bytes_ +=
        (static_cast<uint64_t>(rows * t.strides[0]) + alignment_ - 1) / alignment_ * alignment_;
    return t;
  }

 private:
  hadal_space space_;
  std::array<int64_t, HADAL_DIM_COUNT> dims_;
  uint64_t alignment_;
  uint64_t& bytes_;
};

}  // namespace

StepLayout::StepLayout(const StepLimits& l) : limits(l) {
  Block in(HADAL_SPACE_INPUT, l, input_bytes);
  token = in.part(HADAL_I32, HADAL_DIM_T, {1});
  position = in.part(HADAL_I32, HADAL_DIM_T, {1});
  row_seq = in.part(HADAL_I32, HADAL_DIM_T, {1});
  if (l.adapters) adapter = in.part(HADAL_I32, HADAL_DIM_S, {1});
  if (l.hidden > 0) draft_row = in.part(HADAL_I32, HADAL_DIM_T, {1});
  if (l.blocks) horizon = in.part(HADAL_I32, HADAL_DIM_T, {1});
  if (l.tail) {
    tail_row = in.part(HADAL_I32, HADAL_DIM_U, {1});
    tail_position = in.part(HADAL_I32, HADAL_DIM_U, {1});
    tail_row_seq = in.part(HADAL_I32, HADAL_DIM_U, {1});
  }
  for (size_t g = 0; g < l.max_blocks.size(); ++g) {
    write_from.push_back(in.part(HADAL_I32, HADAL_DIM_S, {1}));
    first.push_back(in.part(HADAL_I32, HADAL_DIM_S, {1}));
  }
  logit_row = in.part(HADAL_I32, HADAL_DIM_R, {1});
  sample_params = in.part(HADAL_F32, HADAL_DIM_R, {1, HADAL_PARAM_COUNT});
  sample_seed = in.part(HADAL_U32, HADAL_DIM_R, {1, 2});
  sample_position = in.part(HADAL_I32, HADAL_DIM_R, {1});
  entry_start = in.part(HADAL_I32, HADAL_DIM_R, {1, 2});
  for (const int64_t blocks : l.max_blocks)
    block_table.push_back(in.part(HADAL_I32, HADAL_DIM_S, {1, blocks}));
  if (l.extra > 0) extra = in.part(HADAL_F32, HADAL_DIM_T, {1, l.extra});
  entry = in.part(HADAL_I32, HADAL_DIM_CONST, {l.entries, 3});
  entry_bias = in.part(HADAL_F32, HADAL_DIM_CONST, {l.entries});
  mask = in.part(HADAL_U32, HADAL_DIM_R, {1, (l.vocab + 31) / 32});

  Block out(HADAL_SPACE_OUTPUT, l, output_bytes);
  logits = out.part(HADAL_F32, HADAL_DIM_R, {1, l.vocab});
  if (l.hidden > 0) hidden = out.part(HADAL_F32, HADAL_DIM_T, {1, l.hidden});
  if (l.blocks) {
    base = out.part(HADAL_F32, HADAL_DIM_R, {1, l.vocab});
    confidence = out.part(HADAL_F32, HADAL_DIM_R, {1, 1});
  }
  sampled = out.part(HADAL_I32, HADAL_DIM_R, {1});
  logprob = out.part(HADAL_F32, HADAL_DIM_R, {1});
  top_token = out.part(HADAL_I32, HADAL_DIM_R, {1, std::max<int64_t>(l.top, 1)});
  top_logprob = out.part(HADAL_F32, HADAL_DIM_R, {1, std::max<int64_t>(l.top, 1)});
}

std::vector<hadal_tensor> StepLayout::small_inputs() const {
  std::vector<hadal_tensor> parts = {token,   position, row_seq,       adapter,     draft_row,
                                     horizon, tail_row, tail_position, tail_row_seq};
  for (const auto& groups : {write_from, first})
    parts.insert(parts.end(), groups.begin(), groups.end());
  parts.insert(parts.end(), {logit_row, sample_params, sample_seed, sample_position, entry_start});
  std::erase_if(parts, [](const hadal_tensor& part) { return part.space == HADAL_SPACE_NONE; });
  return parts;
}

}  // namespace hadal
