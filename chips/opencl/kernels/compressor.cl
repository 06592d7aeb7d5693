// compress: rows of a plane become one entry; a channel is a work-item.

// The row of position p as an element of the plane, or -1 and a fault.
long compress_row(const __global int* table, int blocks, int slots, long block_row, int width2,
                  int p, FAULT) {
  const int block = table[p / slots];
  if (block < 0 || block >= blocks) {
    FAULT_SET(COMPRESS_BLOCK_TABLE, p / slots, block, blocks);
    return -1;
  }
  return (long)block * block_row + (long)(p % slots) * width2;
}

// z of a row with what its place in an entry adds: both parts of the sum, so that scores far from
// zero lose nothing.
float2 compress_score(float z, float ape) {
  const float sum = z + ape, back = sum - z;
  return (float2)(sum, (z - (sum - back)) + (ape - back));
}

// out[t] = sum_j softmax_j(z[j] + ape[j]) kv[j]. Sums run over 16 rows, and then over these.
__kernel void compress(PLANE(plane), VECTOR(const float, ape), int has_ape,
                       VECTOR(const int, position), VECTOR(const int, row_seq),
                       MATRIX(const int, table), int sequences, int most, MATRIX(float, out), int d,
                       int ratio, int overlap, FAULT) {
  if (FAULTED) return;
  const int c = get_global_id(0), t = get_global_id(1);
  if (c >= d) return;
  const int last = position[position_at + t], s = row_seq[row_seq_at + t];
  __global float* to = out + out_at + t * out_row + c;
  *to = 0.0f;
  if (s < 0 || s >= sequences) {
    FAULT_SET(COMPRESS_ROW_SEQ, t, s, sequences);
    return;
  }
  if (last < 0 || last >= most) {
    FAULT_SET(COMPRESS_POSITION, t, last, most);
    return;
  }
  if ((last + 1) % ratio != 0) return;
  const __global int* blocks_of = table + table_at + s * table_row;
  const __global float* x = (const __global float*)plane + plane_at;
  ape += ape_at;
  const int first = max(0, last + 1 - (overlap ? 2 : 1) * ratio), width = overlap ? 2 * d : d;
  float2 top = (float2)(-INFINITY, 0.0f);
  for (int p = first; p <= last; ++p) {
    const int at = c + (overlap && p > last - ratio ? d : 0);
    const long row =
        compress_row(blocks_of, plane_blocks, plane_slots, plane_row, 2 * width, p,
                     FAULT_ARGUMENTS);
    if (row < 0) return;
    const float2 z =
        compress_score(x[row + width + at], has_ape ? ape[p % ratio * width + at] : 0.0f);
    if (z.x > top.x) top = z;
  }
  float sum = 0.0f, value = 0.0f;
  for (int begin = first; begin <= last; begin += 16) {
    float part = 0.0f, part_value = 0.0f;
    for (int p = begin; p <= min(last, begin + 15); ++p) {
      const int at = c + (overlap && p > last - ratio ? d : 0);
      const long row =
          compress_row(blocks_of, plane_blocks, plane_slots, plane_row, 2 * width, p,
                     FAULT_ARGUMENTS);
      const float2 z =
          compress_score(x[row + width + at], has_ape ? ape[p % ratio * width + at] : 0.0f);
      const float e = exp((z.x - top.x) + (z.y - top.y));
      part += e;
      part_value = fma(e, x[row + at], part_value);
    }
    sum += part;
    value += part_value;
  }
  *to = value / sum;
}
