// Operators that move rows: embed, gather_rows, kv_write, copy_blocks, convert.
#include <cstring>

#include "base/dtype.h"
#include "base/floats.h"
#include "ref.h"

namespace hadal::ref {

float load(const std::byte* data, hadal_dtype dtype, int64_t index) {
  if (dtype == HADAL_F32) {
    float value = 0;
    std::memcpy(&value, data + index * 4, 4);
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, data + index * 2, 2);
  return dtype == HADAL_F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

void store(std::byte* data, hadal_dtype dtype, int64_t index, float value) {
  if (dtype == HADAL_F32) {
    std::memcpy(data + index * 4, &value, 4);
    return;
  }
  const uint16_t bits = dtype == HADAL_F16 ? f32_to_f16(value) : f32_to_bf16(value);
  std::memcpy(data + index * 2, &bits, 2);
}

// out[t] = table[token[t]]
hadal_status embed(const Call& call) {
  const auto& token = call[HADAL_EMBED_TOKEN];
  const auto& table = call[HADAL_EMBED_TABLE];
  const auto& out = call[HADAL_EMBED_OUT];
  const int64_t vocabulary = table.extents[0];
  for (int64_t t = 0; t < token.extents[0]; ++t) {
    const int32_t id = *token.row<int32_t>(t);
    if (id < 0 || id >= vocabulary) return call.outside(HADAL_EMBED_TOKEN, t, id, vocabulary);
    weight(table.weight).decode_row(id, out.row<float>(t));
  }
  return HADAL_OK;
}

// out[r] = x[index[r]]
hadal_status gather_rows(const Call& call) {
  const auto& x = call[HADAL_GATHER_ROWS_X];
  const auto& index = call[HADAL_GATHER_ROWS_INDEX];
  const auto& out = call[HADAL_GATHER_ROWS_OUT];
  for (int64_t r = 0; r < index.extents[0]; ++r) {
    const int32_t i = *index.row<int32_t>(r);
    if (i < 0 || i >= x.extents[0])
      return call.outside(HADAL_GATHER_ROWS_INDEX, r, i, x.extents[0]);
    std::memcpy(out.row<std::byte>(r), x.row<std::byte>(i),
                static_cast<size_t>(x.extents[1] * dtype_info(x.dtype)->block_bytes));
  }
  return HADAL_OK;
}

// plane[block_table[s][p div slots]][p mod slots] <- x[t], s = row_seq[t], p = position[t] div
// ratio
hadal_status kv_write(const Call& call) {
  const auto& x = call[HADAL_KV_WRITE_X];
  const auto& plane = call[HADAL_KV_WRITE_PLANE];
  const auto& position = call[HADAL_KV_WRITE_POSITION];
  const auto& row_seq = call[HADAL_KV_WRITE_ROW_SEQ];
  const auto& block_table = call[HADAL_KV_WRITE_BLOCK_TABLE];
  const auto& write_from = call[HADAL_KV_WRITE_WRITE_FROM];
  const auto ratio = static_cast<int64_t>(call.op->attr.kv_write.ratio);
  const int64_t slots = plane.extents[1];
  for (int64_t t = 0; t < x.extents[0]; ++t) {
    const int32_t at = *position.row<int32_t>(t);
    const int32_t s = *row_seq.row<int32_t>(t);
    if (s < 0 || s >= block_table.extents[0])
      return call.outside(HADAL_KV_WRITE_ROW_SEQ, t, s, block_table.extents[0]);
    const int64_t end = block_table.extents[1] * slots * ratio;
    if (at < 0 || at >= end) return call.outside(HADAL_KV_WRITE_POSITION, t, at, end);
    if (at < *write_from.row<int32_t>(s) || (at + 1) % ratio != 0) continue;
    const int64_t p = at / ratio;
    const int32_t block = block_table.row<int32_t>(s)[p / slots];
    if (block == -1) continue;
    if (block < 0 || block >= plane.extents[0])
      return call.outside(HADAL_KV_WRITE_BLOCK_TABLE, p / slots, block, plane.extents[0]);
    for (int64_t i = 0; i < plane.extents[2]; ++i)
      store(plane.row<std::byte>(block, p % slots), plane.dtype, i, x.row<float>(t)[i]);
  }
  return HADAL_OK;
}

// plane[to[i]] <- plane[from[i]]
hadal_status copy_blocks(const Call& call) {
  const auto& plane = call[HADAL_COPY_BLOCKS_PLANE];
  const auto& from = call[HADAL_COPY_BLOCKS_FROM];
  const auto& to = call[HADAL_COPY_BLOCKS_TO];
  const int64_t blocks = plane.extents[0];
  const auto bytes = static_cast<size_t>(plane.extents[2] * dtype_info(plane.dtype)->block_bytes);
  for (int64_t i = 0; i < from.extents[0]; ++i) {
    const int32_t source = *from.row<int32_t>(i);
    const int32_t target = *to.row<int32_t>(i);
    if (source == -1 || target == -1) continue;
    if (source < 0 || source >= blocks)
      return call.outside(HADAL_COPY_BLOCKS_FROM, i, source, blocks);
    if (target < 0 || target >= blocks)
      return call.outside(HADAL_COPY_BLOCKS_TO, i, target, blocks);
    for (int64_t slot = 0; slot < plane.extents[1]; ++slot)
      std::memmove(plane.row<std::byte>(target, slot), plane.row<std::byte>(source, slot), bytes);
  }
  return HADAL_OK;
}

// out = x in another dtype
hadal_status convert(const Call& call) {
  const auto& x = call[HADAL_CONVERT_X];
  const auto& out = call[HADAL_CONVERT_OUT];
  for (int64_t m = 0; m < x.extents[0]; ++m)
    for (int64_t i = 0; i < x.extents[1]; ++i)
      store(out.row<std::byte>(m), out.dtype, i, load(x.row<std::byte>(m), x.dtype, i));
  return HADAL_OK;
}

}  // namespace hadal::ref
