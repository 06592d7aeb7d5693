// Scheduler: which rows of which sequences make the next step. Running sequences decode first, then
// prompts are cut into chunks in order of arrival. How a prompt is cut changes no bit of the
// result: the rule of bits.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/sequence.h"
#include "ops/step_inputs.h"

namespace hadal {

/// Rows [begin, begin + rows) of one sequence in a step.
struct ScheduledRows {
  Sequence* seq = nullptr;
  int64_t begin = 0, rows = 0;
  int64_t logit_rows = 0;  ///< the last so many rows want logits
};

/// Chooses the rows of a step within the limits. Empty when there is nothing to run.
std::vector<ScheduledRows> schedule(std::span<const std::unique_ptr<Sequence>> sequences,
                                    const StepLimits& limits);

}  // namespace hadal
