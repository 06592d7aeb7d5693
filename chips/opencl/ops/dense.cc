// The operators on rows: embed, norm, rope, swiglu, add, kv_write, gather_rows, copy_blocks,
// convert. Kernels: kernels/dense.cl.
#include "ops/operators.h"

namespace hadal::opencl {
namespace {

std::string refuse_embed(const hadal_op&, const hadal_tensor* t) {
  const uint32_t dtype = t[HADAL_EMBED_TABLE].dtype;
  return dtype == HADAL_I32 || dtype == HADAL_I64 ? "embeds no integers" : "";
}

hadal_status run_embed(Call& call) {
  const Operand& out = call[HADAL_EMBED_OUT];
  return for_parts(call, {HADAL_EMBED_TABLE}, [&](const Rows& rows) {
    return Launch(call, "dense", "embed")
        .vector(HADAL_EMBED_TOKEN)
        .weight(HADAL_EMBED_TABLE, rows)
        .number(call[HADAL_EMBED_TABLE].extents[0])
        .rows(rows)
        .matrix(HADAL_EMBED_OUT)
        .number(out.extents[1])
        .run_items(out.extents[1], out.extents[0]);
  });
}

hadal_status run_norm(Call& call) {
  const hadal_norm_attr& a = call.op->attr.norm;
  const Operand& x = call[HADAL_NORM_X];
  return Launch(call, "dense", "norm")
      .rows_of_heads(HADAL_NORM_X)
      .vector(HADAL_NORM_W)
      .given(HADAL_NORM_W)
      .vector(HADAL_NORM_B)
      .given(HADAL_NORM_B)
      .rows_of_heads(HADAL_NORM_RESIDUAL)
      .given(HADAL_NORM_RESIDUAL)
      .rows_of_heads(HADAL_NORM_OUT)
      .number(x.extents[x.rank - 1])
      .number(a.layer)
      .real(a.eps)
      .run_groups(x.rank == 3 ? x.extents[1] : 1, x.extents[0]);
}

hadal_status run_rope(Call& call) {
  const hadal_rope_attr& a = call.op->attr.rope;
  const Operand& x = call[HADAL_ROPE_X];
  return Launch(call, "dense", "rope")
      .cube(HADAL_ROPE_X)
      .vector(HADAL_ROPE_POSITION)
      .vector(HADAL_ROPE_INV_FREQ)
      .number(x.extents[1])
      .number(a.first)
      .number(a.dims)
      .number(a.interleaved)
      .number(a.inverse)
      .number(a.ratio)
      .real(a.amplitude)
      .run_items(x.extents[1] * (a.dims / 2), x.extents[0]);
}

hadal_status run_swiglu(Call& call) {
  const Operand& out = call[HADAL_SWIGLU_OUT];
  return Launch(call, "dense", "swiglu")
      .matrix(HADAL_SWIGLU_GATE)
      .matrix(HADAL_SWIGLU_UP)
      .vector(HADAL_SWIGLU_WEIGHT)
      .given(HADAL_SWIGLU_WEIGHT)
      .matrix(HADAL_SWIGLU_OUT)
      .number(out.extents[1])
      .real(call.op->attr.swiglu.clamp)
      .run_items(out.extents[1], out.extents[0]);
}

hadal_status run_add(Call& call) {
  const Operand& x = call[HADAL_ADD_X];
  return Launch(call, "dense", "add")
      .matrix(HADAL_ADD_X)
      .matrix(HADAL_ADD_Y)
      .number(x.extents[1])
      .run_items(x.extents[1], x.extents[0]);
}

hadal_status run_kv_write(Call& call) {
  const Operand &x = call[HADAL_KV_WRITE_X], &table = call[HADAL_KV_WRITE_BLOCK_TABLE];
  return Launch(call, "dense", "kv_write")
      .matrix(HADAL_KV_WRITE_X)
      .plane(HADAL_KV_WRITE_PLANE)
      .vector(HADAL_KV_WRITE_POSITION)
      .vector(HADAL_KV_WRITE_ROW_SEQ)
      .matrix(HADAL_KV_WRITE_BLOCK_TABLE)
      .number(table.extents[0])
      .number(table.extents[1] * call[HADAL_KV_WRITE_PLANE].extents[1])
      .vector(HADAL_KV_WRITE_WRITE_FROM)
      .number(x.extents[1])
      .number(call.op->attr.kv_write.ratio)
      .run_items(x.extents[1], x.extents[0]);
}

hadal_status run_gather_rows(Call& call) {
  const Operand& out = call[HADAL_GATHER_ROWS_OUT];
  return Launch(call, "dense", "gather_rows")
      .matrix(HADAL_GATHER_ROWS_X)
      .number(call[HADAL_GATHER_ROWS_X].extents[0])
      .vector(HADAL_GATHER_ROWS_INDEX)
      .matrix(HADAL_GATHER_ROWS_OUT)
      .number(out.extents[1])
      .run_items(out.extents[1], out.extents[0]);
}

hadal_status run_copy_blocks(Call& call) {
  const Operand& plane = call[HADAL_COPY_BLOCKS_PLANE];
  const int64_t size = plane.dtype == HADAL_F32 ? 4 : 2,
                count = plane.extents[1] * plane.extents[2];
  return Launch(call, "dense", "copy_blocks")
      .plane(HADAL_COPY_BLOCKS_PLANE)
      .number(size)
      .vector(HADAL_COPY_BLOCKS_FROM)
      .vector(HADAL_COPY_BLOCKS_TO)
      .number(count)
      .run_items(count, call[HADAL_COPY_BLOCKS_FROM].extents[0]);
}

hadal_status run_convert(Call& call) {
  const Operand& out = call[HADAL_CONVERT_OUT];
  return Launch(call, "dense", "convert")
      .typed_matrix(HADAL_CONVERT_X)
      .typed_matrix(HADAL_CONVERT_OUT)
      .number(out.extents[1])
      .run_items(out.extents[1], out.extents[0]);
}

}  // namespace

const Operator kEmbed = {HADAL_OP_EMBED, refuse_embed, nullptr, run_embed};
const Operator kNorm = {HADAL_OP_NORM, nullptr, nullptr, run_norm};
const Operator kRope = {HADAL_OP_ROPE, nullptr, nullptr, run_rope};
const Operator kSwiglu = {HADAL_OP_SWIGLU, nullptr, nullptr, run_swiglu};
const Operator kAdd = {HADAL_OP_ADD, nullptr, nullptr, run_add};
const Operator kKvWrite = {HADAL_OP_KV_WRITE, nullptr, nullptr, run_kv_write};
const Operator kGatherRows = {HADAL_OP_GATHER_ROWS, nullptr, nullptr, run_gather_rows};
const Operator kCopyBlocks = {HADAL_OP_COPY_BLOCKS, nullptr, nullptr, run_copy_blocks};
const Operator kConvert = {HADAL_OP_CONVERT, nullptr, nullptr, run_convert};

}  // namespace hadal::opencl
