// The mixture of experts around its matmuls: router, moe_sort, moe_combine.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "plan.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

/// Worker memory of the router, in doubles: scores and selection scores of a row.
struct RouterTemp {
  double *score, *selection;
  RouterTemp(uint8_t* memory, int64_t experts)
      : score(reinterpret_cast<double*>(memory)), selection(score + experts) {}
};

void score_row(const float* logits, int64_t experts, uint32_t kind, double* score) {
  if (kind == HADAL_ROUTER_SIGMOID) {
    for (int64_t e = 0; e < experts; ++e)
      score[e] = 1.0 / (1.0 + std::exp(-static_cast<double>(logits[e])));
    return;
  }
  if (kind == HADAL_ROUTER_SQRT_SOFTPLUS) {
    for (int64_t e = 0; e < experts; ++e) {
      const auto x = static_cast<double>(logits[e]);
      score[e] = std::sqrt(x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)));
    }
    return;
  }
  const float top = *std::max_element(logits, logits + experts);
  double sum = 0;
  for (int64_t e = 0; e < experts; ++e) {
    score[e] = std::exp(static_cast<double>(logits[e]) - static_cast<double>(top));
    sum += score[e];
  }
  for (int64_t e = 0; e < experts; ++e) score[e] /= sum;
}

/// The index of the largest value, the lowest of equal ones; -1 if all are -inf or NaN.
int64_t best_of(const double* values, int64_t n) {
  int64_t best = -1;
  double top = -std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i < n; ++i)
    if (values[i] > top) {
      top = values[i];
      best = i;
    }
  return best;
}

/// Experts outside of the best groups are taken out of the selection.
void keep_groups(double* selection, int64_t experts, const hadal_router_attr& a) {
  const int64_t run = experts / a.groups;
  std::vector<double> group(a.groups);
  for (int64_t g = 0; g < int64_t{a.groups}; ++g) {
    double first = -std::numeric_limits<double>::infinity(), second = first;
    for (int64_t e = g * run; e < (g + 1) * run; ++e) {
      const double v = selection[e];
      second = std::max(second, std::min(first, v));
      first = std::max(first, v);
    }
    group[static_cast<size_t>(g)] = a.group_best == 2 ? first + second : first;
  }
  std::vector<bool> kept(a.groups, false);
  for (uint32_t i = 0; i < a.groups_kept; ++i) {
    const int64_t g = best_of(group.data(), a.groups);
    if (g < 0) break;
    kept[static_cast<size_t>(g)] = true;
    group[static_cast<size_t>(g)] = -std::numeric_limits<double>::infinity();
  }
  for (int64_t e = 0; e < experts; ++e)
    if (!kept[static_cast<size_t>(e / run)])
      selection[e] = -std::numeric_limits<double>::infinity();
}

}  // namespace

uint64_t router_temp_bytes(int64_t experts) {
  return static_cast<uint64_t>(2 * experts) * sizeof(double);
}

void run_router(const Run& run, const hadal_op& op, size_t index, Worker& worker) {
  const View logits = run.view(op, HADAL_ROUTER_LOGITS), token = run.view(op, HADAL_ROUTER_TOKEN),
             hash = run.view(op, HADAL_ROUTER_HASH), bias = run.view(op, HADAL_ROUTER_BIAS),
             expert = run.view(op, HADAL_ROUTER_EXPERT), weight = run.view(op, HADAL_ROUTER_WEIGHT);
  const hadal_router_attr& a = op.attr.router;
  const int64_t experts = logits.extents[1], k = expert.extents[1];
  const float* added = bias.present() ? weight_of(bias.weight)->values() : nullptr;
  const RouterTemp temp(worker.temp, experts);
  run.share_rows(index, logits.extents[0], 1, [&](int64_t from, int64_t to) {
    std::vector<float> listed(hash.present() ? static_cast<size_t>(k) : 0);
    for (int64_t t = from; t < to; ++t) {
      score_row(logits.row<float>(t), experts, a.score, temp.score);
      int32_t* chosen = expert.row<int32_t>(t);
      if (hash.present()) {
        weight_of(hash.weight)->decode(*token.row<int32_t>(t), 0, k, listed.data());
        for (int64_t j = 0; j < k; ++j)
          chosen[j] = static_cast<int32_t>(listed[static_cast<size_t>(j)]);
      } else {
        for (int64_t e = 0; e < experts; ++e)
          temp.selection[e] = temp.score[e] + (added ? static_cast<double>(added[e]) : 0.0);
        if (a.groups > 1) keep_groups(temp.selection, experts, a);
        for (int64_t j = 0; j < k; ++j) {
          // Logits that are no numbers leave nothing to choose: the row's result is as broken, but
          // its experts exist.
          const int64_t e = std::max<int64_t>(0, best_of(temp.selection, experts));
          chosen[j] = static_cast<int32_t>(e);
          temp.selection[e] = -std::numeric_limits<double>::infinity();
        }
      }
      double sum = 1e-20;
      for (int64_t j = 0; j < k; ++j) sum += temp.score[chosen[j]];
      for (int64_t j = 0; j < k; ++j)
        weight.row<float>(t)[j] = static_cast<float>(
            temp.score[chosen[j]] / (a.normalise ? sum : 1.0) * static_cast<double>(a.scale));
    }
  });
}

// One worker counts and places: some thousand pairs at most.
void run_moe_sort(const Run& run, const hadal_op& op, size_t index) {
  const View expert = run.view(op, HADAL_MOE_SORT_EXPERT),
             weight = run.view(op, HADAL_MOE_SORT_WEIGHT),
             order = run.view(op, HADAL_MOE_SORT_ORDER), place = run.view(op, HADAL_MOE_SORT_PLACE),
             offset = run.view(op, HADAL_MOE_SORT_OFFSET),
             row_weight = run.view(op, HADAL_MOE_SORT_ROW_WEIGHT);
  const int64_t rows = expert.extents[0], k = expert.extents[1], experts = offset.extents[0] - 1;
  run.share(index, 1, [&](int64_t) {
    std::vector<int32_t> next(static_cast<size_t>(experts) + 1, 0);
    for (int64_t t = 0; t < rows; ++t)
      for (int64_t j = 0; j < k; ++j) ++next[static_cast<size_t>(expert.row<int32_t>(t)[j]) + 1];
    for (int64_t e = 0; e < experts; ++e)
      next[static_cast<size_t>(e) + 1] += next[static_cast<size_t>(e)];
    for (int64_t e = 0; e <= experts; ++e) *offset.row<int32_t>(e) = next[static_cast<size_t>(e)];
    for (int64_t t = 0; t < rows; ++t)
      for (int64_t j = 0; j < k; ++j) {
        const int32_t at = next[static_cast<size_t>(expert.row<int32_t>(t)[j])]++;
        *order.row<int32_t>(at) = static_cast<int32_t>(t * k + j);
        *place.row<int32_t>(t * k + j) = at;
        *row_weight.row<float>(at) = weight.row<float>(t)[j];
      }
  });
}

void run_moe_combine(const Run& run, const hadal_op& op, size_t index) {
  const View x = run.view(op, HADAL_MOE_COMBINE_X), place = run.view(op, HADAL_MOE_COMBINE_PLACE),
             shared = run.view(op, HADAL_MOE_COMBINE_SHARED),
             add = run.view(op, HADAL_MOE_COMBINE_ADD), out = run.view(op, HADAL_MOE_COMBINE_OUT);
  const int64_t n = out.extents[1], fan = op.attr.experts.fan;
  run.share_rows(index, out.extents[0], 1, [&](int64_t from, int64_t to) {
    constexpr int64_t kPiece = 256;
    float sum[kPiece];
    for (int64_t t = from; t < to; ++t)
      for (int64_t i = 0; i < n; i += kPiece) {
        const int64_t count = std::min(kPiece, n - i);
        std::memset(sum, 0, sizeof sum);
        for (int64_t j = 0; j < fan; ++j)
          run.kernels.add(sum, x.row<float>(*place.row<int32_t>(t * fan + j)) + i, count);
        if (shared.present()) run.kernels.add(sum, shared.row<float>(t) + i, count);
        if (add.present()) run.kernels.add(sum, add.row<float>(t) + i, count);
        std::memcpy(out.row<float>(t) + i, sum, static_cast<size_t>(count) * sizeof(float));
      }
  });
}

}  // namespace hadal::cpu
