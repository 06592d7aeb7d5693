// How an answer is sampled: what the caller chose, over what the model's makers recommend.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "engine/request.h"

namespace hadal {

/// What a caller sets of SamplingParams; the rest is the recommendation's.
struct SamplingChoice {
  std::optional<float> temperature, top_p, min_p, repetition_penalty, presence_penalty,
      frequency_penalty;
  std::optional<int32_t> top_k;
  std::optional<uint64_t> seed;  ///< none: drawn by the machine
  bool greedy = false;
};

/// The choice over generation_config.json, over what is recommended for the chat format (may be
/// ""). `origin` names the checkpoint in messages.
Result<SamplingParams> sampling_params(const SamplingChoice& choice, const TokenizerData& data,
                                       std::string_view chat_format, const std::string& origin);

}  // namespace hadal
