// How far an element may lie from ref's. Derived in docs/numerics.md, "What the conformance kit
// allows"; never tuned.
#include <algorithm>
#include <cmath>

#include "bounds/bounds.h"
#include "pages.h"

namespace hadal::conformance {
namespace {

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

std::vector<double> router_bounds(const Case& c, uint32_t operand, const Bytes& expected) {
  std::vector<double> bound;
  for (int64_t i = 0; operand == HADAL_ROUTER_WEIGHT && i < c.operands[operand].count(); ++i)
    bound.push_back(32 * kEps * std::fabs(value(expected, i)));
  return bound;
}

/// Bit for bit; but of a range, ORDER and ROW_WEIGHT hold nothing of value behind its pairs.
std::vector<double> sort_bounds(const Case& c, uint32_t operand) {
  const hadal_experts_attr& a = c.attr.experts;
  if (a.of == 0 || (operand != HADAL_MOE_SORT_ORDER && operand != HADAL_MOE_SORT_ROW_WEIGHT))
    return {};
  const Operand& expert = c.operands[HADAL_MOE_SORT_EXPERT];
  const int64_t end = a.first + c.operands[HADAL_MOE_SORT_OFFSET].shape[0] - 1;
  const auto here =
      std::count_if(expert.values<int32_t>(), expert.values<int32_t>() + expert.count(),
                    [&](int32_t e) { return e >= int64_t{a.first} && e < end; });
  std::vector<double> bound(static_cast<size_t>(here), 0.0);
  bound.resize(static_cast<size_t>(expert.count()), kNoValue);
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

std::vector<double> bounds(const Case& c, uint32_t operand, const Bytes& expected,
                           const Numerics& numerics) {
  switch (c.id) {
    case HADAL_OP_MATMUL:
      return matmul_bounds(c, expected, numerics);
    case HADAL_OP_GATED_MATMUL:
      return gated_matmul_bounds(c, numerics);
    case HADAL_OP_NORM:
      return operand == HADAL_NORM_OUT ? norm_bounds(c, expected) : std::vector<double>();
    case HADAL_OP_ROPE:
      return rope_bounds(c);
    case HADAL_OP_SWIGLU:
      return swiglu_bounds(c, expected);
    case HADAL_OP_GQA_ATTENTION:
      return attention_bounds(c, expected, numerics);
    case HADAL_OP_LATENT_ATTENTION:
      return latent_bounds(c, expected, numerics);
    case HADAL_OP_MLA_ATTENTION:
      return mla_bounds(c, expected, numerics);
    case HADAL_OP_MOE_EXPERTS:
      return moe_experts_bounds(c, numerics);
    case HADAL_OP_ROUTER:
      return router_bounds(c, operand, expected);
    case HADAL_OP_MOE_SORT:
      return sort_bounds(c, operand);
    case HADAL_OP_GROUPED_MATMUL:
      return grouped_bounds(c, expected, numerics);
    case HADAL_OP_LORA_ADD:
      return lora_bounds(c, expected, numerics);
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
