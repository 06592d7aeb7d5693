#include "models/blocks/hyper_connection.h"

namespace hadal {

Result<HyperSpec> HyperSpec::from_config(const Config& config, ModelSpec& model) {
  HyperSpec s;
  HADAL_TRY(s.streams, config.integer("hc_mult", 1, 16, 4));
  HADAL_TRY(s.constants.iterations, config.integer("hc_sinkhorn_iters", 1, 1000, 20));
  HADAL_TRY(s.constants.eps, config.real("hc_eps", 1e-6));
  if (!(s.constants.eps >= 0 && s.constants.eps <= 1))
    return failed(config.origin() + ": hc_eps must be from 0 to 1");
  s.constants.norm_eps = model.rms_norm_eps;
  model.field("hc_mult", s.streams);
  model.field("hc_sinkhorn_iters", s.constants.iterations);
  return s;
}

HyperWeights bind_hyper(WeightBinder& b, const std::string& p, const HyperSpec& s, int64_t hidden,
                        bool collapse_only) {
  const int64_t n = s.streams, mixed = collapse_only ? n : n * (n + 2);
  HyperWeights w;
  w.fn = b.matrix(p + "fn", mixed, n * hidden);
  w.base = b.vector(p + "base", mixed);
  w.scale = b.vector(p + "scale", collapse_only ? 1 : 3);
  return w;
}

namespace {

Tensor mix_of(Ops& ops, Scratch& scratch, const HyperWeights& w, Tensor x) {
  const Tensor mix = scratch.rows(static_cast<hadal_dim>(x.row_dim), w.base->tensor.extents[0]);
  ops.matmul(x, *w.fn, mix);
  return mix;
}

}  // namespace

void hyper_collapse(Ops& ops, const HyperSpec& s, const HyperWeights& w, Tensor x, Tensor out,
                    std::optional<Tensor> post, std::optional<Tensor> comb) {
  Scratch scratch(ops);
  const Tensor mix = mix_of(ops, scratch, w, x);
  std::optional<Tensor> square;
  if (comb) square = heads_view(*comb, s.streams);
  ops.hc_pre(streams_view(x, s), mix, *w.base, *w.scale, s.constants, out, post, square);
}

void hyper_collapse_delayed(Ops& ops, const HyperSpec& s, const HyperWeights& w, Tensor x,
                            Tensor pre, std::optional<Tensor> out, Tensor post, Tensor comb) {
  Scratch scratch(ops);
  ops.hc_pre_delayed(streams_view(x, s), mix_of(ops, scratch, w, x), *w.base, *w.scale, s.constants,
                     pre, out, post, heads_view(comb, s.streams));
}

void hyper_merge(Ops& ops, const HyperSpec& s, Tensor x, Tensor f, Tensor post, Tensor comb) {
  ops.hc_post(streams_view(x, s), f, post, heads_view(comb, s.streams));
}

}  // namespace hadal
