// How far an element may lie from ref's. Derived in docs/numerics.md, "What the conformance kit
// allows"; never tuned.
#include <algorithm>
#include <cmath>

#include "pages.h"

namespace hadal::conformance {
namespace {

constexpr double kEps =
    0x1p-24;  // half an ulp of 1: what one rounding to fp32 may move a number of [1, 2)

double value(const Bytes& bytes, int64_t i) {
  return static_cast<double>(reinterpret_cast<const float*>(bytes.data())[i]);
}

/// What matmul may differ by: x [M, (B,) K] against the matrices of one weight. Without B, each
/// matrix may meet any row.
struct Product {
  int64_t m = 0, b = 1, k = 0, n = 0;
  const float* x = nullptr;
  const float* w = nullptr;  // [B, N, K]
  bool quantised = false;
  std::vector<double> w_norm;  // [matrices, N]
  std::vector<double> x_norm;  // [M, B]
  std::vector<double> x_amax;  // [M, B, K]: the largest |x| of the value's block of 32

  Product(const Operand& xs, const Operand& weight)
      : m(xs.shape[0]), x(xs.values<float>()), w(weight.weight->values.data()) {
    b = xs.shape.size() == 3 ? xs.shape[1] : 1;
    k = xs.shape.back();
    n = weight.weight->desc.rows;
    quantised = is_quantised(weight.dtype);
    for (int64_t i = 0; i < weight.weight->desc.batch * n; ++i) w_norm.push_back(norm(w + i * k));
    for (int64_t i = 0; i < m * b; ++i) x_norm.push_back(norm(x + i * k));
    for (int64_t i = 0; quantised && i < m * b; ++i)
      for (int64_t c = 0; c < k; ++c) {
        double amax = 0;
        for (int64_t j = c / 32 * 32; j < std::min(k, c / 32 * 32 + 32); ++j)
          amax = std::max(amax, std::fabs(static_cast<double>(x[i * k + j])));
        x_amax.push_back(amax);
      }
  }

  [[nodiscard]] double norm(const float* v) const {
    double sum = 0;
    for (int64_t c = 0; c < k; ++c) sum += static_cast<double>(v[c]) * static_cast<double>(v[c]);
    return std::sqrt(sum);
  }

  [[nodiscard]] int64_t x_row(int64_t row, int64_t batch) const {
    return row * b + (b == 1 ? 0 : batch);
  }

  [[nodiscard]] double exact(int64_t row, int64_t batch, int64_t column) const {
    const float* a = x + x_row(row, batch) * k;
    const float* c = w + (batch * n + column) * k;
    double sum = 0;
    for (int64_t i = 0; i < k; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(c[i]);
    return sum;
  }

  /// The sum's rounding, and that of the activations.
  [[nodiscard]] double bound(int64_t row, int64_t batch, int64_t column) const {
    const double sum = 2 * std::sqrt(static_cast<double>(k)) * kEps *
                       x_norm[static_cast<size_t>(x_row(row, batch))] *
                       w_norm[static_cast<size_t>(batch * n + column)];
    if (!quantised) return sum;
    const float* c = w + (batch * n + column) * k;
    const double* amax = x_amax.data() + x_row(row, batch) * k;
    double worst = 0;
    double squares = 0;
    for (int64_t i = 0; i < k; ++i) {
      const double step = std::fabs(static_cast<double>(c[i])) * amax[i] / 127;
      worst += step / 2;
      squares += step * step;
    }
    // Six standard deviations of independent errors, each uniform over one step; never more than
    // all of them at once.
    return sum + std::min(worst, 6 * std::sqrt(squares / 12));
  }
};

std::vector<double> matmul_bounds(const Case& c, const Bytes& expected) {
  const Product product(c.operands[HADAL_MATMUL_X], c.operands[HADAL_MATMUL_W]);
  const Operand& bias = c.operands[HADAL_MATMUL_BIAS];
  const Operand& add = c.operands[HADAL_MATMUL_ADD].alias >= 0 ? c.operands[HADAL_MATMUL_OUT]
                                                               : c.operands[HADAL_MATMUL_ADD];
  std::vector<double> bound;
  for (int64_t m = 0; m < product.m; ++m)
    for (int64_t b = 0; b < product.b; ++b)
      for (int64_t n = 0; n < product.n; ++n) {
        const auto i = static_cast<int64_t>(bound.size());
        double rest = std::fabs(value(expected, i));
        if (bias.present())
          rest += std::fabs(static_cast<double>(bias.weight->values[static_cast<size_t>(n)]));
        if (!add.data.empty()) rest += std::fabs(value(add.data, i));
        bound.push_back(product.bound(m, b, n) +
                        2 * kEps * rest);  // the additions of bias and ADD, the final rounding
      }
  return bound;
}

std::vector<double> grouped_bounds(const Case& c, const Bytes& expected) {
  const Product product(c.operands[HADAL_GROUPED_MATMUL_X], c.operands[HADAL_GROUPED_MATMUL_W]);
  const Operand& offset = c.operands[HADAL_GROUPED_MATMUL_OFFSET];
  std::vector<double> bound;
  for (int64_t e = 0; e + 1 < offset.shape[0]; ++e)
    for (int64_t i = offset.values<int32_t>()[e]; i < offset.values<int32_t>()[e + 1]; ++i) {
      const int64_t row = source_row(c, i);
      for (int64_t n = 0; n < product.n; ++n)
        bound.push_back(product.bound(row, e, n) +
                        2 * kEps * std::fabs(value(expected, static_cast<int64_t>(bound.size()))));
    }
  return bound;
}

double silu(double g) { return g / (1 + std::exp(-g)); }

/// silu(gate) * up of a row and two matrices, exactly, and how far a chip may be off before it
/// rounds the result.
struct Gated {
  double value = 0, error = 0;

  Gated(const Product& gate, const Product& up, int64_t m, int64_t batch, int64_t n, float limit) {
    double g = gate.exact(m, batch, n);
    double u = up.exact(m, batch, n);
    const double g_error = gate.bound(m, batch, n) + kEps * std::fabs(g);
    const double u_error = up.bound(m, batch, n) + kEps * std::fabs(u);
    if (const auto clamp = static_cast<double>(limit); clamp > 0) {
      g = std::min(g, clamp);
      u = std::clamp(u, -clamp, clamp);
    }
    // silu rises by at most 1.1 for 1.
    value = silu(g) * u;
    error = 1.1 * g_error * (std::fabs(u) + u_error) + std::fabs(silu(g)) * u_error +
            16 * kEps * std::fabs(value) + 3e-37 * std::fabs(u) + 1e-37;
  }
};

std::vector<double> gated_matmul_bounds(const Case& c) {
  const Product gate(c.operands[HADAL_GATED_MATMUL_X], c.operands[HADAL_GATED_MATMUL_GATE]);
  const Product up(c.operands[HADAL_GATED_MATMUL_X], c.operands[HADAL_GATED_MATMUL_UP]);
  std::vector<double> bound;
  for (int64_t m = 0; m < gate.m; ++m)
    for (int64_t n = 0; n < gate.n; ++n)
      bound.push_back(Gated(gate, up, m, 0, n, c.attr.swiglu.clamp).error);
  return bound;
}

std::vector<double> moe_experts_bounds(const Case& c) {
  const Operand& x = c.operands[HADAL_MOE_EXPERTS_X];
  const Operand& weight = c.operands[HADAL_MOE_EXPERTS_WEIGHT];
  const auto* expert = c.operands[HADAL_MOE_EXPERTS_EXPERT].values<int32_t>();
  const Operand& shared = c.operands[HADAL_MOE_EXPERTS_SHARED];
  const bool in_place = c.operands[HADAL_MOE_EXPERTS_ADD].alias >= 0;
  const Operand& add = c.operands[in_place ? HADAL_MOE_EXPERTS_OUT : HADAL_MOE_EXPERTS_ADD];
  const Product gate(x, c.operands[HADAL_MOE_EXPERTS_GATE]);
  const Product up(x, c.operands[HADAL_MOE_EXPERTS_UP]);
  const int64_t fan = weight.shape[1], pairs = weight.count(), width = gate.n;
  // What enters the second product, and how far it may be off.
  std::vector<float> hidden;
  std::vector<double> error;
  for (int64_t pair = 0; pair < pairs; ++pair)
    for (int64_t n = 0; n < width; ++n) {
      const double w = value(weight.data, pair);
      const Gated h(gate, up, pair / fan, expert[pair], n, c.attr.experts.clamp);
      hidden.push_back(static_cast<float>(h.value * w));
      error.push_back((h.error + 2 * kEps * std::fabs(h.value)) * std::fabs(w));
    }
  const Operand h = floats({pairs, width}, HADAL_DIM_T, hidden);
  const Product down(h, c.operands[HADAL_MOE_EXPERTS_DOWN]);
  std::vector<double> bound;
  for (int64_t t = 0; t < x.shape[0]; ++t)
    for (int64_t n = 0; n < down.n; ++n) {
      const auto i = static_cast<int64_t>(bound.size());
      double sum = 0, size = 0;
      for (int64_t pair = t * fan; pair < (t + 1) * fan; ++pair) {
        sum += down.bound(pair, expert[pair], n);
        size += std::fabs(down.exact(pair, expert[pair], n));
        for (int64_t k = 0; k < width; ++k)
          sum += std::fabs(static_cast<double>(down.w[(expert[pair] * down.n + n) * width + k])) *
                 error[static_cast<size_t>(pair * width + k)];
      }
      if (shared.present()) size += std::fabs(value(shared.data, i));
      if (!add.data.empty()) size += std::fabs(value(add.data, i));
      bound.push_back(sum + static_cast<double>(fan + 3) * kEps * size);
    }
  return bound;
}

std::vector<double> norm_bounds(const Case& c, const Bytes& expected) {
  const Operand& x = c.operands[HADAL_NORM_X];
  const Operand& residual = c.operands[HADAL_NORM_RESIDUAL];
  const Operand& w = c.operands[HADAL_NORM_W];
  const Operand& b = c.operands[HADAL_NORM_B];
  const int64_t n = x.shape.back();
  const double factor = 4 * kEps * (std::log2(static_cast<double>(n)) + 4);
  std::vector<double> bound;
  for (int64_t row = 0; row < x.count() / n; ++row) {
    std::vector<double> r;
    double sum = 0, absolute = 0, squares = 0;
    for (int64_t i = 0; i < n; ++i) {
      float v = x.values<float>()[row * n + i];
      if (residual.present()) v += residual.values<float>()[row * n + i];
      r.push_back(static_cast<double>(v));
      sum += r.back();
      absolute += std::fabs(r.back());
    }
    const double mean = sum / static_cast<double>(n);
    for (const double v : r) squares += (v - mean) * (v - mean);
    const double root =
        std::sqrt(squares / static_cast<double>(n) + static_cast<double>(c.attr.norm.eps));
    for (int64_t i = 0; i < n; ++i) {
      double size = std::fabs(value(expected, row * n + i));
      if (c.attr.norm.layer) {
        // The mean is as exact as the values that it is made of, and r - mean may cancel.
        const double scale =
            w.present() ? std::fabs(static_cast<double>(w.weight->values[static_cast<size_t>(i)]))
                        : 1.0;
        size += scale * (std::fabs(r[static_cast<size_t>(i)]) + absolute / static_cast<double>(n)) /
                root;
        if (b.present())
          size += std::fabs(static_cast<double>(b.weight->values[static_cast<size_t>(i)]));
      }
      bound.push_back(factor * size);
    }
  }
  return bound;
}

std::vector<double> rope_bounds(const Case& c) {
  const Operand& x = c.operands[HADAL_ROPE_X];
  const hadal_rope_attr& a = c.attr.rope;
  const int64_t d = x.shape[2];
  const int64_t half = a.dims / 2;
  std::vector<double> bound(static_cast<size_t>(x.count()), 0.0);
  for (int64_t head = 0; head < x.shape[0] * x.shape[1]; ++head)
    for (int64_t i = 0; i < half; ++i) {
      const int64_t one = head * d + a.first + (a.interleaved ? 2 * i : i);
      const int64_t other = one + (a.interleaved ? 1 : half);
      const double pair = std::hypot(value(x.data, one), value(x.data, other)) *
                          std::max(1.0, static_cast<double>(a.amplitude));
      bound[static_cast<size_t>(one)] = bound[static_cast<size_t>(other)] = 8 * kEps * pair;
    }
  return bound;
}

std::vector<double> swiglu_bounds(const Case& c, const Bytes& expected) {
  const Operand& up = c.operands[HADAL_SWIGLU_UP];
  const Operand& weight = c.operands[HADAL_SWIGLU_WEIGHT];
  std::vector<double> bound;
  for (int64_t i = 0; i < up.count(); ++i) {
    // Below -88.72 exp(-gate) overflows fp32 and silu becomes 0, where it is at most 2.6e-37.
    double lost = 3e-37 * std::fabs(value(up.data, i));
    if (weight.present()) lost *= std::fabs(value(weight.data, i / up.shape[1]));
    bound.push_back(16 * kEps * std::fabs(value(expected, i)) + lost + 1e-37);
  }
  return bound;
}

/// What one query head meets: sizes of what it sees, from which the bound of its output follows.
struct Seen {
  int64_t entries = 0;
  double k_norm = 0, v_max = 0;

  /// Entry `at` (its first number's index) of a plane: K of `d` numbers.
  void key(const Operand& plane, int64_t at, int64_t d) {
    double sum = 0;
    for (int64_t i = 0; i < d; ++i) {
      const auto x = static_cast<double>(decode(plane, at + i));
      sum += x * x;
    }
    k_norm = std::max(k_norm, std::sqrt(sum));
    ++entries;
  }
  void value_row(const Operand& plane, int64_t at, int64_t dv) {
    for (int64_t i = 0; i < dv; ++i)
      v_max = std::max(v_max, std::fabs(static_cast<double>(decode(plane, at + i))));
  }
  /// Of a query with the sum of squares `q`; the output's own rounding is not in it.
  [[nodiscard]] double bound(double q, float scale) const {
    const double score = std::fabs(static_cast<double>(scale)) * std::sqrt(q) * k_norm;
    return kEps * v_max * (2 * std::sqrt(static_cast<double>(entries)) + 8 * score + 4);
  }
};

double square_sum(const Operand& x, int64_t row) {
  double sum = 0;
  const int64_t n = x.shape.back();
  for (int64_t i = 0; i < n; ++i) sum += std::pow(value(x.data, row * n + i), 2);
  return sum;
}

void push_attention(std::vector<double>& bound, double all, int64_t dv, const Bytes& expected) {
  for (int64_t i = 0; i < dv; ++i)
    bound.push_back(all +
                    2 * kEps * std::fabs(value(expected, static_cast<int64_t>(bound.size()))));
}

std::vector<double> attention_bounds(const Case& c, const Bytes& expected) {
  const Operand& q = c.operands[HADAL_GQA_ATTENTION_Q];
  const Operand& k = c.operands[HADAL_GQA_ATTENTION_K];
  const Operand& v = c.operands[HADAL_GQA_ATTENTION_V];
  const hadal_attention_attr& a = c.attr.attention;
  const int64_t heads = q.shape[1], d = q.shape[2];
  const int64_t kv_heads = a.kv_heads, dv = v.shape[2] / kv_heads;
  std::vector<double> bound;
  for (int64_t t = 0; t < q.shape[0]; ++t) {
    const int64_t s = c.operands[HADAL_GQA_ATTENTION_ROW_SEQ].values<int32_t>()[t];
    const EntryRange range =
        entry_range(c.operands[HADAL_GQA_ATTENTION_POSITION].values<int32_t>()[t],
                    c.operands[HADAL_GQA_ATTENTION_FIRST].values<int32_t>()[s], 1, a.window);
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t kv = h / (heads / kv_heads);
      Seen seen;
      for (int64_t j = range.begin; j < range.end; ++j) {
        const int64_t slot = slot_of(k, c.operands[HADAL_GQA_ATTENTION_BLOCK_TABLE], s, j);
        seen.key(k, (slot * kv_heads + kv) * d, d);
        seen.value_row(v, (slot * kv_heads + kv) * dv, dv);
      }
      push_attention(bound, seen.bound(square_sum(q, t * heads + h), a.scale), dv, expected);
    }
  }
  return bound;
}

/// Where the operands of a segment stand, in latent_attention or mla_attention.
struct SegmentAt {
  uint32_t plane, table, first, list, position, row_seq;
};
constexpr SegmentAt kSegments[] = {
    {HADAL_LATENT_ATTENTION_PLANE, HADAL_LATENT_ATTENTION_BLOCK_TABLE, HADAL_LATENT_ATTENTION_FIRST,
     HADAL_LATENT_ATTENTION_LIST, HADAL_LATENT_ATTENTION_POSITION, HADAL_LATENT_ATTENTION_ROW_SEQ},
    {HADAL_LATENT_ATTENTION_PLANE2, HADAL_LATENT_ATTENTION_BLOCK_TABLE2,
     HADAL_LATENT_ATTENTION_FIRST2, HADAL_LATENT_ATTENTION_LIST2, HADAL_LATENT_ATTENTION_POSITION,
     HADAL_LATENT_ATTENTION_ROW_SEQ}};
constexpr SegmentAt kMlaSegment = {HADAL_MLA_ATTENTION_PLANE,    HADAL_MLA_ATTENTION_BLOCK_TABLE,
                                   HADAL_MLA_ATTENTION_FIRST,    HADAL_MLA_ATTENTION_LIST,
                                   HADAL_MLA_ATTENTION_POSITION, HADAL_MLA_ATTENTION_ROW_SEQ};

/// What token row t sees of a segment, whatever the head; the first `dv` numbers are V.
void see_segment(const Case& c, const SegmentAt& at, const hadal_segment_attr& a, int64_t t,
                 int64_t dv, Seen& seen) {
  const Operand &plane = c.operands[at.plane], &list = c.operands[at.list];
  if (!plane.present()) return;
  const int64_t s = c.operands[at.row_seq].values<int32_t>()[t];
  const EntryRange range =
      entry_range(c.operands[at.position].values<int32_t>()[t],
                  c.operands[at.first].values<int32_t>()[s], a.ratio, a.window);
  const auto see = [&](int64_t e) {
    const int64_t width = plane.shape[2];
    const int64_t first = slot_of(plane, c.operands[at.table], s, e) * width;
    seen.key(plane, first, width);
    seen.value_row(plane, first, dv);
  };
  for (int64_t e = range.begin; !list.present() && e < range.end; ++e) see(e);
  for (int64_t i = 0; list.present() && i < list.shape[1]; ++i)
    if (const int64_t e = list.values<int32_t>()[t * list.shape[1] + i]; range.holds(e)) see(e);
}

std::vector<double> latent_bounds(const Case& c, const Bytes& expected) {
  const Operand& q = c.operands[HADAL_LATENT_ATTENTION_Q];
  const Operand& tail = c.operands[HADAL_LATENT_ATTENTION_TAIL];
  const int64_t heads = q.shape[1], dv = c.operands[HADAL_LATENT_ATTENTION_OUT].shape[2];
  std::vector<double> bound;
  for (int64_t t = 0; t < q.shape[0]; ++t) {
    Seen seen;
    for (size_t i = 0; i < 2; ++i)
      see_segment(c, kSegments[i], c.attr.latent.segments[i], t, dv, seen);
    for (int64_t h = 0; h < heads; ++h) {
      double squares = square_sum(q, t * heads + h);
      if (tail.present()) squares += square_sum(tail, t * heads + h);
      push_attention(bound, seen.bound(squares, c.attr.latent.scale), dv, expected);
    }
  }
  return bound;
}

std::vector<double> mla_bounds(const Case& c, const Bytes& expected) {
  const Operand& q_nope = c.operands[HADAL_MLA_ATTENTION_Q_NOPE];
  const Operand& q_rope = c.operands[HADAL_MLA_ATTENTION_Q_ROPE];
  const Operand& w_uv = c.operands[HADAL_MLA_ATTENTION_W_UV];
  const Product absorb(q_nope, c.operands[HADAL_MLA_ATTENTION_W_UK]);
  const int64_t tokens = q_nope.shape[0], heads = q_nope.shape[1], rank = w_uv.shape[2];
  const auto scale = std::fabs(static_cast<double>(c.attr.latent.scale));
  std::vector<double> mixed_error;   // [T, H], of each number of the weighted sum
  std::vector<float> mixed_largest;  // [T, H, r]
  for (int64_t t = 0; t < tokens; ++t) {
    Seen seen;
    see_segment(c, kMlaSegment, c.attr.latent.segments[0], t, rank, seen);
    for (int64_t h = 0; h < heads; ++h) {
      double squares = square_sum(q_rope, t * heads + h), q_error = 0;
      for (int64_t n = 0; n < rank; ++n) {
        const double q = absorb.exact(t, h, n);
        squares += q * q;
        q_error += std::pow(absorb.bound(t, h, n) + kEps * std::fabs(q), 2);
      }
      const double score_error = scale * std::sqrt(q_error) * seen.k_norm;
      mixed_error.push_back(seen.bound(squares, c.attr.latent.scale) +
                            (std::expm1(2 * score_error) + 2 * kEps) * seen.v_max);
      mixed_largest.insert(mixed_largest.end(), static_cast<size_t>(rank),
                           static_cast<float>(seen.v_max));
    }
  }
  const Operand mixed = floats({tokens, heads, rank}, HADAL_DIM_T, mixed_largest);
  const Product expand(mixed, w_uv);
  std::vector<double> bound;
  for (int64_t row = 0; row < tokens * heads; ++row)
    for (int64_t n = 0; n < expand.n; ++n) {
      const int64_t h = row % heads, i = static_cast<int64_t>(bound.size());
      double weights = 0;
      for (int64_t k = 0; k < rank; ++k)
        weights += std::fabs(static_cast<double>(expand.w[(h * expand.n + n) * rank + k]));
      bound.push_back(expand.bound(row / heads, h, n) +
                      weights * mixed_error[static_cast<size_t>(row)] +
                      2 * kEps * std::fabs(value(expected, i)));
    }
  return bound;
}

std::vector<double> router_bounds(const Case& c, uint32_t operand, const Bytes& expected) {
  std::vector<double> bound;
  for (int64_t i = 0; operand == HADAL_ROUTER_WEIGHT && i < c.operands[operand].count(); ++i)
    bound.push_back(32 * kEps * std::fabs(value(expected, i)));
  return bound;
}

std::vector<double> compress_bounds(const Case& c) {
  const Operand& plane = c.operands[HADAL_COMPRESS_PLANE];
  const Operand& out = c.operands[HADAL_COMPRESS_OUT];
  const int64_t ratio = c.attr.compress.ratio, d = out.shape[1], width = plane.shape[2];
  const bool overlap = c.attr.compress.overlap != 0;
  std::vector<double> bound(static_cast<size_t>(out.count()), 0.0);
  for (int64_t t = 0; t < out.shape[0]; ++t) {
    const int64_t last = c.operands[HADAL_COMPRESS_POSITION].values<int32_t>()[t];
    const int64_t s = c.operands[HADAL_COMPRESS_ROW_SEQ].values<int32_t>()[t];
    if ((last + 1) % ratio != 0) continue;  // zeros
    for (int64_t p = std::max<int64_t>(0, last + 1 - (overlap ? 2 : 1) * ratio); p <= last; ++p) {
      const int64_t at = slot_of(plane, c.operands[HADAL_COMPRESS_BLOCK_TABLE], s, p) * width +
                         (overlap && p > last - ratio ? d : 0);
      for (int64_t i = 0; i < d; ++i) {
        double& b = bound[static_cast<size_t>(t * d + i)];
        b = std::max(b, 64 * kEps * std::fabs(value(plane.data, at + i)));
      }
    }
  }
  return bound;
}

std::vector<double> hc_pre_bounds(const Case& c, uint32_t operand, const Bytes& expected) {
  const Operand& x = c.operands[HADAL_HC_PRE_X];
  const Operand& mix = c.operands[HADAL_HC_PRE_MIX];
  const Operand& held = c.operands[HADAL_HC_PRE_PRE];
  const hadal_hc_attr& a = c.attr.hc;
  const double factor = 256 * kEps * (1 + static_cast<double>(a.iterations));
  const int64_t n = x.shape[1], d = x.shape[2];
  std::vector<double> bound;
  if (operand != HADAL_HC_PRE_OUT) {
    // Without MIX, PRE keeps its bits.
    for (int64_t i = 0; mix.present() && i < c.operands[operand].count(); ++i)
      bound.push_back(factor * std::fabs(value(expected, i)));
    return bound;
  }
  const auto own = [&](int64_t t, int64_t i, double root) {
    const double m =
        value(mix.data, t * mix.shape[1] + i) / root *
            static_cast<double>(c.operands[HADAL_HC_PRE_SCALE].weight->values[0]) +
        static_cast<double>(c.operands[HADAL_HC_PRE_BASE].weight->values[static_cast<size_t>(i)]);
    return 1 / (1 + std::exp(-m)) + static_cast<double>(a.eps);
  };
  for (int64_t t = 0; t < x.shape[0]; ++t) {
    double squares = 0;
    for (int64_t i = 0; i < n; ++i) squares += square_sum(x, t * n + i);
    const double root =
        std::sqrt(squares / static_cast<double>(n * d) + static_cast<double>(a.norm_eps));
    std::vector<double> size(static_cast<size_t>(d), 0.0);
    for (int64_t i = 0; i < n; ++i) {
      const double pre = held.present() ? std::fabs(value(held.data, t * n + i)) : own(t, i, root);
      for (int64_t k = 0; k < d; ++k)
        size[static_cast<size_t>(k)] += pre * std::fabs(value(x.data, (t * n + i) * d + k));
    }
    for (const double v : size) bound.push_back(factor * v);
  }
  return bound;
}

std::vector<double> hc_post_bounds(const Case& c) {
  const Operand& x = c.operands[HADAL_HC_POST_X];
  const Operand& post = c.operands[HADAL_HC_POST_POST];
  const Operand& comb = c.operands[HADAL_HC_POST_COMB];
  const int64_t n = x.shape[1], d = x.shape[2];
  std::vector<double> bound;
  for (int64_t t = 0; t < x.shape[0]; ++t)
    for (int64_t k = 0; k < n; ++k)
      for (int64_t i = 0; i < d; ++i) {
        double size = std::fabs(value(post.data, t * n + k) *
                                value(c.operands[HADAL_HC_POST_F].data, t * d + i));
        for (int64_t j = 0; j < n; ++j)
          size +=
              std::fabs(value(comb.data, (t * n + j) * n + k) * value(x.data, (t * n + j) * d + i));
        bound.push_back(8 * kEps * size);
      }
  return bound;
}

std::vector<double> engram_bounds(const Case& c, const Bytes& expected) {
  const Operand& x = c.operands[HADAL_ENGRAM_GATE_X];
  const Operand& key = c.operands[HADAL_ENGRAM_GATE_KEY];
  const std::vector<float>& q_weight = c.operands[HADAL_ENGRAM_GATE_Q_WEIGHT].weight->values;
  const std::vector<float>& k_weight = c.operands[HADAL_ENGRAM_GATE_K_WEIGHT].weight->values;
  const int64_t n = x.shape[1], d = x.shape[2];
  const auto width = static_cast<double>(d), eps = static_cast<double>(c.attr.engram.eps);
  const auto gate = [&](double r) {
    const double size = std::sqrt(std::max(std::fabs(r), static_cast<double>(c.attr.engram.floor)));
    return 1 / (1 + std::exp(r < 0 ? size : -size));
  };
  std::vector<double> bound;
  for (int64_t row = 0; row < x.shape[0] * n; ++row) {
    double sum = 0, size = 0;
    for (int64_t i = 0; i < d; ++i) {
      const auto w = static_cast<size_t>(row % n * d + i);
      const double product = value(x.data, row * d + i) * value(key.data, row * d + i) *
                             static_cast<double>(q_weight[w]) * static_cast<double>(k_weight[w]);
      sum += product;
      size += std::fabs(product);
    }
    const double roots = std::sqrt(square_sum(x, row) / width + eps) *
                         std::sqrt(square_sum(key, row) / width + eps) * std::sqrt(width);
    const double r = sum / roots, open = 4 * std::sqrt(width) * kEps * size / roots;
    // The gate rises with r: what lies between is at one of the ends.
    const double moved = std::max(gate(r + open) - gate(r), gate(r) - gate(r - open));
    for (int64_t i = 0; i < d; ++i)
      bound.push_back(16 * kEps * std::fabs(value(expected, row * d + i)) +
                      std::fabs(value(c.operands[HADAL_ENGRAM_GATE_VALUE].data, row / n * d + i)) *
                          (4 * kEps + moved));
  }
  return bound;
}

std::vector<double> sample_bounds(const Case& c, uint32_t operand, const Bytes& expected) {
  const Operand& logits = c.operands[HADAL_SAMPLE_LOGITS];
  const Operand& out = c.operands[operand];
  std::vector<double> bound;
  if (operand != HADAL_SAMPLE_LOGPROB && operand != HADAL_SAMPLE_TOP_LOGPROB) return bound;
  const int64_t v = logits.shape[1];
  for (int64_t i = 0; i < out.count(); ++i) {
    const int64_t r = i / (out.count() / out.shape[0]);
    double largest =
        0;  // the sum of exp: rounding of V terms, exp within 4 ulp; then two subtractions
    for (int64_t j = 0; j < v; ++j)
      if (std::isfinite(logits.values<float>()[r * v + j]))
        largest = std::max(largest, std::fabs(value(logits.data, r * v + j)));
    const double found = value(expected, i);
    bound.push_back(kEps * (2 * std::sqrt(static_cast<double>(v)) + 16 + 4 * largest +
                            2 * (std::isfinite(found) ? std::fabs(found) : 0)));
  }
  return bound;
}

}  // namespace

std::vector<double> bounds(const Case& c, uint32_t operand, const Bytes& expected) {
  switch (c.id) {
    case HADAL_OP_MATMUL:
      return matmul_bounds(c, expected);
    case HADAL_OP_GATED_MATMUL:
      return gated_matmul_bounds(c);
    case HADAL_OP_NORM:
      return operand == HADAL_NORM_OUT ? norm_bounds(c, expected) : std::vector<double>();
    case HADAL_OP_ROPE:
      return rope_bounds(c);
    case HADAL_OP_SWIGLU:
      return swiglu_bounds(c, expected);
    case HADAL_OP_GQA_ATTENTION:
      return attention_bounds(c, expected);
    case HADAL_OP_LATENT_ATTENTION:
      return latent_bounds(c, expected);
    case HADAL_OP_MLA_ATTENTION:
      return mla_bounds(c, expected);
    case HADAL_OP_MOE_EXPERTS:
      return moe_experts_bounds(c);
    case HADAL_OP_ROUTER:
      return router_bounds(c, operand, expected);
    case HADAL_OP_GROUPED_MATMUL:
      return grouped_bounds(c, expected);
    case HADAL_OP_COMPRESS:
      return compress_bounds(c);
    case HADAL_OP_HC_PRE:
      return hc_pre_bounds(c, operand, expected);
    case HADAL_OP_HC_POST:
      return hc_post_bounds(c);
    case HADAL_OP_ENGRAM_GATE:
      return engram_bounds(c, expected);
    case HADAL_OP_SAMPLE:
      return sample_bounds(c, operand, expected);
    default:
      return {};  // what only copies, chooses, or adds in a given order: bit for bit
  }
}

}  // namespace hadal::conformance
