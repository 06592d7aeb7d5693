// The gated feed-forward network: y = W_down (silu(W_gate x) ⊙ W_up x).
#pragma once

#include <string>

#include "ops/ops.h"
#include "weights/binder.h"

namespace hadal {

/// `width`: this rank's part of it.
struct FfnWeights {
  Weight* gate_proj = nullptr;                                            // [width, hidden]
  Weight* up_proj = nullptr;                                              // [width, hidden]
  Weight* down_proj = nullptr;                                            // [hidden, width]
  Weight *gate_bias = nullptr, *up_bias = nullptr, *down_bias = nullptr;  // or nullptr
};

/// What the tensors are called behind the prefix.
struct FfnNames {
  std::string gate_proj = "gate_proj", up_proj = "up_proj", down_proj = "down_proj";
};

/// `prefix` ends in a dot: "model.layers.0.mlp.".
FfnWeights bind_ffn(WeightBinder& binder, const std::string& prefix, int64_t hidden, int64_t width,
                    const FfnNames& names = {}, bool bias = false);

/// out = FFN(h) (+ add), summed over the ranks.   h and out [T, hidden]; add: none, or out
void dense_ffn(Ops& ops, const FfnWeights& w, Tensor h, Tensor out, std::optional<Tensor> add = {});

/// out = this rank's part of FFN(h) (+ add).   clamp of the gated product, 0: none
void ffn_part(Ops& ops, const FfnWeights& w, Tensor h, Tensor out, std::optional<Tensor> add = {},
              double clamp = 0);

}  // namespace hadal
