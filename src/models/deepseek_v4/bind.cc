#include "models/deepseek_v4/deepseek_v4.h"

namespace hadal::deepseek_v4 {
namespace {

AttentionWeights bind_attention(WeightBinder& b, const std::string& p, const DeepSeekV4Spec& s,
                                int64_t ratio) {
  const int64_t hidden = s.model.hidden_size, width = s.num_attention_heads * s.head_dim;
  AttentionWeights w;
  w.wq_a = b.matrix(p + "wq_a.weight", s.q_lora_rank, hidden);
  w.q_norm = b.vector(p + "q_norm.weight", s.q_lora_rank);
  w.wq_b = b.matrix(p + "wq_b.weight", width, s.q_lora_rank);
  w.wkv = b.matrix(p + "wkv.weight", s.head_dim, hidden);
  w.kv_norm = b.vector(p + "kv_norm.weight", s.head_dim);
  w.attn_sink = b.vector(p + "attn_sink", s.num_attention_heads);
  w.wo_a = b.head_rows(p + "wo_a.weight", s.o_groups, s.o_lora_rank, 0, s.o_lora_rank,
                       width / s.o_groups, false);
  w.wo_b = b.matrix(p + "wo_b.weight", hidden, s.o_groups * s.o_lora_rank);
  if (ratio == kHeavy) w.compressor = bind_compressor(b, p + "compressor.", s.heavy, hidden);
  if (ratio != kSparse) return w;
  w.compressor = bind_compressor(b, p + "compressor.", s.sparse, hidden);
  w.index_compressor = bind_compressor(b, p + "indexer.compressor.", s.index, hidden);
  w.index_wq_b =
      b.matrix(p + "indexer.wq_b.weight", s.index_n_heads * s.index_head_dim, s.q_lora_rank);
  w.index_weights_proj = b.matrix(p + "indexer.weights_proj.weight", s.index_n_heads, hidden);
  return w;
}

MoeWeights bind_experts(WeightBinder& b, const std::string& p, const DeepSeekV4Spec& s,
                        bool by_token) {
  const MoeSpec& m = s.moe;
  const int64_t hidden = s.model.hidden_size, width = m.moe_intermediate_size;
  const auto ffn = [&](const std::string& prefix, int64_t n) {
    FfnWeights f;
    f.gate_proj = b.matrix(prefix + "w1.weight", n, hidden);
    f.up_proj = b.matrix(prefix + "w3.weight", n, hidden);
    f.down_proj = b.matrix(prefix + "w2.weight", hidden, n);
    return f;
  };
  MoeWeights w;
  w.gate = b.matrix(p + "gate.weight", m.n_routed_experts, hidden);
  if (by_token)
    w.tid2eid = b.indices(p + "gate.tid2eid", s.model.vocab_size, m.num_experts_per_tok);
  else
    w.e_score_correction_bias = b.vector(p + "gate.bias", m.n_routed_experts);
  w.gate_proj =
      b.experts(p + "experts.", "w1.weight", m.n_routed_experts, width, hidden, m.active());
  w.up_proj = b.experts(p + "experts.", "w3.weight", m.n_routed_experts, width, hidden, m.active());
  w.down_proj =
      b.experts(p + "experts.", "w2.weight", m.n_routed_experts, hidden, width, m.active());
  if (m.n_shared_experts > 0)
    w.shared_experts = ffn(p + "shared_experts.", m.n_shared_experts * width);
  return w;
}

}  // namespace

Status DeepSeekV4Model::bind(const Checkpoint& checkpoint) {
  const DeepSeekV4Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size;
  WeightBinder b(checkpoint, weights_);
  main_inv_freq_ = b.table("inv_freq", s.main_rope.inv_freq());
  compress_inv_freq_ = b.table("inv_freq of compressed layers", s.compress_rope.inv_freq());
  for (int64_t i = 0; i < s.model.num_hidden_layers; ++i) {
    const std::string p = "layers." + std::to_string(i) + ".";
    LayerWeights w;
    w.hc_attn = bind_hyper(b, p + "hc_attn_", s.hyper, hidden);
    w.hc_ffn = bind_hyper(b, p + "hc_ffn_", s.hyper, hidden);
    w.attn_norm = b.vector(p + "attn_norm.weight", hidden);
    w.ffn_norm = b.vector(p + "ffn_norm.weight", hidden);
    w.attn = bind_attention(b, p + "attn.", s, s.compress_ratios[static_cast<size_t>(i)]);
    w.ffn = bind_experts(b, p + "ffn.", s, i < s.num_hash_layers);
    layers_.push_back(w);
  }
  hc_head_ = bind_hyper(b, "hc_head_", s.hyper, hidden, true);
  ends_ =
      bind_ends(b, s.model,
                {.embed_tokens = "embed.weight", .norm = "norm.weight", .lm_head = "head.weight"});
  // MTP and DSpark modules: not used yet. A GGUF has them as further layers, with names of its own.
  b.known_unused("mtp.*");
  for (const char* prefix : {"layers.", "blk."})
    b.known_unused_layers(prefix, s.model.num_hidden_layers, s.num_nextn_predict_layers);
  return b.finish(unused_);
}

}  // namespace hadal::deepseek_v4
