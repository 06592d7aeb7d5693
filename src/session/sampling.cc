#include "session/sampling.h"

#include <random>

#include "text/chat/recommended.h"

namespace hadal {

Result<SamplingParams> sampling_params(const SamplingChoice& choice, const TokenizerData& data,
                                       std::string_view chat_format, const std::string& origin) {
  HADAL_TRY(const RecommendedSampling usual, recommended_sampling(data, chat_format, origin));
  SamplingParams s;
  s.temperature = choice.greedy ? 0 : choice.temperature.value_or(usual.temperature);
  s.top_k = choice.top_k.value_or(usual.top_k);
  s.top_p = choice.top_p.value_or(usual.top_p);
  s.min_p = choice.min_p.value_or(usual.min_p);
  s.repetition_penalty = choice.repetition_penalty.value_or(usual.repetition_penalty);
  s.presence_penalty = choice.presence_penalty.value_or(usual.presence_penalty);
  s.frequency_penalty = choice.frequency_penalty.value_or(usual.frequency_penalty);
  if (choice.seed) {
    s.seed = *choice.seed;
  } else {
    std::random_device device;
    s.seed = (static_cast<uint64_t>(device()) << 32) | device();
  }
  return s;
}

}  // namespace hadal
