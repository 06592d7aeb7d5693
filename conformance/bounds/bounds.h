// How far an element may lie from ref's: what the groups of operators share. Derived in
// docs/numerics.md, never tuned.
#pragma once

#include <algorithm>
#include <cmath>

#include "kit.h"

namespace hadal::conformance {

/// Half an ulp of 1: what one rounding to fp32 may move a number of [1, 2).
constexpr double kEps = 0x1p-24;

inline double value(const Bytes& bytes, int64_t i) {
  return static_cast<double>(reinterpret_cast<const float*>(bytes.data())[i]);
}

/// Of the numbers of one row.
double square_sum(const Operand& x, int64_t row);

/// Allowed for a sum of many rounding errors: six standard deviations of what is independent and
/// uniform over its step, never more than all of it at once. `squares`: of the steps.
inline double allowed(double worst, double squares) {
  return std::min(worst, 6 * std::sqrt(squares / 12));
}

/// Distance of neighbouring numbers of bf16 at x, or of f16 where it is coarser.
inline double half_step(double x) { return std::max(0x1p-7 * std::fabs(x), 0x1p-24); }

/// What matmul may differ by: x [M, (B,) K] against the matrices of one weight. Without B, each
/// matrix may meet any row.
struct Product {
  int64_t m = 0, b = 1, k = 0, n = 0;
  const float* x = nullptr;
  const float* w = nullptr;  ///< [B, N, K]

  Product(const Operand& xs, const Operand& weight, const Numerics& numerics);
  [[nodiscard]] double exact(int64_t row, int64_t batch, int64_t column) const;
  /// The sum's rounding, and that of the operands.
  [[nodiscard]] double bound(int64_t row, int64_t batch, int64_t column) const;

 private:
  using Group = std::pair<double, int64_t>;  // |w|, and the block that shares its scale
  void make_steps(const Numerics& c, int64_t rows, uint32_t dtype);
  void make_groups(int64_t rows);
  [[nodiscard]] Group group(int64_t row, int32_t column) const;
  [[nodiscard]] int64_t x_row(int64_t row, int64_t batch) const {
    return row * b + (b == 1 ? 0 : batch);
  }
  [[nodiscard]] double rounding(int64_t xr, int64_t wr) const;

  std::vector<double> w_norm_;  // [matrices, N]
  std::vector<double> x_norm_;  // [M, B]
  std::vector<double> x_step_;  // [M, B, K]; empty: x is not rounded
  std::vector<double> w_step_;  // [matrices, N, K]; empty: w is not rounded
  int64_t group_columns_ = 0;   // 0: one scale a row
  // [matrices, N, K]: columns of each row, those of one group side by side: their weights have one
  // size and one scale, and so are off by the same.
  std::vector<int32_t> grouped_;
};

std::vector<double> matmul_bounds(const Case& c, const Bytes& expected, const Numerics& numerics);
std::vector<double> grouped_bounds(const Case& c, const Bytes& expected, const Numerics& numerics);
std::vector<double> gated_matmul_bounds(const Case& c, const Numerics& numerics);
std::vector<double> lora_bounds(const Case& c, const Bytes& expected, const Numerics& numerics);
std::vector<double> moe_experts_bounds(const Case& c, const Numerics& numerics);
std::vector<double> attention_bounds(const Case& c, const Bytes& expected,
                                     const Numerics& numerics);
std::vector<double> latent_bounds(const Case& c, const Bytes& expected, const Numerics& numerics);
std::vector<double> mla_bounds(const Case& c, const Bytes& expected, const Numerics& numerics);

}  // namespace hadal::conformance
