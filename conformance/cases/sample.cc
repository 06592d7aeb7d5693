// sample: its cases, and which tokens are right answers.
//
// The kit computes the perturbed logits itself, in double. Where two candidates lie closer than the
// rounding of fp32 explains, or a probability lies that close to a cut, either answer is taken;
// ties of untouched logits are not such a case.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "kit.h"

namespace hadal::conformance {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kEps = 0x1p-24;

struct SampleRow {
  std::vector<float> logits;
  std::array<float, HADAL_PARAM_COUNT> params{0, 0, 1, 0, 1, 0, 0, 0};
  std::vector<std::array<int32_t, 3>> entries;
  std::vector<float> bias;
  std::vector<bool> forbidden;
};

Case sample_case(Random& random, const std::vector<SampleRow>& rows, int64_t v, uint32_t top,
                 bool masked, const std::string& name) {
  Case c;
  const auto r = static_cast<int64_t>(rows.size());
  c.rows[HADAL_DIM_R] = r;
  c.spare[HADAL_DIM_R] = random.range(0, 2);
  c.sliced = HADAL_DIM_R;
  c.every_row = r > 1;
  c.name = name;
  c.attr.sample.top = top;
  std::vector<float> logits, params, bias;
  std::vector<int32_t> seed, position, start, entry, mask;
  for (const SampleRow& row : rows) {
    logits.insert(logits.end(), row.logits.begin(), row.logits.end());
    params.insert(params.end(), row.params.begin(), row.params.end());
    for (int i = 0; i < 2; ++i) seed.push_back(static_cast<int32_t>(random.bits()));
    position.push_back(static_cast<int32_t>(random.range(0, 100000)));
    start.push_back(static_cast<int32_t>(bias.size()));
    for (const auto& e : row.entries) entry.insert(entry.end(), e.begin(), e.end());
    bias.insert(bias.end(), row.bias.begin(), row.bias.end());
    start.push_back(static_cast<int32_t>(bias.size()));
    for (int64_t word = 0; word < (v + 31) / 32; ++word) {
      uint32_t bits = 0xffffffffu;
      for (int64_t i = 0; i < 32 && word * 32 + i < static_cast<int64_t>(row.forbidden.size()); ++i)
        if (row.forbidden[static_cast<size_t>(word * 32 + i)]) bits &= ~(1u << i);
      mask.push_back(static_cast<int32_t>(bits));
    }
  }
  const auto entries = static_cast<int64_t>(bias.size());
  c.operands[HADAL_SAMPLE_LOGITS] = floats({r, v}, HADAL_DIM_R, logits);
  c.operands[HADAL_SAMPLE_PARAMS] = floats({r, HADAL_PARAM_COUNT}, HADAL_DIM_R, params);
  c.operands[HADAL_SAMPLE_SEED] = ints({r, 2}, HADAL_DIM_R, seed);
  c.operands[HADAL_SAMPLE_SEED].dtype = HADAL_U32;
  c.operands[HADAL_SAMPLE_POSITION] = ints({r}, HADAL_DIM_R, position);
  c.operands[HADAL_SAMPLE_ENTRY_START] = ints({r, 2}, HADAL_DIM_R, start);
  c.operands[HADAL_SAMPLE_ENTRY] = ints({entries, 3}, HADAL_DIM_CONST, entry);
  c.operands[HADAL_SAMPLE_ENTRY_BIAS] = floats({entries}, HADAL_DIM_CONST, bias);
  if (masked) {
    c.operands[HADAL_SAMPLE_MASK] = ints({r, (v + 31) / 32}, HADAL_DIM_R, mask);
    c.operands[HADAL_SAMPLE_MASK].dtype = HADAL_U32;
  }
  c.operands[HADAL_SAMPLE_TOKEN] = output(HADAL_I32, {r}, HADAL_DIM_R);
  c.operands[HADAL_SAMPLE_LOGPROB] = output(HADAL_F32, {r}, HADAL_DIM_R);
  c.operands[HADAL_SAMPLE_TOP_TOKEN] =
      output(HADAL_I32, {r, static_cast<int64_t>(top)}, HADAL_DIM_R);
  c.operands[HADAL_SAMPLE_TOP_LOGPROB] =
      output(HADAL_F32, {r, static_cast<int64_t>(top)}, HADAL_DIM_R);
  return c;
}

SampleRow random_row(Random& random, int64_t v, std::array<float, HADAL_PARAM_COUNT> params,
                     int64_t entries) {
  SampleRow row{
      .logits = random.normals(v, 3), .params = params, .entries = {}, .bias = {}, .forbidden = {}};
  for (int64_t e = 0; e < std::min(entries, v); ++e) {
    // The likeliest tokens, so that what is done to them decides.
    const auto best = std::max_element(row.logits.begin(), row.logits.end()) - row.logits.begin();
    const int64_t token = e == 0 ? best : e * v / std::min(entries, v);
    if (std::any_of(row.entries.begin(), row.entries.end(),
                    [&](const auto& x) { return x[0] == token; }))
      continue;
    row.entries.push_back({static_cast<int32_t>(token), static_cast<int32_t>(random.range(0, 2)),
                           static_cast<int32_t>(random.range(0, 3))});
    row.bias.push_back(random.coin() ? random.normal() : 0);
  }
  return row;
}

/// The row's logits after penalties and mask, and how far rounding may have moved them.
struct Perturbed {
  std::vector<double> logits;
  std::vector<double> slack;
};

template <typename T>
const T* row_of(const Case& c, uint32_t operand, int64_t r) {
  const Operand& o = c.operands[operand];
  return o.values<T>() + r * (o.count() / o.shape[0]);
}

Perturbed perturb(const Case& c, int64_t r) {
  const int64_t v = c.operands[HADAL_SAMPLE_LOGITS].shape[1];
  const float* raw = row_of<float>(c, HADAL_SAMPLE_LOGITS, r);
  const float* p = row_of<float>(c, HADAL_SAMPLE_PARAMS, r);
  Perturbed out;
  for (int64_t i = 0; i < v; ++i)
    out.logits.push_back(std::isnan(raw[i]) ? -kInfinity : static_cast<double>(raw[i]));
  out.slack.assign(static_cast<size_t>(v), 0);
  const int32_t* range = row_of<int32_t>(c, HADAL_SAMPLE_ENTRY_START, r);
  for (int32_t e = range[0]; e < range[1]; ++e) {
    const int32_t* entry = c.operands[HADAL_SAMPLE_ENTRY].values<int32_t>() + e * 3;
    double& l = out.logits[static_cast<size_t>(entry[0])];
    const auto repetition = static_cast<double>(p[HADAL_PARAM_REPETITION]);
    const auto bias = static_cast<double>(c.operands[HADAL_SAMPLE_ENTRY_BIAS].values<float>()[e]);
    double size = std::fabs(l) * std::max(1.0, repetition) + std::fabs(bias);
    if (entry[1] > 0 || entry[2] > 0) l = l > 0 ? l / repetition : l * repetition;
    if (entry[2] > 0) {
      const double penalty = static_cast<double>(p[HADAL_PARAM_PRESENCE]) +
                             static_cast<double>(p[HADAL_PARAM_FREQUENCY]) * entry[2];
      l -= penalty;
      size += std::fabs(penalty);
    }
    l += bias;
    if (std::isnan(l)) l = -kInfinity;
    out.slack[static_cast<size_t>(entry[0])] = std::isfinite(size) ? 4 * kEps * size : 0;
  }
  if (c.operands[HADAL_SAMPLE_MASK].present()) {
    const uint32_t* mask = row_of<uint32_t>(c, HADAL_SAMPLE_MASK, r);
    for (int64_t i = 0; i < v; ++i)
      if (((mask[i / 32] >> (i % 32)) & 1) == 0) out.logits[static_cast<size_t>(i)] = -kInfinity;
  }
  return out;
}

/// Philox-4x32-10 once more, written from the paper.
double noise(const uint32_t* seed, int32_t position, uint32_t token) {
  uint32_t x0 = static_cast<uint32_t>(position), x1 = token / 4, x2 = 0, x3 = 0, k0 = seed[0],
           k1 = seed[1];
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * x0, p1 = uint64_t{0xCD9E8D57} * x2;
    x0 = static_cast<uint32_t>(p1 >> 32) ^ x1 ^ k0;
    x1 = static_cast<uint32_t>(p1);
    x2 = static_cast<uint32_t>(p0 >> 32) ^ x3 ^ k1;
    x3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  const uint32_t words[4] = {x0, x1, x2, x3};
  return -std::log(-std::log((static_cast<double>(words[token % 4] >> 8) + 0.5) / 16777216.0));
}

/// Marks what survives the cuts: with the cuts moved by `lean` (relative), so that -1e-5 keeps less
/// and 1e-5 more.
std::vector<bool> survivors(const std::vector<double>& l, const float* p, double lean) {
  const size_t v = l.size();
  std::vector<size_t> ids(v);
  std::iota(ids.begin(), ids.end(), size_t{0});
  std::sort(ids.begin(), ids.end(),
            [&](size_t a, size_t b) { return l[a] > l[b] || (l[a] == l[b] && a < b); });
  const auto k = static_cast<double>(p[HADAL_PARAM_TOP_K]);
  size_t keep = k > 0 && k < static_cast<double>(v) ? static_cast<size_t>(k) : v;
  std::vector<double> weight(keep);
  for (size_t i = 0; i < keep; ++i) weight[i] = std::exp(l[ids[i]] - l[ids[0]]);
  const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  if (p[HADAL_PARAM_TOP_P] < 1) {
    double sum = weight[0];
    size_t run = 1;
    while (run < keep && sum < static_cast<double>(p[HADAL_PARAM_TOP_P]) * total * (1 + lean))
      sum += weight[run++];
    keep = run;
  }
  while (p[HADAL_PARAM_MIN_P] > 0 && keep > 1 &&
         weight[keep - 1] < static_cast<double>(p[HADAL_PARAM_MIN_P]) * (1 - lean))
    --keep;
  std::vector<bool> kept(v, false);
  for (size_t i = 0; i < keep; ++i) kept[ids[i]] = true;
  return kept;
}

}  // namespace

std::string wrong_token(const Case& c, int64_t r, int32_t token) {
  const Perturbed row = perturb(c, r);
  const size_t v = row.logits.size();
  if (token < 0 || static_cast<size_t>(token) >= v) return "no token of the vocabulary";
  const auto found = static_cast<size_t>(token);
  const float* p = row_of<float>(c, HADAL_SAMPLE_PARAMS, r);
  const auto temperature = static_cast<double>(p[HADAL_PARAM_TEMPERATURE]);
  const bool greedy = temperature <= 0 || p[HADAL_PARAM_TOP_K] == 1.0f;
  std::vector<double> score = row.logits;
  std::vector<double> slack = row.slack;
  std::vector<bool> may(v, true);
  std::vector<bool> must(v, true);
  if (!greedy) {
    for (double& l : score) l /= temperature;
    may = survivors(score, p, 1e-5);
    must = survivors(score, p, -1e-5);
    const uint32_t* seed = row_of<uint32_t>(c, HADAL_SAMPLE_SEED, r);
    const int32_t position = *row_of<int32_t>(c, HADAL_SAMPLE_POSITION, r);
    for (size_t i = 0; i < v; ++i) {
      if (score[i] == -kInfinity) continue;
      const double g = noise(seed, position, static_cast<uint32_t>(i));
      slack[i] = slack[i] / temperature + 4 * kEps * (std::fabs(score[i]) + std::fabs(g));
      score[i] += g;
    }
  }
  if (!may[found]) return "cut away by top-k, top-p or min-p";
  for (size_t i = 0; i < v; ++i) {
    if (!must[i] || i == found) continue;
    const double margin = score[i] - score[found];
    const double allowed = slack[i] + slack[found];
    const bool better = score[found] == -kInfinity
                            ? (score[i] > -kInfinity || i < found)
                            : (margin > allowed || (margin == 0 && allowed == 0 && i < found));
    if (better)
      return fmt::format("token {} is better: {:.9g} against {:.9g}", i, score[i], score[found]);
  }
  return {};
}

void sample_cases(Random& random, bool quick, std::vector<Case>& cases) {
  using P = std::array<float, HADAL_PARAM_COUNT>;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto add = [&](int64_t rows, int64_t v, const P& params, int64_t entries,
                       const std::string& name, bool masked = false) {
    std::vector<SampleRow> all;
    for (int64_t r = 0; r < rows; ++r) {
      all.push_back(random_row(random, v, params, entries));
      for (int64_t i = 0; masked && i < v; ++i)
        all.back().forbidden.push_back(i % 3 != static_cast<int64_t>(r % 3));
    }
    cases.push_back(sample_case(
        random, all, v, static_cast<uint32_t>(std::min<int64_t>(v, rows % 6)), masked, name));
  };
  const P greedy = {0, 0, 1, 0, 1, 0, 0, 0};
  for (const int64_t v : {1, 2, 7, 31, 32, 33, 100, 1000}) add(4, v, greedy, 0, "greedy");
  add(0, 33, greedy, 0, "no rows");
  add(3, 100, {1, 1, 1, 0, 1, 0, 0, 0}, 0, "top-k 1 is greedy");
  add(9, 100, {0, 0, 1, 0, 1.5f, 0.5f, 0.25f, 0}, 12, "greedy with penalties");
  add(9, 100, {0.8f, 0, 1, 0, 1.3f, 0.5f, 0.25f, 0}, 12, "penalties");
  add(17, 100, {1, 0, 1, 0, 1, 0, 0, 0}, 0, "temperature");
  for (const float k : {2.0f, 3.0f, 10.0f, 99.0f, 100.0f, 5000.0f})
    add(16, 100, {1.5f, k, 1, 0, 1, 0, 0, 0}, 0, fmt::format("top-k {}", k));
  for (const float top_p : {0.0f, 0.3f, 0.9f, 1.0f})
    add(16, 100, {2, 0, top_p, 0, 1, 0, 0, 0}, 0, fmt::format("top-p {}", top_p));
  for (const float min_p : {0.05f, 0.5f, 1.0f})
    add(16, 100, {2, 0, 1, min_p, 1, 0, 0, 0}, 0, fmt::format("min-p {}", min_p));
  add(33, 100, {1.2f, 20, 0.8f, 0.1f, 1.1f, 0.1f, 0.1f, 0}, 5, "everything");
  add(7, 100, {1, 0, 1, 0, 1, 0, 0, 0}, 0, "a mask", true);
  add(7, 33, greedy, 0, "a mask, greedy", true);
  add(2, quick ? 4000 : 32000, {0.7f, 40, 0.95f, 0, 1, 0, 0, 0}, 3, "a large vocabulary");
  add(2, quick ? 4000 : 32000, {1, 0, 1, 0, 1, 0, 0, 0}, 0, "a large vocabulary without cuts");
  if (!quick) {
    add(1, 129280, greedy, 0, "the vocabulary of DeepSeek-V3, greedy");
    add(2, 129280, {0.6f, 0, 0.95f, 0, 1, 0, 0, 0}, 3, "the vocabulary of DeepSeek-V3");
  }
  std::vector<SampleRow> hard;
  for (int i = 0; i < 6; ++i)
    hard.push_back({.logits = random.normals(70),
                    .params = greedy,
                    .entries = {},
                    .bias = {},
                    .forbidden = {}});
  hard[0].logits[17] = hard[0].logits[40] = hard[0].logits[69] = 9;  // ties
  hard[1].logits.assign(70, 1);
  hard[2].logits[3] = nan;
  hard[2].logits[50] = 9;
  hard[3].logits.assign(70, nan);
  hard[4].logits.assign(70, -std::numeric_limits<float>::infinity());
  hard[4].logits[33] = -1e30f;
  hard[5].params[HADAL_PARAM_TEMPERATURE] = 1;
  hard[5].logits.assign(70, nan);
  cases.push_back(sample_case(random, hard, 70, 5, false, "ties, NaN, infinities"));
  // Negative logits: a repetition penalty makes them smaller still.
  SampleRow negative{.logits = std::vector<float>(40, -5),
                     .params = {0, 0, 1, 0, 2, 0, 0, 0},
                     .entries = {{7, 1, 0}},
                     .bias = {0},
                     .forbidden = {}};
  negative.logits[7] = -2;
  negative.logits[9] = -3;
  cases.push_back(sample_case(random, {negative}, 40, 0, false, "repetition of a negative logit"));
  // The least likely survivor of top-k counts: all but the third logit are alike, whatever lies
  // below must never be chosen.
  std::vector<SampleRow> flat(64, {.logits = std::vector<float>(50, 0),
                                   .params = {1, 3, 1, 0, 1, 0, 0, 0},
                                   .entries = {},
                                   .bias = {},
                                   .forbidden = {}});
  cases.push_back(sample_case(random, flat, 50, 3, false, "top-k among ties"));
}

}  // namespace hadal::conformance
