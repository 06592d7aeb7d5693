// matmul and gated_matmul: each weight row is decoded once a call, then multiplied with every row
// of x.
#include <vector>

#include "ref.h"

namespace hadal::ref {
namespace {

// x[., b] of all rows as the product takes them, [M, K]: doubles, so that products are exact and
// the inner loop only multiplies and adds.
std::vector<double> read_rows(const host_chip::View& x, int64_t b, Rounding product) {
  const int64_t k = x.extents[x.rank - 1];
  std::vector<double> rows(static_cast<size_t>(x.extents[0] * k));
  for (int64_t m = 0; m < x.extents[0]; ++m) {
    const float* row = x.rank == 3 ? x.row<float>(m, b) : x.row<float>(m);
    round_activations({row, static_cast<size_t>(k)}, product, rows.data() + m * k);
  }
  return rows;
}

}  // namespace

double dot(const double* a, const double* b, int64_t n) {
  double sum[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int64_t j = 0; j < 8; ++j) sum[j] += a[i + j] * b[i + j];
  for (int64_t j = 0; i + j < n; ++j) sum[j] += a[i + j] * b[i + j];
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

// out[m, n] = sum_k x[m, k] w[n, k] (+ bias[n]) (+ add[m, n]), for each matrix b of a batch
hadal_status matmul(const Call& call) {
  const auto& x = call[HADAL_MATMUL_X];
  const auto& w = call[HADAL_MATMUL_W];
  const auto& add = call[HADAL_MATMUL_ADD];
  const auto& out = call[HADAL_MATMUL_OUT];
  if (x.extents[0] == 0) return HADAL_OK;
  const bool batched = x.rank == 3;
  const int64_t batch = batched ? x.extents[1] : 1;
  const int64_t k = x.extents[batched ? 2 : 1];
  const int64_t n = out.extents[batched ? 2 : 1];
  const std::vector<float> bias = read_vector(call[HADAL_MATMUL_BIAS]);
  const Rounding product = product_rounding(call.rounding, weight(w.weight).desc);
  RowReader reader(weight(w.weight), product);
  for (int64_t b = 0; b < batch; ++b) {
    const std::vector<double> rows = read_rows(x, b, product);
    for (int64_t i = 0; i < n; ++i) {
      const double* w_row = reader.read(b * n + i);
      for (int64_t m = 0; m < x.extents[0]; ++m) {
        double sum = dot(rows.data() + m * k, w_row, k);
        if (!bias.empty()) sum += static_cast<double>(bias[static_cast<size_t>(i)]);
        if (add.present())
          sum += static_cast<double>((batched ? add.row<float>(m, b) : add.row<float>(m))[i]);
        (batched ? out.row<float>(m, b) : out.row<float>(m))[i] = static_cast<float>(sum);
      }
    }
  }
  return HADAL_OK;
}

// out = swiglu(matmul(x, gate), matmul(x, up)): the same bits as those three operators of this chip
hadal_status gated_matmul(const Call& call) {
  const auto& x = call[HADAL_GATED_MATMUL_X];
  const auto& out = call[HADAL_GATED_MATMUL_OUT];
  if (x.extents[0] == 0) return HADAL_OK;
  const int64_t k = x.extents[1];
  const Weight& gate_weight = weight(call[HADAL_GATED_MATMUL_GATE].weight);
  const Weight& up_weight = weight(call[HADAL_GATED_MATMUL_UP].weight);
  const Rounding gate_product = product_rounding(call.rounding, gate_weight.desc);
  const Rounding up_product = product_rounding(call.rounding, up_weight.desc);
  const std::vector<double> gate_rows = read_rows(x, 0, gate_product);
  const std::vector<double> up_rows = read_rows(x, 0, up_product);
  RowReader gate(gate_weight, gate_product), up(up_weight, up_product);
  for (int64_t i = 0; i < out.extents[1]; ++i) {
    const double* gate_row = gate.read(i);
    const double* up_row = up.read(i);
    for (int64_t m = 0; m < x.extents[0]; ++m) {
      const auto g = static_cast<float>(dot(gate_rows.data() + m * k, gate_row, k));
      const auto u = static_cast<float>(dot(up_rows.data() + m * k, up_row, k));
      out.row<float>(m)[i] = swiglu_value(g, u, call.op->attr.swiglu.clamp, 1.0f);
    }
  }
  return HADAL_OK;
}

}  // namespace hadal::ref
