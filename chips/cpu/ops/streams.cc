// The streams of DeepSeek-V4 and V4.1: the hyper-connections hc_pre and hc_post, engram_gate.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/operators.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

constexpr int64_t kMaxStreams = 16;
constexpr int64_t kPiece = 256;  ///< channels that are worked on at a time

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

/// 1 / sqrt(mean(x[t]^2) + eps), over all streams.
float inverse_norm(const View& x, int64_t t, float eps) {
  const int64_t n = x.extents[1], d = x.extents[2];
  double squares = 0;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < d; ++c) {
      const auto v = static_cast<double>(x.row<float>(t, i)[c]);
      squares += v * v;
    }
  return static_cast<float>(
      1.0 / std::sqrt(squares / static_cast<double>(n * d) + static_cast<double>(eps)));
}

/// out[t] = sum_i pre_i x[t, i]
void collapse(const View& x, int64_t t, const float* pre, const View& out) {
  const int64_t n = x.extents[1], d = x.extents[2];
  float* to = out.row<float>(t);
  std::fill_n(to, d, 0.0f);
  for (int64_t i = 0; i < n; ++i) {
    const float* stream = x.row<float>(t, i);
    for (int64_t c = 0; c < d; ++c) to[c] += pre[i] * stream[c];
  }
}

/// Divides rows (or columns) of an n x n matrix by (their sum + eps).
void normalise(float* comb, int64_t n, bool rows, float eps) {
  for (int64_t i = 0; i < n; ++i) {
    float* line = rows ? comb + i * n : comb + i;
    const int64_t step = rows ? 1 : n;
    float sum = 0;
    for (int64_t j = 0; j < n; ++j) sum += line[j * step];
    for (int64_t j = 0; j < n; ++j) line[j * step] /= sum + eps;
  }
}

/// How well a stream matches its key: what engram_gate takes the root of.
double engram_match(const float* x, const float* key, const float* q_weight, const float* k_weight,
                    int64_t d, double eps) {
  // Eight partial sums each, in double: whole vectors, whatever they are, and an order that depends
  // on d alone.
  constexpr int64_t kSums = 8;
  double x_squares[kSums] = {}, key_squares[kSums] = {}, products[kSums] = {};
  const auto add = [&](int64_t c, int64_t j) {
    const auto xv = static_cast<double>(x[c]), kv = static_cast<double>(key[c]);
    x_squares[j] += xv * xv;
    key_squares[j] += kv * kv;
    products[j] += xv * static_cast<double>(q_weight[c]) * (kv * static_cast<double>(k_weight[c]));
  };
  int64_t c = 0;
  for (; c + kSums <= d; c += kSums)
    for (int64_t j = 0; j < kSums; ++j) add(c + j, j);
  for (int64_t j = 0; c + j < d; ++j) add(c + j, j);
  for (int64_t half = kSums / 2; half > 0; half /= 2)
    for (int64_t j = 0; j < half; ++j) {
      x_squares[j] += x_squares[j + half];
      key_squares[j] += key_squares[j + half];
      products[j] += products[j + half];
    }
  const auto width = static_cast<double>(d);
  return products[0] / (std::sqrt(x_squares[0] / width + eps) *
                        std::sqrt(key_squares[0] / width + eps) * std::sqrt(width));
}

/// The mixing weights of one row, of its values m (already scaled and shifted).
void sinkhorn(float* comb, int64_t n, uint32_t iterations, float eps) {
  for (int64_t i = 0; i < n; ++i) {
    float* row = comb + i * n;
    const float top = *std::max_element(row, row + n);
    float sum = 0;
    for (int64_t j = 0; j < n; ++j) sum += row[j] = std::exp(row[j] - top);
    for (int64_t j = 0; j < n; ++j) row[j] = row[j] / sum + eps;
  }
  normalise(comb, n, false, eps);
  for (uint32_t k = 1; k < iterations; ++k) {
    normalise(comb, n, true, eps);
    normalise(comb, n, false, eps);
  }
}

void hc_pre(const Call& call) {
  const View x = call.view(HADAL_HC_PRE_X), mix = call.view(HADAL_HC_PRE_MIX),
             out = call.view(HADAL_HC_PRE_OUT), post = call.view(HADAL_HC_PRE_POST),
             comb = call.view(HADAL_HC_PRE_COMB), held = call.view(HADAL_HC_PRE_PRE);
  const auto values = [&](uint32_t operand) {
    return mix.present() ? call.vector(operand) : nullptr;
  };
  const float *base = values(HADAL_HC_PRE_BASE), *scale = values(HADAL_HC_PRE_SCALE);
  const hadal_hc_attr& a = call.op.attr.hc;
  const int64_t n = x.extents[1];
  call.share_rows(x.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) {
      const float inverse = mix.present() ? inverse_norm(x, t, a.norm_eps) : 0.0f;
      const auto value = [&](int64_t i, int which) {
        return mix.row<float>(t)[i] * inverse * scale[which] + base[i];
      };
      float pre[kMaxStreams];
      for (int64_t i = 0; mix.present() && i < n; ++i) pre[i] = sigmoid(value(i, 0)) + a.eps;
      if (out.present()) collapse(x, t, held.present() ? held.row<float>(t) : pre, out);
      if (mix.present() && held.present()) std::copy_n(pre, n, held.row<float>(t));
      if (!post.present()) continue;
      float mixing[kMaxStreams * kMaxStreams];
      for (int64_t i = 0; i < n; ++i) post.row<float>(t)[i] = 2.0f * sigmoid(value(n + i, 1));
      for (int64_t i = 0; i < n * n; ++i) mixing[i] = value(2 * n + i, 2);
      sinkhorn(mixing, n, a.iterations, a.eps);
      for (int64_t i = 0; i < n; ++i)
        std::memcpy(comb.row<float>(t, i), mixing + i * n, static_cast<size_t>(n) * sizeof(float));
    }
  });
}

void hc_post(const Call& call) {
  const View x = call.view(HADAL_HC_POST_X), f = call.view(HADAL_HC_POST_F),
             post = call.view(HADAL_HC_POST_POST), comb = call.view(HADAL_HC_POST_COMB);
  const int64_t n = x.extents[1], d = x.extents[2];
  call.share_rows(x.extents[0], 1, [&](int64_t from, int64_t to) {
    float mixed[kMaxStreams][kPiece];
    for (int64_t t = from; t < to; ++t)
      for (int64_t c = 0; c < d; c += kPiece) {
        const int64_t count = std::min(kPiece, d - c);
        for (int64_t k = 0; k < n; ++k) {
          std::fill_n(mixed[k], count, 0.0f);
          for (int64_t j = 0; j < n; ++j) {
            const float weight = comb.row<float>(t, j)[k];
            const float* stream = x.row<float>(t, j) + c;
            for (int64_t i = 0; i < count; ++i) mixed[k][i] += weight * stream[i];
          }
          const float weight = post.row<float>(t)[k];
          const float* add = f.row<float>(t) + c;
          for (int64_t i = 0; i < count; ++i) mixed[k][i] += weight * add[i];
        }
        for (int64_t k = 0; k < n; ++k)
          std::memcpy(x.row<float>(t, k) + c, mixed[k], static_cast<size_t>(count) * sizeof(float));
      }
  });
}

void engram_gate(const Call& call) {
  const View x = call.view(HADAL_ENGRAM_GATE_X), key = call.view(HADAL_ENGRAM_GATE_KEY),
             value = call.view(HADAL_ENGRAM_GATE_VALUE);
  const float* q_weight = call.vector(HADAL_ENGRAM_GATE_Q_WEIGHT);
  const float* k_weight = call.vector(HADAL_ENGRAM_GATE_K_WEIGHT);
  const auto eps = static_cast<double>(call.op.attr.engram.eps),
             floor = static_cast<double>(call.op.attr.engram.floor);
  const int64_t n = x.extents[1], d = x.extents[2];
  // A task is a stream: one row alone has work for several workers.
  call.share_rows(x.extents[0] * n, 1, [&](int64_t from, int64_t to) {
    for (int64_t task = from; task < to; ++task) {
      const int64_t t = task / n, i = task % n;
      float* stream = x.row<float>(t, i);
      const double match =
          engram_match(stream, key.row<float>(t, i), q_weight + i * d, k_weight + i * d, d, eps);
      const double size = std::sqrt(std::max(std::fabs(match), floor));
      const auto gate = static_cast<float>(1.0 / (1.0 + std::exp(match < 0 ? size : -size)));
      const float* add = value.row<float>(t);
      for (int64_t c = 0; c < d; ++c) stream[c] += gate * add[c];
    }
  });
}

}  // namespace

const Operator kHcPre = {.id = HADAL_OP_HC_PRE, .run = hc_pre};
const Operator kHcPost = {.id = HADAL_OP_HC_POST, .run = hc_post};
const Operator kEngramGate = {.id = HADAL_OP_ENGRAM_GATE, .run = engram_gate};

}  // namespace hadal::cpu
