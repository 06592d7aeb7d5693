// What one work-item does for one number of an operator on rows: shared by the kernels of single
// operators (dense.cl, compressor.cl, experts.cl, streams.cl) and by those that run several in one
// launch (fused.cl), so that both have the same bits.

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

// If rows [first, first + count) have it. `to`: the number itself.
void embed_number(const __global int* token, WEIGHT(table), int rows, int first, int count, int t,
                  int c, __global float* to, FAULT) {
  const int id = token[t];
  if (id < 0 || id >= rows) {
    FAULT_SET(EMBED_TOKEN, t, id, rows);
    return;
  }
  if (id >= first && id - first < count) *to = weight_load(WEIGHT_ROW(table, id), table_type, c);
}

// Pair i of a head that begins at `head`; p: the row's position.
void rope_pair(__global float* head, int p, float frequency, int i, int first, int dims,
               int interleaved, int inverse, int ratio, float amplitude) {
  if ((p + 1) % ratio != 0) return;
  const float angle = (float)(p + 1 - ratio) * frequency;
  const float c = cos(angle) * amplitude;
  const float s = (inverse ? -sin(angle) : sin(angle)) * amplitude;
  __global float* row = head + first;
  const int one = interleaved ? 2 * i : i, other = interleaved ? 2 * i + 1 : i + dims / 2;
  const float a = row[one], b = row[other];
  row[one] = a * c - b * s;
  row[other] = a * s + b * c;
}

float swiglu_number(float gate, float up, float most, int has_weight, float weight) {
  const float v = gated(gate, up, most);
  return has_weight ? v * weight : v;
}

// `table`: of all sequences; `most`: slots that a table can name.
void kv_write_number(float v, PLANE(plane), int p, int s, const __global int* table, long table_row,
                     int sequences, long most, const __global int* write_from, int width, int ratio,
                     int t, int c, FAULT) {
  if (s < 0 || s >= sequences) {
    FAULT_SET(KV_WRITE_ROW_SEQ, t, s, sequences);
    return;
  }
  if (p < 0 || p >= most * ratio) {
    FAULT_SET(KV_WRITE_POSITION, t, p, most * ratio);
    return;
  }
  if (p < write_from[s] || (p + 1) % ratio != 0) return;
  const int slot = p / ratio, block = table[s * table_row + slot / plane_slots];
  if (block == -1) return;
  if (block < 0 || block >= plane_blocks) {
    FAULT_SET(KV_WRITE_BLOCK_TABLE, slot / plane_slots, block, plane_blocks);
    return;
  }
  plane_store((__global uchar*)plane, plane_type,
              plane_at + block * plane_row + (long)(slot % plane_slots) * width + c, v);
}

// x, to: the column's first number.
void gather_number(const __global int* x, long x_row, int rows, const __global int* index, int r,
                   __global int* to, FAULT) {
  const int from = index[r];
  if (from < 0 || from >= rows) {
    FAULT_SET(GATHER_ROWS_INDEX, r, from, rows);
    return;
  }
  *to = x[from * x_row];
}

// sum_j x[place[j]] of one column, j ascending; x: the column's first number, place: the row's.
float combine_number(const __global float* x, long x_row, const __global int* place, int fan,
                     int pairs, int t, FAULT) {
  float sum = 0.0f;
  for (int j = 0; j < fan; ++j) {
    const int from = place[j];
    if (from == -1) continue;
    if (from < 0 || from >= pairs) {
      FAULT_SET(MOE_COMBINE_PLACE, t * fan + j, from, pairs);
      continue;
    }
    sum += x[from * x_row];
  }
  return sum;
}

#define MOST_STREAMS 16

// x_k <- post_k f + sum_j comb[j, k] x_j; `column`: of the first stream, comb: the row's.
void merge_number(__global float* column, long x_head, float own, const __global float* post,
                  const __global float* comb, long comb_head, int n) {
  float old[MOST_STREAMS];
  for (int j = 0; j < n; ++j) old[j] = column[j * x_head];
  for (int k = 0; k < n; ++k) {
    float sum = 0.0f;
    for (int j = 0; j < n; ++j) sum = fma(comb[j * comb_head + k], old[j], sum);
    column[k * x_head] = fma(post[k], own, sum);
  }
}

// compress.
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

// One channel of the entry that ends at position `last` of sequence s.
void compress_number(PLANE(plane), const __global float* ape, int has_ape, int last, int s,
                     const __global int* table, long table_row, int sequences, int most,
                     __global float* to, int d, int ratio, int overlap, int t, int c, FAULT) {
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
  const __global int* blocks_of = table + s * table_row;
  const __global float* x = (const __global float*)plane + plane_at;
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
