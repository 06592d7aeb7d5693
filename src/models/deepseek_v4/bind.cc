#include "models/deepseek_v4/deepseek_v4.h"

namespace hadal::deepseek_v4 {
namespace {

AttentionWeights bind_attention(WeightBinder& b, const std::string& p, const DeepSeekV4Spec& s,
                                int64_t ratio) {
  const int64_t hidden = s.model.hidden_size;
  AttentionWeights w{bind_shared_kv(b, p, s, hidden, ratio == kSparse), {}, {}};
  if (ratio == kHeavy) w.compressor = bind_compressor(b, p + "compressor.", s.heavy, hidden);
  if (ratio != kSparse) return w;
  w.compressor = bind_compressor(b, p + "compressor.", s.sparse, hidden);
  w.index_compressor = bind_compressor(b, p + "indexer.compressor.", s.index, hidden);
  return w;
}

}  // namespace

Status DeepSeekV4Model::bind(const Checkpoint& checkpoint) {
  const DeepSeekV4Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size;
  WeightBinder b(checkpoint, weights_);
  inv_freq_ = bind_inv_freq(b, s);
  for (int64_t i = 0; i < s.model.num_hidden_layers; ++i) {
    const std::string p = "layers." + std::to_string(i) + ".";
    LayerWeights w;
    w.hc_attn = bind_hyper(b, p + "hc_attn_", s.hyper, hidden);
    w.hc_ffn = bind_hyper(b, p + "hc_ffn_", s.hyper, hidden);
    w.attn_norm = b.vector(p + "attn_norm.weight", hidden);
    w.ffn_norm = b.vector(p + "ffn_norm.weight", hidden);
    w.attn = bind_attention(b, p + "attn.", s, s.compress_ratios[static_cast<size_t>(i)]);
    MoeNames names = kShortMoeNames;
    if (i < s.num_hash_layers) names.tid2eid = "gate.tid2eid";
    w.ffn = bind_moe(b, p + "ffn.", s.moe, s.model, names);
    layers_.push_back(w);
  }
  hc_head_ = bind_hyper(b, "hc_head_", s.hyper, hidden, true);
  ends_ = bind_ends(b, s.model, kShortEndNames);
  // MTP and DSpark modules: not used yet. A GGUF has them as further layers, with names of its own.
  b.known_unused("mtp.*");
  for (const char* prefix : {"layers.", "blk."})
    b.known_unused_layers(prefix, s.model.num_hidden_layers, s.num_nextn_predict_layers);
  return b.finish(unused_);
}

}  // namespace hadal::deepseek_v4
