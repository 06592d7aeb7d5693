#include "checkpoint/gguf_published.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "checkpoint/printable.h"

namespace hadal {
namespace {

// V2.5 and Coder-V2 have V2's shape and another mscale_all_dim.
constexpr auto kPublished = std::to_array<PublishedModel>({
    {.architecture = "deepseek2",
     .name = "DeepSeek-V2-Lite",
     .layers = 27,
     .hidden = 2048,
     .experts = 64,
     .expert_group_count = 1,
     .expert_group_used_count = 1,
     .expert_weights_scale = 1,
     .scaling_factor = 40,
     .original_context_length = 4096,
     .yarn_log_multiplier = 0.0707},
    {.architecture = "deepseek2",
     .name = "DeepSeek-V2",
     .layers = 60,
     .hidden = 5120,
     .experts = 160,
     .expert_group_count = 8,
     .expert_group_used_count = 3,
     .expert_weights_scale = 16,
     .scaling_factor = 40,
     .original_context_length = 4096},
    {.architecture = "deepseek2",
     .name = "DeepSeek-V3",
     .layers = 61,
     .hidden = 7168,
     .experts = 256,
     .expert_group_count = 8,
     .expert_group_used_count = 4,
     .expert_weights_scale = 2.5,
     .scaling_factor = 40,
     .original_context_length = 4096,
     .yarn_log_multiplier = 0.1},
    {.architecture = "deepseek32",
     .name = "DeepSeek-V3.2",
     .layers = 61,
     .hidden = 7168,
     .experts = 256,
     .expert_group_count = 8,
     .expert_group_used_count = 4,
     .expert_weights_scale = 2.5,
     .scaling_factor = 40,
     .original_context_length = 4096,
     .yarn_log_multiplier = 0.1},
    {.architecture = "deepseek4",
     .name = "DeepSeek-V4-Flash",
     .layers = 43,
     .hidden = 4096,
     .experts = 256,
     .expert_weights_scale = 1.5,
     .scaling_factor = 16,
     .original_context_length = 65536},
    {.architecture = "deepseek4",
     .name = "DeepSeek-V4-Pro",
     .layers = 61,
     .hidden = 7168,
     .experts = 384,
     .expert_weights_scale = 2.5,
     .scaling_factor = 16,
     .original_context_length = 65536},
    {.architecture = "deepseek41",
     .name = "DeepSeek-V4.1-Flash",
     .layers = 40,
     .hidden = 5120,
     .experts = 384,
     .expert_weights_scale = 1.5,
     .scaling_factor = 16,
     .original_context_length = 65536,
     .engram_vocab_size = 16000000,
     .engram_compressed_vocab_size = 99092,
     .engram_pad_token_id = 2},
});

}  // namespace

Result<PublishedValues> PublishedValues::of(const GgufKeys& keys, const Config& config,
                                            std::vector<std::string>& notes) {
  PublishedValues values(keys, notes);
  HADAL_TRY(const int64_t layers, config.integer("num_hidden_layers", 0, INT64_MAX, 0));
  HADAL_TRY(const int64_t hidden, config.integer("hidden_size", 0, INT64_MAX, 0));
  HADAL_TRY(const int64_t experts, config.integer("n_routed_experts", 0, INT64_MAX, 0));
  const auto it = std::find_if(kPublished.begin(), kPublished.end(), [&](const PublishedModel& m) {
    return m.architecture == keys.architecture() && m.layers == layers && m.hidden == hidden &&
           m.experts == experts;
  });
  if (it != kPublished.end()) values.model_ = &*it;
  values.shape_ = fmt::format("{} layers, hidden size {}, {} experts", layers, hidden, experts);
  return values;
}

Result<double> PublishedValues::take(std::string_view key,
                                     std::optional<double> PublishedModel::* which) {
  if (!model_)
    return keys_.error(key, fmt::format("missing, and no published model has the file's shape ({}) "
                                        "to take it from: convert the model with a tool that "
                                        "writes the key",
                                        shape_));
  if (!(model_->*which))
    return keys_.error(key,
                       fmt::format("missing, and the published models of the file's shape ({}; "
                                   "{} and others) differ in it: convert the model with a "
                                   "tool that writes the key",
                                   shape_, model_->name));
  say(key, fmt::format("{}", *(model_->*which)));
  return *(model_->*which);
}

void PublishedValues::say(std::string_view key, std::string_view value) {
  notes_.push_back(fmt::format("key {} is missing: taken as {}, which {} has ({})",
                               quote(keys_.full(key)), value, model_->name, shape_));
}

}  // namespace hadal
