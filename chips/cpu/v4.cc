// What DeepSeek-V4 adds: compress, the hyper-connections hc_pre and hc_post; and V4.1's
// engram_gate.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "plan.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

constexpr int64_t kMaxStreams = 16;
constexpr int64_t kPiece = 256;  ///< channels that are worked on at a time

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

/// One entry: softmax over its rows for each channel by itself.
struct Compressor {
  const View& plane;
  const int32_t* blocks;
  const float* ape;  ///< may be null
  int64_t d, width, ratio;
  bool overlap;

  void entry(int64_t last, float* out) const {
    const int64_t first = std::max<int64_t>(0, last + 1 - (overlap ? 2 : 1) * ratio);
    float top[kPiece], sum[kPiece];
    for (int64_t c = 0; c < d; c += kPiece) {
      const int64_t n = std::min(kPiece, d - c);
      const auto rows = [&](auto&& body) {
        for (int64_t p = first; p <= last; ++p) {
          const float* row = plane.row<float>(blocks[p / plane.extents[1]], p % plane.extents[1]);
          const int64_t at = (overlap && p > last - ratio ? d : 0) + c;
          body(row + at, row + width + at, ape ? ape + p % ratio * width + at : nullptr);
        }
      };
      std::fill_n(top, n, -std::numeric_limits<float>::infinity());
      std::fill_n(sum, n, 0.0f);
      std::fill_n(out + c, n, 0.0f);
      rows([&](const float*, const float* z, const float* pe) {
        for (int64_t i = 0; i < n; ++i) top[i] = std::max(top[i], z[i] + (pe ? pe[i] : 0.0f));
      });
      rows([&](const float* kv, const float* z, const float* pe) {
        for (int64_t i = 0; i < n; ++i) {
          const float p = std::exp(z[i] + (pe ? pe[i] : 0.0f) - top[i]);
          sum[i] += p;
          out[c + i] += p * kv[i];
        }
      });
      for (int64_t i = 0; i < n; ++i) out[c + i] /= sum[i];
    }
  }
};

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

}  // namespace

void run_compress(const Run& run, const hadal_op& op, size_t index) {
  const View plane = run.view(op, HADAL_COMPRESS_PLANE), ape = run.view(op, HADAL_COMPRESS_APE),
             position = run.view(op, HADAL_COMPRESS_POSITION),
             row_seq = run.view(op, HADAL_COMPRESS_ROW_SEQ),
             table = run.view(op, HADAL_COMPRESS_BLOCK_TABLE),
             out = run.view(op, HADAL_COMPRESS_OUT);
  const hadal_compress_attr& a = op.attr.compress;
  const int64_t d = out.extents[1];
  run.share_rows(index, out.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) {
      const int64_t last = *position.row<int32_t>(t);
      if ((last + 1) % a.ratio != 0) {
        std::fill_n(out.row<float>(t), d, 0.0f);
        continue;
      }
      const Compressor compressor{plane,
                                  table.row<int32_t>(*row_seq.row<int32_t>(t)),
                                  ape.present() ? weight_of(ape.weight)->values() : nullptr,
                                  d,
                                  a.overlap ? 2 * d : d,
                                  a.ratio,
                                  a.overlap != 0};
      compressor.entry(last, out.row<float>(t));
    }
  });
}

void run_hc_pre(const Run& run, const hadal_op& op, size_t index) {
  const View x = run.view(op, HADAL_HC_PRE_X), mix = run.view(op, HADAL_HC_PRE_MIX),
             out = run.view(op, HADAL_HC_PRE_OUT), post = run.view(op, HADAL_HC_PRE_POST),
             comb = run.view(op, HADAL_HC_PRE_COMB), held = run.view(op, HADAL_HC_PRE_PRE);
  const auto values = [&](uint32_t operand) {
    return mix.present() ? weight_of(run.view(op, operand).weight)->values() : nullptr;
  };
  const float *base = values(HADAL_HC_PRE_BASE), *scale = values(HADAL_HC_PRE_SCALE);
  const hadal_hc_attr& a = op.attr.hc;
  const int64_t n = x.extents[1];
  run.share_rows(index, x.extents[0], 1, [&](int64_t from, int64_t to) {
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

void run_hc_post(const Run& run, const hadal_op& op, size_t index) {
  const View x = run.view(op, HADAL_HC_POST_X), f = run.view(op, HADAL_HC_POST_F),
             post = run.view(op, HADAL_HC_POST_POST), comb = run.view(op, HADAL_HC_POST_COMB);
  const int64_t n = x.extents[1], d = x.extents[2];
  run.share_rows(index, x.extents[0], 1, [&](int64_t from, int64_t to) {
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

void run_engram_gate(const Run& run, const hadal_op& op, size_t index) {
  const View x = run.view(op, HADAL_ENGRAM_GATE_X), key = run.view(op, HADAL_ENGRAM_GATE_KEY),
             value = run.view(op, HADAL_ENGRAM_GATE_VALUE);
  const float* q_weight = weight_of(run.view(op, HADAL_ENGRAM_GATE_Q_WEIGHT).weight)->values();
  const float* k_weight = weight_of(run.view(op, HADAL_ENGRAM_GATE_K_WEIGHT).weight)->values();
  const auto eps = static_cast<double>(op.attr.engram.eps),
             floor = static_cast<double>(op.attr.engram.floor);
  const int64_t n = x.extents[1], d = x.extents[2];
  // A task is a stream: one row alone has work for several workers.
  run.share_rows(index, x.extents[0] * n, 1, [&](int64_t from, int64_t to) {
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

}  // namespace hadal::cpu
