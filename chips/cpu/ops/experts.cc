// The mixture of experts: router, moe_sort, grouped_matmul, moe_combine.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ops/matmul.h"
#include "ops/operators.h"

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

void router(const Call& call) {
  const View logits = call.view(HADAL_ROUTER_LOGITS), token = call.view(HADAL_ROUTER_TOKEN),
             hash = call.view(HADAL_ROUTER_HASH), expert = call.view(HADAL_ROUTER_EXPERT),
             weight = call.view(HADAL_ROUTER_WEIGHT);
  const hadal_router_attr& a = call.op.attr.router;
  const int64_t experts = logits.extents[1], k = expert.extents[1];
  const float* added = call.vector(HADAL_ROUTER_BIAS);
  const RouterTemp temp(call.worker.temp, experts);
  call.share_rows(logits.extents[0], 1, [&](int64_t from, int64_t to) {
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

Needs router_needs(const Query& query) {
  return {.temp =
              static_cast<uint64_t>(2 * query[HADAL_ROUTER_LOGITS].extents[1]) * sizeof(double)};
}

std::string router_indices(const Indices& at) {
  const View token = at.view(HADAL_ROUTER_TOKEN), hash = at.view(HADAL_ROUTER_HASH);
  if (!hash.present()) return {};
  HADAL_RETURN_IF_TEXT(at.in_range(HADAL_ROUTER_TOKEN, 0, hash.extents[0]));
  const int64_t experts = at.view(HADAL_ROUTER_LOGITS).extents[1], k = hash.extents[1];
  std::vector<float> listed(static_cast<size_t>(k));
  for (int64_t t = 0; t < token.extents[0]; ++t) {
    weight_of(hash.weight)->decode(*token.row<int32_t>(t), 0, k, listed.data());
    for (const float e : listed)
      HADAL_RETURN_IF_TEXT(at.outside(HADAL_ROUTER_HASH, t, static_cast<int64_t>(e), 0, experts));
  }
  return {};
}

/// The experts that EXPERT may name, and those of them whose matrices are here.
struct ExpertRange {
  int64_t first, count, all;
  ExpertRange(const hadal_op& op, const View& offset)
      : first(op.attr.experts.first),
        count(offset.extents[0] - 1),
        all(op.attr.experts.of != 0 ? int64_t{op.attr.experts.of} : count) {}
  /// -1: it is not here.
  [[nodiscard]] int64_t local(int64_t expert) const {
    return expert >= first && expert < first + count ? expert - first : -1;
  }
};

// One worker counts and places: some thousand pairs at most.
void moe_sort(const Call& call) {
  const View expert = call.view(HADAL_MOE_SORT_EXPERT), weight = call.view(HADAL_MOE_SORT_WEIGHT),
             order = call.view(HADAL_MOE_SORT_ORDER), place = call.view(HADAL_MOE_SORT_PLACE),
             offset = call.view(HADAL_MOE_SORT_OFFSET),
             row_weight = call.view(HADAL_MOE_SORT_ROW_WEIGHT);
  const int64_t rows = expert.extents[0], k = expert.extents[1];
  const ExpertRange range(call.op, offset);
  call.share(1, [&](int64_t) {
    std::vector<int32_t> next(static_cast<size_t>(range.count) + 1, 0);
    for (int64_t t = 0; t < rows; ++t)
      for (int64_t j = 0; j < k; ++j)
        if (const int64_t e = range.local(expert.row<int32_t>(t)[j]); e >= 0)
          ++next[static_cast<size_t>(e) + 1];
    for (int64_t e = 0; e < range.count; ++e)
      next[static_cast<size_t>(e) + 1] += next[static_cast<size_t>(e)];
    for (int64_t e = 0; e <= range.count; ++e)
      *offset.row<int32_t>(e) = next[static_cast<size_t>(e)];
    for (int64_t t = 0; t < rows; ++t)
      for (int64_t j = 0; j < k; ++j) {
        const int64_t e = range.local(expert.row<int32_t>(t)[j]);
        if (e < 0) {
          *place.row<int32_t>(t * k + j) = -1;
          continue;
        }
        const int32_t at = next[static_cast<size_t>(e)]++;
        *order.row<int32_t>(at) = static_cast<int32_t>(t * k + j);
        *place.row<int32_t>(t * k + j) = at;
        *row_weight.row<float>(at) = weight.row<float>(t)[j];
      }
  });
}

std::string sort_indices(const Indices& at) {
  const View expert = at.view(HADAL_MOE_SORT_EXPERT);
  const ExpertRange range(at.op, at.view(HADAL_MOE_SORT_OFFSET));
  for (int64_t t = 0; t < expert.extents[0]; ++t)
    for (int64_t j = 0; j < expert.extents[1]; ++j)
      HADAL_RETURN_IF_TEXT(
          at.outside(HADAL_MOE_SORT_EXPERT, t, expert.row<int32_t>(t)[j], 0, range.all));
  return {};
}

/// Rows of an expert that are gathered together: each panel is made once for them.
constexpr int64_t kGathered = 4 * kTile;

// A task is some panels of one expert, for all its rows. The rows are gathered into the worker's
// own memory, quantised where the weights ask for it, so that no barrier is needed.
void grouped_matmul(const Call& call) {
  const View x = call.view(HADAL_GROUPED_MATMUL_X), out = call.view(HADAL_GROUPED_MATMUL_OUT),
             offset = call.view(HADAL_GROUPED_MATMUL_OFFSET),
             order = call.view(HADAL_GROUPED_MATMUL_ORDER);
  const Weight& w = call.weight(HADAL_GROUPED_MATMUL_W);
  const int64_t k = w.desc.cols, fan = call.op.attr.experts.fan;
  const int64_t panels = w.panels();
  const auto begin = [&](int64_t e) { return int64_t{*offset.row<int32_t>(e)}; };
  std::vector<int64_t> active;
  for (int64_t e = 0; e < w.desc.batch; ++e)
    if (begin(e) < begin(e + 1)) active.push_back(e);
  const auto experts = static_cast<int64_t>(active.size());
  const int64_t chunk = std::max<int64_t>(1, experts * panels / (int64_t{16} * call.run.workers));
  const int64_t chunks = (panels + chunk - 1) / chunk;
  auto* product = reinterpret_cast<float*>(call.worker.temp);
  float* gathered = product + kTile * kPanel;
  Panel panel(call.kernels(), reinterpret_cast<uint8_t*>(gathered + kGathered * k));
  call.share(experts * chunks, [&](int64_t task) {
    const int64_t e = active[static_cast<size_t>(task / chunks)];
    const int64_t first = task % chunks * chunk, last = std::min(panels, first + chunk);
    for (int64_t from = begin(e); from < begin(e + 1); from += kGathered) {
      const int64_t rows = std::min<int64_t>(kGathered, begin(e + 1) - from);
      for (int64_t m = 0; m < rows; ++m) {
        const int64_t source = order.present() ? *order.row<int32_t>(from + m) / fan : from + m;
        if (w.quantises())
          quantise(call.kernels(), x.row<float>(source), k, rows, m,
                   reinterpret_cast<uint8_t*>(gathered));
        else
          std::memcpy(gathered + m * k, x.row<float>(source),
                      static_cast<size_t>(k) * sizeof(float));
      }
      const Acts acts{gathered, k, reinterpret_cast<const uint8_t*>(gathered)};
      for (int64_t index = first; index < last; ++index) {
        panel.take(w, e, index, rows);
        for (int64_t tile = 0; tile < rows; tile += kTile) {
          const int64_t count = std::min<int64_t>(kTile, rows - tile);
          panel.multiply(acts, tile, count, product);
          for (int64_t m = 0; m < count; ++m)
            std::memcpy(out.row<float>(from + tile + m) + index * kPanel, product + m * kPanel,
                        static_cast<size_t>(panel.count()) * sizeof(float));
        }
      }
    }
  });
}

Needs grouped_needs(const Query& query) {
  const int64_t k = query[HADAL_GROUPED_MATMUL_X].extents[1];
  return {.temp = Panel::bytes(k) +
                  static_cast<uint64_t>(kGathered * k + kTile * kPanel) * sizeof(float),
          .block8 = query.rounds(HADAL_GROUPED_MATMUL_W)};
}

std::string grouped_indices(const Indices& at) {
  const View offset = at.view(HADAL_GROUPED_MATMUL_OFFSET),
             order = at.view(HADAL_GROUPED_MATMUL_ORDER);
  const int64_t rows = at.view(HADAL_GROUPED_MATMUL_OUT).extents[0];
  for (int64_t e = 0; e < offset.extents[0]; ++e)
    HADAL_RETURN_IF_TEXT(at.outside(HADAL_GROUPED_MATMUL_OFFSET, e, *offset.row<int32_t>(e),
                                    e == 0 ? 0 : *offset.row<int32_t>(e - 1), rows + 1));
  if (!order.present()) return {};
  // Behind the last offset it holds nothing of value.
  const int64_t pairs = at.view(HADAL_GROUPED_MATMUL_X).extents[0] * at.op.attr.experts.fan;
  for (int64_t i = 0; i < *offset.row<int32_t>(offset.extents[0] - 1); ++i)
    HADAL_RETURN_IF_TEXT(
        at.outside(HADAL_GROUPED_MATMUL_ORDER, i, *order.row<int32_t>(i), 0, pairs));
  return {};
}

void moe_combine(const Call& call) {
  const View x = call.view(HADAL_MOE_COMBINE_X), place = call.view(HADAL_MOE_COMBINE_PLACE),
             shared = call.view(HADAL_MOE_COMBINE_SHARED), add = call.view(HADAL_MOE_COMBINE_ADD),
             out = call.view(HADAL_MOE_COMBINE_OUT);
  const int64_t n = out.extents[1], fan = call.op.attr.experts.fan;
  call.share_rows(out.extents[0], 1, [&](int64_t from, int64_t to) {
    constexpr int64_t kPiece = 256;
    float sum[kPiece];
    for (int64_t t = from; t < to; ++t)
      for (int64_t i = 0; i < n; i += kPiece) {
        const int64_t count = std::min(kPiece, n - i);
        std::memset(sum, 0, sizeof sum);
        for (int64_t j = 0; j < fan; ++j)
          if (const int32_t pair = *place.row<int32_t>(t * fan + j); pair >= 0)
            call.kernels().add(sum, x.row<float>(pair) + i, count);
        if (shared.present()) call.kernels().add(sum, shared.row<float>(t) + i, count);
        if (add.present()) call.kernels().add(sum, add.row<float>(t) + i, count);
        std::memcpy(out.row<float>(t) + i, sum, static_cast<size_t>(count) * sizeof(float));
      }
  });
}

std::string combine_indices(const Indices& at) {
  // -1: a pair of another device's expert
  return at.in_range(HADAL_MOE_COMBINE_PLACE, -1, at.view(HADAL_MOE_COMBINE_X).extents[0]);
}

}  // namespace

const Operator kRouter = {
    .id = HADAL_OP_ROUTER, .run = router, .query = router_needs, .indices = router_indices};
const Operator kMoeSort = {.id = HADAL_OP_MOE_SORT, .run = moe_sort, .indices = sort_indices};
const Operator kGroupedMatmul = {.id = HADAL_OP_GROUPED_MATMUL,
                                 .run = grouped_matmul,
                                 .query = grouped_needs,
                                 .indices = grouped_indices,
                                 .chosen_by = HADAL_GROUPED_MATMUL_OFFSET};
const Operator kMoeCombine = {
    .id = HADAL_OP_MOE_COMBINE, .run = moe_combine, .indices = combine_indices};

}  // namespace hadal::cpu
