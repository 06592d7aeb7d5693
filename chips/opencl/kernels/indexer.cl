// index_topk and index_blocks: scores of what a row searches become keys that order as numbers do,
// in the workspace; then the k largest of a row are listed in ascending order.
//
// What a row searches is numbered: entries by themselves or, with candidates, those of one
// candidate block after the other. Key 0 says that a number is not searched.

#define KEY_UNSEEN 0u
#define KEY_NAN 1u
#define KEY_ALWAYS 0xffffffffu

uint key_of(float v) {
  if (isnan(v)) return KEY_NAN;
  const uint bits = as_uint(v == 0.0f ? 0.0f : v);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The entries [x, y) that row t sees; none where its indices are wrong.
int2 index_range(int t, int position, int s, int sequences, int most, int ratio,
                 const __global int* first, FAULT) {
  if (s < 0 || s >= sequences) {
    FAULT_SET(INDEX_TOPK_ROW_SEQ, t, s, sequences);
    return (int2)(0, 0);
  }
  const long end = (long)most * ratio;
  if (position < 0 || position >= end) {
    FAULT_SET(INDEX_TOPK_POSITION, t, position, end);
    return (int2)(0, 0);
  }
  return (int2)((int)(((long)max(first[s], 0) + ratio - 1) / ratio),
                (int)(((long)position + 1) / ratio));
}

// The entry of a number; -1: candidates end before it.
int index_entry(int number, const __global int* candidates, int size, int most, FAULT) {
  const int i = number / size, blocks = (most + size - 1) / size;
  for (int j = 0; j <= i; ++j)
    if (candidates[j] < 0) return -1;
  const int b = candidates[i];
  if (b >= blocks || (i > 0 && b <= candidates[i - 1])) {
    FAULT_SET(INDEX_TOPK_CANDIDATES, i, b, blocks);
    return -1;
  }
  return b * size + number % size;
}

// sum_h weight[h] max(0, q[h] . key)
float index_score(const __global float* q, long q_head, const __global float* weight, int heads,
                  const __global uchar* plane, int type, long at, int d) {
  float score = 0.0f;
  for (int h = 0; h < heads; ++h) {
    const __global float* row = q + h * q_head;
    float8 sums = (float8)(0.0f);
    int c = 0;
    for (; c + 8 <= d; c += 8)
      sums = fma(vload8(0, row + c), plane_load8(plane, type, at + c), sums);
    if (c < d)
      sums = fma(load_part(row + c, d - c), plane_load_part(plane, type, at + c, d - c), sums);
    score = fma(weight[h], fmax(0.0f, sum_of_8(sums)), score);
  }
  return score;
}

// A number of a row is a work-item. `keys` has a row for each row of this launch, whose first is
// t0; `listed` is -1 without candidates.
__kernel void index_scores(CUBE(const float, q), MATRIX(const float, weight),
                           VECTOR(const int, position), VECTOR(const int, row_seq), int sequences,
                           PLANE(plane), MATRIX(const int, table), int most,
                           VECTOR(const int, first), MATRIX(const int, candidates), int listed,
                           int size, MATRIX(uint, keys), int numbers, int t0, int heads, int d,
                           int ratio, FAULT) {
  if (FAULTED) return;
  const int number = get_global_id(0), t = t0 + get_global_id(1);
  if (number >= numbers) return;
  const int s = row_seq[row_seq_at + t];
  const int2 seen = index_range(t, position[position_at + t], s, sequences, most, ratio,
                                first + first_at, FAULT_ARGUMENTS);
  if (seen.y <= (listed < 0 ? number : 0)) return;  // and is not read
  const int e = listed < 0 ? number
                           : index_entry(number, candidates + candidates_at + t * candidates_row,
                                         size, most, FAULT_ARGUMENTS);
  uint key = KEY_UNSEEN;
  if (e >= seen.x && e < seen.y) {
    const int block = table[table_at + s * table_row + e / plane_slots];
    if (block < 0 || block >= plane_blocks)
      FAULT_SET(INDEX_TOPK_BLOCK_TABLE, e / plane_slots, block, plane_blocks);
    else
      key = key_of(index_score(q + q_at + t * q_row, q_head, weight + weight_at + t * weight_row,
                               heads, plane, plane_type,
                               plane_at + block * plane_row + (long)(e % plane_slots) * d, d));
  }
  keys[keys_at + (t - t0) * keys_row + number] = key;
}

// The largest key of each block; the block of the last entry seen comes before all.
__kernel void index_block_keys(MATRIX(const uint, keys), MATRIX(uint, largest),
                               VECTOR(const int, position), VECTOR(const int, row_seq),
                               int sequences, VECTOR(const int, first), int most, int blocks,
                               int size, int t0, int ratio, FAULT) {
  if (FAULTED) return;
  const int b = get_global_id(0), t = t0 + get_global_id(1);
  if (b >= blocks) return;
  const int2 seen = index_range(t, position[position_at + t], row_seq[row_seq_at + t], sequences,
                                most, ratio, first + first_at, FAULT_ARGUMENTS);
  uint key = KEY_UNSEEN;
  const int end = min(seen.y, (b + 1) * size);
  for (int e = max(seen.x, b * size); e < end; ++e)
    key = max(key, keys[keys_at + (t - t0) * keys_row + e]);
  if (key != KEY_UNSEEN && (seen.y - 1) / size == b) key = KEY_ALWAYS;
  largest[largest_at + (t - t0) * largest_row + b] = key;
}

// The k-th largest of `count` keys in x, in y how many of that key are wanted; where there are no
// more than k, all that are seen.
uint2 index_threshold(const __global uint* keys, int count, int k, __local int* histogram,
                      __local uint* found) {
  const int lid = get_local_id(0);
  uint prefix = 0, mask = 0;
  int wanted = k, few = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = lid; i < 256; i += GROUP) histogram[i] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = lid; i < count; i += GROUP) {
      const uint key = keys[i];
      if (key != KEY_UNSEEN && (key & mask) == prefix) atomic_inc(&histogram[key >> shift & 255]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid == 0) {
      int above = 0, bucket = 255;
      while (bucket > 0 && above + histogram[bucket] < wanted) above += histogram[bucket--];
      found[0] = above + histogram[bucket] < wanted;  // there are no more
      found[1] = bucket;
      found[2] = above;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    few |= (int)found[0];
    prefix |= found[1] << shift;
    mask |= 255u << shift;
    wanted -= (int)found[2];
  }
  return few ? (uint2)(KEY_NAN, (uint)k) : (uint2)(prefix, (uint)wanted);
}

// LIST[t]: a work-item has a run of numbers, so that what it lists stands behind what those before
// it list.
__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void index_select(
    MATRIX(const uint, keys), int numbers, int unit, VECTOR(const int, position),
    VECTOR(const int, row_seq), int sequences, VECTOR(const int, first), int most,
    MATRIX(const int, candidates), int listed, int size, MATRIX(int, list), int k, int t0,
    int ratio, FAULT) {
  __local int histogram[256], above[GROUP], equal[GROUP];
  __local uint found[3];
  if (FAULTED) sequences = k = 0;
  const int lid = get_local_id(0), t = t0 + get_group_id(1);
  const int2 seen = index_range(t, position[position_at + t], row_seq[row_seq_at + t], sequences,
                                most, ratio, first + first_at, FAULT_ARGUMENTS);
  const __global int* of = candidates + candidates_at + t * candidates_row;
  __global int* to = list + list_at + t * list_row;
  keys += keys_at + (t - t0) * keys_row;
  const int count = seen.y == 0 ? 0 : listed < 0 ? (seen.y + unit - 1) / unit : numbers;
  const uint2 least = index_threshold(keys, count, k, histogram, found);
  const int run = (count + GROUP - 1) / GROUP, begin = min(count, lid * run),
            end = min(count, begin + run);
  int own_above = 0, own_equal = 0;
  for (int i = begin; i < end; ++i) {
    own_above += keys[i] > least.x;
    own_equal += keys[i] == least.x;
  }
  above[lid] = own_above;
  equal[lid] = own_equal;
  barrier(CLK_LOCAL_MEM_FENCE);
  int at = 0, equals = 0;
  for (int i = 0; i < lid; ++i) {
    at += above[i];
    equals += equal[i];
  }
  at += min(equals, (int)least.y);
  for (int i = begin; i < end; ++i) {
    const bool taken =
        keys[i] > least.x || (keys[i] == least.x && equals++ < (int)least.y);
    if (taken && at < k) to[at++] = listed < 0 ? i : of[i / size] * size + i % size;
  }
  int all = 0, all_equal = 0;
  for (int i = 0; i < GROUP; ++i) {
    all += above[i];
    all_equal += equal[i];
  }
  for (int i = all + min(all_equal, (int)least.y) + lid; i < k; i += GROUP) to[i] = -1;
}
