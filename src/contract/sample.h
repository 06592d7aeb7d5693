// The `sample` operator for one row, by its definition in operators.inc: for `ref`, and for the
// host where a chip declines it.
#pragma once

#include <cstdint>
#include <span>

#include "hadal/chip.h"

namespace hadal::contract {

/// The operands of one row.
struct SampleRow {
  std::span<const float> logits;     ///< [V]
  const float* params = nullptr;     ///< [HADAL_PARAM_COUNT]
  const uint32_t* key = nullptr;     ///< low and high word
  int32_t position = 0;              ///< of the token that is sampled
  std::span<const int32_t> entries;  ///< triples: token in [0, V), times in prompt, times in output
  const float* bias = nullptr;       ///< one an entry
  const uint32_t* mask = nullptr;    ///< null: all tokens are allowed
};

struct SampledToken {
  int32_t token = 0;
  float logprob = 0;
};

/// Also fills the most likely tokens, of which there are at most V.
SampledToken sample_row(const SampleRow& row, std::span<int32_t> top_tokens,
                        std::span<float> top_logprobs);

}  // namespace hadal::contract
