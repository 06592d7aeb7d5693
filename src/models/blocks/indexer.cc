#include "models/blocks/indexer.h"

namespace hadal {
namespace {

constexpr double kKeyNormEps = 1e-6;

}  // namespace

Result<IndexerSpec> IndexerSpec::from_config(const Config& config, const RopeSpec& rope,
                                             ModelSpec& model) {
  IndexerSpec s;
  HADAL_TRY(s.index_n_heads, config.integer("index_n_heads", 1, 4096));
  HADAL_TRY(s.index_head_dim, config.integer("index_head_dim", rope.dims, 65536));
  HADAL_TRY(s.index_topk, config.integer("index_topk", 1, 65536));
  s.rope = rope;
  s.rope.interleaved = false;
  model.field("index_n_heads", s.index_n_heads);
  model.field("index_head_dim", s.index_head_dim);
  model.field("index_topk", s.index_topk);
  return s;
}

void IndexerSpec::add_planes(ModelSpec& model, GroupHandle group) {
  key_plane = model.add_plane(group, PlaneRole::kIndexKey, model.num_hidden_layers, index_head_dim);
}

IndexerWeights bind_indexer(WeightBinder& b, const std::string& p, const IndexerSpec& s,
                            int64_t hidden, int64_t q_lora_rank) {
  IndexerWeights w;
  w.wq_b = b.matrix(p + "wq_b.weight", s.index_n_heads * s.index_head_dim, q_lora_rank);
  w.wk = b.matrix(p + "wk.weight", s.index_head_dim, hidden);
  w.k_norm = b.vector(p + "k_norm.weight", s.index_head_dim);
  w.k_norm_bias = b.vector(p + "k_norm.bias", s.index_head_dim);
  w.weights_proj = b.matrix(p + "weights_proj.weight", s.index_n_heads, hidden);
  return w;
}

void indexer(Ops& ops, const IndexerSpec& s, const IndexerWeights& w, Tensor inv_freq,
             const PlaneLayer& keys, Tensor h, Tensor c_q, Tensor list) {
  const Rope rope = s.rope.op(inv_freq);
  Scratch scratch(ops);
  Tensor k = scratch.rows(HADAL_DIM_T, s.index_head_dim);
  ops.matmul(h, *w.wk, k);
  ops.layer_norm(k, *w.k_norm, *w.k_norm_bias, kKeyNormEps, k);
  ops.rope(heads_view(k, 1), rope);
  ops.kv_write(k, keys);

  Tensor q = scratch.rows(HADAL_DIM_T, s.index_n_heads * s.index_head_dim);
  Tensor weight = scratch.rows(HADAL_DIM_T, s.index_n_heads);
  ops.matmul(c_q, *w.wq_b, q);
  ops.rope(heads_view(q, s.index_n_heads), rope);
  ops.matmul(h, *w.weights_proj, weight);
  ops.index_topk(heads_view(q, s.index_n_heads), weight, keys, list);
}

}  // namespace hadal
