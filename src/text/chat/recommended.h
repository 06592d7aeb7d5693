// Sampling that a model's makers recommend: what generation_config.json says, and for what it
// leaves out what their READMEs and model cards say (DeepSeek-LLM, -Coder, -V2, -V3, -R1, Qwen3,
// SmolLM2).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "checkpoint/checkpoint.h"

namespace hadal {

struct RecommendedSampling {
  float temperature = 1.0F;  ///< 0: greedy
  float top_p = 1.0F;        ///< 1: off
  int32_t top_k = 0;         ///< 0: off
  float min_p = 0.0F;        ///< 0: off
  float repetition_penalty = 1.0F;
  float presence_penalty = 0.0F, frequency_penalty = 0.0F;
};

/// Of a checkpoint, read with `chat_format` (a name, or "" for none). "do_sample": false makes it
/// greedy, "top_k": -1 is off. `origin` names the checkpoint in errors: a value that is no such
/// number.
Result<RecommendedSampling> recommended_sampling(const TokenizerData& data,
                                                 std::string_view chat_format,
                                                 const std::string& origin);

/// What model cards say, by a chat format's name and, where a format serves several families, the
/// template. Nothing where nobody recommends anything.
std::optional<RecommendedSampling> recommended_sampling(std::string_view chat_format,
                                                        std::string_view chat_template = {});

}  // namespace hadal
