// Where a decoder begins and ends: the embedding, the last norm, the head.
#pragma once

#include <string>

#include "models/spec.h"
#include "ops/ops.h"
#include "weights/binder.h"

namespace hadal {

struct EndWeights {
  Weight* embed_tokens = nullptr;  // [vocab, hidden]
  Weight* norm = nullptr;          // [hidden]
  Weight* lm_head = nullptr;       // [vocab, hidden]; embed_tokens when tied
};

/// Names of the three tensors.
struct EndNames {
  const char *embed_tokens = "model.embed_tokens.weight", *norm = "model.norm.weight",
             *lm_head = "lm_head.weight";
};
/// As V4's files call them.
constexpr EndNames kShortEndNames{
    .embed_tokens = "embed.weight", .norm = "norm.weight", .lm_head = "head.weight"};

EndWeights bind_ends(WeightBinder& binder, const ModelSpec& spec, const EndNames& names = {});

/// logits = W_head norm(last), and the sampled tokens.   last [R, hidden], changed
void logits_of(Ops& ops, const ModelSpec& spec, const EndWeights& w, Tensor last);

/// The same for those rows of x whose logits are wanted.   x [T, hidden]
void end_of_model(Ops& ops, const ModelSpec& spec, const EndWeights& w, Tensor x);

}  // namespace hadal
