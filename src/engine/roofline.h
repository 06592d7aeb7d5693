// Roofline: how fast a model can be on this machine at best, by what its steps read and compute and
// by what the chip was measured to do.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/model_runner.h"

namespace hadal {

struct Roofline {
  /// Tokens of the prompt that `prompt` is of.
  static constexpr int64_t kPrompt = 512;

  Device::Peaks peaks = {};
  double decode = 0, prompt = 0;  ///< tokens a second: generated, and read
};

/// What a step of one token, and of a prompt, costs behind `depth` tokens.
StepCost decode_cost(const ModelRunner& runner, double depth);
StepCost prompt_cost(const ModelRunner& runner, double depth);

/// Bytes a second of copies within the device, for one that does not measure itself.
Result<double> measure_copies(const Device& device);

/// Measures the chip, about a second; none where it cannot be measured, and of a model that is on
/// several devices or in ranks. Errors: of the device.
Result<std::optional<Roofline>> measure_roofline(ModelRunner& runner, double depth);

}  // namespace hadal
