// What a step chose for the rows whose logits were wanted: read from the device, or chosen by the
// host from the logits, where the chip declines `sample`. For the engine and the drafter.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model_runner.h"

namespace hadal {

/// [R] each; top: [R, limits.top].
struct Sampled {
  std::vector<int32_t> tokens, top_tokens;
  std::vector<float> logprobs, top_logprobs;
};

/// Of the step that was queued last, with these inputs; waits for it. top: the most likely tokens,
/// too.
Result<Sampled> read_sampled(const ModelRunner& runner, const StepInputs& inputs, bool top);

/// One row of a step output; waits for it.   to: the row's numbers
Status read_row(const ModelRunner& runner, const Tensor& part, int64_t row, std::vector<float>& to);

}  // namespace hadal
