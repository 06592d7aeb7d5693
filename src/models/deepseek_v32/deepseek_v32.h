// DeepSeek-V3.2 (V3.2-Exp, V3.2, Speciale, Math-V2): DeepSeek-V3 whose attention looks only at the
// tokens that the indexer chooses. arXiv 2512.02556.
#pragma once

#include <vector>

#include "models/blocks/ends.h"
#include "models/blocks/indexer.h"
#include "models/blocks/mla.h"
#include "models/blocks/moe.h"
#include "models/blocks/mtp.h"
#include "models/model.h"

namespace hadal::deepseek_v32 {

struct DeepSeekV32Spec {
  ModelSpec model;
  MlaSpec attention;
  IndexerSpec indexer;
  MoeSpec moe;
  int64_t num_nextn_predict_layers = 0;  ///< MTP layers behind the others

  PlaneHandle draft_latents, draft_keys;  ///< of the first of them, at its tokens' positions

  static Result<DeepSeekV32Spec> from_config(const Config& config, const FamilyOptions& options);
};

struct LayerWeights {
  Weight* input_layernorm = nullptr;  // [hidden]
  MlaWeights self_attn;
  IndexerWeights indexer;
  Weight* post_attention_layernorm = nullptr;  // [hidden]
  FeedForwardWeights mlp;
};

class DeepSeekV32Model final : public FamilyModel<DeepSeekV32Spec> {
 public:
  using FamilyModel::FamilyModel;
  Status bind(const Checkpoint& checkpoint) override;
  void forward(Ops& ops, const StepPlanes& planes) const override;
  void draft(Ops& ops, const StepPlanes& planes) const override;

 private:
  LayerWeights bind_layer(WeightBinder& binder, int64_t layer, bool is_moe) const;
  void decoder_layer(Ops& ops, const LayerWeights& w, const PlaneLayer& latents,
                     const PlaneLayer& keys, Tensor x) const;

  Weight* inv_freq_ = nullptr;  // [rope / 2]
  std::vector<LayerWeights> layers_;
  MtpWeights mtp_;
  LayerWeights mtp_layer_;
  EndWeights ends_;
};

}  // namespace hadal::deepseek_v32
