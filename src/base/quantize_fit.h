// Inside of quantize.cc: scales and minima that make the weighted squared error of a group small.
//
// The search is the same for every format: a grid of scales around the one that just spans the
// group; for each the codes are rounded, and the scale (and minimum) that suits these codes best
// follows in closed form. Loops work on four lanes with a fixed order of sums, so that the result
// is the same on every machine.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

namespace hadal {

/// Steps to each side of the grid and their width, in codes. On normal rows twice as many steps of
/// half the width lower the squared error by less than 0.1 %, half as many again by 0.1 % (4 bits)
/// to 2 % (8 bits), for that much more time.
constexpr int kSteps = 8;
constexpr float kStep = 0.2f;
/// How often a super-block's own scale is fitted again to the codes: the third time gains nothing.
constexpr int kRefits = 2;
/// Below this no f16 scale is anything but 0, and reciprocals would overflow.
constexpr float kNothing = 1e-20f;

/// Codes from low to high.
struct Range {
  float low, high;
};

/// x ≈ scale · q + min
struct Line {
  float scale = 0, min = 0;
};

using Lanes = float __attribute__((vector_size(16)));

inline Lanes lanes(const float* p) {
  Lanes v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline float sum(Lanes v) { return (v[0] + v[1]) + (v[2] + v[3]); }

/// To the nearest whole number, ties to even, for |x| < 2^22.
template <typename T>
T nearest(T x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 · 2^23: the unit of the sum is 1
  return (x + kMagic) - kMagic;
}

inline Lanes clamped(Lanes v, float low, float high) {
  const Lanes l = {low, low, low, low}, h = {high, high, high, high};
  v = v < l ? l : v;
  return v > h ? h : v;
}

/// The code of x in units of `scale`; 0, or the nearest to it, where the scale is 0.
inline int code(float x, float scale, Range range) {
  const float q = scale == 0 ? 0 : std::clamp(x / scale, range.low, range.high);
  return static_cast<int>(nearest(q));
}

/// Weights of a group: large values count more, by up to some times. Groups of a super-block weigh
/// the same, so that the error of one in which everything is large does not drown the others'.
template <int n>
void weigh(const float* x, float* w) {
  Lanes squares = {};
  for (int i = 0; i < n; i += 4) squares += lanes(x + i) * lanes(x + i);
  const float mean = sum(squares) / n, unit = mean > 0 ? 1 / std::sqrt(mean) : 0;
  for (int i = 0; i < n; ++i) w[i] = 1 + unit * std::abs(x[i]);
}

struct ScaleSums {
  float xq, qq;  ///< Σ w x q, Σ w q²
};

template <int n>
ScaleSums scale_sums(const float* x, const float* w, float inverse, Range range) {
  Lanes xq = {}, qq = {};
  for (int i = 0; i < n; i += 4) {
    const Lanes v = lanes(x + i);
    const Lanes q = nearest(clamped(v * inverse, range.low, range.high));
    const Lanes wq = lanes(w + i) * q;
    xq += wq * v;
    qq += wq * q;
  }
  return {sum(xq), sum(qq)};
}

/// The scale that suits the codes of `scale` best.
template <int n>
float fitted_scale(const float* x, const float* w, float scale, Range range) {
  const ScaleSums s = scale_sums<n>(x, w, 1 / scale, range);
  return s.qq > 0 ? s.xq / s.qq : 0;
}

/// Σ w (x - scale · q)²
template <int n>
float scale_error(const float* x, const float* w, float scale, Range range) {
  Lanes error = {};
  const float inverse = scale == 0 ? 0 : 1 / scale;
  for (int i = 0; i < n; i += 4) {
    const Lanes v = lanes(x + i);
    const Lanes e = v - scale * nearest(clamped(v * inverse, range.low, range.high));
    error += lanes(w + i) * e * e;
  }
  return sum(error);
}

/// The scale of x ≈ scale · q; its sign puts the value of largest magnitude on either end.
template <int n>
float best_scale(const float* x, const float* w, Range range) {
  float extreme = 0;
  for (int i = 0; i < n; ++i)
    if (std::abs(x[i]) > std::abs(extreme)) extreme = x[i];
  if (std::abs(extreme) < kNothing) return 0;
  float best = 0, scale = 0;
  for (const float end : {range.low, range.high}) {
    for (int step = -kSteps; step <= kSteps; ++step) {
      const float inverse = (end + kStep * static_cast<float>(step)) / extreme;
      const ScaleSums s = scale_sums<n>(x, w, inverse, range);
      // The error is Σ w x² - xq² / qq.
      if (!(s.qq > 0) || s.xq * s.xq <= best * s.qq) continue;
      best = s.xq * s.xq / s.qq;
      scale = s.xq / s.qq;
    }
    if (range.low == -range.high) break;  // the other end gives the same codes with another sign
  }
  return scale;
}

/// Σ w (x - line(q))², codes from 0 to high
template <int n>
float line_error(const float* x, const float* w, const Line& line, float high) {
  Lanes error = {};
  const float inverse = line.scale == 0 ? 0 : 1 / line.scale;
  for (int i = 0; i < n; i += 4) {
    const Lanes v = lanes(x + i) - line.min;
    const Lanes e = v - line.scale * nearest(clamped(v * inverse, 0, high));
    error += lanes(w + i) * e * e;
  }
  return sum(error);
}

/// Scale and minimum of x ≈ scale · q + min with codes from 0 to high. below: the minimum is at
/// most 0.
template <int n>
Line best_line(const float* x, const float* w, float high, bool below) {
  float low = x[0], top = x[0], sw = 0, swx = 0;
  for (int i = 0; i < n; ++i) {
    low = std::min(low, x[i]);
    top = std::max(top, x[i]);
    sw += w[i];
    swx += w[i] * x[i];
  }
  if (below) low = std::min(low, 0.0f);
  if (top - low < kNothing) return {0, low};
  Line best;
  float gain = -INFINITY;
  for (int step = -kSteps; step <= kSteps; ++step) {
    const float inverse = (high + kStep * static_cast<float>(step)) / (top - low);
    Lanes q1 = {}, q2 = {}, xq = {};
    for (int i = 0; i < n; i += 4) {
      const Lanes v = lanes(x + i);
      const Lanes q = nearest(clamped((v - low) * inverse, 0, high));
      const Lanes wq = lanes(w + i) * q;
      q1 += wq;
      q2 += wq * q;
      xq += wq * v;
    }
    const float sq = sum(q1), sqq = sum(q2), sxq = sum(xq), det = sw * sqq - sq * sq;
    if (!(det > 0)) continue;
    Line line = {(sw * sxq - swx * sq) / det, (sqq * swx - sq * sxq) / det};
    if (below && line.min > 0) line = {sxq / sqq, 0};
    // The error is Σ w x² - gain.
    const float g = line.scale * sxq + line.min * swx;
    if (!(line.scale > 0) || g <= gain) continue;
    gain = g;
    best = line;
  }
  return gain == -INFINITY ? Line{(top - low) / high, low} : best;
}

}  // namespace hadal
