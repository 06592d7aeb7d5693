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
float group_sum(float v, __local float* room) {
  const int lid = get_local_id(0);
  barrier(CLK_LOCAL_MEM_FENCE);
  room[lid] = v;
  for (int step = GROUP / 2; step > 0; step /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid < step) room[lid] += room[lid + step];
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  return room[0];
}
float group_max(float v, __local float* room) {
  const int lid = get_local_id(0);
  barrier(CLK_LOCAL_MEM_FENCE);
  room[lid] = v;
  for (int step = GROUP / 2; step > 0; step /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid < step) room[lid] = fmax(room[lid], room[lid + step]);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  return room[0];
}
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
