// sample: a work-group has a row. Logits after penalties, mask and temperature lie in the workspace;
// they order by their keys and, among equals, by ascending ids, so what top-k and top-p keep is all
// before one place of that order.

#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
typedef double real;  // the noise, and what it is added to
#else
typedef float real;
#endif

// A place in the order. What is kept: larger keys, and of equal ones ids up to this.
typedef struct {
  uint key;
  int id;
} Place;

bool is_kept(uint key, int id, Place last) {
  return key > last.key || (key == last.key && id <= last.id);
}

float number_of(float v) { return isnan(v) ? -INFINITY : v; }

uint order_key(float v) {
  const uint bits = as_uint(v == 0.0f ? 0.0f : v);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The first place of all that work-items bring.
Place group_first(Place own, __local Place* room) {
  const int lid = get_local_id(0);
  barrier(CLK_LOCAL_MEM_FENCE);
  room[lid] = own;
  for (int step = GROUP / 2; step > 0; step /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid < step && is_kept(room[lid + step].key, room[lid + step].id, room[lid]))
      room[lid] = room[lid + step];
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  return room[0];
}

// The first place of a row behind `before`; key 0 is before none. Raw logits may hold NaN.
Place next_place(const __global float* x, int n, Place before, bool any, __local Place* room) {
  Place best = {0u, INT_MAX};
  for (int i = get_local_id(0); i < n; i += GROUP) {
    const uint key = order_key(number_of(x[i]));
    if ((any || !is_kept(key, i, before)) && is_kept(key, i, best)) best = (Place){key, i};
  }
  return group_first(best, room);
}

// The count-th of those whose key is `key`, by ascending ids.
int nth_equal(const __global float* x, int n, uint key, int count, __local int* equal,
              __local int* found) {
  const int lid = get_local_id(0), run = (n + GROUP - 1) / GROUP;
  const int begin = min(n, lid * run), end = min(n, begin + run);
  int own = 0;
  for (int i = begin; i < end; ++i) own += order_key(x[i]) == key;
  barrier(CLK_LOCAL_MEM_FENCE);
  equal[lid] = own;
  if (lid == 0) *found = INT_MAX;
  barrier(CLK_LOCAL_MEM_FENCE);
  int before = 0;
  for (int i = 0; i < lid; ++i) before += equal[i];
  for (int i = begin; i < end && before < count; ++i)
    if (order_key(x[i]) == key && ++before == count) *found = i;
  barrier(CLK_LOCAL_MEM_FENCE);
  return *found;
}

// The k-th place of the order, 1 <= k <= n.
Place kth_place(const __global float* x, int n, int k, __local int* histogram, __local int* equal,
                __local int* found) {
  const int lid = get_local_id(0);
  uint prefix = 0, mask = 0;
  int wanted = k;
  for (int shift = 24; shift >= 0; shift -= 8) {
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = lid; i < 256; i += GROUP) histogram[i] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = lid; i < n; i += GROUP) {
      const uint key = order_key(x[i]);
      if ((key & mask) == prefix) atomic_inc(&histogram[key >> shift & 255]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid == 0) {
      int above = 0, bucket = 255;
      while (bucket > 0 && above + histogram[bucket] < wanted) above += histogram[bucket--];
      found[0] = bucket;
      found[1] = above;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    prefix |= (uint)found[0] << shift;
    mask |= 255u << shift;
    wanted -= found[1];
  }
  return (Place){prefix, nth_equal(x, n, prefix, wanted, equal, found)};
}

// The last place of the shortest run of the order, up to `last`, whose weights exp(x - top) sum to
// `part` of all: the key by digits of four bits, by the sums of weights that share one.
Place mass_place(const __global float* x, int n, float top, float part, Place last,
                 __local float* room, __local int* equal, __local int* found) {
  uint prefix = 0, mask = 0;
  float above = 0.0f, wanted = 0.0f, weight = 1.0f;
  for (int shift = 28; shift >= 0; shift -= 4) {
    float sums[16];
    for (int d = 0; d < 16; ++d) sums[d] = 0.0f;
    for (int i = get_local_id(0); i < n; i += GROUP) {
      const uint key = order_key(x[i]);
      if ((key & mask) == prefix && is_kept(key, i, last)) sums[key >> shift & 15] += exp(x[i] - top);
    }
    for (int d = 0; d < 16; ++d) sums[d] = group_sum(sums[d], room);
    if (shift == 28) {
      for (int d = 15; d >= 0; --d) wanted += sums[d];
      wanted *= part;
    }
    int digit = -1;
    for (int d = 15; d >= 0; --d) {
      if (sums[d] <= 0.0f) continue;
      if (digit >= 0) above += sums[digit];
      digit = d;
      if (above + sums[d] >= wanted) break;
    }
    prefix |= (uint)max(digit, 0) << shift;
    mask |= 15u << shift;
  }
  weight = exp(as_float(prefix & 0x80000000u ? prefix & 0x7fffffffu : ~prefix) - top);
  const int count = max(1, (int)min(ceil((wanted - above) / weight), (float)n));
  const int id = nth_equal(x, n, prefix, count, equal, found);
  return is_kept(prefix, id, last) ? (Place){prefix, id} : last;
}

// Word token mod 4 of Philox-4x32-10 with the counter (position, token div 4, 0, 0).
uint philox(uint2 key, uint position, uint token) {
  uint4 c = (uint4)(position, token / 4, 0, 0);
  for (int round = 0; round < 10; ++round) {
    c = (uint4)(mul_hi(0xCD9E8D57u, c.z) ^ c.y ^ key.x, 0xCD9E8D57u * c.z,
                mul_hi(0xD2511F53u, c.x) ^ c.w ^ key.y, 0xD2511F53u * c.x);
    key += (uint2)(0x9E3779B9u, 0xBB67AE85u);
  }
  const uint2 two = token & 2u ? c.zw : c.xy;
  return token & 1u ? two.y : two.x;
}

// -log(-log(u)), u = (x + 0.5) 2^-24. In fp32 the upper half of u is 1 minus what has 24 bits.
real gumbel(uint2 key, int position, int token) {
  const uint x = philox(key, (uint)position, (uint)token) >> 8;
#ifdef cl_khr_fp64
  return -log(-log(((double)x + 0.5) * 0x1p-24));
#else
  const float rest = ((float)(0xffffffu - x) + 0.5f) * 0x1p-24f;
  return -log(x < 0x800000u ? -log(((float)x + 0.5f) * 0x1p-24f) : -log1p(-rest));
#endif
}

// The id whose kept logit is the largest with its noise; the lower of equals.
int with_noise(const __global float* x, int n, float top, float min_p, Place first, Place last,
               uint2 key, int position, __local real* values, __local int* ids) {
  const int lid = get_local_id(0);
  real largest = (real)-INFINITY;
  int best = INT_MAX;
  for (int i = lid; i < n; i += GROUP) {
    if (x[i] == -INFINITY || !is_kept(order_key(x[i]), i, last)) continue;
    if (min_p > 0.0f && i != first.id && exp(x[i] - top) < min_p) continue;
    const real value = (real)x[i] + gumbel(key, position, i);
    if (value > largest) {
      largest = value;
      best = i;
    }
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  values[lid] = largest;
  ids[lid] = best;
  for (int step = GROUP / 2; step > 0; step /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid < step && (values[lid + step] > values[lid] ||
                       (values[lid + step] == values[lid] && ids[lid + step] < ids[lid]))) {
      values[lid] = values[lid + step];
      ids[lid] = ids[lid + step];
    }
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  return ids[0];
}

// Penalties of a row's entries in their order; a work-item has the tokens of one remainder.
void penalise(__global float* x, int n, const __global float* p, const __global int* entry,
              long entry_row, const __global float* bias, int begin, int end, FAULT) {
  for (int e = begin; e < end; ++e) {
    const __global int* of = entry + e * entry_row;
    if (of[0] < 0 || of[0] >= n) {
      FAULT_SET(SAMPLE_ENTRY, e, of[0], n);
      continue;
    }
    if (of[0] % GROUP != (int)get_local_id(0)) continue;
    float l = x[of[0]];
    if (of[1] > 0 || of[2] > 0) l = l > 0.0f ? l / p[PARAM_REPETITION] : l * p[PARAM_REPETITION];
    if (of[2] > 0) {
      l -= p[PARAM_PRESENCE];
      l -= p[PARAM_FREQUENCY] * (float)of[2];
    }
    x[of[0]] = number_of(l + bias[e]);
  }
}

__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void sample(
    MATRIX(const float, logits), MATRIX(const float, params), MATRIX(const uint, seed),
    VECTOR(const int, position), MATRIX(const int, entry_start), MATRIX(const int, entry),
    int entries, VECTOR(const float, entry_bias), MATRIX(const uint, mask), int has_mask,
    VECTOR(int, token), VECTOR(float, logprob), MATRIX(int, top_token), MATRIX(float, top_logprob),
    int top, int n, MATRIX(float, work), FAULT) {
  __local float room[GROUP];
  __local Place places[GROUP];
  __local real values[GROUP];
  __local int histogram[256], equal[GROUP], found[2];
  if (FAULTED) n = top = 0;
  const int lid = get_local_id(0), r = get_group_id(1);
  const __global float* raw = logits + logits_at + r * logits_row;
  const __global float* p = params + params_at + r * params_row;
  const __global int* range = entry_start + entry_start_at + r * entry_start_row;
  __global float* x = work + work_at + r * work_row;
  const bool sound = range[0] >= 0 && range[1] <= entries && n > 0;
  if (!sound) FAULT_SET(SAMPLE_ENTRY_START, r, range[0], entries);
  const float temperature = p[PARAM_TEMPERATURE], top_k = p[PARAM_TOP_K];
  const bool greedy = temperature <= 0.0f || top_k == 1.0f;
  for (int i = lid; i < n; i += GROUP) x[i] = number_of(raw[i]);
  penalise(x, n, p, entry + entry_at, entry_row, entry_bias + entry_bias_at, range[0],
           sound ? range[1] : range[0], FAULT_ARGUMENTS);
  for (int i = lid; i < n; i += GROUP) {
    if (has_mask && (mask[mask_at + r * mask_row + i / 32] >> (i % 32) & 1u) == 0) x[i] = -INFINITY;
    if (!greedy) x[i] = number_of(x[i] / temperature);
  }
  barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
  const Place none = {0u, INT_MAX};
  const Place first = next_place(x, n, none, true, places);
  // What is not asked goes over 0 logits: barriers stand in no branch.
  const float highest = n > 0 ? x[first.id] : -INFINITY;
  const int drawn = greedy || highest == -INFINITY ? 0 : n;
  const bool cuts = drawn > 0 && top_k > 0.0f && top_k < (float)n;
  const Place kth = kth_place(x, cuts ? n : 0, cuts ? max(1, (int)top_k) : 1, histogram, equal, found);
  Place last = cuts ? kth : none;
  const bool sums = drawn > 0 && p[PARAM_TOP_P] < 1.0f;
  const Place mass =
      mass_place(x, sums ? n : 0, highest, p[PARAM_TOP_P], last, room, equal, found);
  if (sums) last = mass;
  const int noisy = with_noise(x, drawn, highest, p[PARAM_MIN_P], first, last,
                               (uint2)(seed[seed_at + r * seed_row], seed[seed_at + r * seed_row + 1]),
                               position[position_at + r], values, equal);
  const int chosen = drawn > 0 ? noisy : first.id;
  Place place = next_place(raw, n, none, true, places);
  const float largest = n > 0 ? number_of(raw[place.id]) : 0.0f;
  float total = 0.0f;
  for (int i = lid; i < n; i += GROUP)
    if (number_of(raw[i]) > -INFINITY) total += exp(raw[i] - largest);
  const float rest = log(group_sum(total, room));
  for (int i = 0; i < top; ++i) {
    if (i > 0) place = next_place(raw, n, place, false, places);
    const float v = number_of(raw[place.id]);
    if (lid != 0) continue;
    top_token[top_token_at + r * top_token_row + i] = place.id;
    top_logprob[top_logprob_at + r * top_logprob_row + i] =
        v == -INFINITY ? -INFINITY : v - largest - rest;
  }
  if (lid != 0 || n == 0) return;
  const float v = number_of(raw[chosen]);
  token[token_at + r] = chosen;
  logprob[logprob_at + r] = v == -INFINITY ? -INFINITY : v - largest - rest;
}
