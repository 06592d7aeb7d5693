// What a device with sub-groups is asked when it is opened: have they the bits of the plain tree?

__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void group_trees(
    VECTOR(const float, x), VECTOR(float, out)) {
  __local float room[GROUP];
  const float v = x[x_at + get_global_id(0)];
  const float sum = group_sum(v, room);
  const float most = group_max(v, room);
  out[out_at + 2 * get_global_id(0)] = sum;
  out[out_at + 2 * get_global_id(0) + 1] = most;
}
