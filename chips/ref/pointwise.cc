// Operators that look at one row at a time: norm, rope, swiglu, add.
#include <algorithm>
#include <cmath>
#include <vector>

#include "ref.h"

namespace hadal::ref {
namespace {

// One row of norm. `r` is x, or x + residual.
void norm_row(const std::vector<float>& r, const hadal_norm_attr& attr, const std::vector<float>& w,
              const std::vector<float>& b, float* out) {
  const size_t n = r.size();
  double mean = 0;
  if (attr.layer) {
    for (const float v : r) mean += static_cast<double>(v);
    mean /= static_cast<double>(n);
  }
  double squares = 0;
  for (const float v : r)
    squares += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean);
  const double root = std::sqrt(squares / static_cast<double>(n) + static_cast<double>(attr.eps));
  for (size_t i = 0; i < n; ++i) {
    double value = (static_cast<double>(r[i]) - mean) / root;
    if (!w.empty()) value *= static_cast<double>(w[i]);
    if (!b.empty()) value += static_cast<double>(b[i]);
    out[i] = static_cast<float>(value);
  }
}

}  // namespace

// r = x (+ residual; residual <- r); out = r / sqrt(mean(r^2) + eps) * w, or (r - mean) / sqrt(var
// + eps) * w + b
hadal_status norm(const Call& call) {
  const auto& x = call[HADAL_NORM_X];
  const auto& residual = call[HADAL_NORM_RESIDUAL];
  const auto& out = call[HADAL_NORM_OUT];
  const std::vector<float> w = read_vector(call[HADAL_NORM_W]);
  const std::vector<float> b = read_vector(call[HADAL_NORM_B]);
  const int64_t heads = x.rank == 3 ? x.extents[1] : 1;
  const int64_t n = x.extents[x.rank - 1];
  std::vector<float> r(static_cast<size_t>(n));
  for (int64_t m = 0; m < x.extents[0]; ++m)
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t second = x.rank == 3 ? h : 0;
      std::copy_n(x.row<float>(m, second), n, r.data());
      if (residual.present()) {
        float* total = residual.row<float>(m, second);
        for (int64_t i = 0; i < n; ++i) total[i] += r[static_cast<size_t>(i)];
        std::copy_n(total, n, r.data());
      }
      norm_row(r, call.op->attr.norm, w, b, out.row<float>(m, second));
    }
  return HADAL_OK;
}

// (a, b) <- (a cos - b sin, b cos + a sin) for each pair of each head; the angle is position *
// inv_freq, rounded to fp32
hadal_status rope(const Call& call) {
  const auto& x = call[HADAL_ROPE_X];
  const auto& position = call[HADAL_ROPE_POSITION];
  const std::vector<float> inv_freq = read_vector(call[HADAL_ROPE_INV_FREQ]);
  const hadal_rope_attr& attr = call.op->attr.rope;
  const auto ratio = static_cast<int64_t>(attr.ratio);
  const size_t pairs = attr.dims / 2;
  for (int64_t t = 0; t < x.extents[0]; ++t) {
    const int64_t at = *position.row<int32_t>(t);
    if ((at + 1) % ratio != 0) continue;
    const auto turned = static_cast<float>(at + 1 - ratio);
    for (size_t i = 0; i < pairs; ++i) {
      const float angle = turned * inv_freq[i];
      const float c = static_cast<float>(std::cos(static_cast<double>(angle))) * attr.amplitude;
      const float s = static_cast<float>(std::sin(static_cast<double>(angle))) *
                      (attr.inverse ? -attr.amplitude : attr.amplitude);
      const size_t first = attr.first + (attr.interleaved ? 2 * i : i);
      const size_t second = first + (attr.interleaved ? 1 : pairs);
      for (int64_t h = 0; h < x.extents[1]; ++h) {
        float* head = x.row<float>(t, h);
        const double a = static_cast<double>(head[first]);
        const double b = static_cast<double>(head[second]);
        head[first] = static_cast<float>(a * static_cast<double>(c) - b * static_cast<double>(s));
        head[second] = static_cast<float>(b * static_cast<double>(c) + a * static_cast<double>(s));
      }
    }
  }
  return HADAL_OK;
}

float swiglu_value(float gate, float up, float clamp, float row_weight) {
  if (clamp > 0) {
    gate = std::min(gate, clamp);
    up = std::clamp(up, -clamp, clamp);
  }
  const auto g = static_cast<double>(gate);
  return static_cast<float>(g / (1.0 + std::exp(-g)) * static_cast<double>(up) *
                            static_cast<double>(row_weight));
}

// out = silu(gate) * up (* weight[m])
hadal_status swiglu(const Call& call) {
  const auto& gate = call[HADAL_SWIGLU_GATE];
  const auto& up = call[HADAL_SWIGLU_UP];
  const auto& row_weight = call[HADAL_SWIGLU_WEIGHT];
  const auto& out = call[HADAL_SWIGLU_OUT];
  for (int64_t m = 0; m < gate.extents[0]; ++m) {
    const float scale = row_weight.present() ? *row_weight.row<float>(m) : 1.0f;
    for (int64_t i = 0; i < gate.extents[1]; ++i)
      out.row<float>(m)[i] = swiglu_value(gate.row<float>(m)[i], up.row<float>(m)[i],
                                          call.op->attr.swiglu.clamp, scale);
  }
  return HADAL_OK;
}

// x <- x + y
hadal_status add(const Call& call) {
  const auto& x = call[HADAL_ADD_X];
  const auto& y = call[HADAL_ADD_Y];
  for (int64_t m = 0; m < x.extents[0]; ++m)
    for (int64_t i = 0; i < x.extents[1]; ++i) x.row<float>(m)[i] += y.row<float>(m)[i];
  return HADAL_OK;
}

}  // namespace hadal::ref
