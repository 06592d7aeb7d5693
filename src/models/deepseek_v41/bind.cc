#include "models/deepseek_v41/deepseek_v41.h"

namespace hadal::deepseek_v41 {
namespace {

AttentionWeights bind_attention(WeightBinder& b, const std::string& p, const DeepSeekV41Spec& s,
                                const LayerSpec& layer) {
  const int64_t hidden = s.model.hidden_size;
  AttentionWeights w{bind_shared_kv(b, p, s, hidden, layer.chooses)};
  if (layer.is_source) {
    w.compressor_wkv = b.matrix(p + "compressor.wkv.weight", s.head_dim, hidden);
    if (layer.ratio > 1)
      w.compressor_wgate = b.matrix(p + "compressor.wgate.weight", s.head_dim, hidden);
    w.compressor_norm = b.vector(p + "compressor.norm.weight", s.head_dim);
    w.index_wk = b.matrix(p + "indexer.wk.weight", s.index_head_dim, s.head_dim);
    w.index_k_norm = b.vector(p + "indexer.k_norm.weight", s.index_head_dim);
  }
  return w;
}

}  // namespace

LayerWeights DeepSeekV41Model::bind_layer(WeightBinder& b, const std::string& p,
                                          const LayerSpec& layer, const MoeSpec& moe) const {
  const DeepSeekV41Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size;
  LayerWeights w;
  w.hc_attn = bind_hyper(b, p + "hc_attn_", s.hyper, hidden);
  w.hc_ffn = bind_hyper(b, p + "hc_ffn_", s.hyper, hidden);
  w.attn_norm = b.vector(p + "attn_norm.weight", hidden);
  w.ffn_norm = b.vector(p + "ffn_norm.weight", hidden);
  w.attn = bind_attention(b, p + "attn.", s, layer);
  w.ffn = bind_moe(b, p + "ffn.", moe, s.model, kShortMoeNames);
  b.known_unused(p + "ffn.gate.bias_vl");  // for image tokens
  return w;
}

void DeepSeekV41Model::bind_drafts(WeightBinder& b) {
  const DeepSeekV41Spec& s = spec_;
  if (!s.model.draft.is_dspark()) return b.known_unused("mtp.*");
  for (int64_t i = 0; i < s.dspark.stages; ++i)
    stages_.push_back(bind_layer(b, "mtp." + std::to_string(i) + ".", LayerSpec(), s.dspark.moe));
  dspark_ = bind_dspark(b, "mtp.0.", "mtp." + std::to_string(s.dspark.stages - 1) + ".", s.dspark,
                        s.model, {.markov_embed = "embed", .markov_head = "head"});
}

Status DeepSeekV41Model::bind(const Checkpoint& checkpoint) {
  const DeepSeekV41Spec& s = spec_;
  const int64_t hidden = s.model.hidden_size;
  WeightBinder b(checkpoint, weights_, s.model.shard);
  inv_freq_ = bind_inv_freq(b, s);
  for (int64_t i = 0; i < s.model.num_hidden_layers; ++i) {
    const std::string p = "layers." + std::to_string(i) + ".";
    LayerWeights w = bind_layer(b, p, s.layers[static_cast<size_t>(i)], s.moe);
    for (size_t k = 0; k < s.engram.layers.size(); ++k)
      if (s.engram.layers[k] == i) {
        w.engram = k;
        engrams_.push_back(bind_engram(b, p + "engram.", s.engram, k, s.hyper.streams, hidden));
      }
    layers_.push_back(w);
  }
  ends_ = bind_ends(b, s.model, kShortEndNames);
  bind_drafts(b);
  // DSpark's stages as a GGUF has them, behind the layers, and the image encoder are not used.
  HADAL_TRY(const int64_t drafts,
            checkpoint.config().integer("num_nextn_predict_layers", 0, 4096, 0));
  b.known_unused_layers("layers.", s.model.num_hidden_layers, drafts);
  for (const char* part : {"vision.*", "aligner.*", "image_start", "image_end", "image_newline"})
    b.known_unused(part);
  return b.finish(unused_);
}

FileTableTotals DeepSeekV41Model::file_tables() const {
  FileTableTotals t;
  for (const EngramWeights& w : engrams_) {
    t.parameters += static_cast<double>(w.embed.rows() * w.embed.cols());
    t.used_by_a_token += static_cast<double>(spec_.engram.looked_up());
    t.bytes += static_cast<double>(w.embed.bytes());
  }
  return t;
}

Status DeepSeekV41Model::take_vocabulary(const CompressedVocabulary& vocabulary) {
  const EngramSpec& e = spec_.engram;
  const std::vector<int32_t>& ids = vocabulary.id_of_token;
  if (vocabulary.count != e.compressed_vocab_size)
    return failed("the tokenizer's vocabulary compresses to " + std::to_string(vocabulary.count) +
                  " ids, engram_compressed_vocab_size is " +
                  std::to_string(e.compressed_vocab_size) +
                  ": the rows of the Engram tables would be other ones");
  if (e.pad_id >= static_cast<int64_t>(ids.size()))
    return failed("engram_pad_id " + std::to_string(e.pad_id) +
                  " is no token of the tokenizer, which has " + std::to_string(ids.size()));
  HADAL_TRY(hash_, EngramHash::make({.layer_ids = e.layers,
                                     .vocab_size = e.vocab_size,
                                     .max_ngram_size = e.max_ngram_size,
                                     .n_heads = e.n_heads,
                                     .pad_id = ids[static_cast<size_t>(e.pad_id)],
                                     .compressed_vocab_size = e.compressed_vocab_size,
                                     .token_map = ids}));
  HADAL_TRY(e.check_stated(*hash_, ids));
  for (size_t k = 0; k < e.layers.size(); ++k)
    if (hash_->total_rows(k) > e.num_embeddings[k])
      return failed("engram_num_embeddings of layer " + std::to_string(e.layers[k]) + " is " +
                    std::to_string(e.num_embeddings[k]) + ", the hashes reach " +
                    std::to_string(hash_->total_rows(k)));
  return {};
}

void DeepSeekV41Model::fill_extra(std::span<const SequenceRows> step, float* extra) const {
  if (!hash_) return;
  std::vector<const EngramWeights*> tables;
  tables.reserve(engrams_.size());
  for (const EngramWeights& w : engrams_) tables.push_back(&w);
  look_up(spec_.engram, *hash_, tables, step, extra);
}

}  // namespace hadal::deepseek_v41
