// Bounds of attention.
#include "bounds/bounds.h"
#include "contract/operators.h"
#include "pages.h"

namespace hadal::conformance {
namespace {

/// Whether q, k, v and p are rounded to 16 bits.
bool rounds_attention(const Numerics& n) {
  return n.kind == HADAL_NUMERICS_HALF || n.kind == HADAL_NUMERICS_FP8 ||
         n.kind == HADAL_NUMERICS_ROW8;
}

/// What one query head meets: entries with their keys and values.
class Seen {
 public:
  Seen(int64_t d, int64_t dv, bool rounds) : d_(d), dv_(dv), rounds_(rounds) {}

  void add(const float* k, const float* v) {
    double sum = 0;
    for (int64_t i = 0; i < d_; ++i) sum += std::pow(static_cast<double>(k[i]), 2);
    k_norm_ = std::max(k_norm_, std::sqrt(sum));
    for (int64_t i = 0; i < dv_; ++i)
      v_max_ = std::max(v_max_, std::fabs(static_cast<double>(v[i])));
    keys_.push_back(k);
    values_.push_back(v);
  }
  [[nodiscard]] double k_norm() const { return k_norm_; }
  [[nodiscard]] double v_max() const { return v_max_; }

  /// For each number of the output, without its own rounding. `sink`: may be null.
  [[nodiscard]] std::vector<double> bounds(const std::vector<double>& q, float scale,
                                           const float* sink) const {
    double squares = 0;
    for (const double v : q) squares += v * v;
    const double score = std::fabs(static_cast<double>(scale)) * std::sqrt(squares) * k_norm_;
    const auto count = static_cast<double>(keys_.size());
    std::vector<double> bound(static_cast<size_t>(dv_),
                              kEps * v_max_ * (2 * std::sqrt(count) + 8 * score + 4));
    if (rounds_ && !keys_.empty()) add_rounding(q, static_cast<double>(scale), sink, bound);
    return bound;
  }

 private:
  // What is the same for all numbers of the output.
  struct Weights {
    std::vector<double> p;        // of each entry, normalised
    std::vector<double> p_step;   // of its rounding
    std::vector<double> k_worst;  // Σ |q| h(k) of each entry
    std::vector<double> k_squares;
    std::vector<double> q_step;
    double grows = 1;  // exp(4 Δ)
  };

  [[nodiscard]] Weights weigh(const std::vector<double>& q, double scale, const float* sink) const {
    Weights w;
    std::vector<double> scores;
    double delta = 0;
    for (const double v : q) w.q_step.push_back(half_step(v));
    for (const float* key : keys_) {
      double sum = 0, worst = 0, squares = 0, k_worst = 0, k_squares = 0;
      for (size_t i = 0; i < q.size(); ++i) {
        const auto k = static_cast<double>(key[i]);
        const double h = half_step(k), by_k = std::fabs(q[i]) * h,
                     by_q = std::fabs(k) * w.q_step[i], both = w.q_step[i] * h;
        sum += q[i] * k;
        k_worst += by_k;
        k_squares += by_k * by_k;
        worst += by_q / 2 + both / 4;
        squares += by_q * by_q + both * both / 12;
      }
      scores.push_back(scale * sum);
      w.k_worst.push_back(k_worst);
      w.k_squares.push_back(k_squares);
      delta = std::max(delta, std::fabs(scale) * allowed(worst + k_worst / 2, squares + k_squares));
    }
    w.grows = std::exp(4 * delta);
    double largest = *std::max_element(scores.begin(), scores.end());
    if (sink) largest = std::max(largest, static_cast<double>(*sink));
    double sum = sink ? std::exp(static_cast<double>(*sink) - largest) : 0;
    for (double& s : scores) sum += s = std::exp(s - largest);
    for (const double s : scores) w.p.push_back(s / sum);
    const double p_max = *std::max_element(w.p.begin(), w.p.end());
    for (const double p : w.p) w.p_step.push_back(std::max(0x1p-7 * p, 0x1p-24 * p_max));
    return w;
  }

  // docs/numerics.md, "Attention in half, fp8 and row8".
  void add_rounding(const std::vector<double>& q, double scale, const float* sink,
                    std::vector<double>& bound) const {
    const Weights w = weigh(q, scale, sink);
    // In fp32: the widest loop of the kit, and what it is for is a bound.
    std::vector<float> by_q(q.size());
    for (size_t c = 0; c < bound.size(); ++c) {
      double out = 0, worst = 0, squares = 0;
      for (size_t j = 0; j < keys_.size(); ++j) out += w.p[j] * static_cast<double>(values_[j][c]);
      std::fill(by_q.begin(), by_q.end(), 0.0f);
      for (size_t j = 0; j < keys_.size(); ++j) {
        const auto v = static_cast<double>(values_[j][c]);
        const double a = scale * w.p[j] * (v - out), by_v = w.p[j] * half_step(v),
                     by_p = w.p_step[j] * (std::fabs(v) + std::fabs(out));
        worst += std::fabs(a) * w.k_worst[j] + by_v + by_p;
        squares += a * a * w.k_squares[j] + by_v * by_v + by_p * by_p;
        const auto share = static_cast<float>(a);
        const float* key = keys_[j];
        for (size_t i = 0; i < by_q.size(); ++i) by_q[i] += share * key[i];
      }
      for (size_t i = 0; i < by_q.size(); ++i) {
        const double g = static_cast<double>(by_q[i]) * w.q_step[i];
        worst += std::fabs(g);
        squares += g * g;
      }
      bound[c] += w.grows * allowed(worst / 2, squares);
    }
  }

  int64_t d_, dv_;
  bool rounds_;
  double k_norm_ = 0, v_max_ = 0;
  std::vector<const float*> keys_, values_;
};

/// Numbers of row `row` behind those that are there already.
void append(std::vector<double>& q, const Operand& x, int64_t row) {
  const int64_t n = x.shape.back();
  for (int64_t i = 0; i < n; ++i) q.push_back(value(x.data, row * n + i));
}

const float* sink_of(const Operand& sink, int64_t head) {
  return sink.present() ? sink.weight->values.data() + head : nullptr;
}

void push_attention(std::vector<double>& bound, const std::vector<double>& all,
                    const Bytes& expected) {
  for (const double b : all)
    bound.push_back(b + 2 * kEps * std::fabs(value(expected, static_cast<int64_t>(bound.size()))));
}

/// Where the operands of a segment stand, in latent_attention or mla_attention.
struct SegmentAt {
  contract::SegmentOperands operands;
  uint32_t position, row_seq;
};
constexpr SegmentAt kSegments[] = {
    {contract::kLatentSegments[0], HADAL_LATENT_ATTENTION_POSITION, HADAL_LATENT_ATTENTION_ROW_SEQ},
    {contract::kLatentSegments[1], HADAL_LATENT_ATTENTION_POSITION,
     HADAL_LATENT_ATTENTION_ROW_SEQ}};
constexpr SegmentAt kMlaSegment = {{HADAL_MLA_ATTENTION_PLANE, HADAL_MLA_ATTENTION_BLOCK_TABLE,
                                    HADAL_MLA_ATTENTION_FIRST, HADAL_MLA_ATTENTION_LIST},
                                   HADAL_MLA_ATTENTION_POSITION,
                                   HADAL_MLA_ATTENTION_ROW_SEQ};

/// What token row t sees of a segment, whatever the head. `entries`: the plane's numbers.
void see_segment(const Case& c, const SegmentAt& at, const std::vector<float>& entries,
                 const hadal_segment_attr& a, int64_t t, Seen& seen) {
  const Operand &plane = c.operands[at.operands.plane], &list = c.operands[at.operands.list];
  if (!plane.present()) return;
  const int64_t s = c.operands[at.row_seq].values<int32_t>()[t];
  const EntryRange range =
      entry_range(c.operands[at.position].values<int32_t>()[t],
                  c.operands[at.operands.first].values<int32_t>()[s], a.ratio, a.window);
  const auto see = [&](int64_t e) {
    const int64_t slot = slot_of(plane, c.operands[at.operands.block_table], s, e);
    const float* entry = entries.data() + slot * plane.shape[2];
    seen.add(entry, entry);
  };
  for (int64_t e = range.begin; !list.present() && e < range.end; ++e) see(e);
  for (int64_t i = 0; list.present() && i < list.shape[1]; ++i)
    if (const int64_t e = list.values<int32_t>()[t * list.shape[1] + i]; range.holds(e)) see(e);
}

}  // namespace

std::vector<double> attention_bounds(const Case& c, const Bytes& expected,
                                     const Numerics& numerics) {
  const Operand& q = c.operands[HADAL_GQA_ATTENTION_Q];
  const Operand& k = c.operands[HADAL_GQA_ATTENTION_K];
  const hadal_attention_attr& a = c.attr.attention;
  const int64_t heads = q.shape[1], d = q.shape[2];
  const int64_t kv_heads = a.kv_heads;
  const int64_t dv = c.operands[HADAL_GQA_ATTENTION_V].shape[2] / kv_heads;
  const std::vector<float> keys = decode_all(k);
  const std::vector<float> values = decode_all(c.operands[HADAL_GQA_ATTENTION_V]);
  std::vector<double> bound;
  for (int64_t t = 0; t < q.shape[0]; ++t) {
    const int64_t s = c.operands[HADAL_GQA_ATTENTION_ROW_SEQ].values<int32_t>()[t];
    const EntryRange range =
        entry_range(c.operands[HADAL_GQA_ATTENTION_POSITION].values<int32_t>()[t],
                    c.operands[HADAL_GQA_ATTENTION_FIRST].values<int32_t>()[s], 1, a.window);
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t kv = h / (heads / kv_heads);
      Seen seen(d, dv, rounds_attention(numerics));
      for (int64_t j = range.begin; j < range.end; ++j) {
        const int64_t slot = slot_of(k, c.operands[HADAL_GQA_ATTENTION_BLOCK_TABLE], s, j);
        seen.add(keys.data() + (slot * kv_heads + kv) * d,
                 values.data() + (slot * kv_heads + kv) * dv);
      }
      std::vector<double> query;
      append(query, q, t * heads + h);
      const float* sink = sink_of(c.operands[HADAL_GQA_ATTENTION_SINK], h);
      push_attention(bound, seen.bounds(query, a.scale, sink), expected);
    }
  }
  return bound;
}

std::vector<double> latent_bounds(const Case& c, const Bytes& expected, const Numerics& numerics) {
  const Operand& q = c.operands[HADAL_LATENT_ATTENTION_Q];
  const Operand& tail = c.operands[HADAL_LATENT_ATTENTION_TAIL];
  const int64_t heads = q.shape[1], dv = c.operands[HADAL_LATENT_ATTENTION_OUT].shape[2];
  const int64_t width = c.operands[HADAL_LATENT_ATTENTION_PLANE].shape[2];
  std::vector<float> entries[2];
  for (size_t i = 0; i < 2; ++i)
    if (const Operand& plane = c.operands[kSegments[i].operands.plane]; plane.present())
      entries[i] = decode_all(plane);
  std::vector<double> bound;
  for (int64_t t = 0; t < q.shape[0]; ++t) {
    Seen seen(width, dv, rounds_attention(numerics));
    for (size_t i = 0; i < 2; ++i)
      see_segment(c, kSegments[i], entries[i], c.attr.latent.segments[i], t, seen);
    for (int64_t h = 0; h < heads; ++h) {
      std::vector<double> query;
      append(query, q, t * heads + h);
      if (tail.present()) append(query, tail, t * heads + h);
      const float* sink = sink_of(c.operands[HADAL_LATENT_ATTENTION_SINK], h);
      push_attention(bound, seen.bounds(query, c.attr.latent.scale, sink), expected);
    }
  }
  return bound;
}

std::vector<double> mla_bounds(const Case& c, const Bytes& expected, const Numerics& numerics) {
  const Operand& q_nope = c.operands[HADAL_MLA_ATTENTION_Q_NOPE];
  const Operand& plane = c.operands[HADAL_MLA_ATTENTION_PLANE];
  const Operand& w_uv = c.operands[HADAL_MLA_ATTENTION_W_UV];
  const Product absorb(q_nope, c.operands[HADAL_MLA_ATTENTION_W_UK], numerics);
  const int64_t tokens = q_nope.shape[0], heads = q_nope.shape[1], rank = w_uv.shape[2];
  const auto scale = std::fabs(static_cast<double>(c.attr.latent.scale));
  const std::vector<float> entries = decode_all(plane);
  std::vector<double> mixed_error;   // [T, H, r], of each number of the weighted sum
  std::vector<float> mixed_largest;  // [T, H, r]
  for (int64_t t = 0; t < tokens; ++t) {
    Seen seen(plane.shape[2], rank, rounds_attention(numerics));
    see_segment(c, kMlaSegment, entries, c.attr.latent.segments[0], t, seen);
    for (int64_t h = 0; h < heads; ++h) {
      std::vector<double> query;
      double q_error = 0;
      for (int64_t n = 0; n < rank; ++n) {
        query.push_back(absorb.exact(t, h, n));
        q_error += std::pow(absorb.bound(t, h, n) + kEps * std::fabs(query.back()), 2);
      }
      append(query, c.operands[HADAL_MLA_ATTENTION_Q_ROPE], t * heads + h);
      const double score_error = scale * std::sqrt(q_error) * seen.k_norm();
      const double moved = (std::expm1(2 * score_error) + 2 * kEps) * seen.v_max();
      for (const double b : seen.bounds(query, c.attr.latent.scale, nullptr))
        mixed_error.push_back(b + moved);
      mixed_largest.insert(mixed_largest.end(), static_cast<size_t>(rank),
                           static_cast<float>(seen.v_max()));
    }
  }
  const Operand mixed = floats({tokens, heads, rank}, HADAL_DIM_T, mixed_largest);
  const Product expand(mixed, w_uv, numerics);
  std::vector<double> bound;
  for (int64_t row = 0; row < tokens * heads; ++row)
    for (int64_t n = 0; n < expand.n; ++n) {
      const int64_t h = row % heads, i = static_cast<int64_t>(bound.size());
      double carried = 0;
      for (int64_t k = 0; k < rank; ++k)
        carried += std::fabs(static_cast<double>(expand.w[(h * expand.n + n) * rank + k])) *
                   mixed_error[static_cast<size_t>(row * rank + k)];
      bound.push_back(expand.bound(row / heads, h, n) + carried +
                      2 * kEps * std::fabs(value(expected, i)));
    }
  return bound;
}

}  // namespace hadal::conformance
