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

void CompressorSpec::add_planes(ModelSpec& model, GroupHandle rows, GroupHandle entries,
                                PlaneRole role, int64_t layers) {
  row_plane = model.add_plane(rows, PlaneRole::kCompressorRow, layers, 2 * row_width());
  entry_plane = model.add_plane(entries, role, layers, width);
}

void compress(Ops& ops, const CompressorSpec& s, const CompressorWeights& w, double eps, Rope rope,
              const StepPlanes& planes, int64_t layer, Tensor h) {
  const PlaneLayer& row_plane = planes.of(s.row_plane, layer);
  Scratch scratch(ops);
  const int64_t width = s.row_width();
  const Tensor rows = scratch.rows(HADAL_DIM_T, 2 * width);
  ops.matmul(h, *w.wkv, columns(rows, 0, width));
  ops.matmul(h, *w.wgate, columns(rows, width, width));
  ops.kv_write(rows, row_plane);

  const Tensor entry = scratch.rows(HADAL_DIM_T, s.width);
  ops.compress(row_plane, *w.ape, s.ratio, s.overlap, entry);
  ops.rms_norm(entry, *w.norm, eps, entry);
  rope.ratio = s.ratio;
  ops.rope(heads_view(entry, 1), rope);
  ops.kv_write(entry, planes.of(s.entry_plane, layer));
}

}  // namespace hadal
