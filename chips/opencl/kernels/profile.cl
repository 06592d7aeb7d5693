// What runtime/profile.cc measures: how fast memory is read, and how fast fp32 is multiplied.

// A work-group reads a block of so many times eight numbers, its work-items side by side.
__kernel void read_peak(const __global float* from, int eights, __global float* out) {
  float8 sum = (float8)(0.0f);
  const long block = (long)get_group_id(0) * eights;
  for (int i = get_local_id(0); i < eights; i += GROUP) sum += vload8(block + i, from);
  out[get_global_id(0)] = sum_of_8(sum);
}

// 8 x 8 x 2 operations a round, on sums that do not wait for each other.
__kernel void fp32_peak(int rounds, float factor, __global float* out) {
  const float8 f = (float8)(factor), one = (float8)(1.0f);
  float8 a = (float8)((float)get_global_id(0)), b = a + 1.0f, c = a + 2.0f, d = a + 3.0f;
  float8 e = a + 4.0f, g = a + 5.0f, h = a + 6.0f, i = a + 7.0f;
  for (int r = 0; r < rounds; ++r) {
    a = fma(a, f, one), b = fma(b, f, one), c = fma(c, f, one), d = fma(d, f, one);
    e = fma(e, f, one), g = fma(g, f, one), h = fma(h, f, one), i = fma(i, f, one);
  }
  out[get_global_id(0)] = sum_of_8(a + b + c + d + e + g + h + i);
}
