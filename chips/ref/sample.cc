// sample: penalties, mask, the three cuts, Gumbel noise from Philox-4x32-10.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "contract/noise.h"
#include "ref.h"

namespace hadal::ref {
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

/// One row of the operator.
struct Row {
  const Call& call;
  int64_t r;
  const float* params = call[HADAL_SAMPLE_PARAMS].row<float>(r);
  std::vector<float> logits;

  [[nodiscard]] hadal_status penalise();
  void mask();
  void cut();
  [[nodiscard]] size_t choose() const;
  void report_raw(size_t token, const std::vector<float>& raw) const;
};

hadal_status Row::penalise() {
  const auto& entries = call[HADAL_SAMPLE_ENTRY];
  const int32_t* range = call[HADAL_SAMPLE_ENTRY_START].row<int32_t>(r);
  if (range[0] < 0 || range[1] > entries.extents[0])
    return call.outside(HADAL_SAMPLE_ENTRY_START, r, range[0], entries.extents[0]);
  for (int64_t e = range[0]; e < range[1]; ++e) {
    const int32_t* entry = entries.row<int32_t>(e);
    const auto vocabulary = static_cast<int64_t>(logits.size());
    if (entry[0] < 0 || entry[0] >= vocabulary)
      return call.outside(HADAL_SAMPLE_ENTRY, e, entry[0], vocabulary);
    float l = logits[static_cast<size_t>(entry[0])];
    if (entry[1] > 0 || entry[2] > 0)
      l = l > 0 ? l / params[HADAL_PARAM_REPETITION] : l * params[HADAL_PARAM_REPETITION];
    if (entry[2] > 0) {
      l -= params[HADAL_PARAM_PRESENCE];
      l -= params[HADAL_PARAM_FREQUENCY] * static_cast<float>(entry[2]);
    }
    l += *call[HADAL_SAMPLE_ENTRY_BIAS].row<float>(e);
    logits[static_cast<size_t>(entry[0])] = number(l);
  }
  return HADAL_OK;
}

void Row::mask() {
  const auto& bits = call[HADAL_SAMPLE_MASK];
  if (!bits.present()) return;
  const uint32_t* words = bits.row<uint32_t>(r);
  for (size_t i = 0; i < logits.size(); ++i)
    if (((words[i / 32] >> (i % 32)) & 1u) == 0) logits[i] = kMinusInfinity;
}

// top-k, then top-p over what is left, then min-p: what is cut becomes -infinity.
void Row::cut() {
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

size_t Row::choose() const {
  const uint32_t* seed = call[HADAL_SAMPLE_SEED].row<uint32_t>(r);
  const int32_t position = *call[HADAL_SAMPLE_POSITION].row<int32_t>(r);
  size_t chosen = 0;
  double largest = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] == kMinusInfinity) continue;
    const double value =
        static_cast<double>(logits[i]) + contract::gumbel(seed, position, static_cast<int32_t>(i));
    if (value > largest) {
      largest = value;
      chosen = i;
    }
  }
  return chosen;
}

// The chosen token's log-probability and the most likely tokens, by the raw logits.
void Row::report_raw(size_t token, const std::vector<float>& raw) const {
  const auto largest = static_cast<double>(raw[best(raw)]);
  double total = 0;
  for (const float l : raw) total += std::exp(static_cast<double>(l) - largest);
  const auto log_probability = [&](size_t i) {
    return raw[i] == kMinusInfinity
               ? kMinusInfinity
               : static_cast<float>(static_cast<double>(raw[i]) - largest - std::log(total));
  };
  *call[HADAL_SAMPLE_TOKEN].row<int32_t>(r) = static_cast<int32_t>(token);
  *call[HADAL_SAMPLE_LOGPROB].row<float>(r) = log_probability(token);
  const size_t top = call.op->attr.sample.top;
  if (top == 0) return;
  const std::vector<int32_t> ids = order(raw, top);
  for (size_t i = 0; i < top; ++i) {
    call[HADAL_SAMPLE_TOP_TOKEN].row<int32_t>(r)[i] = ids[i];
    call[HADAL_SAMPLE_TOP_LOGPROB].row<float>(r)[i] = log_probability(static_cast<size_t>(ids[i]));
  }
}

}  // namespace

hadal_status sample(const Call& call) {
  const auto& logits = call[HADAL_SAMPLE_LOGITS];
  for (int64_t r = 0; r < logits.extents[0]; ++r) {
    const float* from = logits.row<float>(r);
    std::vector<float> raw(from, from + logits.extents[1]);
    std::transform(raw.begin(), raw.end(), raw.begin(), number);
    Row row{.call = call, .r = r, .logits = raw};
    if (const hadal_status status = row.penalise(); status != HADAL_OK) return status;
    row.mask();
    size_t token = 0;
    const float temperature = row.params[HADAL_PARAM_TEMPERATURE];
    if (temperature <= 0 || row.params[HADAL_PARAM_TOP_K] == 1.0f) {
      token = best(row.logits);
    } else {
      for (float& l : row.logits) l = number(l / temperature);
      row.cut();
      token = row.choose();
    }
    row.report_raw(token, raw);
  }
  return HADAL_OK;
}

}  // namespace hadal::ref
