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

LayerWeights DeepSeekV4Model::bind_layer(WeightBinder& b, const std::string& p, int64_t ratio,
                                         const MoeSpec& moe, bool by_token) const {
  const DeepSeekV4Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size;
  LayerWeights w;
  w.hc_attn = bind_hyper(b, p + "hc_attn_", s.hyper, hidden);
  w.hc_ffn = bind_hyper(b, p + "hc_ffn_", s.hyper, hidden);
  w.attn_norm = b.vector(p + "attn_norm.weight", hidden);
  w.ffn_norm = b.vector(p + "ffn_norm.weight", hidden);
  w.attn = bind_attention(b, p + "attn.", s, ratio);
  MoeNames names = kShortMoeNames;
  if (by_token) names.tid2eid = "gate.tid2eid";
  w.ffn = bind_moe(b, p + "ffn.", moe, s.model, names);
  return w;
}

void DeepSeekV4Model::bind_drafts(WeightBinder& b) {
  const DeepSeekV4Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size;
  if (s.model.draft.is_mtp()) {
    const std::string p = "mtp.0.";
    mtp_.e_proj = b.matrix(p + "e_proj.weight", hidden, hidden);
    mtp_.h_proj = b.matrix(p + "h_proj.weight", hidden, hidden);
    mtp_.enorm = b.vector(p + "enorm.weight", hidden);
    mtp_.hnorm = b.vector(p + "hnorm.weight", hidden);
    mtp_.layer = bind_layer(b, p, kWindowOnly, s.moe, false);
    mtp_.hc_head = bind_hyper(b, p + "hc_head_", s.hyper, hidden, true);
    mtp_.norm = b.vector(p + "norm.weight", hidden);
  } else if (s.model.draft.is_dspark()) {
    for (int64_t i = 0; i < s.dspark.stages; ++i)
      stages_.push_back(
          bind_layer(b, "mtp." + std::to_string(i) + ".", kWindowOnly, s.dspark.moe, false));
    const std::string last = "mtp." + std::to_string(s.dspark.stages - 1) + ".";
    dspark_ = bind_dspark(b, "mtp.0.", last, s.dspark, s.model,
                          {.markov_embed = "markov_w1", .markov_head = "markov_w2"});
    stages_head_ = bind_hyper(b, last + "hc_head_", s.hyper, hidden, true);
  } else {
    b.known_unused("mtp.*");
  }
}

Status DeepSeekV4Model::bind(const Checkpoint& checkpoint) {
  const DeepSeekV4Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size;
  WeightBinder b(checkpoint, weights_, s.model.shard);
  inv_freq_ = bind_inv_freq(b, s);
  for (int64_t i = 0; i < s.model.num_hidden_layers; ++i)
    layers_.push_back(bind_layer(b, "layers." + std::to_string(i) + ".",
                                 s.compress_ratios[static_cast<size_t>(i)], s.moe,
                                 i < s.num_hash_layers));
  hc_head_ = bind_hyper(b, "hc_head_", s.hyper, hidden, true);
  ends_ = bind_ends(b, s.model, kShortEndNames);
  bind_drafts(b);
  // A GGUF has such modules as further layers, with names of its own: not used.
  for (const char* prefix : {"layers.", "blk."})
    b.known_unused_layers(prefix, s.model.num_hidden_layers, s.num_nextn_predict_layers);
  return b.finish(unused_);
}

}  // namespace hadal::deepseek_v4
