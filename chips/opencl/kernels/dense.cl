// The operators on rows: embed, norm, rope, swiglu, add, kv_write, gather_rows, copy_blocks,
// convert.

// What rows [first, first + count) of the table have of it.
__kernel void embed(VECTOR(const int, token), WEIGHT(table), int rows, int first, int count,
                    MATRIX(float, out), int n, FAULT) {
  if (FAULTED) return;
  const int c = get_global_id(0), t = get_global_id(1);
  if (c < n)
    embed_number(token + token_at, WEIGHT_ARGUMENTS(table), rows, first, count, t, c,
                 out + out_at + t * out_row + c, FAULT_ARGUMENTS);
}

// A work-group has a row of a head.
__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void norm(
    CUBE(const float, x), VECTOR(const float, w), int has_w, VECTOR(const float, b), int has_b,
    CUBE(float, residual), int has_residual, CUBE(float, out), int n, int layer, float eps, FAULT) {
  __local float room[GROUP];
  if (FAULTED) n = 0;
  const int h = get_group_id(0), t = get_group_id(1), lid = get_local_id(0);
  const __global float* from = x + x_at + t * x_row + h * x_head;
  __global float* r = residual + residual_at + t * residual_row + h * residual_head;
  __global float* to = out + out_at + t * out_row + h * out_head;
  float sum = 0.0f;
  for (int c = lid; c < n; c += GROUP) {
    const float v = has_residual ? from[c] + r[c] : from[c];
    if (has_residual) r[c] = v;
    sum += v;
  }
  const float mean = group_sum(sum, room) / (float)n;
  const float middle = layer ? mean : 0.0f;
  float squares = 0.0f;
  for (int c = lid; c < n; c += GROUP) {
    const float v = (has_residual ? r[c] : from[c]) - middle;
    squares = fma(v, v, squares);
  }
  const float root = sqrt(group_sum(squares, room) / (float)n + eps);
  for (int c = lid; c < n; c += GROUP) {
    const float v = ((has_residual ? r[c] : from[c]) - middle) / root;
    to[c] = (has_w ? v * w[w_at + c] : v) + (has_b ? b[b_at + c] : 0.0f);
  }
}

__kernel void rope(CUBE(float, x), VECTOR(const int, position), VECTOR(const float, inv_freq),
                   int heads, int first, int dims, int interleaved, int inverse, int ratio,
                   float amplitude, FAULT) {
  if (FAULTED) return;
  const int i = get_global_id(0) % (dims / 2), h = get_global_id(0) / (dims / 2);
  const int t = get_global_id(1);
  if (h >= heads) return;
  rope_pair(x + x_at + t * x_row + h * x_head, position[position_at + t], inv_freq[inv_freq_at + i],
            i, first, dims, interleaved, inverse, ratio, amplitude);
}

__kernel void swiglu(MATRIX(const float, gate), MATRIX(const float, up), VECTOR(const float, weight),
                     int has_weight, MATRIX(float, out), int n, float clamp_at, FAULT) {
  if (FAULTED) return;
  const int c = get_global_id(0), t = get_global_id(1);
  if (c >= n) return;
  out[out_at + t * out_row + c] =
      swiglu_number(gate[gate_at + t * gate_row + c], up[up_at + t * up_row + c], clamp_at,
                    has_weight, has_weight ? weight[weight_at + t] : 1.0f);
}

__kernel void add(MATRIX(float, x), MATRIX(const float, y), int n, FAULT) {
  if (FAULTED) return;
  const int c = get_global_id(0), t = get_global_id(1);
  if (c < n) x[x_at + t * x_row + c] += y[y_at + t * y_row + c];
}

__kernel void kv_write(MATRIX(const float, x), PLANE(plane), VECTOR(const int, position),
                       VECTOR(const int, row_seq), MATRIX(const int, table), int sequences, int most,
                       VECTOR(const int, write_from), int width, int ratio, FAULT) {
  if (FAULTED) return;
  const int c = get_global_id(0), t = get_global_id(1);
  if (c >= width) return;
  kv_write_number(x[x_at + t * x_row + c], plane, plane_type, plane_blocks, plane_slots, plane_at,
                  plane_row, position[position_at + t], row_seq[row_seq_at + t], table + table_at,
                  table_row, sequences, most, write_from + write_from_at, width, ratio, t, c,
                  FAULT_ARGUMENTS);
}

__kernel void gather_rows(MATRIX(const int, x), int rows, VECTOR(const int, index), MATRIX(int, out),
                          int n, FAULT) {
  if (FAULTED) return;
  const int c = get_global_id(0), r = get_global_id(1);
  if (c >= n) return;
  gather_number(x + x_at + c, x_row, rows, index + index_at, r, out + out_at + r * out_row + c,
                FAULT_ARGUMENTS);
}

// In elements of the plane: 2 or 4 bytes.
__kernel void copy_blocks(PLANE(plane), int bytes, VECTOR(const int, from), VECTOR(const int, to),
                          int count, FAULT) {
  if (FAULTED) return;
  const int c = get_global_id(0), i = get_global_id(1);
  if (c >= count) return;
  const int source = from[from_at + i], target = to[to_at + i];
  if (source == -1 || target == -1) return;
  if (source < 0 || source >= plane_blocks) {
    FAULT_SET(COPY_BLOCKS_FROM, i, source, plane_blocks);
    return;
  }
  if (target < 0 || target >= plane_blocks) {
    FAULT_SET(COPY_BLOCKS_TO, i, target, plane_blocks);
    return;
  }
  __global uchar* p = (__global uchar*)plane;
  const long a = plane_at + source * plane_row + c, b = plane_at + target * plane_row + c;
  if (bytes == 4)
    ((__global int*)p)[b] = ((__global int*)p)[a];
  else
    ((__global short*)p)[b] = ((__global short*)p)[a];
}

__kernel void convert(const __global uchar* x, int from, long x_at, long x_row, __global uchar* out,
                      int to, long out_at, long out_row, int n, FAULT) {
  if (FAULTED) return;
  const int c = get_global_id(0), t = get_global_id(1);
  if (c < n)
    plane_store(out, to, out_at + t * out_row + c, plane_load(x, from, x_at + t * x_row + c));
}
