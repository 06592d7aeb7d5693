#include "models/blocks/mtp.h"

namespace hadal {

MtpWeights bind_mtp(WeightBinder& b, const std::string& p, int64_t hidden) {
  MtpWeights w;
  w.enorm = b.vector(p + "enorm.weight", hidden);
  w.hnorm = b.vector(p + "hnorm.weight", hidden);
  w.eh_proj = b.matrix(p + "eh_proj.weight", hidden, 2 * hidden);
  w.norm = b.vector(p + "shared_head.norm.weight", hidden);
  return w;
}

void mtp_hand_over(Ops& ops, const ModelSpec& s, const EndWeights& ends, Tensor x) {
  ops.rms_norm(x, *ends.norm, s.rms_norm_eps, ops.inputs().hidden);
}

void mtp_begin(Ops& ops, const ModelSpec& s, const EndWeights& ends, const MtpWeights& w,
               Tensor x) {
  Scratch scratch(ops);
  const int64_t hidden = s.hidden_size;
  const Tensor both = scratch.rows(HADAL_DIM_T, 2 * hidden);
  ops.embed(*ends.embed_tokens, x);
  ops.rms_norm(x, *w.enorm, s.rms_norm_eps, columns(both, 0, hidden));
  ops.gather_hidden(x);
  ops.rms_norm(x, *w.hnorm, s.rms_norm_eps, columns(both, hidden, hidden));
  ops.matmul(both, *w.eh_proj, x);
}

void mtp_end(Ops& ops, const ModelSpec& s, const EndWeights& ends, const MtpWeights& w, Tensor x) {
  EndWeights own = ends;
  own.norm = w.norm;
  const Tensor z = ops.hidden_front();
  ops.gather_logit_rows(x, z);
  logits_of(ops, s, own, z);
}

}  // namespace hadal
