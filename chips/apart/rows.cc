// What writes planes, and the readers of chips/ref over rows that are unpacked for them.
#include <cstring>

#include "operators.h"
#include "planes.h"

namespace hadal::apart {

// plane[block_table[s][p div slots]][p mod slots] <- x[t], s = row_seq[t], p = position[t] div
// ratio
hadal_status kv_write(const ref::Call& call) {
  const auto& x = call[HADAL_KV_WRITE_X];
  const auto& plane = call[HADAL_KV_WRITE_PLANE];
  const auto& table = call[HADAL_KV_WRITE_BLOCK_TABLE];
  const int64_t ratio = call.op->attr.kv_write.ratio, slots = plane.extents[1];
  for (int64_t t = 0; t < x.extents[0]; ++t) {
    const int32_t at = *call[HADAL_KV_WRITE_POSITION].row<int32_t>(t);
    const int32_t s = *call[HADAL_KV_WRITE_ROW_SEQ].row<int32_t>(t);
    if (s < 0 || s >= table.extents[0])
      return call.outside(HADAL_KV_WRITE_ROW_SEQ, t, s, table.extents[0]);
    const int64_t end = table.extents[1] * slots * ratio;
    if (at < 0 || at >= end) return call.outside(HADAL_KV_WRITE_POSITION, t, at, end);
    if (at < *call[HADAL_KV_WRITE_WRITE_FROM].row<int32_t>(s) || (at + 1) % ratio != 0) continue;
    const int64_t p = at / ratio;
    const int32_t block = table.row<int32_t>(s)[p / slots];
    if (block == -1) continue;
    if (block < 0 || block >= plane.extents[0])
      return call.outside(HADAL_KV_WRITE_BLOCK_TABLE, p / slots, block, plane.extents[0]);
    write_numbers(plane, {block, p % slots}, x.row<float>(t));
  }
  return HADAL_OK;
}

// plane[to[i]] <- plane[from[i]]
hadal_status copy_blocks(const ref::Call& call) {
  const auto& plane = call[HADAL_COPY_BLOCKS_PLANE];
  const int64_t blocks = plane.extents[0];
  for (int64_t i = 0; i < call[HADAL_COPY_BLOCKS_FROM].extents[0]; ++i) {
    const int32_t source = *call[HADAL_COPY_BLOCKS_FROM].row<int32_t>(i);
    const int32_t target = *call[HADAL_COPY_BLOCKS_TO].row<int32_t>(i);
    if (source == -1 || target == -1) continue;
    if (source < 0 || source >= blocks)
      return call.outside(HADAL_COPY_BLOCKS_FROM, i, source, blocks);
    if (target < 0 || target >= blocks)
      return call.outside(HADAL_COPY_BLOCKS_TO, i, target, blocks);
    std::memmove(plane.row<std::byte>(target), plane.row<std::byte>(source),
                 static_cast<size_t>(plane.strides[0]));
  }
  return HADAL_OK;
}

hadal_status index_topk(const ref::Call& call) {
  ref::Call rows = call;
  const RowMajor unpacked(rows, HADAL_INDEX_TOPK_PLANE, HADAL_INDEX_TOPK_BLOCK_TABLE);
  return ref::index_topk(rows);
}

hadal_status index_blocks(const ref::Call& call) {
  ref::Call rows = call;
  const RowMajor unpacked(rows, HADAL_INDEX_BLOCKS_PLANE, HADAL_INDEX_BLOCKS_BLOCK_TABLE);
  return ref::index_blocks(rows);
}

hadal_status compress(const ref::Call& call) {
  ref::Call rows = call;
  const RowMajor unpacked(rows, HADAL_COMPRESS_PLANE, HADAL_COMPRESS_BLOCK_TABLE);
  return ref::compress(rows);
}

}  // namespace hadal::apart
