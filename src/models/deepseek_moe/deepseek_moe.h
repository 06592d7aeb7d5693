// DeepSeekMoE (model type deepseek: MoE-16B): multi-head attention, fine-grained and shared
// experts. arXiv 2401.06066.
#pragma once

#include <vector>

#include "models/blocks/ends.h"
#include "models/blocks/gqa.h"
#include "models/blocks/moe.h"
#include "models/model.h"

namespace hadal::deepseek_moe {

struct DeepSeekMoeSpec {
  ModelSpec model;
  GqaSpec attention;
  MoeSpec moe;

  static Result<DeepSeekMoeSpec> from_config(const Config& config, const FamilyOptions& options);
};

struct LayerWeights {
  Weight* input_layernorm = nullptr;  // [hidden]
  GqaWeights self_attn;
  Weight* post_attention_layernorm = nullptr;  // [hidden]
  FeedForwardWeights mlp;
};

class DeepSeekMoeModel final : public FamilyModel<DeepSeekMoeSpec> {
 public:
  using FamilyModel::FamilyModel;
  Status bind(const Checkpoint& checkpoint) override;
  void forward(Ops& ops, const StepPlanes& planes) const override;

 private:
  Weight* inv_freq_ = nullptr;  // [head_dim / 2]
  std::vector<LayerWeights> layers_;
  EndWeights ends_;
};

}  // namespace hadal::deepseek_moe
