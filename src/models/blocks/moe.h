// The mixture of experts: a router chooses k of E gated feed-forward networks for each row; shared
// experts serve every row.
//
//   y = Σ_{e chosen} weight_e FFN_e(x) + FFN_shared(x)
#pragma once

#include <string>

#include "models/blocks/dense_ffn.h"
#include "models/spec.h"

namespace hadal {

struct MoeSpec {
  int64_t n_routed_experts = 0;
  Share experts;  ///< this rank's of them
  int64_t num_experts_per_tok = 0;
  int64_t n_shared_experts = 0;  ///< 0: none
  int64_t moe_intermediate_size = 0;
  int64_t first_k_dense_replace = 0;  ///< layers before it have a plain feed-forward network
  int64_t moe_layer_freq = 1;
  int64_t intermediate_size = 0;  ///< of those layers
  bool has_bias = false;          ///< e_score_correction_bias: for the choice alone
  double swiglu_limit = 0;        ///< the clamp of the gated products, 0: none
  Router router;

  /// The keys of config.json; writes the fields for people to `model`.
  static Result<MoeSpec> from_config(const Config& config, ModelSpec& model);
  /// Fills `experts`; an error if there are fewer than ranks.
  Status divide(const Config& config, const Shard& shard);
  /// The part of the routed experts that serves one token.
  [[nodiscard]] double active() const {
    return static_cast<double>(num_experts_per_tok) / static_cast<double>(n_routed_experts);
  }
  [[nodiscard]] bool is_moe(int64_t layer) const {
    return layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }
};

/// E: the model's routed experts, e: this rank's.
struct MoeWeights {
  Weight* gate = nullptr;                     // [E, hidden]
  Weight* e_score_correction_bias = nullptr;  // [E], or nullptr
  Weight* tid2eid = nullptr;                  // [vocab, k]: experts by token, or nullptr
  Weight* gate_proj = nullptr;                // [e, width, hidden]
  Weight* up_proj = nullptr;                  // [e, width, hidden]
  Weight* down_proj = nullptr;                // [e, hidden, width]
  FfnWeights shared_experts;                  // of width n_shared_experts * moe_intermediate_size
};

/// What the tensors of experts are called behind the prefix.
struct MoeNames {
  const char *gate_proj = "gate_proj", *up_proj = "up_proj", *down_proj = "down_proj";
  const char* bias = "gate.e_score_correction_bias";
  const char* tid2eid = nullptr;  ///< given: experts by token, instead of a choice with the bias
};
/// As V4's files call them.
constexpr MoeNames kShortMoeNames{
    .gate_proj = "w1", .up_proj = "w3", .down_proj = "w2", .bias = "gate.bias"};

/// `prefix` ends in a dot: "model.layers.3.mlp.".
MoeWeights bind_moe(WeightBinder& binder, const std::string& prefix, const MoeSpec& spec,
                    const ModelSpec& model, const MoeNames& names = {});

/// out = MoE(h) (+ add), summed over the ranks.   h and out [T, hidden]; add: none, or out
void moe_ffn(Ops& ops, const MoeSpec& spec, const MoeWeights& w, Tensor h, Tensor out,
             std::optional<Tensor> add = {});

/// The feed-forward part of a layer: experts, or one plain network.
struct FeedForwardWeights {
  bool is_moe = false;
  MoeWeights moe;
  FfnWeights mlp;
};
FeedForwardWeights bind_feed_forward(WeightBinder& binder, const std::string& prefix,
                                     const MoeSpec& spec, bool is_moe, const ModelSpec& model);

/// x += FFN(h).   h and x [T, hidden]
void feed_forward(Ops& ops, const MoeSpec& spec, const FeedForwardWeights& w, Tensor h, Tensor x);

}  // namespace hadal
