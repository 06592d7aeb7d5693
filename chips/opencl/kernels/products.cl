// matmul, gated_matmul, grouped_matmul and the products of moe_experts and lora_add. A number of the
// result is a work-item's, which goes through a row of x and a row of the weight: its bits are the
// same in every operator, whatever stands beside it.

float product(const __global float* x, const __global uchar* w, int type, int k) {
  float8 sums = (float8)(0.0f);
  int c = 0;
  for (; c + 8 <= k; c += 8) sums = fma(vload8(0, x + c), weight_load8(w, type, c), sums);
  if (c < k) sums = fma(load_part(x + c, k - c), weight_load_part(w, type, c, k - c), sums);
  return sum_of_8(sums);
}

// Rows that share what is read of a weight; a build for one row has 1.
#ifndef TILE_ROWS
#define TILE_ROWS 4
#endif

// Rows [first, first + count) of the weight: an item each.
__kernel void matmul(CUBE(const float, x), WEIGHT(w), VECTOR(const float, bias), int has_bias,
                     CUBE(const float, add), int has_add, CUBE(float, out), int rows, int first,
                     int count, int n, int k, FAULT) {
  if (FAULTED) return;
  const int own = get_global_id(0), t0 = get_global_id(1) * TILE_ROWS;
  if (own >= count) return;
  const int b = (first + own) / n, i = (first + own) % n;
  const __global uchar* row = WEIGHT_ROW(w, first + own);
  const __global float* from[TILE_ROWS];
  float8 sums[TILE_ROWS];
  for (int j = 0; j < TILE_ROWS; ++j) {  // rows beyond the last are computed for nothing
    from[j] = x + x_at + min(t0 + j, rows - 1) * x_row + b * x_head;
    sums[j] = (float8)(0.0f);
  }
  int c = 0;
  for (; c + 8 <= k; c += 8) {
    const float8 v = weight_load8(row, w_type, c);
    for (int j = 0; j < TILE_ROWS; ++j) sums[j] = fma(vload8(0, from[j] + c), v, sums[j]);
  }
  if (c < k) {
    const float8 v = weight_load_part(row, w_type, c, k - c);
    for (int j = 0; j < TILE_ROWS; ++j) sums[j] = fma(load_part(from[j] + c, k - c), v, sums[j]);
  }
  for (int j = 0; j < TILE_ROWS && t0 + j < rows; ++j) {
    float v = sum_of_8(sums[j]);
    if (has_bias) v += bias[bias_at + i];
    if (has_add) v += add[add_at + (t0 + j) * add_row + b * add_head + i];
    out[out_at + (t0 + j) * out_row + b * out_head + i] = v;
  }
}

// What rows [first, first + count) of all matrices have of it, here and in the next but one.
__kernel void grouped_matmul(MATRIX(const float, x), int x_rows, WEIGHT(w),
                             VECTOR(const int, offset), VECTOR(const int, order), int has_order,
                             MATRIX(float, out), int experts, int first, int count, int n, int k,
                             int fan, FAULT) {
  if (FAULTED) return;
  const int i = get_global_id(0), place = get_global_id(1);
  if (i >= n) return;
  const int e = expert_of(offset + offset_at, experts, place), row = e * n + i;
  if (e < 0 || row < first || row - first >= count) return;
  const int from = has_order ? order[order_at + place] / fan : place;
  if (from < 0 || from >= x_rows) {
    FAULT_SET(GROUPED_MATMUL_ORDER, place, from, x_rows);
    return;
  }
  out[out_at + place * out_row + i] =
      product(x + x_at + from * x_row, WEIGHT_ROW(w, row), w_type, k);
}

__kernel void gated_matmul(MATRIX(const float, x), WEIGHT(gate), WEIGHT(up), MATRIX(float, out),
                           int first, int count, int k, float most, FAULT) {
  if (FAULTED) return;
  const int i = first + (int)get_global_id(0), t = get_global_id(1);
  if (i - first >= count) return;
  const __global float* from = x + x_at + t * x_row;
  out[out_at + t * out_row + i] = gated(product(from, WEIGHT_ROW(gate, i), gate_type, k),
                                        product(from, WEIGHT_ROW(up, i), up_type, k), most);
}

// The first half of moe_experts: what grouped_matmul twice and swiglu with row weights give.
__kernel void gated_experts(MATRIX(const float, x), WEIGHT(gate), WEIGHT(up),
                            VECTOR(const int, offset), VECTOR(const int, order),
                            VECTOR(const float, row_weight), MATRIX(float, out), int experts,
                            int first, int count, int n, int k, int fan, float most, FAULT) {
  if (FAULTED) return;
  const int i = get_global_id(0), place = get_global_id(1);
  if (i >= n) return;
  const int e = expert_of(offset + offset_at, experts, place), row = e * n + i;
  if (e < 0 || row < first || row - first >= count) return;
  const __global float* from = x + x_at + order[order_at + place] / fan * x_row;
  out[out_at + place * out_row + i] = gated(product(from, WEIGHT_ROW(gate, row), gate_type, k),
                                            product(from, WEIGHT_ROW(up, row), up_type, k), most) *
                                      row_weight[row_weight_at + place];
}

// lora_add is two kernels: y = A_a x in the workspace, then out += B_a y. A lane of y has every
// eighth rank, so ranks of zeros behind the last change no bits.

// The adapter of a row; -1: none, or an index is wrong.
int lora_adapter(const __global int* adapter, const __global int* row_seq, int t, int sequences,
                 int bank, FAULT) {
  const int s = row_seq[t];
  if (s < 0 || s >= sequences) {
    FAULT_SET(LORA_ADD_ROW_SEQ, t, s, sequences);
    return -1;
  }
  const int a = adapter[s];
  if (a >= -1 && a < bank) return a;
  FAULT_SET(LORA_ADD_ADAPTER, s, a, bank);
  return -1;
}

// An item is a rank of a row. The first of all looks at the adapters of sequences without rows, too.
__kernel void lora_down(MATRIX(const float, x), WEIGHT(a), VECTOR(const int, adapter),
                        VECTOR(const int, row_seq), MATRIX(float, y), int sequences, int bank,
                        int first, int count, int rank, int k, FAULT) {
  if (FAULTED) return;
  const int r = get_global_id(0), t = get_global_id(1);
  if (r >= rank) return;
  for (int s = 0; s < sequences && r == 0 && t == 0; ++s) {
    const int own = adapter[adapter_at + s];
    if (own < -1 || own >= bank) FAULT_SET(LORA_ADD_ADAPTER, s, own, bank);
  }
  const int own = lora_adapter(adapter + adapter_at, row_seq + row_seq_at, t, sequences, bank,
                               FAULT_ARGUMENTS);
  const int row = own * rank + r;
  if (own < 0 || row < first || row - first >= count) return;
  y[y_at + t * y_row + r] = product(x + x_at + t * x_row, WEIGHT_ROW(a, row), a_type, k);
}

__kernel void lora_up(MATRIX(const float, y), WEIGHT(b), VECTOR(const int, adapter),
                      VECTOR(const int, row_seq), MATRIX(float, out), int sequences, int bank,
                      int first, int count, int n, int rank, FAULT) {
  if (FAULTED) return;
  const int i = get_global_id(0), t = get_global_id(1);
  if (i >= n) return;
  const int own = lora_adapter(adapter + adapter_at, row_seq + row_seq_at, t, sequences, bank,
                               FAULT_ARGUMENTS);
  const int row = own * n + i;
  if (own < 0 || row < first || row - first >= count) return;
  out[out_at + t * out_row + i] += product(y + y_at + t * y_row, WEIGHT_ROW(b, row), b_type, rank);
}
