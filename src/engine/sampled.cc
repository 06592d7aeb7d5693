#include "engine/sampled.h"

#include <algorithm>

#include "contract/sample.h"

namespace hadal {
namespace {

/// By the formula of the operator, from the same inputs: the same tokens.
Result<Sampled> sample_on_host(const ModelRunner& runner, const StepInputs& inputs, bool top) {
  const StepLayout& l = runner.layout();
  const auto rows = static_cast<size_t>(inputs.rows[HADAL_DIM_R]);
  const auto width = static_cast<size_t>(top ? l.limits.top : 0);
  Sampled s;
  s.top_tokens.resize(rows * width);
  s.top_logprobs.resize(rows * width);
  std::vector<float> logits(static_cast<size_t>(l.limits.vocab));
  for (size_t r = 0; r < rows; ++r) {
    HADAL_TRY(read_row(runner, l.logits, static_cast<int64_t>(r), logits));
    const int32_t* range = inputs.at<int32_t>(l.entry_start) + r * 2;
    const auto first = static_cast<size_t>(range[0]),
               count = static_cast<size_t>(std::max(0, range[1] - range[0]));
    const contract::SampledToken sampled = contract::sample_row(
        {.logits = logits,
         .params = inputs.at<float>(l.sample_params) + r * HADAL_PARAM_COUNT,
         .key = inputs.at<uint32_t>(l.sample_seed) + r * 2,
         .position = inputs.at<int32_t>(l.sample_position)[r],
         .entries = {inputs.at<int32_t>(l.entry) + first * 3, count * 3},
         .bias = inputs.at<float>(l.entry_bias) + first,
         .mask = inputs.masked
                     ? inputs.at<uint32_t>(l.mask) + r * static_cast<size_t>(l.mask.extents[1])
                     : nullptr},
        std::span(s.top_tokens).subspan(r * width, width),
        std::span(s.top_logprobs).subspan(r * width, width));
    s.tokens.push_back(sampled.token);
    s.logprobs.push_back(sampled.logprob);
  }
  if (rows == 0) HADAL_TRY(runner.sync());
  return s;
}

}  // namespace

Result<Sampled> read_sampled(const ModelRunner& runner, const StepInputs& inputs, bool top) {
  if (runner.host_samples()) return sample_on_host(runner, inputs, top);
  const StepLayout& l = runner.layout();
  const int64_t rows = inputs.rows[HADAL_DIM_R];
  Sampled s;
  s.tokens.resize(static_cast<size_t>(rows));
  s.logprobs.resize(static_cast<size_t>(rows));
  if (top) {
    s.top_tokens.resize(static_cast<size_t>(rows * l.limits.top));
    s.top_logprobs.resize(static_cast<size_t>(rows * l.limits.top));
  }
  const Status queued = [&]() -> Status {
    HADAL_TRY(runner.read(l.sampled, 0, rows, s.tokens.data()));
    HADAL_TRY(runner.read(l.logprob, 0, rows, s.logprobs.data()));
    if (!top) return {};
    HADAL_TRY(runner.read(l.top_token, 0, rows, s.top_tokens.data()));
    return runner.read(l.top_logprob, 0, rows, s.top_logprobs.data());
  }();
  // Even if one was refused: those before it are on their way into `s`.
  HADAL_TRY(runner.sync());
  HADAL_TRY(queued);
  return s;
}

Status read_row(const ModelRunner& runner, const Tensor& part, int64_t row,
                std::vector<float>& to) {
  to.resize(static_cast<size_t>(part.extents[1]));
  HADAL_TRY(runner.read(part, row, 1, to.data()));
  return runner.sync();
}

}  // namespace hadal
