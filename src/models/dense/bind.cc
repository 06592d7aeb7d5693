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
  const int64_t hidden = s.model.hidden_size;
  WeightBinder b(checkpoint, weights_, s.model.shard);

  std::vector<float> inv_freq = s.attention.rope.inv_freq();
  HADAL_TRY(apply_rope_factors(checkpoint, inv_freq));
  inv_freq_ = b.table("inv_freq", std::move(inv_freq));
  b.known_unused("rope_freqs.weight");

  for (int64_t i = 0; i < s.model.num_hidden_layers; ++i) {
    const std::string p = layer_prefix(i);
    LayerWeights w;
    w.input_layernorm = b.vector(p + "input_layernorm.weight", hidden);
    w.self_attn = bind_gqa(b, p + "self_attn.", s.attention, hidden);
    w.post_attention_layernorm = b.vector(p + "post_attention_layernorm.weight", hidden);
    w.mlp = bind_ffn(b, p + "mlp.", hidden, s.intermediate_size, {}, s.mlp_bias);
    w.window = s.window[static_cast<size_t>(i)];
    layers_.push_back(w);
  }
  ends_ = bind_ends(b, s.model);
  return b.finish(unused_);
}

}  // namespace hadal::dense
