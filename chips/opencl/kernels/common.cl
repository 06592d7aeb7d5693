// What all kernels share. Before it the host puts the numbers of operands (ROUTER_TOKEN, …), of
// sampling parameters, and GROUP, the size of every work-group.
//
// A sum is made of eight lanes, each of every eighth product in ascending order, and a fixed tree:
// its bits depend on its length alone. No two work-items write one number, no order of theirs shows.
//
// A kernel with barriers neither returns early nor has one in a branch (PoCL 3.1 miscompiles both):
// what is not to be done has no rows or columns.

#pragma OPENCL FP_CONTRACT OFF

// An operand: its memory, its first element, and elements from row to row and from head to head.
#define VECTOR(T, x) __global T *x, long x##_at
#define MATRIX(T, x) __global T *x, long x##_at, long x##_row
#define CUBE(T, x) __global T *x, long x##_at, long x##_row, long x##_head
// A weight: the rows [first, …) of all its matrices, counted through, that lie in one buffer, `stride`
// bytes from row to row. Where they take several buffers, a kernel is launched for each: it is told
// which rows are its own, and leaves the others alone.
#define WEIGHT(w) const __global uchar *w, int w##_type, int w##_first, long w##_stride
#define WEIGHT_ARGUMENTS(w) w, w##_type, w##_first, w##_stride
#define WEIGHT_ROW(w, row) (w + (long)((row) - w##_first) * w##_stride)
// `row`: elements of a block.
#define PLANE(x)                                                                   \
  const __global uchar *x, int x##_type, int x##_blocks, int x##_slots, long x##_at, \
      long x##_row

// The last arguments of a kernel: the queue's fault, and which launch this is. The first wrong index
// is kept, and what was launched behind it does nothing.
#define FAULT __global int *fault, int launch
#define FAULT_ARGUMENTS fault, launch
#define FAULTED (fault[0] != 0 && fault[0] != launch)
#define FAULT_SET(operand, index, value, end) \
  fault_set(fault, launch, operand, index, value, end)

void fault_set(FAULT, int operand, int index, int value, long end) {
  if (atomic_cmpxchg(fault, 0, launch) != 0) return;
  fault[1] = operand;
  fault[2] = index;
  fault[3] = value;
  fault[4] = (int)min(end, (long)INT_MAX);
}

// Types of numbers.
#define TYPE_F32 0
#define TYPE_F16 1
#define TYPE_BF16 2
#define TYPE_I32 3
#define TYPE_I64 4

float sum_of_8(float8 v) {
  const float4 a = v.lo + v.hi; const float2 b = a.lo + a.hi; return b.x + b.y; }
float8 load_part(const __global float* x, int n) {
  float v[8]; for (int i = 0; i < 8; ++i) v[i] = i < n ? x[i] : 0.0f; return vload8(0, v); }
float plane_load(const __global uchar* p, int type, long at) {
  return type == TYPE_F32 ? ((const __global float*)p)[at] : type == TYPE_F16 ? vload_half(at, (const __global half*)p)
       : as_float((uint)((const __global ushort*)p)[at] << 16); }
float8 plane_load8(const __global uchar* p, int type, long at) {
  if (type == TYPE_F32) return vload8(0, (const __global float*)p + at);
  if (type == TYPE_F16) return vload_half8(0, (const __global half*)p + at);
  return as_float8(convert_uint8(vload8(0, (const __global ushort*)p + at)) << 16); }
float8 plane_load_part(const __global uchar* p, int type, long at, int n) {
  float v[8]; for (int i = 0; i < 8; ++i) v[i] = i < n ? plane_load(p, type, at + i) : 0.0f; return vload8(0, v); }

// The sum, or the largest, of what the items of a work-group bring: a tree in local memory. With
// sub-groups its last steps go from item to item of each sub-group, which all make them: the same
// tree, the same bits.
#ifdef SUB_GROUPS_KHR
#pragma OPENCL EXTENSION cl_khr_subgroups : enable
#define OF_LANE(v, lane) sub_group_shuffle(v, lane)
#define LANES get_sub_group_size()
#elif defined(SUB_GROUPS_INTEL)
#pragma OPENCL EXTENSION cl_intel_subgroups : enable
#define OF_LANE(v, lane) intel_sub_group_shuffle(v, lane)
#define LANES get_sub_group_size()
#else
#define LANES 1u
#endif

#ifdef OF_LANE
#define GROUP_LANES(OP)                                                       \
  float own = room[get_sub_group_local_id()];                                 \
  for (uint step = LANES / 2; step > 0; step /= 2)                            \
    own = OP(own, OF_LANE(own, (get_sub_group_local_id() + step) % LANES));   \
  return OF_LANE(own, 0);
#else
#define GROUP_LANES(OP) return room[0];
#endif
#define GROUP_TREE(OP)                                                        \
  const int lid = get_local_id(0);                                            \
  barrier(CLK_LOCAL_MEM_FENCE);                                               \
  room[lid] = v;                                                              \
  for (uint step = GROUP / 2; step >= LANES; step /= 2) {                     \
    barrier(CLK_LOCAL_MEM_FENCE);                                             \
    if (lid < (int)step) room[lid] = OP(room[lid], room[lid + step]);         \
  }                                                                           \
  barrier(CLK_LOCAL_MEM_FENCE);                                               \
  GROUP_LANES(OP)
#ifndef SUM_OF_TWO  // but in a test
#define SUM_OF_TWO(a, b) ((a) + (b))
#endif
float group_sum(float v, __local float* room) { GROUP_TREE(SUM_OF_TWO) }
float group_max(float v, __local float* room) { GROUP_TREE(fmax) }

float square_sum(const __global float* x, int n) {
  float8 sums = (float8)(0.0f);
  int c = get_local_id(0) * 8;
  for (; c + 8 <= n; c += GROUP * 8) { const float8 v = vload8(0, x + c); sums = fma(v, v, sums); }
  if (c < n) { const float8 v = load_part(x + c, n - c); sums = fma(v, v, sums); }
  return sum_of_8(sums);
}

// silu(gate) * up after the clamp (0: none).
float gated(float g, float u, float most) {
  const float gate = most > 0.0f ? fmin(g, most) : g;
  return gate / (1.0f + exp(-gate)) * (most > 0.0f ? clamp(u, -most, most) : u);
}
