// matmul, gated_matmul, grouped_matmul and the products of moe_experts and lora_add. A number of the result is a work-item's, which goes
// through a row of x and a row of the weight: its bits are the same in every operator, whatever
// stands beside it.

float product(const __global float* x, const __global uchar* w, int type, long at, int k) {
  float8 sums = (float8)(0.0f);
  int c = 0;
  for (; c + 8 <= k; c += 8) sums = fma(vload8(0, x + c), weight_load8(w, type, at + c), sums);
  if (c < k) sums = fma(load_part(x + c, k - c), weight_load_part(w, type, at + c, k - c), sums);
  return sum_of_8(sums);
}

// Rows that share what is read of a weight; a build for one row has 1.
#ifndef TILE_ROWS
#define TILE_ROWS 4
#endif

__kernel void matmul(CUBE(const float, x), const __global uchar* w, int type,
                     VECTOR(const float, bias), int has_bias, CUBE(const float, add), int has_add,
                     CUBE(float, out), int rows, int batch, int n, int k, FAULT) {
  if (FAULTED) return;
  const int i = get_global_id(0) % n, b = get_global_id(0) / n, t0 = get_global_id(1) * TILE_ROWS;
  if (b >= batch) return;
  const long at = ((long)b * n + i) * k;
  const __global float* from[TILE_ROWS];
  float8 sums[TILE_ROWS];
  for (int j = 0; j < TILE_ROWS; ++j) {  // rows beyond the last are computed for nothing
    from[j] = x + x_at + min(t0 + j, rows - 1) * x_row + b * x_head;
    sums[j] = (float8)(0.0f);
  }
  int c = 0;
  for (; c + 8 <= k; c += 8) {
    const float8 v = weight_load8(w, type, at + c);
    for (int j = 0; j < TILE_ROWS; ++j) sums[j] = fma(vload8(0, from[j] + c), v, sums[j]);
  }
  if (c < k) {
    const float8 v = weight_load_part(w, type, at + c, k - c);
    for (int j = 0; j < TILE_ROWS; ++j) sums[j] = fma(load_part(from[j] + c, k - c), v, sums[j]);
  }
  for (int j = 0; j < TILE_ROWS && t0 + j < rows; ++j) {
    float v = sum_of_8(sums[j]);
    if (has_bias) v += bias[bias_at + i];
    if (has_add) v += add[add_at + (t0 + j) * add_row + b * add_head + i];
    out[out_at + (t0 + j) * out_row + b * out_head + i] = v;
  }
}

// The expert of a place: OFFSET[e] <= place < OFFSET[e + 1]; -1: none.
int expert_of(const __global int* offset, int experts, int place) {
  if (place < offset[0] || place >= offset[experts]) return -1;
  int low = 0, high = experts;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (offset[middle] <= place)
      low = middle;
    else
      high = middle;
  }
  return low;
}

__kernel void grouped_matmul(MATRIX(const float, x), int x_rows, const __global uchar* w, int type,
                             VECTOR(const int, offset), VECTOR(const int, order), int has_order,
                             MATRIX(float, out), int experts, int n, int k, int fan, FAULT) {
  if (FAULTED) return;
  const int i = get_global_id(0), place = get_global_id(1);
  if (i >= n) return;
  const int e = expert_of(offset + offset_at, experts, place);
  if (e < 0) return;
  const int from = has_order ? order[order_at + place] / fan : place;
  if (from < 0 || from >= x_rows) {
    FAULT_SET(GROUPED_MATMUL_ORDER, place, from, x_rows);
    return;
  }
  out[out_at + place * out_row + i] =
      product(x + x_at + from * x_row, w, type, ((long)e * n + i) * k, k);
}

__kernel void gated_matmul(MATRIX(const float, x), const __global uchar* gate, int gate_type,
                           const __global uchar* up, int up_type, MATRIX(float, out), int n, int k,
                           float most, FAULT) {
  if (FAULTED) return;
  const int i = get_global_id(0), t = get_global_id(1);
  if (i >= n) return;
  const __global float* from = x + x_at + t * x_row;
  out[out_at + t * out_row + i] = gated(product(from, gate, gate_type, (long)i * k, k),
                                        product(from, up, up_type, (long)i * k, k), most);
}

// The first half of moe_experts: what grouped_matmul twice and swiglu with row weights give.
__kernel void gated_experts(MATRIX(const float, x), const __global uchar* gate, int gate_type,
                            const __global uchar* up, int up_type, VECTOR(const int, offset),
                            VECTOR(const int, order), VECTOR(const float, row_weight),
                            MATRIX(float, out), int experts, int n, int k, int fan, float most,
                            FAULT) {
  if (FAULTED) return;
  const int i = get_global_id(0), place = get_global_id(1);
  if (i >= n) return;
  const int e = expert_of(offset + offset_at, experts, place);
  if (e < 0) return;
  const __global float* from = x + x_at + order[order_at + place] / fan * x_row;
  const long at = ((long)e * n + i) * k;
  out[out_at + place * out_row + i] = gated(product(from, gate, gate_type, at, k),
                                            product(from, up, up_type, at, k), most) *
                                      row_weight[row_weight_at + place];
}

// lora_add: y = A_a x in local memory, then B_a y. A lane of y has every eighth rank, so ranks of
// zeros behind the last change no bits.
float product_of_local(const __local float* y, const __global uchar* w, int type, long at, int k) {
  float8 sums = (float8)(0.0f);
  for (int c = 0; c < k; c += 8) {
    const float8 v = c + 8 <= k ? weight_load8(w, type, at + c)
                                : weight_load_part(w, type, at + c, k - c);
    sums = fma(vload8(0, y + c), v, sums);
  }
  return sum_of_8(sums);
}

// `y`: [rank rounded up to 8].
__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void lora_add(
    MATRIX(const float, x), const __global uchar* a, int a_type, const __global uchar* b,
    int b_type, VECTOR(const int, adapter), VECTOR(const int, row_seq), MATRIX(float, out),
    int sequences, int bank, int rank, int n, int k, __local float* y, FAULT) {
  const int lid = get_local_id(0), t = get_group_id(1);
  int own = FAULTED ? -1 : 0;
  for (int s = 0; s < sequences && own >= 0; ++s)
    if (adapter[adapter_at + s] < -1 || adapter[adapter_at + s] >= bank) {
      FAULT_SET(LORA_ADD_ADAPTER, s, adapter[adapter_at + s], bank);
      own = -1;
    }
  const int s = row_seq[row_seq_at + t];
  if (s < 0 || s >= sequences) {
    FAULT_SET(LORA_ADD_ROW_SEQ, t, s, sequences);
    own = -1;
  }
  if (own >= 0) own = adapter[adapter_at + s];
  for (int r = lid; r < (rank + 7) / 8 * 8; r += GROUP)
    y[r] = own >= 0 && r < rank
               ? product(x + x_at + t * x_row, a, a_type, ((long)own * rank + r) * k, k)
               : 0.0f;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int i = lid; i < n && own >= 0; i += GROUP)
    out[out_at + t * out_row + i] +=
        product_of_local(y, b, b_type, ((long)own * n + i) * rank, rank);
}
