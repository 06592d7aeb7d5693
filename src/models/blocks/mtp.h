// Multi-token prediction (DeepSeek-V3, §2.2; V3.2 alike): a layer that predicts the token after the
// next one, of the main model's state at a position and the token behind it.
//
//   x_i = W_eh [norm(Embed(t_{i+1})); norm(h_i)],   z_i = norm(Layer(x_i)),   logits = Head(z_i)
//
// h_i is the state behind the main model's last norm; embedding and head are the main model's. A
// further token is drafted from z_i and the token just drafted. The layer between is the family's.
#pragma once

#include <string>

#include "models/blocks/ends.h"

namespace hadal {

struct MtpWeights {
  Weight* enorm = nullptr;    // [hidden]
  Weight* hnorm = nullptr;    // [hidden]
  Weight* eh_proj = nullptr;  // [hidden, 2 hidden], the embedding's half first
  Weight* norm = nullptr;     // [hidden], of shared_head
};

/// `prefix` ends in a dot: "model.layers.61.".
MtpWeights bind_mtp(WeightBinder& binder, const std::string& prefix, int64_t hidden);

/// Of the main pass: its states for the draft.   x [T, hidden]
void mtp_hand_over(Ops& ops, const ModelSpec& spec, const EndWeights& ends, Tensor x);

/// x = W_eh [norm(Embed(t)); norm(h)].   x [T, hidden]
void mtp_begin(Ops& ops, const ModelSpec& spec, const EndWeights& ends, const MtpWeights& w,
               Tensor x);

/// Logits and tokens of the wanted rows; their z stays for rows behind them.   x [T, hidden]
void mtp_end(Ops& ops, const ModelSpec& spec, const EndWeights& ends, const MtpWeights& w,
             Tensor x);

}  // namespace hadal
