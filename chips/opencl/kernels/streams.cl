// The streams of DeepSeek-V4 and V4.1: hc_pre, hc_post, engram_gate. A work-group has a row (of a
// stream, in engram_gate); what all columns need is a tree over the group.

float sigmoid_of(float x) { return 1.0f / (1.0f + exp(-x)); }

// comb: the softmax of each row, then columns and rows in turn are divided by their sums. `c` holds
// n x n values; work-item i has row i or column i.
void hc_sinkhorn(__local float* c, int n, float eps, uint iterations) {
  const int i = get_local_id(0);
  if (i < n) {
    float top = c[i * n], sum = 0.0f;
    for (int j = 1; j < n; ++j) top = fmax(top, c[i * n + j]);
    for (int j = 0; j < n; ++j) sum += c[i * n + j] = exp(c[i * n + j] - top);
    for (int j = 0; j < n; ++j) c[i * n + j] = c[i * n + j] / sum + eps;
  }
  for (uint k = 0; k < 2 * iterations - 1; ++k) {
    barrier(CLK_LOCAL_MEM_FENCE);
    const int down = (k & 1) == 0;  // a column
    const int at = down ? i : i * n, step = down ? n : 1;
    if (i < n) {
      float sum = eps;
      for (int j = 0; j < n; ++j) sum += c[at + j * step];
      for (int j = 0; j < n; ++j) c[at + j * step] /= sum;
    }
  }
  barrier(CLK_LOCAL_MEM_FENCE);
}

// out = sum_i pre_i x_i with what PRE holds or this site's pre; then POST, COMB and PRE.
__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void hc_pre(
    CUBE(const float, x), MATRIX(const float, mix), VECTOR(const float, base),
    VECTOR(const float, scale), MATRIX(float, out), MATRIX(float, post), CUBE(float, comb),
    MATRIX(float, pre), int n, int d, int has_mix, int has_out, int has_post, int has_pre,
    float norm_eps, float eps, uint iterations, FAULT) {
  __local float room[GROUP];
  __local float own[MOST_STREAMS], used[MOST_STREAMS], c[MOST_STREAMS * MOST_STREAMS];
  if (FAULTED) n = d = has_mix = has_post = 0;
  const int i = get_local_id(0), t = get_group_id(1);
  const __global float* rows = x + x_at + t * x_row;
  const __global float* m = mix + mix_at + t * mix_row;
  base += base_at;
  scale += scale_at;
  float sum = 0.0f;
  for (int j = 0; j < n && has_mix; ++j) sum += square_sum(rows + j * x_head, d);
  const float factor = 1.0f / sqrt(group_sum(sum, room) / ((float)n * (float)d) + norm_eps);
  if (i < n && has_mix) own[i] = sigmoid_of(m[i] * factor * scale[0] + base[i]) + eps;
  if (i < n) used[i] = has_pre && has_out ? pre[pre_at + t * pre_row + i] : own[i];
  barrier(CLK_LOCAL_MEM_FENCE);
  if (has_out)
    for (int k = i; k < d; k += GROUP) {
      float value = 0.0f;
      for (int j = 0; j < n; ++j) value = fma(used[j], rows[j * x_head + k], value);
      out[out_at + t * out_row + k] = value;
    }
  if (has_pre && has_mix && i < n) pre[pre_at + t * pre_row + i] = own[i];
  if (i < n && has_post)
    post[post_at + t * post_row + i] =
        2.0f * sigmoid_of(m[n + i] * factor * scale[1] + base[n + i]);
  const int mixed = has_post ? n : 0;
  for (int k = i; k < mixed * mixed; k += GROUP)
    c[k] = m[2 * n + k] * factor * scale[2] + base[2 * n + k];
  barrier(CLK_LOCAL_MEM_FENCE);
  hc_sinkhorn(c, mixed, eps, iterations);
  for (int k = i; k < mixed * mixed; k += GROUP)
    comb[comb_at + t * comb_row + k / n * comb_head + k % n] = c[k];
}

// x_k <- post_k f + sum_j comb[j, k] x_j, a column a work-item.
__kernel void hc_post(CUBE(float, x), MATRIX(const float, f), MATRIX(const float, post),
                      CUBE(const float, comb), int n, int d, FAULT) {
  if (FAULTED) return;
  const int c = get_global_id(0), t = get_global_id(1);
  if (c >= d) return;
  merge_number(x + x_at + t * x_row + c, x_head, f[f_at + t * f_row + c],
               post + post_at + t * post_row, comb + comb_at + t * comb_row, comb_head, n);
}

// x_i <- x_i + gate_i value, gate_i by how well stream i matches key i.
__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void engram_gate(
    CUBE(float, x), CUBE(const float, key), MATRIX(const float, value),
    VECTOR(const float, q_weight), VECTOR(const float, k_weight), int d, float eps, float least,
    FAULT) {
  __local float room[GROUP];
  if (FAULTED) d = 0;
  const int i = get_group_id(0), t = get_group_id(1);
  __global float* row = x + x_at + t * x_row + i * x_head;
  const __global float* k = key + key_at + t * key_row + i * key_head;
  q_weight += q_weight_at + (long)i * d;
  k_weight += k_weight_at + (long)i * d;
  float products = 0.0f;
  for (int c = get_local_id(0); c < d; c += GROUP)
    products = fma(row[c] * q_weight[c], k[c] * k_weight[c], products);
  const float product = group_sum(products, room);
  const float x_squares = group_sum(square_sum(row, d), room);
  const float key_squares = group_sum(square_sum(k, d), room);
  const float width = (float)d;
  const float r = product / (sqrt(x_squares / width + eps) * sqrt(key_squares / width + eps) *
                             sqrt(width));
  const float size = sqrt(fmax(fabs(r), least));
  const float gate = sigmoid_of(r < 0.0f ? -size : size);
  barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);  // others have read what is written now
  for (int c = get_local_id(0); c < d; c += GROUP)
    row[c] = fma(gate, value[value_at + t * value_row + c], row[c]);
}
