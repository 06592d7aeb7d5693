#include "base/quant.h"
#include "models/dense/dense.h"

namespace hadal::dense {
namespace {

/// GGUF files of llama3-scaled models carry the scaling as a factor a frequency.
Status apply_rope_factors(const Checkpoint& checkpoint, std::vector<float>& inv_freq) {
  const TensorInfo* factors = checkpoint.find("rope_freqs.weight");
  if (!factors) return {};
  const auto n = static_cast<int64_t>(inv_freq.size());
  std::vector<float> values(inv_freq.size());
  if (factors->shape != std::vector<int64_t>{n} ||
      !decode_to_f32(factors->dtype, factors->data.data(), n, values.data()))
    return failed(checkpoint.path().string() + ": rope_freqs.weight is " + factors->shape_text() +
                  ", expected [" + std::to_string(n) + "] numbers");
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    if (!(values[i] > 0))
      return failed(checkpoint.path().string() + ": rope_freqs.weight holds " +
                    std::to_string(values[i]) + ", expected more than 0");
    inv_freq[i] /= values[i];
  }
  return {};
}

}  // namespace

Status DenseModel::bind(const Checkpoint& checkpoint) {
  const DenseSpec& s = spec_;
  const int64_t q_width = s.num_attention_heads * s.head_dim,
                kv_width = s.num_key_value_heads * s.head_dim;
  WeightBinder b(checkpoint, weights_);

  std::vector<float> inv_freq = s.rope.inv_freq();
  HADAL_TRY(apply_rope_factors(checkpoint, inv_freq));
  inv_freq_ = b.table("inv_freq", std::move(inv_freq));
  b.known_unused("rope_freqs.weight");

  embed_tokens_ =
      b.matrix("model.embed_tokens.weight", s.model.vocab_size, s.hidden_size,
               s.tie_word_embeddings ? HADAL_USE_GATHER | HADAL_USE_MATMUL : HADAL_USE_GATHER);
  for (int64_t i = 0; i < s.model.num_hidden_layers; ++i) {
    const std::string p = "model.layers." + std::to_string(i) + ".";
    const std::string attn = p + "self_attn.", mlp = p + "mlp.";
    LayerWeights w;
    w.input_layernorm = b.vector(p + "input_layernorm.weight", s.hidden_size);
    w.q_proj = b.matrix(attn + "q_proj.weight", q_width, s.hidden_size);
    w.k_proj = b.matrix(attn + "k_proj.weight", kv_width, s.hidden_size);
    w.v_proj = b.matrix(attn + "v_proj.weight", kv_width, s.hidden_size);
    if (s.attention_bias) {
      w.q_bias = b.vector(attn + "q_proj.bias", q_width);
      w.k_bias = b.vector(attn + "k_proj.bias", kv_width);
      w.v_bias = b.vector(attn + "v_proj.bias", kv_width);
      w.o_bias = b.optional_vector(attn + "o_proj.bias", s.hidden_size);
    }
    if (s.qk_norm) {
      w.q_norm = b.vector(attn + "q_norm.weight", s.head_dim);
      w.k_norm = b.vector(attn + "k_norm.weight", s.head_dim);
    }
    w.o_proj = b.matrix(attn + "o_proj.weight", s.hidden_size, q_width);
    w.post_attention_layernorm = b.vector(p + "post_attention_layernorm.weight", s.hidden_size);
    w.gate_proj = b.matrix(mlp + "gate_proj.weight", s.intermediate_size, s.hidden_size);
    w.up_proj = b.matrix(mlp + "up_proj.weight", s.intermediate_size, s.hidden_size);
    w.down_proj = b.matrix(mlp + "down_proj.weight", s.hidden_size, s.intermediate_size);
    if (s.mlp_bias) {
      w.gate_bias = b.vector(mlp + "gate_proj.bias", s.intermediate_size);
      w.up_bias = b.vector(mlp + "up_proj.bias", s.intermediate_size);
      w.down_bias = b.vector(mlp + "down_proj.bias", s.hidden_size);
    }
    w.window = s.window[static_cast<size_t>(i)];
    b.known_unused(attn + "rotary_emb.inv_freq");  // stored by old versions of transformers
    layers_.push_back(w);
  }
  norm_ = b.vector("model.norm.weight", s.hidden_size);
  if (s.tie_word_embeddings) {
    lm_head_ = embed_tokens_;
    b.known_unused("lm_head.weight");
  } else {
    lm_head_ = b.matrix("lm_head.weight", s.model.vocab_size, s.hidden_size);
  }
  return b.finish();
}

}  // namespace hadal::dense
