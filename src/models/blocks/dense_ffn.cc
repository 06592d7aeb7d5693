#include "models/blocks/dense_ffn.h"

namespace hadal {

FfnWeights bind_ffn(WeightBinder& binder, const std::string& p, int64_t hidden, int64_t width,
                    const FfnNames& names, bool bias) {
  const Share own = binder.width(p + names.down_proj + ".weight", width);
  FfnWeights w;
  w.gate_proj = binder.matrix(p + names.gate_proj + ".weight", own, hidden);
  w.up_proj = binder.matrix(p + names.up_proj + ".weight", own, hidden);
  w.down_proj = binder.matrix(p + names.down_proj + ".weight", hidden, own);
  if (bias) {
    w.gate_bias = binder.vector(p + names.gate_proj + ".bias", own);
    w.up_bias = binder.vector(p + names.up_proj + ".bias", own);
    w.down_bias = binder.summand(p + names.down_proj + ".bias", hidden);
  }
  return w;
}

void dense_ffn(Ops& ops, const FfnWeights& w, Tensor h, Tensor out, std::optional<Tensor> add) {
  ops.sum_of_ranks(out, add, [&](Tensor to, std::optional<Tensor> own_add) {
    ffn_part(ops, w, h, to, own_add);
  });
}

void ffn_part(Ops& ops, const FfnWeights& w, Tensor h, Tensor out, std::optional<Tensor> add,
              double clamp) {
  Scratch scratch(ops);
  const auto dim = static_cast<hadal_dim>(h.row_dim);
  Tensor g = scratch.rows(dim, w.gate_proj->tensor.extents[0]);
  if (w.gate_bias) {
    Tensor u = scratch.like(g);
    ops.matmul(h, *w.gate_proj, g, optional(w.gate_bias));
    ops.matmul(h, *w.up_proj, u, optional(w.up_bias));
    ops.swiglu(g, u, g, clamp);
  } else {
    ops.gated_matmul(h, *w.gate_proj, *w.up_proj, g, clamp);
  }
  ops.matmul(g, *w.down_proj, out, optional(w.down_bias), add);
}

}  // namespace hadal
