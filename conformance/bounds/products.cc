// Bounds of products: matmul and what is made of it.
#include <numeric>

#include "bounds/bounds.h"

namespace hadal::conformance {
namespace {

/// The same of e4m3, scaled so that `largest` becomes 448.
double e4m3_step(double x, double largest) {
  return std::max(0x1p-3 * std::fabs(x), 0x1p-8 * largest / 448);
}

/// The class in which a chip computes products with weights of this type.
Numerics product_class(Numerics n, uint32_t dtype) {
  if (n.kind == HADAL_NUMERICS_UNSAID) n = {HADAL_NUMERICS_BLOCK8, 32};
  if (n.kind == HADAL_NUMERICS_BLOCK8 && !is_quantised(dtype)) n.kind = HADAL_NUMERICS_EXACT;
  return n;
}

/// Steps of rows [rows, k] in a class: blocks of `down` rows and `across` columns share a scale.
/// `matrix`: rows after which blocks begin anew.
std::vector<double> steps_of(const float* values, int64_t rows, int64_t k, uint32_t kind,
                             int64_t down, int64_t across, int64_t matrix) {
  std::vector<double> steps(static_cast<size_t>(rows * k));
  if (kind == HADAL_NUMERICS_HALF) {
    for (size_t i = 0; i < steps.size(); ++i) steps[i] = half_step(static_cast<double>(values[i]));
    return steps;
  }
  for (int64_t begin = 0; begin < rows; begin += matrix)
    for (int64_t r0 = begin; r0 < std::min(rows, begin + matrix); r0 += down)
      for (int64_t c0 = 0; c0 < k; c0 += across) {
        const int64_t r1 = std::min({rows, begin + matrix, r0 + down}),
                      c1 = std::min(k, c0 + across);
        double largest = 0;
        for (int64_t r = r0; r < r1; ++r)
          for (int64_t c = c0; c < c1; ++c)
            largest = std::max(largest, std::fabs(static_cast<double>(values[r * k + c])));
        for (int64_t r = r0; r < r1; ++r)
          for (int64_t c = c0; c < c1; ++c)
            steps[static_cast<size_t>(r * k + c)] =
                kind == HADAL_NUMERICS_FP8
                    ? e4m3_step(static_cast<double>(values[r * k + c]), largest)
                    : largest / 127;
      }
  return steps;
}

double norm_of(const float* v, int64_t k) {
  double sum = 0;
  for (int64_t c = 0; c < k; ++c) sum += static_cast<double>(v[c]) * static_cast<double>(v[c]);
  return std::sqrt(sum);
}

}  // namespace

double square_sum(const Operand& x, int64_t row) {
  double sum = 0;
  const int64_t n = x.shape.back();
  for (int64_t i = 0; i < n; ++i) sum += std::pow(value(x.data, row * n + i), 2);
  return sum;
}

Product::Product(const Operand& xs, const Operand& weight, const Numerics& numerics)
    : m(xs.shape[0]), x(xs.values<float>()), w(weight.weight->values.data()) {
  b = xs.shape.size() == 3 ? xs.shape[1] : 1;
  k = xs.shape.back();
  n = weight.weight->desc.rows;
  const int64_t rows = weight.weight->desc.batch * n;
  for (int64_t i = 0; i < rows; ++i) w_norm_.push_back(norm_of(w + i * k, k));
  for (int64_t i = 0; i < m * b; ++i) x_norm_.push_back(norm_of(x + i * k, k));
  make_steps(product_class(numerics, weight.dtype), rows, weight.dtype);
}

void Product::make_steps(const Numerics& c, int64_t rows, uint32_t dtype) {
  const int64_t all = std::max<int64_t>(k, 1);
  switch (c.kind) {
    case HADAL_NUMERICS_BLOCK8:
      x_step_ = steps_of(x, m * b, k, c.kind, 1, c.block, 1);
      return;
    case HADAL_NUMERICS_HALF:
      x_step_ = steps_of(x, m * b, k, c.kind, 1, all, 1);
      w_step_ = steps_of(w, rows, k, c.kind, 1, all, n);
      break;
    case HADAL_NUMERICS_FP8:
      group_columns_ = 128;
      x_step_ = steps_of(x, m * b, k, c.kind, 1, 128, 1);
      if (dtype != HADAL_F8_E4M3) w_step_ = steps_of(w, rows, k, c.kind, 128, 128, n);
      break;
    case HADAL_NUMERICS_ROW8:
      x_step_ = steps_of(x, m * b, k, c.kind, 1, all, 1);
      if (dtype != HADAL_I8) w_step_ = steps_of(w, rows, k, c.kind, 1, all, n);
      break;
    default:
      return;
  }
  if (!w_step_.empty()) make_groups(rows);
}

void Product::make_groups(int64_t rows) {
  grouped_.resize(static_cast<size_t>(rows * k));
  for (int64_t r = 0; r < rows; ++r) {
    const auto first = grouped_.begin() + static_cast<std::ptrdiff_t>(r * k);
    std::iota(first, first + k, 0);
    std::sort(first, first + k, [&](int32_t i, int32_t j) { return group(r, i) < group(r, j); });
  }
}
Product::Group Product::group(int64_t row, int32_t column) const {
  return {std::fabs(static_cast<double>(w[row * k + column])),
          group_columns_ == 0 ? 0 : column / group_columns_};
}

double Product::exact(int64_t row, int64_t batch, int64_t column) const {
  const float* a = x + x_row(row, batch) * k;
  const float* c = w + (batch * n + column) * k;
  double sum = 0;
  for (int64_t i = 0; i < k; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(c[i]);
  return sum;
}

double Product::bound(int64_t row, int64_t batch, int64_t column) const {
  const double sum = 2 * std::sqrt(static_cast<double>(k)) * kEps *
                     x_norm_[static_cast<size_t>(x_row(row, batch))] *
                     w_norm_[static_cast<size_t>(batch * n + column)];
  return x_step_.empty() ? sum : sum + rounding(x_row(row, batch), batch * n + column);
}

double Product::rounding(int64_t xr, int64_t wr) const {
  const float* a = x + xr * k;
  const float* c = w + wr * k;
  const double* s = x_step_.data() + xr * k;
  const double* t = w_step_.empty() ? nullptr : w_step_.data() + wr * k;
  double worst = 0, squares = 0;
  for (int64_t i = 0; i < k; ++i) {
    const double ws = std::fabs(static_cast<double>(c[i])) * s[i];
    worst += ws / 2;
    squares += ws * ws;
    if (!t) continue;
    worst += std::fabs(static_cast<double>(a[i])) * t[i] / 2 + s[i] * t[i] / 4;
    squares += s[i] * s[i] * t[i] * t[i] / 12;
  }
  // Weights of one size are off by the same: their x are added first.
  const int32_t* order = t ? grouped_.data() + wr * k : nullptr;
  for (int64_t i = 0; t && i < k;) {
    const Group same = group(wr, order[i]);
    const double step = t[order[i]];
    double together = 0;
    for (; i < k && group(wr, order[i]) == same; ++i)
      together +=
          std::copysign(1.0, static_cast<double>(c[order[i]])) * static_cast<double>(a[order[i]]);
    squares += step * step * together * together;
  }
  return allowed(worst, squares);
}
std::vector<double> matmul_bounds(const Case& c, const Bytes& expected, const Numerics& numerics) {
  const Product product(c.operands[HADAL_MATMUL_X], c.operands[HADAL_MATMUL_W], numerics);
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

std::vector<double> grouped_bounds(const Case& c, const Bytes& expected, const Numerics& numerics) {
  const Product product(c.operands[HADAL_GROUPED_MATMUL_X], c.operands[HADAL_GROUPED_MATMUL_W],
                        numerics);
  const Operand& offset = c.operands[HADAL_GROUPED_MATMUL_OFFSET];
  std::vector<double> bound;
  for (int64_t e = 0; e + 1 < offset.shape[0]; ++e)
    for (int64_t i = offset.values<int32_t>()[e]; i < offset.values<int32_t>()[e + 1]; ++i) {
      const int64_t row = source_row(c, i);
      for (int64_t n = 0; n < product.n; ++n)
        bound.push_back(product.bound(row, e, n) +
                        2 * kEps * std::fabs(value(expected, static_cast<int64_t>(bound.size()))));
    }
  bound.resize(static_cast<size_t>(c.operands[HADAL_GROUPED_MATMUL_OUT].count()), kNoValue);
  return bound;
}

/// The product with A and its rounding to fp32 go through B; a row without an adapter keeps its
/// bits.
std::vector<double> lora_bounds(const Case& c, const Bytes& expected, const Numerics& numerics) {
  const Operand& x = c.operands[HADAL_LORA_ADD_X];
  const Operand& out = c.operands[HADAL_LORA_ADD_OUT];
  const auto* adapter = c.operands[HADAL_LORA_ADD_ADAPTER].values<int32_t>();
  const auto* row_seq = c.operands[HADAL_LORA_ADD_ROW_SEQ].values<int32_t>();
  const Product a(x, c.operands[HADAL_LORA_ADD_A], numerics);
  const int64_t rank = a.n, rows = x.shape[0];
  std::vector<float> y(static_cast<size_t>(rows * rank));
  std::vector<double> error(y.size());
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t r = 0; r < rank && adapter[row_seq[t]] >= 0; ++r) {
      const double exact = a.exact(t, adapter[row_seq[t]], r);
      const auto i = static_cast<size_t>(t * rank + r);
      y[i] = static_cast<float>(exact);
      error[i] = a.bound(t, adapter[row_seq[t]], r) + 2 * kEps * std::fabs(exact);
    }
  const Operand between = floats({rows, rank}, HADAL_DIM_T, y);
  const Product b(between, c.operands[HADAL_LORA_ADD_B], numerics);
  std::vector<double> bound;
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t n = 0; n < b.n; ++n) {
      const int32_t of = adapter[row_seq[t]];
      const auto i = static_cast<int64_t>(bound.size());
      double sum = 0;
      if (of >= 0) {
        sum = b.bound(t, of, n) +
              2 * kEps * (std::fabs(value(expected, i)) + std::fabs(value(out.data, i)));
        for (int64_t r = 0; r < rank; ++r)
          sum += std::fabs(static_cast<double>(b.w[(of * b.n + n) * rank + r])) *
                 error[static_cast<size_t>(t * rank + r)];
      }
      bound.push_back(sum);
    }
  return bound;
}

namespace {

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

}  // namespace

std::vector<double> gated_matmul_bounds(const Case& c, const Numerics& numerics) {
  const Product gate(c.operands[HADAL_GATED_MATMUL_X], c.operands[HADAL_GATED_MATMUL_GATE],
                     numerics);
  const Product up(c.operands[HADAL_GATED_MATMUL_X], c.operands[HADAL_GATED_MATMUL_UP], numerics);
  std::vector<double> bound;
  for (int64_t m = 0; m < gate.m; ++m)
    for (int64_t n = 0; n < gate.n; ++n)
      bound.push_back(Gated(gate, up, m, 0, n, c.attr.swiglu.clamp).error);
  return bound;
}

std::vector<double> moe_experts_bounds(const Case& c, const Numerics& numerics) {
  const Operand& x = c.operands[HADAL_MOE_EXPERTS_X];
  const Operand& weight = c.operands[HADAL_MOE_EXPERTS_WEIGHT];
  const auto* expert = c.operands[HADAL_MOE_EXPERTS_EXPERT].values<int32_t>();
  const Operand& shared = c.operands[HADAL_MOE_EXPERTS_SHARED];
  const bool in_place = c.operands[HADAL_MOE_EXPERTS_ADD].alias >= 0;
  const Operand& add = c.operands[in_place ? HADAL_MOE_EXPERTS_OUT : HADAL_MOE_EXPERTS_ADD];
  const Product gate(x, c.operands[HADAL_MOE_EXPERTS_GATE], numerics);
  const Product up(x, c.operands[HADAL_MOE_EXPERTS_UP], numerics);
  const int64_t fan = weight.shape[1], pairs = weight.count(), width = gate.n;
  const int64_t here = c.operands[HADAL_MOE_EXPERTS_GATE].shape[0];
  // Its matrix here; -1: it belongs to another device.
  const auto matrix = [&](int64_t pair) {
    const int64_t e = expert[pair] - int64_t{c.attr.experts.first};
    return e >= 0 && e < here ? e : -1;
  };
  // What enters the second product, and how far it may be off.
  std::vector<float> hidden;
  std::vector<double> error;
  for (int64_t pair = 0; pair < pairs; ++pair)
    for (int64_t n = 0; n < width; ++n) {
      if (matrix(pair) < 0) {
        hidden.push_back(0);
        error.push_back(0);
        continue;
      }
      const double w = value(weight.data, pair);
      const Gated h(gate, up, pair / fan, matrix(pair), n, c.attr.experts.clamp);
      hidden.push_back(static_cast<float>(h.value * w));
      error.push_back((h.error + 2 * kEps * std::fabs(h.value)) * std::fabs(w));
    }
  const Operand h = floats({pairs, width}, HADAL_DIM_T, hidden);
  const Product down(h, c.operands[HADAL_MOE_EXPERTS_DOWN], numerics);
  std::vector<double> bound;
  for (int64_t t = 0; t < x.shape[0]; ++t)
    for (int64_t n = 0; n < down.n; ++n) {
      const auto i = static_cast<int64_t>(bound.size());
      double sum = 0, size = 0;
      for (int64_t pair = t * fan; pair < (t + 1) * fan; ++pair) {
        const int64_t e = matrix(pair);
        if (e < 0) continue;
        sum += down.bound(pair, e, n);
        size += std::fabs(down.exact(pair, e, n));
        for (int64_t k = 0; k < width; ++k)
          sum += std::fabs(static_cast<double>(down.w[(e * down.n + n) * width + k])) *
                 error[static_cast<size_t>(pair * width + k)];
      }
      if (shared.present()) size += std::fabs(value(shared.data, i));
      if (!add.data.empty()) size += std::fabs(value(add.data, i));
      bound.push_back(sum + static_cast<double>(fan + 3) * kEps * size);
    }
  return bound;
}

}  // namespace hadal::conformance
