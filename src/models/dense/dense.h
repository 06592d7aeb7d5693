// The dense decoders: llama (DeepSeek-LLM, Coder v1, Prover-V2-7B, R1-Distill-Llama), qwen2
// (R1-Distill-Qwen), qwen3 (R1-0528-Qwen3-8B). One block: grouped-query attention with rotary
// positions, and a gated feed-forward network.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "models/model.h"

namespace hadal::dense {

/// config.json of the three families. Shapes in comments are outermost first.
struct DenseSpec {
  ModelSpec model;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  double rms_norm_eps = 0;
  bool tie_word_embeddings = false;
  bool qk_norm = false;  ///< qwen3: RMS norm of each head of q and k, before the rotation
  bool attention_bias =
      false;  ///< q, k and v have biases (qwen2); o as well where the checkpoint has one
  bool mlp_bias = false;  ///< gate, up and down have biases
  std::vector<int64_t>
      window;  ///< a layer: positions that attention sees, the query's own included; 0: all
  RopeSpec rope;

  static Result<DenseSpec> from_config(const Config& config);
};

/// Weights of a layer, under their official names. Pointers into Model::weights().
struct LayerWeights {
  Weight* input_layernorm = nullptr;  // [hidden]
  Weight* q_proj = nullptr;           // [heads * head_dim, hidden]
  Weight* k_proj = nullptr;           // [kv_heads * head_dim, hidden]
  Weight* v_proj = nullptr;           // [kv_heads * head_dim, hidden]
  Weight* o_proj = nullptr;           // [hidden, heads * head_dim]
  Weight *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr, *o_bias = nullptr;  // or nullptr
  Weight *q_norm = nullptr, *k_norm = nullptr;                            // [head_dim], qwen3
  Weight* post_attention_layernorm = nullptr;                             // [hidden]
  Weight* gate_proj = nullptr;                                            // [intermediate, hidden]
  Weight* up_proj = nullptr;                                              // [intermediate, hidden]
  Weight* down_proj = nullptr;                                            // [hidden, intermediate]
  Weight *gate_bias = nullptr, *up_bias = nullptr, *down_bias = nullptr;  // or nullptr
  int64_t window = 0;
};

class DenseModel final : public Model {
 public:
  explicit DenseModel(DenseSpec spec) : spec_(std::move(spec)) {}
  [[nodiscard]] const ModelSpec& spec() const override { return spec_.model; }
  Status bind(const Checkpoint& checkpoint) override;
  void forward(Ops& ops, const StepPlanes& planes) const override;

 private:
  void attention(Ops& ops, const LayerWeights& w, const Tensor& k_plane, const Tensor& v_plane,
                 Tensor h, Tensor x) const;
  void feed_forward(Ops& ops, const LayerWeights& w, Tensor h, Tensor x) const;
  void decoder_layer(Ops& ops, const LayerWeights& w, const Tensor& k_plane, const Tensor& v_plane,
                     Tensor x) const;

  DenseSpec spec_;
  Weight* embed_tokens_ = nullptr;  // [vocab, hidden]
  Weight* norm_ = nullptr;          // [hidden]
  Weight* lm_head_ = nullptr;       // [vocab, hidden]; embed_tokens_ when tied
  Weight* inv_freq_ = nullptr;      // [rotary width / 2]
  std::vector<LayerWeights> layers_;
};

Result<std::unique_ptr<Model>> make(const Config& config);

}  // namespace hadal::dense
