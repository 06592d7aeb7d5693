// latent_attention and gqa_attention. A work-group has a token row and HEADS heads, which share the entries that it
// reads, and goes through tiles of the grid of entries, or of the list, in ascending order. A tile's
// scores are made entry by entry, its weighted sum column by column; it is added to what came
// before by the larger of both maxima. So a row's bits depend on its own entries alone.

#define HEADS 8
#define TILE GROUP

typedef struct {
  const __global uchar* plane;
  const __global int* table;  // of the row's sequence
  const __global int* list;   // of the row; 0: none
  long plane_at, block_row;   // elements: of the plane's beginning, of a block
  int type, blocks, slots, most, listed, ratio, window, second;
  int begin, end;  // the entries that the row sees, but for the list
} Segment;

#define SEGMENT(x)                                                                         \
  PLANE(x##_plane), MATRIX(const int, x##_table), int x##_most, VECTOR(const int, x##_first), \
      MATRIX(const int, x##_list), int x##_listed, int x##_ratio, int x##_window
#define SEGMENT_OF(x, s, t, is_second)                                                       \
  (Segment) {                                                                                \
    x##_plane, x##_table + x##_table_at + s * x##_table_row,                                 \
        x##_listed < 0 ? 0 : x##_list + x##_list_at + t * x##_list_row, x##_plane_at,        \
        x##_plane_row, x##_plane_type, x##_plane_blocks, x##_plane_slots, x##_most, x##_listed, \
        x##_ratio, x##_window, is_second, 0, 0                                               \
  }

// Finds [begin, end). A position that no block could hold is a fault, and sees nothing.
void segment_range(Segment* s, int t, int position, int first, FAULT) {
  s->begin = s->end = 0;
  const long most = (long)s->most * s->ratio;
  if (position < 0 || position >= most) {
    FAULT_SET(LATENT_ATTENTION_POSITION, t, position, most);
    return;
  }
  s->end = (int)(((long)position + 1) / s->ratio);
  s->begin = (int)(((long)max(first, 0) + s->ratio - 1) / s->ratio);
  if (s->window != 0) s->begin = max(s->begin, s->end - s->window);
}

// How many of the list count: -1 ends it.
int list_length(const Segment* s, __local int* ended) {
  barrier(CLK_LOCAL_MEM_FENCE);
  if (get_local_id(0) == 0) *ended = s->listed;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int i = get_local_id(0); i < s->listed; i += GROUP)
    if (s->list[i] < 0) atomic_min(ended, i);
  barrier(CLK_LOCAL_MEM_FENCE);
  return *ended;
}

// Element of the plane at which the i-th entry of the grid or of the list begins; -1: it is not
// seen.
long entry_element(const Segment* s, int i, int length, int width, FAULT) {
  int e = i;
  if (s->list) {
    if (i >= length) return -1;
    e = s->list[i];
    if (e >= s->most || (i > 0 && e <= s->list[i - 1])) {
      FAULT_SET(s->second ? LATENT_ATTENTION_LIST2 : LATENT_ATTENTION_LIST, i, e, s->most);
      return -1;
    }
  }
  if (e < s->begin || e >= s->end) return -1;
  const int block = s->table[e / s->slots];
  if (block < 0 || block >= s->blocks) {
    FAULT_SET(s->second ? LATENT_ATTENTION_BLOCK_TABLE2 : LATENT_ATTENTION_BLOCK_TABLE,
              e / s->slots, block, s->blocks);
    return -1;
  }
  return s->plane_at + block * s->block_row + (long)(e % s->slots) * width;
}

// sums[h] += the products of n numbers of an entry with those of HEADS queries; a lane adds every
// eighth.
void add_products(float8* sums, const __global float* q, const long* heads,
                  const __global uchar* plane, int type, long at, int n) {
  int c = 0;
  for (; c + 8 <= n; c += 8) {
    const float8 v = plane_load8(plane, type, at + c);
    for (int h = 0; h < HEADS; ++h) sums[h] = fma(vload8(0, q + heads[h] + c), v, sums[h]);
  }
  if (c == n) return;
  const float8 v = plane_load_part(plane, type, at + c, n - c);
  for (int h = 0; h < HEADS; ++h)
    sums[h] = fma(load_part(q + heads[h] + c, n - c), v, sums[h]);
}

// A tile's share of the weighted sums: `sums` keeps columns [c, c + 8) of each head.
void add_values(__local float* sums, long sums_row, const __local float* p,
                const __local float* alpha, const __local long* element,
                const __global uchar* plane, int type, int c, int dv) {
  float8 tile[HEADS];
  for (int h = 0; h < HEADS; ++h) tile[h] = (float8)(0.0f);
  for (int i = 0; i < TILE; ++i) {
    if (element[i] < 0) continue;
    const float8 v = c + 8 <= dv ? plane_load8(plane, type, element[i] + c)
                                 : plane_load_part(plane, type, element[i] + c, dv - c);
    for (int h = 0; h < HEADS; ++h) tile[h] = fma((float8)(p[h * TILE + i]), v, tile[h]);
  }
  for (int h = 0; h < HEADS; ++h) {
    __local float* to = sums + h * sums_row + c;
    vstore8(fma(vload8(0, to), (float8)(alpha[h]), tile[h]), 0, to);
  }
}

// Work-item h: the maximum with this tile's scores, and by what all before is multiplied.
void raise_top(const __local float* score, __local float* top, __local float* alpha) {
  const int h = get_local_id(0);
  if (h >= HEADS) return;
  float largest = top[h];
  for (int i = 0; i < TILE; ++i) largest = fmax(largest, score[h * TILE + i]);
  alpha[h] = top[h] == -INFINITY ? 0.0f : exp(top[h] - largest);
  top[h] = largest;
}

// `sums`: [HEADS, dv rounded up to 8].
__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void latent_attention(
    CUBE(const float, q), CUBE(const float, tail), VECTOR(const int, position),
    VECTOR(const int, row_seq), int sequences, SEGMENT(a), SEGMENT(b), int has_b,
    VECTOR(const float, sink), int has_sink, CUBE(float, out), int heads, int d, int width, int dv,
    float scale, __local float* sums, FAULT) {
  __local float score[HEADS * TILE], top[HEADS], total[HEADS], alpha[HEADS];
  __local long element[TILE];
  __local int ended;
  if (FAULTED) heads = dv = sequences = has_sink = 0;
  const int lid = get_local_id(0), t = get_group_id(1), h0 = get_group_id(0) * HEADS;
  const int dv8 = (dv + 7) / 8 * 8, s = row_seq[row_seq_at + t];
  const int known = s >= 0 && s < sequences;
  if (!known) FAULT_SET(LATENT_ATTENTION_ROW_SEQ, t, s, sequences);
  long q_heads[HEADS], tail_heads[HEADS];
  for (int h = 0; h < HEADS; ++h) {  // those beyond the last are computed for nothing
    q_heads[h] = q_at + t * q_row + min(h0 + h, heads - 1) * q_head;
    tail_heads[h] = tail_at + t * tail_row + min(h0 + h, heads - 1) * tail_head;
  }
  if (lid < HEADS) {
    top[lid] = has_sink ? sink[sink_at + min(h0 + lid, heads - 1)] : -INFINITY;
    total[lid] = has_sink ? 1.0f : 0.0f;
  }
  for (int i = lid; i < HEADS * dv8; i += GROUP) sums[i] = 0.0f;
  for (int number = 0; number < (known ? 1 + has_b : 0); ++number) {
    Segment segment = number ? SEGMENT_OF(b, s, t, 1) : SEGMENT_OF(a, s, t, 0);
    segment_range(&segment, t, position[position_at + t],
                  number ? b_first[b_first_at + s] : a_first[a_first_at + s], FAULT_ARGUMENTS);
    const int listed = list_length(&segment, &ended);
    const int length = segment.list ? listed : segment.end;
    for (int tile = segment.list ? 0 : segment.begin / TILE * TILE; tile < length; tile += TILE) {
      const long at = entry_element(&segment, tile + lid, length, width, FAULT_ARGUMENTS);
      barrier(CLK_LOCAL_MEM_FENCE);
      element[lid] = at;
      float8 products[HEADS];
      for (int h = 0; h < HEADS; ++h) products[h] = (float8)(0.0f);
      if (at >= 0) {
        add_products(products, q, q_heads, segment.plane, segment.type, at, d);
        add_products(products, tail, tail_heads, segment.plane, segment.type, at + d, width - d);
      }
      for (int h = 0; h < HEADS; ++h)
        score[h * TILE + lid] = at >= 0 ? scale * sum_of_8(products[h]) : -INFINITY;
      barrier(CLK_LOCAL_MEM_FENCE);
      raise_top(score, top, alpha);
      barrier(CLK_LOCAL_MEM_FENCE);
      for (int h = 0; h < HEADS; ++h)
        score[h * TILE + lid] = at >= 0 ? exp(score[h * TILE + lid] - top[h]) : 0.0f;
      barrier(CLK_LOCAL_MEM_FENCE);
      if (lid < HEADS) {
        float sum = 0.0f;
        for (int i = 0; i < TILE; ++i) sum += score[lid * TILE + i];
        total[lid] = fma(total[lid], alpha[lid], sum);
      }
      for (int c = lid * 8; c < dv; c += GROUP * 8)
        add_values(sums, dv8, score, alpha, element, segment.plane, segment.type, c, dv);
    }
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int h = 0; h < HEADS && h0 + h < heads; ++h)
    for (int c = lid; c < dv; c += GROUP)
      out[out_at + t * out_row + (h0 + h) * out_head + c] =
          total[h] > 0.0f ? sums[h * dv8 + c] / total[h] : 0.0f;
}

// Element at which position p of a sequence begins in a plane; -1: it has no block.
long position_element(const __global int* table, int blocks, int slots, long plane_at,
                      long block_row, int width, int p, FAULT) {
  const int block = table[p / slots];
  if (block < 0 || block >= blocks) {
    FAULT_SET(GQA_ATTENTION_BLOCK_TABLE, p / slots, block, blocks);
    return -1;
  }
  return plane_at + block * block_row + (long)(p % slots) * width;
}

// The same over positions, with K and V of their own; a work-group's heads share one head of K and V.
__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void gqa_attention(
    CUBE(const float, q), PLANE(k), PLANE(v), VECTOR(const int, position),
    VECTOR(const int, row_seq), MATRIX(const int, table), int sequences, int most,
    VECTOR(const int, first), VECTOR(const float, sink), int has_sink, CUBE(float, out),
    int kv_heads, int group, int d, int dv, int window, float scale, __local float* sums, FAULT) {
  __local float score[HEADS * TILE], top[HEADS], total[HEADS], alpha[HEADS];
  __local long element[TILE];
  if (FAULTED) group = dv = sequences = has_sink = 0;
  const int lid = get_local_id(0), t = get_group_id(1);
  const int parts = max(1, (group + HEADS - 1) / HEADS), kv = get_group_id(0) / parts;
  const int h0 = kv * group + get_group_id(0) % parts * HEADS, end_head = kv * group + group;
  const int dv8 = (dv + 7) / 8 * 8, s = row_seq[row_seq_at + t], p = position[position_at + t];
  const int known = s >= 0 && s < sequences && p >= 0 && p < most;
  if (s < 0 || s >= sequences)
    FAULT_SET(GQA_ATTENTION_ROW_SEQ, t, s, sequences);
  else if (!known)
    FAULT_SET(GQA_ATTENTION_POSITION, t, p, most);
  long heads[HEADS];
  for (int h = 0; h < HEADS; ++h)
    heads[h] = q_at + t * q_row + max(0, min(h0 + h, end_head - 1)) * q_head;
  if (lid < HEADS) {
    top[lid] = has_sink ? sink[sink_at + min(h0 + lid, end_head - 1)] : -INFINITY;
    total[lid] = has_sink ? 1.0f : 0.0f;
  }
  for (int i = lid; i < HEADS * dv8; i += GROUP) sums[i] = 0.0f;
  int begin = known ? max(first[first_at + s], 0) : 0;
  if (window != 0) begin = max(begin, p - window + 1);
  const __global int* blocks = table + table_at + (known ? s : 0) * table_row;
  const int end = known ? p + 1 : 0;
  for (int tile = begin / TILE * TILE; tile < end; tile += TILE) {
    const int at = tile + lid;
    const int seen = at >= begin && at < end;
    const long key = seen ? position_element(blocks, k_blocks, k_slots, k_at, k_row, kv_heads * d,
                                             at, FAULT_ARGUMENTS)
                          : -1;
    const long value = seen ? position_element(blocks, v_blocks, v_slots, v_at, v_row,
                                               kv_heads * dv, at, FAULT_ARGUMENTS)
                            : -1;
    barrier(CLK_LOCAL_MEM_FENCE);
    element[lid] = key < 0 || value < 0 ? -1 : value + (long)kv * dv;
    float8 products[HEADS];
    for (int h = 0; h < HEADS; ++h) products[h] = (float8)(0.0f);
    if (key >= 0) add_products(products, q, heads, k, k_type, key + (long)kv * d, d);
    for (int h = 0; h < HEADS; ++h)
      score[h * TILE + lid] = key >= 0 ? scale * sum_of_8(products[h]) : -INFINITY;
    barrier(CLK_LOCAL_MEM_FENCE);
    raise_top(score, top, alpha);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int h = 0; h < HEADS; ++h)
      score[h * TILE + lid] = key >= 0 ? exp(score[h * TILE + lid] - top[h]) : 0.0f;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid < HEADS) {
      float sum = 0.0f;
      for (int i = 0; i < TILE; ++i) sum += score[lid * TILE + i];
      total[lid] = fma(total[lid], alpha[lid], sum);
    }
    for (int c = lid * 8; c < dv; c += GROUP * 8)
      add_values(sums, dv8, score, alpha, element, v, v_type, c, dv);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int h = 0; h < HEADS && h0 + h < end_head; ++h)
    for (int c = lid; c < dv; c += GROUP)
      out[out_at + t * out_row + (h0 + h) * out_head + c] =
          total[h] > 0.0f ? sums[h * dv8 + c] / total[h] : 0.0f;
}
