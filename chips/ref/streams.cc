// The streams of DeepSeek-V4 and V4.1: the hyper-connections hc_pre and hc_post, engram_gate.
#include <algorithm>
#include <cmath>
#include <vector>

#include "ref.h"

namespace hadal::ref {
namespace {

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

}  // namespace

// out[t] = sum_i pre_i x[t, i], with what PRE holds or this site's pre; then POST, COMB and PRE
hadal_status hc_pre(const Call& call) {
  const auto& x = call[HADAL_HC_PRE_X];
  const auto& mix = call[HADAL_HC_PRE_MIX];
  const auto& out = call[HADAL_HC_PRE_OUT];
  const auto& post = call[HADAL_HC_PRE_POST];
  const auto& held = call[HADAL_HC_PRE_PRE];
  const std::vector<float> base = read_vector(call[HADAL_HC_PRE_BASE]);
  const std::vector<float> scale = read_vector(call[HADAL_HC_PRE_SCALE]);
  const hadal_hc_attr& a = call.op->attr.hc;
  const int64_t n = x.extents[1], d = x.extents[2];
  const auto eps = static_cast<double>(a.eps);
  for (int64_t t = 0; t < x.extents[0]; ++t) {
    double squares = 0;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < d; ++c)
        squares +=
            static_cast<double>(x.row<float>(t, i)[c]) * static_cast<double>(x.row<float>(t, i)[c]);
    const double root =
        std::sqrt(squares / static_cast<double>(n * d) + static_cast<double>(a.norm_eps));
    const auto value = [&](int64_t i, size_t which) {
      return static_cast<double>(mix.row<float>(t)[i]) / root * static_cast<double>(scale[which]) +
             static_cast<double>(base[static_cast<size_t>(i)]);
    };
    std::vector<double> pre(static_cast<size_t>(n));
    for (int64_t i = 0; mix.present() && i < n; ++i)
      pre[static_cast<size_t>(i)] = sigmoid(value(i, 0)) + eps;
    for (int64_t c = 0; out.present() && c < d; ++c) {
      double sum = 0;
      for (int64_t i = 0; i < n; ++i)
        sum += (held.present() ? static_cast<double>(held.row<float>(t)[i])
                               : pre[static_cast<size_t>(i)]) *
               static_cast<double>(x.row<float>(t, i)[c]);
      out.row<float>(t)[c] = static_cast<float>(sum);
    }
    for (int64_t i = 0; held.present() && mix.present() && i < n; ++i)
      held.row<float>(t)[i] = static_cast<float>(pre[static_cast<size_t>(i)]);
    if (!post.present()) continue;
    for (int64_t i = 0; i < n; ++i)
      post.row<float>(t)[i] = static_cast<float>(2 * sigmoid(value(n + i, 1)));
    std::vector<double> comb(static_cast<size_t>(n * n));
    const auto at = [&](int64_t i, int64_t j) -> double& {
      return comb[static_cast<size_t>(i * n + j)];
    };
    for (int64_t i = 0; i < n; ++i) {
      double top = value(2 * n + i * n, 2), sum = 0;
      for (int64_t j = 0; j < n; ++j) top = std::max(top, value(2 * n + i * n + j, 2));
      for (int64_t j = 0; j < n; ++j) sum += at(i, j) = std::exp(value(2 * n + i * n + j, 2) - top);
      for (int64_t j = 0; j < n; ++j) at(i, j) = at(i, j) / sum + eps;
    }
    const auto normalise = [&](bool rows) {
      for (int64_t i = 0; i < n; ++i) {
        double sum = eps;
        for (int64_t j = 0; j < n; ++j) sum += rows ? at(i, j) : at(j, i);
        for (int64_t j = 0; j < n; ++j) (rows ? at(i, j) : at(j, i)) /= sum;
      }
    };
    normalise(false);
    for (uint32_t k = 1; k < a.iterations; ++k) {
      normalise(true);
      normalise(false);
    }
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j)
        call[HADAL_HC_PRE_COMB].row<float>(t, i)[j] = static_cast<float>(at(i, j));
  }
  return HADAL_OK;
}

// x[t, k] <- post[t, k] f[t] + sum_j comb[t, j, k] x[t, j]
hadal_status hc_post(const Call& call) {
  const auto& x = call[HADAL_HC_POST_X];
  const auto& f = call[HADAL_HC_POST_F];
  const int64_t n = x.extents[1], d = x.extents[2];
  std::vector<double> old(static_cast<size_t>(n));
  for (int64_t t = 0; t < x.extents[0]; ++t)
    for (int64_t c = 0; c < d; ++c) {
      for (int64_t j = 0; j < n; ++j)
        old[static_cast<size_t>(j)] = static_cast<double>(x.row<float>(t, j)[c]);
      for (int64_t k = 0; k < n; ++k) {
        double sum = 0;
        for (int64_t j = 0; j < n; ++j)
          sum += static_cast<double>(call[HADAL_HC_POST_COMB].row<float>(t, j)[k]) *
                 old[static_cast<size_t>(j)];
        sum += static_cast<double>(call[HADAL_HC_POST_POST].row<float>(t)[k]) *
               static_cast<double>(f.row<float>(t)[c]);
        x.row<float>(t, k)[c] = static_cast<float>(sum);
      }
    }
  return HADAL_OK;
}

// x[t, i] <- x[t, i] + gate_i value[t], gate_i by how well stream i matches key i
hadal_status engram_gate(const Call& call) {
  const auto& x = call[HADAL_ENGRAM_GATE_X];
  const auto& key = call[HADAL_ENGRAM_GATE_KEY];
  const auto& value = call[HADAL_ENGRAM_GATE_VALUE];
  const std::vector<float> q_weight = read_vector(call[HADAL_ENGRAM_GATE_Q_WEIGHT]);
  const std::vector<float> k_weight = read_vector(call[HADAL_ENGRAM_GATE_K_WEIGHT]);
  const int64_t n = x.extents[1], d = x.extents[2];
  const auto eps = static_cast<double>(call.op->attr.engram.eps);
  const auto floor = static_cast<double>(call.op->attr.engram.floor);
  for (int64_t t = 0; t < x.extents[0]; ++t)
    for (int64_t i = 0; i < n; ++i) {
      double x_squares = 0, key_squares = 0, product = 0;
      for (int64_t c = 0; c < d; ++c) {
        const auto at = static_cast<size_t>(i * d + c);
        const auto xv = static_cast<double>(x.row<float>(t, i)[c]);
        const auto kv = static_cast<double>(key.row<float>(t, i)[c]);
        x_squares += xv * xv;
        key_squares += kv * kv;
        product +=
            xv * static_cast<double>(q_weight[at]) * (kv * static_cast<double>(k_weight[at]));
      }
      const auto width = static_cast<double>(d);
      const double r = product / (std::sqrt(x_squares / width + eps) *
                                  std::sqrt(key_squares / width + eps) * std::sqrt(width));
      const double size = std::sqrt(std::max(std::fabs(r), floor));
      const double gate = sigmoid(r < 0 ? -size : size);
      for (int64_t c = 0; c < d; ++c) {
        float& to = x.row<float>(t, i)[c];
        to = static_cast<float>(static_cast<double>(to) +
                                gate * static_cast<double>(value.row<float>(t)[c]));
      }
    }
  return HADAL_OK;
}

}  // namespace hadal::ref
