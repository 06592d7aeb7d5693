#include "contract/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "contract/noise.h"

namespace hadal::contract {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

float number(float logit) { return std::isnan(logit) ? kMinusInfinity : logit; }

/// Token ids ordered by logit, the likeliest first, ties by id; only the first `count` are in
/// place.
std::vector<int32_t> order(const std::vector<float>& logits, size_t count) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto before = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)];
    const float y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  std::partial_sort(ids.begin(),
                    ids.begin() + static_cast<std::ptrdiff_t>(std::min(count, ids.size())),
                    ids.end(), before);
  return ids;
}

size_t best(const std::vector<float>& logits) {
  return static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void penalise(const SampleRow& row, std::vector<float>& logits) {
  for (size_t e = 0; e * 3 < row.entries.size(); ++e) {
    const int32_t* entry = row.entries.data() + e * 3;
    float l = logits[static_cast<size_t>(entry[0])];
    if (entry[1] > 0 || entry[2] > 0)
      l = l > 0 ? l / row.params[HADAL_PARAM_REPETITION] : l * row.params[HADAL_PARAM_REPETITION];
    if (entry[2] > 0) {
      l -= row.params[HADAL_PARAM_PRESENCE];
      l -= row.params[HADAL_PARAM_FREQUENCY] * static_cast<float>(entry[2]);
    }
    l += row.bias[e];
    logits[static_cast<size_t>(entry[0])] = number(l);
  }
}

// top-k, then top-p over what is left, then min-p: what is cut becomes -infinity.
void cut(const float* params, std::vector<float>& logits) {
  const size_t v = logits.size();
  const float k = params[HADAL_PARAM_TOP_K];
  const auto top_p = static_cast<double>(params[HADAL_PARAM_TOP_P]);
  const auto min_p = static_cast<double>(params[HADAL_PARAM_MIN_P]);
  size_t keep = k > 0 && k < static_cast<float>(v) ? static_cast<size_t>(k) : v;
  if (keep == v && top_p >= 1 && min_p <= 0) return;
  const std::vector<int32_t> ids = order(logits, top_p < 1 || min_p > 0 ? v : keep);
  const auto largest = static_cast<double>(logits[static_cast<size_t>(ids[0])]);
  const auto weight_of = [&](size_t i) {
    return std::exp(static_cast<double>(logits[static_cast<size_t>(ids[i])]) - largest);
  };
  if (top_p < 1) {
    double total = 0;
    for (size_t i = 0; i < keep; ++i) total += weight_of(i);
    double sum = weight_of(0);
    size_t run = 1;
    while (run < keep && sum < top_p * total) sum += weight_of(run++);
    keep = run;
  }
  while (min_p > 0 && keep > 1 && weight_of(keep - 1) < min_p) --keep;
  for (size_t i = keep; i < v; ++i) logits[static_cast<size_t>(ids[i])] = kMinusInfinity;
}

size_t choose(const SampleRow& row, const std::vector<float>& logits) {
  size_t chosen = 0;
  double largest = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] == kMinusInfinity) continue;
    const double value =
        static_cast<double>(logits[i]) + gumbel(row.key, row.position, static_cast<int32_t>(i));
    if (value > largest) {
      largest = value;
      chosen = i;
    }
  }
  return chosen;
}

size_t token_of(const SampleRow& row, std::vector<float> logits) {
  penalise(row, logits);
  if (row.mask)
    for (size_t i = 0; i < logits.size(); ++i)
      if (((row.mask[i / 32] >> (i % 32)) & 1u) == 0) logits[i] = kMinusInfinity;
  const float temperature = row.params[HADAL_PARAM_TEMPERATURE];
  if (temperature <= 0 || row.params[HADAL_PARAM_TOP_K] == 1.0f) return best(logits);
  for (float& l : logits) l = number(l / temperature);
  cut(row.params, logits);
  return choose(row, logits);
}

}  // namespace

SampledToken sample_row(const SampleRow& row, std::span<int32_t> top_tokens,
                        std::span<float> top_logprobs) {
  std::vector<float> raw(row.logits.begin(), row.logits.end());
  std::transform(raw.begin(), raw.end(), raw.begin(), number);
  const size_t token = token_of(row, raw);
  // Log-probabilities are those of the raw logits.
  const auto largest = static_cast<double>(raw[best(raw)]);
  double total = 0;
  for (const float l : raw) total += std::exp(static_cast<double>(l) - largest);
  const auto log_probability = [&](size_t i) {
    return raw[i] == kMinusInfinity
               ? kMinusInfinity
               : static_cast<float>(static_cast<double>(raw[i]) - largest - std::log(total));
  };
  if (!top_tokens.empty()) {
    const std::vector<int32_t> ids = order(raw, top_tokens.size());
    for (size_t i = 0; i < top_tokens.size(); ++i) {
      top_tokens[i] = ids[i];
      top_logprobs[i] = log_probability(static_cast<size_t>(ids[i]));
    }
  }
  return {static_cast<int32_t>(token), log_probability(token)};
}

}  // namespace hadal::contract
