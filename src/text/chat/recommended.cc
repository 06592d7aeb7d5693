#include "text/chat/recommended.h"

namespace hadal {

std::optional<RecommendedSampling> recommended_sampling(std::string_view chat_format,
                                                        std::string_view chat_template) {
  if (chat_format == "deepseek-llm") return RecommendedSampling{.temperature = 0.7F, .top_p = 0.9F};
  if (chat_format == "deepseek-coder")
    return RecommendedSampling{.temperature = 0.7F, .top_p = 0.9F};
  if (chat_format == "deepseek-v2.5") return RecommendedSampling{.temperature = 0.3F};
  if (chat_format == "deepseek-v3") return RecommendedSampling{.temperature = 0.3F};
  if (chat_format == "deepseek-r1" || chat_format == "deepseek-r1-0528")
    return RecommendedSampling{.temperature = 0.6F, .top_p = 0.95F};
  if (chat_format == "deepseek-v3.1")
    return RecommendedSampling{.temperature = 0.6F, .top_p = 0.95F};
  if (chat_format == "deepseek-v3.2" || chat_format == "deepseek-v4.1")
    return RecommendedSampling{.temperature = 1.0F, .top_p = 0.95F};
  if (chat_format == "deepseek-v4") return RecommendedSampling{.temperature = 1.0F};
  if (chat_format == "qwen3")
    return RecommendedSampling{.temperature = 0.6F, .top_p = 0.95F, .top_k = 20};
  // Qwen2.5 ships a generation_config; SmolLM2's card alone names numbers.
  if (chat_format == "chatml" && chat_template.find("SmolLM") != std::string_view::npos)
    return RecommendedSampling{.temperature = 0.2F, .top_p = 0.9F};
  return std::nullopt;
}

}  // namespace hadal
