// DeepSeek-V4 (Flash, Pro): hyper-connections instead of one residual stream; attention with a
// sliding window and a sink, over compressed entries on most layers (ratio 4: those that an indexer
// chooses, "CSA"; ratio 128: all, "HCA"); a grouped output projection; experts chosen by token on
// the first layers. arXiv 2606.19348. Drafts by a layer of multi-token prediction or by DSpark's
// stages (draft.cc). README.md maps its equations to these files.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/blocks/compressor.h"
#include "models/blocks/dspark.h"
#include "models/blocks/ends.h"
#include "models/blocks/hyper_connection.h"
#include "models/blocks/moe.h"
#include "models/blocks/shared_kv.h"
#include "models/model.h"

namespace hadal::deepseek_v4 {

/// The kinds of layers, by the ratio of their compressor.
constexpr int64_t kWindowOnly = 0, kSparse = 4, kHeavy = 128;

struct DeepSeekV4Spec : SharedKvSpec {
  ModelSpec model;
  HyperSpec hyper;
  MoeSpec moe;
  std::vector<int64_t> compress_ratios;  ///< a layer: 0, 4 or 128
  int64_t num_hash_layers = 0;           ///< the first of the layers choose experts by token
  int64_t num_nextn_predict_layers = 0;  ///< MTP layers behind the others
  CompressorSpec sparse, heavy, index;
  PlaneHandle mtp_window;  ///< of the MTP layer, at its tokens' positions
  DsparkSpec dspark;

  static Result<DeepSeekV4Spec> from_config(const Config& config, const FamilyOptions& options);
  /// How many layers before this one have its ratio: its number in their planes.
  [[nodiscard]] int64_t number_of(int64_t layer) const;
};

struct AttentionWeights : SharedKvWeights {
  CompressorWeights compressor;
  CompressorWeights index_compressor;  // ratio 4
};

struct LayerWeights {
  HyperWeights hc_attn, hc_ffn;
  Weight* attn_norm = nullptr;  // [hidden]
  AttentionWeights attn;
  Weight* ffn_norm = nullptr;  // [hidden]
  MoeWeights ffn;
};

/// Multi-token prediction (`mtp.0`): of the streams, before they are collapsed.
struct MtpWeights {
  Weight *e_proj = nullptr, *h_proj = nullptr;  // [hidden, hidden]
  Weight *enorm = nullptr, *hnorm = nullptr;    // [hidden]
  LayerWeights layer;
  HyperWeights hc_head;
  Weight* norm = nullptr;  // [hidden]
};

class DeepSeekV4Model final : public FamilyModel<DeepSeekV4Spec> {
 public:
  using FamilyModel::FamilyModel;
  Status bind(const Checkpoint& checkpoint) override;
  void forward(Ops& ops, const StepPlanes& planes) const override;
  void draft(Ops& ops, const StepPlanes& planes) const override;
  void draft_block(Ops& ops, const StepPlanes& planes) const override;
  void draft_next(Ops& ops, const StepPlanes& planes) const override;

 private:
  LayerWeights bind_layer(WeightBinder& binder, const std::string& prefix, int64_t ratio,
                          const MoeSpec& moe, bool by_token) const;
  void bind_drafts(WeightBinder& binder);
  void embed_streams(Ops& ops, Tensor x) const;
  void attention(Ops& ops, int64_t layer, const StepPlanes& planes, Tensor h, Tensor f) const;
  /// One layer, whose attention is f = attend(h).
  void decoder_layer(Ops& ops, const LayerWeights& w, const MoeSpec& moe, Tensor x,
                     const std::function<void(Tensor h, Tensor f)>& attend) const;
  /// One layer of a draft: a window alone; block: of shared_kv_window_attention.
  void draft_layer(Ops& ops, const LayerWeights& w, const MoeSpec& moe, const PlaneLayer& window,
                   int64_t block, Tensor x) const;
  void mtp(Ops& ops, const StepPlanes& planes) const;

  InvFreqWeights inv_freq_;
  std::vector<LayerWeights> layers_;
  HyperWeights hc_head_;
  EndWeights ends_;
  MtpWeights mtp_;
  std::vector<LayerWeights> stages_;  // of DSpark
  HyperWeights stages_head_;          // their last collapse
  DsparkWeights dspark_;
};

}  // namespace hadal::deepseek_v4
