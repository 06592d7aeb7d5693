// matmul and grouped_matmul, by the type of the weights: bf16 and f16 times bf16 with fp32 sums, or
// int8 rows times int8 rows. Each weight row is decoded once a call, then multiplied with every
// row.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "base/floats.h"
#include "operators.h"

namespace hadal::apart {
namespace {

constexpr int64_t kTile = 32;
constexpr int64_t kLanes = 8;
/// From so many rows on the int8 product is split along K, as libraries choose another kernel for
/// larger steps: other bits, and the reason why such a chip is not row_invariant.
constexpr size_t kManyRows = 16;

const std::byte* row_of(const ref::Weight& w, int64_t row) {
  return w.pieces.front().data + row * w.pieces.front().row_stride;
}

int32_t dot_int8(const int16_t* a, const int16_t* b, int64_t n) {
  int32_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += int32_t{a[i]} * int32_t{b[i]};
  return sum;
}

struct HalfUnit {
  using Number = float;

  static float round_row(const float* x, int64_t k, float* to) {
    round_half(x, k, to);
    return 1.0f;
  }
  static float read_row(const ref::Weight& w, int64_t row, float* to) {
    const auto* from = reinterpret_cast<const uint16_t*>(row_of(w, row));
    if (w.desc.dtype == HADAL_BF16)
      for (int64_t i = 0; i < w.desc.cols; ++i) to[i] = bf16_to_f32(from[i]);
    else
      for (int64_t i = 0; i < w.desc.cols; ++i) to[i] = f16_to_f32(from[i]);
    return 1.0f;
  }
  static float product(const float* x, const float* w, int64_t k, float, bool) {
    return dot(x, w, k);
  }
};

struct Row8Unit {
  using Number = int16_t;

  static float round_row(const float* x, int64_t k, int16_t* to) {
    float top = 0;
    for (int64_t i = 0; i < k; ++i) {
      const float size = std::abs(x[i]);
      if (!std::isfinite(size)) {
        std::fill(to, to + k, int16_t{1});
        return std::numeric_limits<float>::quiet_NaN();
      }
      top = std::max(top, size);
    }
    const float inverse = top > 0 ? 127.0f / top : 0.0f;
    const bool tiny = !std::isfinite(inverse);
    for (int64_t i = 0; i < k; ++i)
      to[i] = tiny ? int16_t{0} : static_cast<int16_t>(std::nearbyint(x[i] * inverse));
    return top / 127.0f;
  }
  static float read_row(const ref::Weight& w, int64_t row, int16_t* to) {
    const auto* from = reinterpret_cast<const int8_t*>(row_of(w, row));
    for (int64_t i = 0; i < w.desc.cols; ++i) to[i] = from[i];
    return ref::load(w.pieces.front().scales, HADAL_F32, row);
  }
  static float product(const int16_t* x, const int16_t* w, int64_t k, float scale, bool many) {
    const int64_t first = many ? k / 2 : k;
    const float sum = static_cast<float>(dot_int8(x, w, first)) * scale;
    if (!many) return sum;
    return sum + static_cast<float>(dot_int8(x + first, w + first, k - first)) * scale;
  }
};

/// Rows of activations, as the unit takes them.
template <typename Unit>
class Rows {
 public:
  Rows(int64_t count, int64_t k)
      : k_(k), numbers_(static_cast<size_t>(count * k)), scales_(static_cast<size_t>(count)) {}
  void set(int64_t i, const float* x) {
    scales_[static_cast<size_t>(i)] = Unit::round_row(x, k_, numbers_.data() + i * k_);
  }
  [[nodiscard]] const typename Unit::Number* row(int64_t i) const {
    return numbers_.data() + i * k_;
  }
  [[nodiscard]] float scale(int64_t i) const { return scales_[static_cast<size_t>(i)]; }

 private:
  int64_t k_;
  std::vector<typename Unit::Number> numbers_;
  std::vector<float> scales_;
};

/// put(m, i, sum) for each row x[rows[m]] and each of n weight rows from `first` on.
template <typename Unit, typename Put>
void multiply(const Rows<Unit>& x, std::span<const int64_t> rows, const ref::Weight& w,
              int64_t first, int64_t n, Put put) {
  const int64_t k = w.desc.cols;
  const bool many = rows.size() >= kManyRows;
  std::vector<typename Unit::Number> w_row(static_cast<size_t>(k));
  for (int64_t i = 0; i < n; ++i) {
    const float scale = Unit::read_row(w, first + i, w_row.data());
    for (size_t m = 0; m < rows.size(); ++m)
      put(m, i, Unit::product(x.row(rows[m]), w_row.data(), k, x.scale(rows[m]) * scale, many));
  }
}

template <typename Unit>
hadal_status matmul_by(const ref::Call& call) {
  const auto& x = call[HADAL_MATMUL_X];
  const auto& add = call[HADAL_MATMUL_ADD];
  const auto& out = call[HADAL_MATMUL_OUT];
  const ref::Weight& w = ref::weight(call[HADAL_MATMUL_W].weight);
  const int64_t batch = x.rank == 3 ? x.extents[1] : 1, n = out.extents[out.rank - 1];
  const std::vector<float> bias = ref::read_vector(call[HADAL_MATMUL_BIAS]);
  const auto row = [&](const host_chip::View& v, int64_t m, int64_t b) {
    return v.rank == 3 ? v.row<float>(m, b) : v.row<float>(m);
  };
  std::vector<int64_t> all(static_cast<size_t>(x.extents[0]));
  std::iota(all.begin(), all.end(), 0);
  Rows<Unit> rows(x.extents[0], w.desc.cols);
  for (int64_t b = 0; b < batch && !all.empty(); ++b) {
    for (const int64_t m : all) rows.set(m, row(x, m, b));
    multiply(rows, all, w, b * n, n, [&](size_t m, int64_t i, float sum) {
      const auto at = static_cast<int64_t>(m);
      if (!bias.empty()) sum += bias[static_cast<size_t>(i)];
      if (add.present()) sum += row(add, at, b)[i];
      row(out, at, b)[i] = sum;
    });
  }
  return HADAL_OK;
}

template <typename Unit>
hadal_status grouped_matmul_by(const ref::Call& call) {
  const auto& x = call[HADAL_GROUPED_MATMUL_X];
  const auto& offset = call[HADAL_GROUPED_MATMUL_OFFSET];
  const auto& order = call[HADAL_GROUPED_MATMUL_ORDER];
  const auto& out = call[HADAL_GROUPED_MATMUL_OUT];
  const ref::Weight& w = ref::weight(call[HADAL_GROUPED_MATMUL_W].weight);
  const auto fan = static_cast<int64_t>(call.op->attr.experts.fan);
  Rows<Unit> rows(x.extents[0], w.desc.cols);
  for (int64_t m = 0; m < x.extents[0]; ++m) rows.set(m, x.row<float>(m));
  std::vector<int64_t> group;
  for (int64_t e = 0; e < w.desc.batch; ++e) {
    const int64_t begin = *offset.row<int32_t>(e), end = *offset.row<int32_t>(e + 1);
    if (begin < 0 || begin > end || end > out.extents[0])
      return call.outside(HADAL_GROUPED_MATMUL_OFFSET, e + 1, end, out.extents[0] + 1);
    if (begin == end) continue;
    group.clear();
    for (int64_t i = begin; i < end; ++i) {
      const int64_t from = order.present() ? *order.row<int32_t>(i) / fan : i;
      if (from < 0 || from >= x.extents[0])
        return call.outside(HADAL_GROUPED_MATMUL_ORDER, i, from, x.extents[0]);
      group.push_back(from);
    }
    multiply(rows, group, w, e * w.desc.rows, w.desc.rows, [&](size_t m, int64_t i, float sum) {
      out.row<float>(begin + static_cast<int64_t>(m))[i] = sum;
    });
  }
  return HADAL_OK;
}

bool is_int8(const host_chip::View& w) { return ref::weight(w.weight).desc.dtype == HADAL_I8; }

}  // namespace

float dot(const float* a, const float* b, int64_t n) {
  float sum[kLanes] = {};
  int64_t i = 0;
  for (; i + kTile <= n; i += kTile)
    for (int64_t j = i; j < i + kLanes; ++j)
      sum[j - i] +=
          (a[j] * b[j] + a[j + 8] * b[j + 8]) + (a[j + 16] * b[j + 16] + a[j + 24] * b[j + 24]);
  for (int64_t j = 0; i + j < n; ++j) sum[j % kLanes] += a[i + j] * b[i + j];
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

void round_half(const float* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = bf16_to_f32(f32_to_bf16(from[i]));
}

// out[m, n] = sum_k x[m, k] w[n, k] (+ bias[n]) (+ add[m, n]), for each matrix of a batch
hadal_status matmul(const ref::Call& call) {
  return is_int8(call[HADAL_MATMUL_W]) ? matmul_by<Row8Unit>(call) : matmul_by<HalfUnit>(call);
}

hadal_status grouped_matmul(const ref::Call& call) {
  return is_int8(call[HADAL_GROUPED_MATMUL_W]) ? grouped_matmul_by<Row8Unit>(call)
                                               : grouped_matmul_by<HalfUnit>(call);
}

}  // namespace hadal::apart
