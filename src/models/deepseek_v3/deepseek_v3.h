// DeepSeek-V2 (V2-Lite, V2.5, Coder-V2) and DeepSeek-V3 (R1, V3.1, Prover-V2): latent attention and
// experts. They differ in how the router scores and chooses, which the configuration says.
// arXiv 2405.04434, 2412.19437.
#pragma once

#include <vector>

#include "models/blocks/ends.h"
#include "models/blocks/mla.h"
#include "models/blocks/moe.h"
#include "models/blocks/mtp.h"
#include "models/model.h"

namespace hadal::deepseek_v3 {

struct DeepSeekV3Spec {
  ModelSpec model;
  MlaSpec attention;
  MoeSpec moe;
  int64_t num_nextn_predict_layers = 0;  ///< MTP layers behind the others
  PlaneHandle draft_plane;               ///< latents of the first of them, at its tokens' positions

  static Result<DeepSeekV3Spec> from_config(const Config& config, const FamilyOptions& options);
};

struct LayerWeights {
  Weight* input_layernorm = nullptr;  // [hidden]
  MlaWeights self_attn;
  Weight* post_attention_layernorm = nullptr;  // [hidden]
  FeedForwardWeights mlp;
};

class DeepSeekV3Model final : public FamilyModel<DeepSeekV3Spec> {
 public:
  using FamilyModel::FamilyModel;
  Status bind(const Checkpoint& checkpoint) override;
  void forward(Ops& ops, const StepPlanes& planes) const override;
  void draft(Ops& ops, const StepPlanes& planes) const override;

 private:
  LayerWeights bind_layer(WeightBinder& binder, int64_t layer, bool is_moe) const;
  void decoder_layer(Ops& ops, const LayerWeights& w, const PlaneLayer& latents, Tensor x) const;

  Weight* inv_freq_ = nullptr;  // [rope / 2]
  std::vector<LayerWeights> layers_;
  MtpWeights mtp_;
  LayerWeights mtp_layer_;
  EndWeights ends_;
};

}  // namespace hadal::deepseek_v3
