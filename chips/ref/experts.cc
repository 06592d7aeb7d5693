// Operators of the mixture of experts: router, moe_sort, grouped_matmul, moe_combine.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ref.h"

namespace hadal::ref {
namespace {

/// Scores of one row of logits, in double.
std::vector<double> scores_of(const float* logits, int64_t experts, uint32_t kind) {
  std::vector<double> s(logits, logits + experts);
  switch (kind) {
    case HADAL_ROUTER_SOFTMAX: {
      const double top = *std::max_element(s.begin(), s.end());
      double sum = 0;
      for (double& v : s) sum += v = std::exp(v - top);
      for (double& v : s) v /= sum;
      break;
    }
    case HADAL_ROUTER_SIGMOID:
      for (double& v : s) v = 1.0 / (1.0 + std::exp(-v));
      break;
    default:  // sqrt(softplus), softplus(v) = log(1 + exp(v))
      for (double& v : s) v = std::sqrt(std::max(v, 0.0) + std::log1p(std::exp(-std::abs(v))));
  }
  return s;
}

/// Indices of the `count` largest values, best first; ties: the lower index.
std::vector<int64_t> largest(const std::vector<double>& values, int64_t count) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + count, order.end(), [&](int64_t a, int64_t b) {
    const double x = values[static_cast<size_t>(a)], y = values[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  order.resize(static_cast<size_t>(count));
  return order;
}

/// Experts outside of the best groups get -inf.
void keep_groups(std::vector<double>& selection, const hadal_router_attr& a) {
  const size_t run = selection.size() / a.groups;
  std::vector<double> group(a.groups, 0.0);
  for (size_t g = 0; g < a.groups; ++g) {
    const auto begin = selection.begin() + static_cast<ptrdiff_t>(g * run);
    const std::vector<double> members(begin, begin + static_cast<ptrdiff_t>(run));
    for (const int64_t i : largest(members, a.group_best))
      group[g] += members[static_cast<size_t>(i)];
  }
  std::vector<bool> kept(a.groups, false);
  for (const int64_t g : largest(group, a.groups_kept)) kept[static_cast<size_t>(g)] = true;
  for (size_t e = 0; e < selection.size(); ++e)
    if (!kept[e / run]) selection[e] = -std::numeric_limits<double>::infinity();
}

}  // namespace

hadal_status router(const Call& call) {
  const auto& logits = call[HADAL_ROUTER_LOGITS];
  const auto& token = call[HADAL_ROUTER_TOKEN];
  const auto& hash = call[HADAL_ROUTER_HASH];
  const auto& expert = call[HADAL_ROUTER_EXPERT];
  const hadal_router_attr& a = call.op->attr.router;
  const int64_t experts = logits.extents[1], k = expert.extents[1];
  const std::vector<float> bias = read_vector(call[HADAL_ROUTER_BIAS]);
  std::vector<float> listed(static_cast<size_t>(k));  // a row of HASH
  for (int64_t t = 0; t < logits.extents[0]; ++t) {
    const std::vector<double> score = scores_of(logits.row<float>(t), experts, a.score);
    std::vector<int64_t> chosen;
    if (hash.present()) {
      const int32_t id = *token.row<int32_t>(t);
      if (id < 0 || id >= hash.extents[0])
        return call.outside(HADAL_ROUTER_TOKEN, t, id, hash.extents[0]);
      weight(hash.weight).decode_row(id, listed.data());
      for (int64_t j = 0; j < k; ++j) {
        const auto e = static_cast<int64_t>(listed[static_cast<size_t>(j)]);
        if (e < 0 || e >= experts) return call.outside(HADAL_ROUTER_HASH, id * k + j, e, experts);
        chosen.push_back(e);
      }
    } else {
      std::vector<double> selection = score;
      for (size_t e = 0; e < bias.size(); ++e) selection[e] += static_cast<double>(bias[e]);
      if (a.groups > 1) keep_groups(selection, a);
      chosen = largest(selection, k);
    }
    double sum = 1e-20;
    for (const int64_t e : chosen) sum += score[static_cast<size_t>(e)];
    for (int64_t j = 0; j < k; ++j) {
      const int64_t e = chosen[static_cast<size_t>(j)];
      expert.row<int32_t>(t)[j] = static_cast<int32_t>(e);
      call[HADAL_ROUTER_WEIGHT].row<float>(t)[j] = static_cast<float>(
          score[static_cast<size_t>(e)] / (a.normalise ? sum : 1.0) * static_cast<double>(a.scale));
    }
  }
  return HADAL_OK;
}

hadal_status moe_sort(const Call& call) {
  const auto& expert = call[HADAL_MOE_SORT_EXPERT];
  const int64_t pairs = expert.extents[0] * expert.extents[1], k = expert.extents[1];
  const int64_t experts = call[HADAL_MOE_SORT_OFFSET].extents[0] - 1;
  const hadal_experts_attr& a = call.op->attr.experts;
  const int64_t first = a.first, all = a.of != 0 ? int64_t{a.of} : experts;
  const auto at = [&](int64_t pair) { return expert.row<int32_t>(pair / k)[pair % k]; };
  const auto put = [&](int operand, int64_t i, int64_t value) {
    *call[static_cast<size_t>(operand)].row<int32_t>(i) = static_cast<int32_t>(value);
  };
  for (int64_t pair = 0; pair < pairs; ++pair)
    if (at(pair) < 0 || at(pair) >= all)
      return call.outside(HADAL_MOE_SORT_EXPERT, pair, at(pair), all);
  for (int64_t pair = 0; pair < pairs; ++pair) put(HADAL_MOE_SORT_PLACE, pair, -1);
  int64_t next = 0;
  for (int64_t e = 0; e < experts; ++e) {
    put(HADAL_MOE_SORT_OFFSET, e, next);
    for (int64_t pair = 0; pair < pairs; ++pair) {
      if (at(pair) != first + e) continue;
      put(HADAL_MOE_SORT_ORDER, next, pair);
      put(HADAL_MOE_SORT_PLACE, pair, next);
      *call[HADAL_MOE_SORT_ROW_WEIGHT].row<float>(next) =
          call[HADAL_MOE_SORT_WEIGHT].row<float>(pair / k)[pair % k];
      ++next;
    }
  }
  put(HADAL_MOE_SORT_OFFSET, experts, next);
  return HADAL_OK;
}

hadal_status grouped_matmul(const Call& call) {
  const auto& x = call[HADAL_GROUPED_MATMUL_X];
  const auto& w = call[HADAL_GROUPED_MATMUL_W];
  const auto& offset = call[HADAL_GROUPED_MATMUL_OFFSET];
  const auto& order = call[HADAL_GROUPED_MATMUL_ORDER];
  const auto& out = call[HADAL_GROUPED_MATMUL_OUT];
  const int64_t n = out.extents[1], k = x.extents[1];
  const auto fan = static_cast<int64_t>(call.op->attr.experts.fan);
  const Rounding product = product_rounding(call.rounding, weight(w.weight).desc);
  RowReader reader(weight(w.weight), product);
  std::vector<double> rows;  // [rows of the expert, K]
  for (int64_t e = 0; e < w.extents[0]; ++e) {
    const int64_t begin = *offset.row<int32_t>(e), end = *offset.row<int32_t>(e + 1);
    if (begin < 0 || begin > end || end > out.extents[0])
      return call.outside(HADAL_GROUPED_MATMUL_OFFSET, e + 1, end, out.extents[0] + 1);
    rows.resize(static_cast<size_t>((end - begin) * k));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t from = order.present() ? *order.row<int32_t>(i) / fan : i;
      if (from < 0 || from >= x.extents[0])
        return call.outside(HADAL_GROUPED_MATMUL_ORDER, i, from, x.extents[0]);
      round_activations({x.row<float>(from), static_cast<size_t>(k)}, product,
                        rows.data() + (i - begin) * k);
    }
    for (int64_t j = 0; begin < end && j < n; ++j) {
      const double* w_row = reader.read(e * n + j);
      for (int64_t i = begin; i < end; ++i)
        out.row<float>(i)[j] = static_cast<float>(dot(rows.data() + (i - begin) * k, w_row, k));
    }
  }
  return HADAL_OK;
}

hadal_status moe_combine(const Call& call) {
  const auto& x = call[HADAL_MOE_COMBINE_X];
  const auto& place = call[HADAL_MOE_COMBINE_PLACE];
  const auto& out = call[HADAL_MOE_COMBINE_OUT];
  const auto fan = static_cast<int64_t>(call.op->attr.experts.fan);
  std::vector<float> sum(static_cast<size_t>(out.extents[1]));
  for (int64_t t = 0; t < out.extents[0]; ++t) {
    std::fill(sum.begin(), sum.end(), 0.0f);
    const auto add = [&](const float* row) {
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += row[i];
    };
    for (int64_t j = 0; j < fan; ++j) {
      const int32_t from = *place.row<int32_t>(t * fan + j);
      if (from == -1) continue;  // of another device's expert
      if (from < 0 || from >= x.extents[0])
        return call.outside(HADAL_MOE_COMBINE_PLACE, t * fan + j, from, x.extents[0]);
      add(x.row<float>(from));
    }
    for (const int operand : {HADAL_MOE_COMBINE_SHARED, HADAL_MOE_COMBINE_ADD})
      if (call[static_cast<size_t>(operand)].present())
        add(call[static_cast<size_t>(operand)].row<float>(t));
    std::copy(sum.begin(), sum.end(), out.row<float>(t));
  }
  return HADAL_OK;
}

}  // namespace hadal::ref
