// Rows as they are: embed, gather_rows, kv_write, copy_blocks, convert.
#include <algorithm>
#include <cstring>

#include "ops/numbers.h"
#include "ops/operators.h"
#include "runtime/operator.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

void embed(const Call& call) {
  const View token = call.view(HADAL_EMBED_TOKEN), out = call.view(HADAL_EMBED_OUT);
  const Weight& table = call.weight(HADAL_EMBED_TABLE);
  call.share_rows(out.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t)
      table.decode(*token.row<int32_t>(t), 0, table.desc.cols, out.row<float>(t));
  });
}

std::string embed_indices(const Indices& at) {
  return at.in_range(HADAL_EMBED_TOKEN, 0, at.view(HADAL_EMBED_TABLE).extents[0]);
}

void gather_rows(const Call& call) {
  const View x = call.view(HADAL_GATHER_ROWS_X), rows = call.view(HADAL_GATHER_ROWS_INDEX),
             out = call.view(HADAL_GATHER_ROWS_OUT);
  call.share_rows(out.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; ++r)
      std::memcpy(out.row<float>(r), x.row<float>(*rows.row<int32_t>(r)),
                  static_cast<size_t>(out.extents[1]) * sizeof(float));
  });
}

std::string gather_indices(const Indices& at) {
  return at.in_range(HADAL_GATHER_ROWS_INDEX, 0, at.view(HADAL_GATHER_ROWS_X).extents[0]);
}

void kv_write(const Call& call) {
  const View x = call.view(HADAL_KV_WRITE_X), plane = call.view(HADAL_KV_WRITE_PLANE);
  const View position = call.view(HADAL_KV_WRITE_POSITION),
             row_seq = call.view(HADAL_KV_WRITE_ROW_SEQ);
  const View table = call.view(HADAL_KV_WRITE_BLOCK_TABLE),
             write_from = call.view(HADAL_KV_WRITE_WRITE_FROM);
  const int64_t slots = plane.extents[1], width = plane.extents[2];
  const int64_t ratio = std::max<int64_t>(1, call.op.attr.kv_write.ratio);
  call.share_rows(x.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) {
      const int64_t p = *position.row<int32_t>(t), s = *row_seq.row<int32_t>(t);
      if (p < 0 || p < *write_from.row<int32_t>(s) || (p + 1) % ratio != 0) continue;
      const int64_t slot = p / ratio;
      const int32_t block = table.row<int32_t>(s)[slot / slots];
      if (block < 0) continue;
      std::byte* target = plane.data + block * plane.strides[0] + slot % slots * plane.strides[1];
      store_numbers(call.kernels(), plane.dtype, x.row<float>(t), width, target);
    }
  });
}

std::string kv_write_indices(const Indices& at) {
  const View position = at.view(HADAL_KV_WRITE_POSITION), row_seq = at.view(HADAL_KV_WRITE_ROW_SEQ),
             table = at.view(HADAL_KV_WRITE_BLOCK_TABLE);
  const View plane = at.view(HADAL_KV_WRITE_PLANE), write_from = at.view(HADAL_KV_WRITE_WRITE_FROM);
  const int64_t ratio = at.op.attr.kv_write.ratio, slots = plane.extents[1];
  HADAL_RETURN_IF_TEXT(at.in_range(HADAL_KV_WRITE_ROW_SEQ, 0, table.extents[0]));
  HADAL_RETURN_IF_TEXT(at.in_range(HADAL_KV_WRITE_POSITION, 0, table.extents[1] * slots * ratio));
  for (int64_t t = 0; t < position.extents[0]; ++t) {
    const int64_t p = *position.row<int32_t>(t), s = *row_seq.row<int32_t>(t);
    if (p < *write_from.row<int32_t>(s) || (p + 1) % ratio != 0) continue;
    const int64_t i = p / ratio / slots;
    HADAL_RETURN_IF_TEXT(
        at.outside(HADAL_KV_WRITE_BLOCK_TABLE, i, table.row<int32_t>(s)[i], -1, plane.extents[0]));
  }
  return {};
}

void copy_blocks(const Call& call) {
  const View plane = call.view(HADAL_COPY_BLOCKS_PLANE), source = call.view(HADAL_COPY_BLOCKS_FROM),
             target = call.view(HADAL_COPY_BLOCKS_TO);
  const size_t bytes = static_cast<size_t>(plane.extents[2] * plane.strides[2]);
  call.share_rows(source.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int32_t a = *source.row<int32_t>(i), b = *target.row<int32_t>(i);
      if (a < 0 || b < 0) continue;
      for (int64_t slot = 0; slot < plane.extents[1]; ++slot)
        std::memcpy(plane.row<std::byte>(b, slot), plane.row<std::byte>(a, slot), bytes);
    }
  });
}

std::string copy_indices(const Indices& at) {
  const int64_t blocks = at.view(HADAL_COPY_BLOCKS_PLANE).extents[0];
  HADAL_RETURN_IF_TEXT(at.in_range(HADAL_COPY_BLOCKS_FROM, -1, blocks));
  return at.in_range(HADAL_COPY_BLOCKS_TO, -1, blocks);
}

void convert(const Call& call) {
  const View x = call.view(HADAL_CONVERT_X), out = call.view(HADAL_CONVERT_OUT);
  const int64_t element_in = x.strides[1], element_out = out.strides[1];
  call.share_pieces(out.extents[0], out.extents[1], [&](int64_t m, int64_t from, int64_t to) {
    const std::byte* source = x.row<std::byte>(m) + from * element_in;
    std::byte* target = out.row<std::byte>(m) + from * element_out;
    const int64_t n = to - from;
    if (x.dtype == out.dtype) {
      std::memcpy(target, source, static_cast<size_t>(n * element_out));
      return;
    }
    const float* values = reinterpret_cast<const float*>(source);
    if (x.dtype != HADAL_F32) {
      float* wide = reinterpret_cast<float*>(call.worker.temp);
      load_numbers(call.kernels(), x.dtype, source, n, wide);
      values = wide;
    }
    store_numbers(call.kernels(), out.dtype, values, n, target);
  });
}

Needs convert_needs(const Query&) { return {.temp = Call::kPiece * sizeof(float)}; }

}  // namespace

const Operator kEmbed = {.id = HADAL_OP_EMBED, .run = embed, .indices = embed_indices};
const Operator kGatherRows = {
    .id = HADAL_OP_GATHER_ROWS, .run = gather_rows, .indices = gather_indices};
const Operator kKvWrite = {.id = HADAL_OP_KV_WRITE, .run = kv_write, .indices = kv_write_indices};
const Operator kCopyBlocks = {
    .id = HADAL_OP_COPY_BLOCKS, .run = copy_blocks, .indices = copy_indices};
const Operator kConvert = {.id = HADAL_OP_CONVERT, .run = convert, .query = convert_needs};

}  // namespace hadal::cpu
