// DSpark, the drafts of DeepSeek-V4-Flash-0731 and V4.1: one pass over a block of rows drafts as
// many tokens, and a chain of small steps settles them from left to right.
//
//   c_j = norm(W_main [taps of position j])          a tap: the mean of the streams at a target
//   layer each stage caches k_j = RoPE(norm(W_kv c_j)) of all positions j that the main model has
//   run rows [anchor, noise, …] at p, p + 1, …, each of which sees the window before p and all the
//   rows, run through the stages (window-only layers of the family):   h_r,   U_r = Head(norm(h_r))
//   logits_r = U_r + W_2 W_1[x_{r-1}]                x_{-1}: the anchor, the last token that is
//   known confidence_r = σ(w [h_r; W_1[x_{r-1}]])          that x_r is right if those before it are
//
// The layers themselves are the family's. What the rows of a block cache is overwritten when the
// main model has run their positions. `base` holds U, the front of `hidden` h.
#pragma once

#include <string>
#include <vector>

#include "models/blocks/ends.h"
#include "models/blocks/moe.h"

namespace hadal {

struct DsparkSpec {
  int64_t stages = 0;
  int64_t block_size = 0;
  int64_t markov_rank = 0;
  std::vector<int64_t> target_layer_ids;  ///< ascending
  MoeSpec moe;                            ///< of the stages
  PlaneHandle window_plane;               ///< a layer a stage

  [[nodiscard]] bool is_target(int64_t layer) const;
  /// The keys dspark_…; `moe`: of the main layers. Fills model.draft.
  static Result<DsparkSpec> from_config(const Config& config, const MoeSpec& moe, int64_t stages,
                                        ModelSpec& model);
};

struct DsparkWeights {
  Weight* main_proj = nullptr;     // [hidden, targets hidden]
  Weight* main_norm = nullptr;     // [hidden]
  Weight* norm = nullptr;          // [hidden]
  Weight* markov_embed = nullptr;  // [vocab, rank]
  Weight* markov_head = nullptr;   // [vocab, rank]
  Weight* confidence = nullptr;    // [1, hidden + rank]
};

/// What the tables of the chain are called behind "markov_head.".
struct MarkovNames {
  const char *markov_embed, *markov_head;
};

/// first, last: prefixes of the first and the last stage.
DsparkWeights bind_dspark(WeightBinder& binder, const std::string& first, const std::string& last,
                          const DsparkSpec& spec, const ModelSpec& model, const MarkovNames& names);

/// Of the main pass: hands over the streams if this layer is a target.   x [T or U, n hidden]
void dspark_tap(Ops& ops, const DsparkSpec& spec, int64_t layer, int64_t streams, Tensor x);

/// c of the rows.   c [T, hidden]
void dspark_context(Ops& ops, const DsparkWeights& w, const ModelSpec& model, int64_t streams,
                    Tensor c);

/// Where h belongs.   [R, hidden]
Tensor dspark_state(const Ops& ops, const ModelSpec& model);

/// U = Head(norm(h)).   h: dspark_state
void dspark_base(Ops& ops, const DsparkWeights& w, const ModelSpec& model, const EndWeights& ends,
                 Tensor h);

/// Model::draft_next.
void dspark_next(Ops& ops, const DsparkSpec& spec, const DsparkWeights& w, const ModelSpec& model);

}  // namespace hadal
