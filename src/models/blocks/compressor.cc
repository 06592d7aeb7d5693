#include "models/blocks/compressor.h"

namespace hadal {

CompressorWeights bind_compressor(WeightBinder& b, const std::string& p, const CompressorSpec& s,
                                  int64_t hidden) {
  CompressorWeights w;
  w.wkv = b.matrix(p + "wkv.weight", s.row_width(), hidden);
  w.wgate = b.matrix(p + "wgate.weight", s.row_width(), hidden);
  w.ape = b.vector(p + "ape", {s.ratio, s.row_width()});
  w.norm = b.vector(p + "norm.weight", s.width);
  return w;
}

Rope rope_of_tail(const RopeSpec& rope, Tensor inv_freq, int64_t width) {
  Rope out = rope.op(inv_freq);
  out.first = width - rope.dims;
  return out;
}

void compress(Ops& ops, const CompressorSpec& s, const CompressorWeights& w, double eps,
              Tensor inv_freq, const CompressorPlanes& planes, Tensor h) {
  Scratch scratch(ops);
  const int64_t width = s.row_width();
  const Tensor rows = scratch.rows(HADAL_DIM_T, 2 * width);
  ops.matmul(h, *w.wkv, columns(rows, 0, width));
  ops.matmul(h, *w.wgate, columns(rows, width, width));
  ops.kv_write(rows, planes.rows, planes.rows_group);

  const Tensor entry = scratch.rows(HADAL_DIM_T, s.width);
  ops.compress(planes.rows, planes.rows_group, *w.ape, s.ratio, s.overlap, entry);
  ops.rms_norm(entry, *w.norm, eps, entry);
  Rope rope = rope_of_tail(s.rope, inv_freq, s.width);
  rope.ratio = s.ratio;
  ops.rope(heads_view(entry, 1), rope);
  ops.kv_write(entry, planes.entries, planes.entries_group, s.ratio);
}

}  // namespace hadal
