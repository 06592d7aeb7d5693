// compress: rows of a plane become one entry; a channel is a work-item.

// out[t] = sum_j softmax_j(z[j] + ape[j]) kv[j]. Sums run over 16 rows, and then over these.
__kernel void compress(PLANE(plane), VECTOR(const float, ape), int has_ape,
                       VECTOR(const int, position), VECTOR(const int, row_seq),
                       MATRIX(const int, table), int sequences, int most, MATRIX(float, out), int d,
                       int ratio, int overlap, FAULT) {
  if (FAULTED) return;
  const int c = get_global_id(0), t = get_global_id(1);
  if (c >= d) return;
  compress_number(plane, plane_type, plane_blocks, plane_slots, plane_at, plane_row, ape + ape_at,
                  has_ape, position[position_at + t], row_seq[row_seq_at + t], table + table_at,
                  table_row, sequences, most, out + out_at + t * out_row + c, d, ratio, overlap, t,
                  c, FAULT_ARGUMENTS);
}
