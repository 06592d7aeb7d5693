#include "text/chat/recommended.h"

#include <algorithm>

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

Result<RecommendedSampling> recommended_sampling(const TokenizerData& data,
                                                 std::string_view chat_format,
                                                 const std::string& origin) {
  // DeepSeek's recommendation for its reasoning models stands where nothing else is known.
  RecommendedSampling s = recommended_sampling(chat_format, data.chat_template)
                              .value_or(RecommendedSampling{.temperature = 0.6F, .top_p = 0.95F});
  if (data.generation_config_json.empty()) return s;
  HADAL_TRY(const Config config,
            Config::parse(data.generation_config_json, origin + " (generation_config)"));
  const auto read = [&config](const char* key, float& value) -> Status {
    HADAL_TRY(const double found, config.real(key, static_cast<double>(value)));
    value = static_cast<float>(found);
    return {};
  };
  HADAL_TRY(read("temperature", s.temperature));
  HADAL_TRY(read("top_p", s.top_p));
  HADAL_TRY(read("min_p", s.min_p));
  HADAL_TRY(read("repetition_penalty", s.repetition_penalty));
  HADAL_TRY(read("presence_penalty", s.presence_penalty));
  HADAL_TRY(read("frequency_penalty", s.frequency_penalty));
  HADAL_TRY(const int64_t top_k, config.integer("top_k", -1, INT32_MAX, s.top_k));
  s.top_k = static_cast<int32_t>(std::max<int64_t>(top_k, 0));
  HADAL_TRY(const bool do_sample, config.boolean("do_sample", true));
  if (!do_sample) s.temperature = 0;
  return s;
}

}  // namespace hadal
