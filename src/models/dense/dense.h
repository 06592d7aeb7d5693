// The dense decoders: llama (DeepSeek-LLM, Coder v1, Prover-V2-7B, R1-Distill-Llama), qwen2
// (R1-Distill-Qwen), qwen3 (R1-0528-Qwen3-8B). One block: grouped-query attention with rotary
// positions, and a gated feed-forward network.
#pragma once

#include <vector>

#include "models/blocks/dense_ffn.h"
#include "models/blocks/ends.h"
#include "models/blocks/gqa.h"
#include "models/model.h"

namespace hadal::dense {

/// config.json of the three families.
struct DenseSpec {
  ModelSpec model;
  GqaSpec attention;
  int64_t intermediate_size = 0;
  bool mlp_bias = false;        ///< gate, up and down have biases
  std::vector<int64_t> window;  ///< a layer: positions that attention sees, the query's own
                                ///< included; 0: all

  static Result<DenseSpec> from_config(const Config& config, const FamilyOptions& options);
};

/// Weights of a layer, under their official names. Pointers into Model::weights().
struct LayerWeights {
  Weight* input_layernorm = nullptr;  // [hidden]
  GqaWeights self_attn;
  Weight* post_attention_layernorm = nullptr;  // [hidden]
  FfnWeights mlp;
  int64_t window = 0;
};

class DenseModel final : public FamilyModel<DenseSpec> {
 public:
  using FamilyModel::FamilyModel;
  Status bind(const Checkpoint& checkpoint) override;
  void forward(Ops& ops, const StepPlanes& planes) const override;

 private:
  void decoder_layer(Ops& ops, int64_t layer, const StepPlanes& planes, Tensor x) const;

  Weight* inv_freq_ = nullptr;  // [rotary width / 2]
  std::vector<LayerWeights> layers_;
  EndWeights ends_;
};

}  // namespace hadal::dense
