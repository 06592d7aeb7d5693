// compress: rows of a plane become one entry. Kernel: kernels/compressor.cl.
#include "ops/operators.h"

namespace hadal::opencl {
namespace {

hadal_status run(Call& call) {
  const hadal_compress_attr& a = call.op->attr.compress;
  const Operand &table = call[HADAL_COMPRESS_BLOCK_TABLE], &out = call[HADAL_COMPRESS_OUT];
  return Launch(call, "compressor", "compress")
      .plane(HADAL_COMPRESS_PLANE)
      .vector(HADAL_COMPRESS_APE)
      .given(HADAL_COMPRESS_APE)
      .vector(HADAL_COMPRESS_POSITION)
      .vector(HADAL_COMPRESS_ROW_SEQ)
      .matrix(HADAL_COMPRESS_BLOCK_TABLE)
      .number(table.extents[0])
      .number(table.extents[1] * call[HADAL_COMPRESS_PLANE].extents[1])
      .matrix(HADAL_COMPRESS_OUT)
      .number(out.extents[1])
      .number(a.ratio)
      .number(a.overlap)
      .run_items(out.extents[1], out.extents[0]);
}

}  // namespace

const Operator kCompress = {HADAL_OP_COMPRESS, nullptr, nullptr, run};

}  // namespace hadal::opencl
