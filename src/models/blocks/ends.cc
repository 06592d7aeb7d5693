#include "models/blocks/ends.h"

namespace hadal {

EndWeights bind_ends(WeightBinder& binder, const ModelSpec& spec, const EndNames& names) {
  EndWeights w;
  const uint32_t uses =
      spec.tie_word_embeddings ? HADAL_USE_GATHER | HADAL_USE_MATMUL : HADAL_USE_GATHER;
  w.embed_tokens = binder.matrix(names.embed_tokens, spec.vocab_size, spec.hidden_size, uses);
  w.norm = binder.vector(names.norm, spec.hidden_size);
  if (spec.tie_word_embeddings) {
    w.lm_head = w.embed_tokens;
    binder.known_unused(names.lm_head);
  } else {
    w.lm_head = binder.matrix(names.lm_head, spec.vocab_size, spec.hidden_size);
  }
  return w;
}

void logits_of(Ops& ops, const ModelSpec& spec, const EndWeights& w, Tensor last) {
  HADAL_CHECK(ops.ranks() == spec.shard.ranks);  // else parts would be taken for sums
  ops.rms_norm(last, *w.norm, spec.rms_norm_eps, last);
  ops.matmul(last, *w.lm_head, ops.inputs().logits);
  ops.sample();
}

void end_of_model(Ops& ops, const ModelSpec& spec, const EndWeights& w, Tensor x) {
  ops.begin_head();
  Scratch scratch(ops);
  Tensor last = scratch.rows(HADAL_DIM_R, spec.hidden_size);
  ops.gather_logit_rows(x, last);
  logits_of(ops, spec, w, last);
}

}  // namespace hadal
