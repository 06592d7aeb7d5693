// Sampling that a model's makers recommend, for checkpoints whose generation_config says nothing.
//
// Sources: READMEs and model cards of DeepSeek-LLM, -Coder, -V2, -V3, -R1, of Qwen3 and of SmolLM2.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace hadal {

struct RecommendedSampling {
  float temperature = 1.0F;
  float top_p = 1.0F;
  int32_t top_k = 0;   ///< 0: off
  float min_p = 0.0F;  ///< 0: off
};

/// By a chat format's name and, where a format serves several families, the template. Nothing where
/// nobody recommends anything.
std::optional<RecommendedSampling> recommended_sampling(std::string_view chat_format,
                                                        std::string_view chat_template = {});

}  // namespace hadal
