// Several operators of a program in one launch (program/): `items`, whose strands go number by
// number, and `rows`, whose strands go row by row.
//
// What a launch does stands in `plan`, a list of longs that program/encode.cc writes: a header for
// each strand (STRAND_…), then its steps (STEP_…), in each the operands as they stand in the tape
// (OPERAND_…). Memories are told by their number among the arguments. Steps of one strand follow
// each other: of `items` within a work-item, of `rows` within a work-group.

#define MEMORIES                                                                          \
  __global uchar *m0, __global uchar *m1, __global uchar *m2, __global uchar *m3,         \
      __global uchar *m4, __global uchar *m5, __global uchar *m6, __global uchar *m7,     \
      __global uchar *m8, __global uchar *m9, __global uchar *m10, __global uchar *m11,   \
      __global uchar *m12, __global uchar *m13, __global uchar *m14, __global uchar *m15, \
      int4 blocks, int4 rows_of
#define MEMORY_ARGUMENTS \
  m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, blocks, rows_of

__global uchar* memory_at(int i, MEMORIES) {
  switch (i) {
    case 0: return m0;
    case 1: return m1;
    case 2: return m2;
    case 3: return m3;
    case 4: return m4;
    case 5: return m5;
    case 6: return m6;
    case 7: return m7;
    case 8: return m8;
    case 9: return m9;
    case 10: return m10;
    case 11: return m11;
    case 12: return m12;
    case 13: return m13;
    case 14: return m14;
    default: return m15;
  }
}
int of_4(int4 v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }
// Rows of a kind in this step: T, S, R or U.
int count_of(int dim, int4 rows_of) { return dim == 0 ? 1 : of_4(rows_of, dim - 1); }

// Of operand i of a step.
#define FIELD(i, what) step[STEP_OPERANDS + ((i) & 255) * OPERAND_LONGS + (what)]
#define GIVEN(i) (FIELD(i, OPERAND_MEMORY) >= 0)
#define BYTES(i) memory_at((int)FIELD(i, OPERAND_MEMORY), MEMORY_ARGUMENTS)
#define TYPE(i) ((int)FIELD(i, OPERAND_TYPE))
#define ROW(i) FIELD(i, OPERAND_ROW)
#define HEAD(i) FIELD(i, OPERAND_HEAD)
#define EXTENT(i, d) ((int)FIELD(i, OPERAND_EXTENT + (d)))
#define ROWS(i) (EXTENT(i, 0) * count_of((int)FIELD(i, OPERAND_DIM), rows_of))
#define FLOATS(i) ((__global float*)BYTES(i) + FIELD(i, OPERAND_AT))
// A row of a weight, counted through its matrices.
#define WEIGHT_AT(i, row) (BYTES(i) + (long)(row) * ROW(i))
#define INTS(i) ((__global int*)BYTES(i) + FIELD(i, OPERAND_AT))
#define PLANE_ARGUMENTS(i)                                                               \
  BYTES(i), TYPE(i), of_4(blocks, (int)FIELD(i, OPERAND_PLANE)), EXTENT(i, 1), FIELD(i, OPERAND_AT), \
      ROW(i)
// Word i of its attributes.
#define WORD(i) ((int)step[STEP_WORDS + (i)])
#define REAL(i) as_float(WORD(i))

// Number c of row t of an operator that goes number by number.
void do_number(const __global long* step, int t, int c, MEMORIES, FAULT) {
  switch ((int)step[STEP_OP]) {
    case OP_EMBED:
      embed_number(INTS(EMBED_TOKEN), BYTES(EMBED_TABLE), TYPE(EMBED_TABLE), 0, ROW(EMBED_TABLE),
                   EXTENT(EMBED_TABLE, 1), 0, EXTENT(EMBED_TABLE, 1), t, c,
                   FLOATS(EMBED_OUT) + t * ROW(EMBED_OUT) + c, FAULT_ARGUMENTS);
      break;
    case OP_ROPE: {
      const int pairs = WORD(1) / 2, h = c / pairs;
      rope_pair(FLOATS(ROPE_X) + t * ROW(ROPE_X) + h * HEAD(ROPE_X),
                INTS(ROPE_POSITION)[t], FLOATS(ROPE_INV_FREQ)[c % pairs], c % pairs,
                WORD(0), WORD(1), WORD(2), WORD(3), WORD(4), REAL(5));
      break;
    }
    case OP_SWIGLU:
      FLOATS(SWIGLU_OUT)[t * ROW(SWIGLU_OUT) + c] =
          swiglu_number(FLOATS(SWIGLU_GATE)[t * ROW(SWIGLU_GATE) + c],
                        FLOATS(SWIGLU_UP)[t * ROW(SWIGLU_UP) + c], REAL(0),
                        GIVEN(SWIGLU_WEIGHT),
                        GIVEN(SWIGLU_WEIGHT) ? FLOATS(SWIGLU_WEIGHT)[t] : 1.0f);
      break;
    case OP_ADD:
      FLOATS(ADD_X)[t * ROW(ADD_X) + c] += FLOATS(ADD_Y)[t * ROW(ADD_Y) + c];
      break;
    case OP_KV_WRITE:
      kv_write_number(FLOATS(KV_WRITE_X)[t * ROW(KV_WRITE_X) + c],
                      PLANE_ARGUMENTS(KV_WRITE_PLANE), INTS(KV_WRITE_POSITION)[t],
                      INTS(KV_WRITE_ROW_SEQ)[t], INTS(KV_WRITE_BLOCK_TABLE),
                      ROW(KV_WRITE_BLOCK_TABLE), ROWS(KV_WRITE_BLOCK_TABLE),
                      (long)EXTENT(KV_WRITE_BLOCK_TABLE, 1) * EXTENT(KV_WRITE_PLANE, 1),
                      INTS(KV_WRITE_WRITE_FROM), EXTENT(KV_WRITE_X, 1), WORD(0), t, c,
                      FAULT_ARGUMENTS);
      break;
    case OP_GATHER_ROWS:
      gather_number(INTS(GATHER_ROWS_X) + c, ROW(GATHER_ROWS_X), ROWS(GATHER_ROWS_X),
                    INTS(GATHER_ROWS_INDEX), t,
                    INTS(GATHER_ROWS_OUT) + t * ROW(GATHER_ROWS_OUT) + c, FAULT_ARGUMENTS);
      break;
    case OP_MOE_COMBINE: {
      float sum = combine_number(FLOATS(MOE_COMBINE_X) + c, ROW(MOE_COMBINE_X),
                                 INTS(MOE_COMBINE_PLACE) + (long)t * WORD(1), WORD(1),
                                 ROWS(MOE_COMBINE_X), t, FAULT_ARGUMENTS);
      if (GIVEN(MOE_COMBINE_SHARED))
        sum += FLOATS(MOE_COMBINE_SHARED)[t * ROW(MOE_COMBINE_SHARED) + c];
      if (GIVEN(MOE_COMBINE_ADD))
        sum += FLOATS(MOE_COMBINE_ADD)[t * ROW(MOE_COMBINE_ADD) + c];
      FLOATS(MOE_COMBINE_OUT)[t * ROW(MOE_COMBINE_OUT) + c] = sum;
      break;
    }
    case OP_COMPRESS:
      compress_number(PLANE_ARGUMENTS(COMPRESS_PLANE),
                      GIVEN(COMPRESS_APE) ? FLOATS(COMPRESS_APE) : (__global float*)m0,
                      GIVEN(COMPRESS_APE), INTS(COMPRESS_POSITION)[t],
                      INTS(COMPRESS_ROW_SEQ)[t], INTS(COMPRESS_BLOCK_TABLE),
                      ROW(COMPRESS_BLOCK_TABLE), ROWS(COMPRESS_BLOCK_TABLE),
                      EXTENT(COMPRESS_BLOCK_TABLE, 1) * EXTENT(COMPRESS_PLANE, 1),
                      FLOATS(COMPRESS_OUT) + t * ROW(COMPRESS_OUT) + c,
                      EXTENT(COMPRESS_OUT, 1), WORD(0), WORD(1), t, c, FAULT_ARGUMENTS);
      break;
    case OP_HC_POST:
      merge_number(FLOATS(HC_POST_X) + t * ROW(HC_POST_X) + c, HEAD(HC_POST_X),
                   FLOATS(HC_POST_F)[t * ROW(HC_POST_F) + c],
                   FLOATS(HC_POST_POST) + t * ROW(HC_POST_POST),
                   FLOATS(HC_POST_COMB) + t * ROW(HC_POST_COMB), HEAD(HC_POST_COMB),
                   EXTENT(HC_POST_X, 1));
      break;
    default:
      break;
  }
}

// The strand to which a work-group belongs.
const __global long* strand_of(const __global long* plan, int strands, int group) {
  int s = 0;
  while (s + 1 < strands && group >= plan[(s + 1) * STRAND_LONGS + STRAND_FIRST]) ++s;
  return plan + s * STRAND_LONGS;
}

#ifdef ONLY_ROWS
// A work-group has a unit (a head, or a share of the columns) of a row. What is no norm does its
// numbers first; barriers stand outside of all branches.
__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void rows(
    MEMORIES, const __global long* plan, int plan_at, int strands, FAULT) {
  __local float room[GROUP];
  const int lid = get_local_id(0), group = get_group_id(0), t = get_group_id(1);
  const __global long* strand = strand_of(plan + plan_at, strands, group);
  const int unit = (int)(group - strand[STRAND_FIRST]), units = (int)strand[STRAND_UNITS];
  const int inside = t < strand[STRAND_ROWS] * count_of((int)strand[STRAND_DIM], rows_of);
  const int steps = FAULTED || !inside ? 0 : (int)strand[STRAND_STEPS];
  for (int i = 0; i < steps; ++i) {
    const __global long* step = plan + plan_at + strand[STRAND_STEP] + i * STEP_LONGS;
    const int is_norm = step[STEP_OP] == OP_NORM;
    const int share = (int)step[STEP_NUMBERS] / units;  // of a norm: of a head
    const int n = is_norm ? share : 0, numbers = is_norm ? 0 : share;
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    for (int c = lid; c < numbers; c += GROUP)
      do_number(step, t, unit * share + c, MEMORY_ARGUMENTS, FAULT_ARGUMENTS);
    const int has_residual = is_norm && GIVEN(NORM_RESIDUAL);
    float sum = 0.0f;
    for (int c = lid; c < n; c += GROUP) {
      const __global float* from = FLOATS(NORM_X) + t * ROW(NORM_X) + unit * HEAD(NORM_X);
      float v = from[c];
      if (has_residual) {
        __global float* r =
            FLOATS(NORM_RESIDUAL) + t * ROW(NORM_RESIDUAL) + unit * HEAD(NORM_RESIDUAL);
        v += r[c];
        r[c] = v;
      }
      sum += v;
    }
    const float mean = group_sum(sum, room) / (float)n;
    const float middle = is_norm && WORD(1) ? mean : 0.0f;
    const int r = has_residual ? NORM_RESIDUAL : NORM_X;
    float squares = 0.0f;
    for (int c = lid; c < n; c += GROUP) {
      const float v = (FLOATS(r) + t * ROW(r) + unit * HEAD(r))[c] - middle;
      squares = fma(v, v, squares);
    }
    const float root = sqrt(group_sum(squares, room) / (float)n + (is_norm ? REAL(0) : 0.0f));
    for (int c = lid; c < n; c += GROUP) {
      const float v = ((FLOATS(r) + t * ROW(r) + unit * HEAD(r))[c] - middle) / root;
      (FLOATS(NORM_OUT) + t * ROW(NORM_OUT) + unit * HEAD(NORM_OUT))[c] =
          (GIVEN(NORM_W) ? v * FLOATS(NORM_W)[c] : v) +
          (GIVEN(NORM_B) ? FLOATS(NORM_B)[c] : 0.0f);
    }
  }
}

#else

// Rows that share what is read of a weight; a build for steps of one row has 1.
#ifndef TILE_ROWS
#define TILE_ROWS 4
#endif

// sums[j] = the product of row j of `from` with a row of a weight.
void product_tile(const __global float** from, const __global uchar* w, int type, int k,
                  float8* sums) {
  for (int j = 0; j < TILE_ROWS; ++j) sums[j] = (float8)(0.0f);
  int c = 0;
  for (; c + 8 <= k; c += 8) {
    const float8 v = weight_load8(w, type, c);
    for (int j = 0; j < TILE_ROWS; ++j) sums[j] = fma(vload8(0, from[j] + c), v, sums[j]);
  }
  if (c == k) return;
  const float8 v = weight_load_part(w, type, c, k - c);
  for (int j = 0; j < TILE_ROWS; ++j) sums[j] = fma(load_part(from[j] + c, k - c), v, sums[j]);
}

// A build for weights of two or three types has a loop for each.
void products_of(const __global float** from, const __global uchar* w, int type, int k,
                 float8* sums) {
#ifdef FIRST_TYPE
  if (type == FIRST_TYPE) return product_tile(from, w, FIRST_TYPE, k, sums);
#ifdef SECOND_TYPE
  if (type == SECOND_TYPE) return product_tile(from, w, SECOND_TYPE, k, sums);
#endif
#ifdef THIRD_TYPE
  if (type == THIRD_TYPE) return product_tile(from, w, THIRD_TYPE, k, sums);
#endif
#endif
  product_tile(from, w, type, k, sums);
}

// Column c of rows [t0, rows), at most TILE_ROWS of them.
void do_matmul(const __global long* step, int t0, int rows, int c, MEMORIES) {
  const int n = EXTENT(MATMUL_W, 1), k = EXTENT(MATMUL_W, 2), i = c % n, b = c / n;
  const __global float* x = FLOATS(MATMUL_X) + b * HEAD(MATMUL_X);
  const __global float* from[TILE_ROWS];
  float8 sums[TILE_ROWS];
  for (int j = 0; j < TILE_ROWS; ++j) from[j] = x + min(t0 + j, rows - 1) * ROW(MATMUL_X);
  products_of(from, WEIGHT_AT(MATMUL_W, b * n + i), TYPE(MATMUL_W), k, sums);
  for (int j = 0; j < TILE_ROWS && t0 + j < rows; ++j) {
    float v = sum_of_8(sums[j]);
    if (GIVEN(MATMUL_BIAS)) v += FLOATS(MATMUL_BIAS)[i];
    if (GIVEN(MATMUL_ADD))
      v += FLOATS(MATMUL_ADD)[(t0 + j) * ROW(MATMUL_ADD) + b * HEAD(MATMUL_ADD) + i];
    FLOATS(MATMUL_OUT)[(t0 + j) * ROW(MATMUL_OUT) + b * HEAD(MATMUL_OUT) + i] = v;
  }
}

void do_gated(const __global long* step, int t0, int rows, int c, MEMORIES) {
  const int k = EXTENT(GATED_MATMUL_GATE, 2);
  const __global float* from[TILE_ROWS];
  float8 gate[TILE_ROWS], up[TILE_ROWS];
  for (int j = 0; j < TILE_ROWS; ++j)
    from[j] = FLOATS(GATED_MATMUL_X) + min(t0 + j, rows - 1) * ROW(GATED_MATMUL_X);
  products_of(from, WEIGHT_AT(GATED_MATMUL_GATE, c), TYPE(GATED_MATMUL_GATE), k, gate);
  products_of(from, WEIGHT_AT(GATED_MATMUL_UP, c), TYPE(GATED_MATMUL_UP), k, up);
  for (int j = 0; j < TILE_ROWS && t0 + j < rows; ++j)
    FLOATS(GATED_MATMUL_OUT)[(t0 + j) * ROW(GATED_MATMUL_OUT) + c] =
        gated(sum_of_8(gate[j]), sum_of_8(up[j]), REAL(0));
}

// Places [p, result) of places [p, end) have the expert of p, and so share what is read of it.
int end_of_expert(const __global int* offset, int experts, int p, int end, int* e) {
  *e = expert_of(offset, experts, p);
  return *e < 0 ? end : min(end, offset[*e + 1]);  // behind a place without expert is none with one
}

void do_experts(const __global long* step, int p0, int places, int c, MEMORIES) {
  const __global int* order = INTS(EXPERTS_ORDER);
  const int n = EXTENT(EXPERTS_GATE, 1), k = EXTENT(EXPERTS_GATE, 2), fan = WORD(1);
  const int end = min(p0 + TILE_ROWS, places);
  for (int p = p0, same, e; p < end; p = same) {
    same = end_of_expert(INTS(EXPERTS_OFFSET), EXTENT(EXPERTS_GATE, 0), p, end, &e);
    if (e < 0) return;
    const __global float* from[TILE_ROWS];
    float8 gate[TILE_ROWS], up[TILE_ROWS];
    for (int j = 0; j < TILE_ROWS; ++j)
      from[j] = FLOATS(EXPERTS_X) + order[min(p + j, same - 1)] / fan * ROW(EXPERTS_X);
    products_of(from, WEIGHT_AT(EXPERTS_GATE, e * n + c), TYPE(EXPERTS_GATE), k, gate);
    products_of(from, WEIGHT_AT(EXPERTS_UP, e * n + c), TYPE(EXPERTS_UP), k, up);
    for (int j = 0; p + j < same; ++j)
      FLOATS(EXPERTS_OUT)[(p + j) * ROW(EXPERTS_OUT) + c] =
          gated(sum_of_8(gate[j]), sum_of_8(up[j]), REAL(0)) * FLOATS(EXPERTS_ROW_WEIGHT)[p + j];
  }
}

// Without ORDER.
void do_grouped(const __global long* step, int p0, int places, int c, MEMORIES) {
  const int n = EXTENT(GROUPED_MATMUL_W, 1), k = EXTENT(GROUPED_MATMUL_W, 2);
  const int end = min(p0 + TILE_ROWS, places);
  for (int p = p0, same, e; p < end; p = same) {
    same = end_of_expert(INTS(GROUPED_MATMUL_OFFSET), EXTENT(GROUPED_MATMUL_W, 0), p, end, &e);
    if (e < 0) return;
    const __global float* from[TILE_ROWS];
    float8 sums[TILE_ROWS];
    for (int j = 0; j < TILE_ROWS; ++j)
      from[j] = FLOATS(GROUPED_MATMUL_X) + min(p + j, same - 1) * ROW(GROUPED_MATMUL_X);
    products_of(from, WEIGHT_AT(GROUPED_MATMUL_W, e * n + c), TYPE(GROUPED_MATMUL_W), k, sums);
    for (int j = 0; p + j < same; ++j)
      FLOATS(GROUPED_MATMUL_OUT)[(p + j) * ROW(GROUPED_MATMUL_OUT) + c] = sum_of_8(sums[j]);
  }
}

__kernel void items(MEMORIES, const __global long* plan, int plan_at, int strands, FAULT) {
  if (FAULTED) return;
  const int group = get_group_id(0), t0 = get_global_id(1) * TILE_ROWS;
  const __global long* strand = strand_of(plan + plan_at, strands, group);
  const int c = (int)(group - strand[STRAND_FIRST]) * GROUP + get_local_id(0);
  const int rows = (int)strand[STRAND_ROWS] * count_of((int)strand[STRAND_DIM], rows_of);
  if (c >= strand[STRAND_NUMBERS] || t0 >= rows) return;
  for (int i = 0; i < strand[STRAND_STEPS]; ++i) {
    const __global long* step = plan + plan_at + strand[STRAND_STEP] + i * STEP_LONGS;
    const int op = (int)step[STEP_OP];
    if (op == OP_MATMUL)
      do_matmul(step, t0, rows, c, MEMORY_ARGUMENTS);
    else if (op == OP_GATED_MATMUL)
      do_gated(step, t0, rows, c, MEMORY_ARGUMENTS);
    else if (op == OP_EXPERTS)
      do_experts(step, t0, rows, c, MEMORY_ARGUMENTS);
    else if (op == OP_GROUPED_MATMUL)
      do_grouped(step, t0, rows, c, MEMORY_ARGUMENTS);
    else
      for (int t = t0; t < min(rows, t0 + TILE_ROWS); ++t)
        do_number(step, t, c, MEMORY_ARGUMENTS, FAULT_ARGUMENTS);
  }
}

#endif
