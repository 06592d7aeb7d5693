// The operators on rows: embed, norm, rope, swiglu, add, kv_write, gather_rows, copy_blocks,
// convert.

void plane_store(__global uchar* p, int type, long at, float v) {
  if (type == TYPE_F32) {
    ((__global float*)p)[at] = v;
  } else if (type == TYPE_F16) {
    vstore_half_rte(v, at, (__global half*)p);
  } else {
    const uint bits = as_uint(v);
    ((__global ushort*)p)[at] =
        isnan(v) ? (ushort)(bits >> 16 | 64) : (ushort)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}

__kernel void embed(VECTOR(const int, token), const __global uchar* table, int type, int rows,
                    MATRIX(float, out), int n, FAULT) {
  if (FAULTED) return;
  const int c = get_global_id(0), t = get_global_id(1);
  if (c >= n) return;
  const int id = token[token_at + t];
  if (id < 0 || id >= rows) {
    FAULT_SET(EMBED_TOKEN, t, id, rows);
    return;
  }
  out[out_at + t * out_row + c] = weight_load(table, type, (long)id * n + c);
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
  const int t = get_global_id(1), p = position[position_at + t];
  if (h >= heads || (p + 1) % ratio != 0) return;
  const float angle = (float)(p + 1 - ratio) * inv_freq[inv_freq_at + i];
  const float c = cos(angle) * amplitude;
  const float s = (inverse ? -sin(angle) : sin(angle)) * amplitude;
  __global float* row = x + x_at + t * x_row + h * x_head + first;
  const int one = interleaved ? 2 * i : i, other = interleaved ? 2 * i + 1 : i + dims / 2;
  const float a = row[one], b = row[other];
  row[one] = a * c - b * s;
  row[other] = a * s + b * c;
}

__kernel void swiglu(MATRIX(const float, gate), MATRIX(const float, up), VECTOR(const float, weight),
                     int has_weight, MATRIX(float, out), int n, float clamp_at, FAULT) {
  if (FAULTED) return;
  const int c = get_global_id(0), t = get_global_id(1);
  if (c >= n) return;
  const float v =
      gated(gate[gate_at + t * gate_row + c], up[up_at + t * up_row + c], clamp_at);
  out[out_at + t * out_row + c] = has_weight ? v * weight[weight_at + t] : v;
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
  const int p = position[position_at + t], s = row_seq[row_seq_at + t];
  if (s < 0 || s >= sequences) {
    FAULT_SET(KV_WRITE_ROW_SEQ, t, s, sequences);
    return;
  }
  if (p < 0 || p >= (long)most * ratio) {
    FAULT_SET(KV_WRITE_POSITION, t, p, (long)most * ratio);
    return;
  }
  if (p < write_from[write_from_at + s] || (p + 1) % ratio != 0) return;
  const int slot = p / ratio, block = table[table_at + s * table_row + slot / plane_slots];
  if (block == -1) return;
  if (block < 0 || block >= plane_blocks) {
    FAULT_SET(KV_WRITE_BLOCK_TABLE, slot / plane_slots, block, plane_blocks);
    return;
  }
  plane_store((__global uchar*)plane, plane_type,
              plane_at + block * plane_row + (long)(slot % plane_slots) * width + c,
              x[x_at + t * x_row + c]);
}

__kernel void gather_rows(MATRIX(const int, x), int rows, VECTOR(const int, index), MATRIX(int, out),
                          int n, FAULT) {
  if (FAULTED) return;
  const int c = get_global_id(0), r = get_global_id(1);
  if (c >= n) return;
  const int from = index[index_at + r];
  if (from < 0 || from >= rows) {
    FAULT_SET(GATHER_ROWS_INDEX, r, from, rows);
    return;
  }
  out[out_at + r * out_row + c] = x[x_at + from * x_row + c];
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
