// The mixture of experts, but for its products: router, moe_sort, moe_combine.

#define SCORE_SOFTMAX 0
#define SCORE_SIGMOID 1

// exp(v - top): the difference is taken in two parts, since its rounding would be seen.
float exp_below(float v, float top) {
  const float difference = v - top, back = difference + top;
  const float rest = (v - back) + (back - difference - top);
  return exp(difference) * (1.0f + rest);
}

float router_score(float v, uint kind) {
  return kind == SCORE_SIGMOID ? 1.0f / (1.0f + exp(-v))
                               : sqrt(fmax(v, 0.0f) + log1p(exp(-fabs(v))));
}

// Scores of a row of logits, by the whole group.
void router_scores(const __global float* logits, int experts, uint kind, __local float* score,
                   __local float* room) {
  const int lid = get_local_id(0);
  float top = -INFINITY, sum = 0.0f;
  for (int e = lid; e < experts; e += GROUP) top = fmax(top, logits[e]);
  top = group_max(top, room);
  for (int e = lid; e < experts; e += GROUP)
    sum += score[e] =
        kind == SCORE_SOFTMAX ? exp_below(logits[e], top) : router_score(logits[e], kind);
  sum = group_sum(sum, room);
  for (int e = lid; e < experts && kind == SCORE_SOFTMAX; e += GROUP) score[e] /= sum;
  barrier(CLK_LOCAL_MEM_FENCE);
}

// How many stand before `at` in [0, count): the larger first, of equals the lower index. `kept`
// (may be null): only those of kept runs of `run` compete.
int router_rank(const __local float* values, int count, int at, const __local int* kept, int run) {
  const float own = values[at];
  int rank = 0;
  for (int i = 0; i < count; ++i)
    if ((!kept || kept[i / run]) && (values[i] > own || (values[i] == own && i < at))) ++rank;
  return rank;
}

// A run's score: the sum of its so many largest.
float router_run(const __local float* selection, int run, uint best) {
  float first = -INFINITY, second = -INFINITY;
  for (int i = 0; i < run; ++i) {
    const float v = selection[i];
    second = v > first ? first : fmax(second, v);
    first = fmax(first, v);
  }
  return best == 2 ? first + second : first;
}

// An expert of HASH; what is no int is -1.
int hash_number(const __global uchar* row, int type, int c) {
  if (type == TYPE_I32) return ((const __global int*)row)[c];
  if (type != TYPE_I64) return (int)weight_load(row, type, c);
  const long number = ((const __global long*)row)[c];
  return number < 0 || number > INT_MAX ? -1 : (int)number;
}

// With HASH: the tokens whose rows are among [first, first + count) of it.
// `score`, `selection`: [experts]; `run_score`, `kept`: [groups]; `chosen`: [k].
__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void router(
    MATRIX(const float, logits), VECTOR(const float, bias), int has_bias, VECTOR(const int, token),
    WEIGHT(hash), int hash_rows, int first, int count, MATRIX(int, expert), MATRIX(float, weight), int experts, int k, uint kind, int groups, int groups_kept,
    uint group_best, int normalise, float factor, __local float* score, __local float* selection, __local float* run_score,
    __local int* kept, __local int* chosen, FAULT) {
  __local float room[GROUP];
  if (FAULTED) experts = groups = k = hash_rows = 0;
  const int lid = get_local_id(0), t = get_group_id(1), run = experts / max(groups, 1);
  router_scores(logits + logits_at + t * logits_row, experts, kind, score, room);
  for (int e = lid; e < experts; e += GROUP) {
    const float v = has_bias ? score[e] + bias[bias_at + e] : score[e];
    selection[e] = fmax(v, -INFINITY);  // NaN becomes -infinity
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int g = lid; g < groups; g += GROUP)
    run_score[g] = router_run(selection + g * run, run, group_best);
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int g = lid; g < groups; g += GROUP)
    kept[g] = router_rank(run_score, groups, g, 0, 1) < groups_kept;
  barrier(CLK_LOCAL_MEM_FENCE);
  if (hash_rows > 0) {
    const int id = token[token_at + t];
    const bool known = id >= 0 && id < hash_rows;
    if (!known && lid == 0) FAULT_SET(ROUTER_TOKEN, t, id, hash_rows);
    if (known && (id < first || id - first >= count)) k = 0;
    for (int j = lid; j < k; j += GROUP) {
      const int e = known ? hash_number(WEIGHT_ROW(hash, id), hash_type, j) : 0;
      if (e < 0 || e >= experts) FAULT_SET(ROUTER_HASH, id * k + j, e, experts);
      chosen[j] = e < 0 || e >= experts ? 0 : e;
    }
  } else {
    for (int e = lid; e < experts; e += GROUP) {
      if (!kept[e / run]) continue;
      const int rank = router_rank(selection, experts, e, kept, run);
      if (rank < k) chosen[rank] = e;
    }
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  float sum = 1e-20f;
  for (int j = 0; j < k; ++j) sum += score[chosen[j]];
  for (int j = lid; j < k; j += GROUP) {
    const float v = score[chosen[j]];
    expert[expert_at + t * expert_row + j] = chosen[j];
    weight[weight_at + t * weight_row + j] = (normalise ? v / sum : v) * factor;
  }
}

// An expert is a work-item, which goes through all pairs twice: how many stand before its own, then
// its own, ascending. Neighbours read the same pair at the same time.
__kernel void moe_sort(MATRIX(const int, expert), MATRIX(const float, weight), VECTOR(int, order),
                       VECTOR(int, place), VECTOR(int, offset), VECTOR(float, row_weight), int rows,
                       int k, int experts, int first, int of, FAULT) {
  if (FAULTED) return;
  const int e = get_global_id(0);
  if (e >= experts) return;
  int before = 0, own = 0;
  for (int t = 0; t < rows; ++t) {
    const __global int* chosen = expert + expert_at + t * expert_row;
    for (int j = 0; j < k; ++j) {
      const int global_id = chosen[j], id = global_id - first;
      before += id >= 0 && id < e;
      own += id == e;
      if (e != 0) continue;
      if (global_id < 0 || global_id >= of) FAULT_SET(MOE_SORT_EXPERT, t * k + j, global_id, of);
      if (id < 0 || id >= experts) place[place_at + t * k + j] = -1;
    }
  }
  offset[offset_at + e] = before;
  if (e == experts - 1) offset[offset_at + experts] = before + own;
  for (int t = 0; t < rows && own > 0; ++t) {
    const __global int* chosen = expert + expert_at + t * expert_row;
    for (int j = 0; j < k; ++j) {
      if (chosen[j] - first != e) continue;
      order[order_at + before] = t * k + j;
      place[place_at + t * k + j] = before;
      row_weight[row_weight_at + before] = weight[weight_at + t * weight_row + j];
      ++before;
    }
  }
}

// out[t] = sum_j x[place[t k + j]] + shared[t] + add[t], j ascending.
__kernel void moe_combine(MATRIX(const float, x), VECTOR(const int, place),
                          MATRIX(const float, shared), int has_shared, MATRIX(const float, add),
                          int has_add, MATRIX(float, out), int n, int fan, int pairs, FAULT) {
  if (FAULTED) return;
  const int c = get_global_id(0), t = get_global_id(1);
  if (c >= n) return;
  float sum = combine_number(x + x_at + c, x_row, place + place_at + (long)t * fan, fan, pairs, t,
                             FAULT_ARGUMENTS);
  if (has_shared) sum += shared[shared_at + t * shared_row + c];
  if (has_add) sum += add[add_at + t * add_row + c];
  out[out_at + t * out_row + c] = sum;
}
