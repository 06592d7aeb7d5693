// Where a decoder begins and ends: the embedding, the last norm, the head.
#pragma once

#include "models/spec.h"
#include "models/weights.h"
#include "ops/ops.h"

namespace hadal {

struct EndWeights {
  Weight* embed_tokens = nullptr;  // [vocab, hidden]
  Weight* norm = nullptr;          // [hidden]
  Weight* lm_head = nullptr;       // [vocab, hidden]; embed_tokens when tied
};

EndWeights bind_ends(WeightBinder& binder, const ModelSpec& spec);

/// logits = W_head norm(x) for the rows whose logits are wanted, and the sampled tokens.   x [T,
/// hidden]
void end_of_model(Ops& ops, const ModelSpec& spec, const EndWeights& w, Tensor x);

}  // namespace hadal
