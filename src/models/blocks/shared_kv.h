// Attention with one latent for keys and values alike (DeepSeek-V4, §2.3; V4.1): low-rank queries,
// a sliding window, a sink for each head, a grouped low-rank output projection. What lies behind
// the window differs from family to family, and so does the norm of the query heads.
//
//   c_q = norm(W_qa x), q = W_qb c_q;  kv = norm(W_kv x);  both turned by RoPE at their end
//   o_h = Σ p kv, turned back at the query's position;  out = W_ob [W_oa,g o_g]
#pragma once

#include <string>

#include "models/model.h"

namespace hadal {

struct SharedKvSpec {
  int64_t num_attention_heads = 0;
  int64_t head_dim = 0;
  int64_t q_lora_rank = 0;
  int64_t o_groups = 0;
  Share heads, groups;  ///< this rank's: whole groups of the output projection
  int64_t o_lora_rank = 0;
  int64_t sliding_window = 0;
  bool norm_query_heads = false;  ///< an RMS norm of each head of q, without a weight
  double rms_norm_eps = 0;
  int64_t index_n_heads = 0, index_head_dim = 0, index_topk = 0;
  RopeSpec main_rope;      ///< of layers with a window alone
  RopeSpec compress_rope;  ///< of the others, in all their parts
  PlaneHandle window_plane;

  static Result<SharedKvSpec> from_config(const Config& config, const ModelSpec& model);
  /// Adds the fields for people; layers: the kinds of the layers in words.
  void add_fields(ModelSpec& model, const std::string& layers) const;
  /// Of this rank's heads.
  [[nodiscard]] int64_t query_width() const { return heads.count * head_dim; }
  /// Keys and values of the last `sliding_window` positions, in a group of their own. The unit of
  /// reuse becomes whole blocks that hold a window.
  PlaneHandle add_window(ModelSpec& model, PlaneGroup group, int64_t layers) const;
};

/// Tokens that a block of each plane group covers, whatever the group's ratio.
constexpr int64_t kBlockTokens = 128;

/// Of this rank's heads and groups, but for an indexer's.
struct SharedKvWeights {
  Weight* wq_a = nullptr;       // [q_lora_rank, hidden]
  Weight* q_norm = nullptr;     // [q_lora_rank]
  Weight* wq_b = nullptr;       // [heads head_dim, q_lora_rank]
  Weight* wkv = nullptr;        // [head_dim, hidden]
  Weight* kv_norm = nullptr;    // [head_dim]
  Weight* attn_sink = nullptr;  // [heads]
  Weight* wo_a = nullptr;       // [o_groups, o_lora_rank, heads head_dim / o_groups]
  Weight* wo_b = nullptr;       // [hidden, o_groups o_lora_rank]
  // of a layer that chooses among entries:
  Weight* index_wq_b = nullptr;          // [index heads index_head_dim, q_lora_rank]
  Weight* index_weights_proj = nullptr;  // [index heads, hidden]
};

/// The tables of the two rotations, [rope / 2].
struct InvFreqWeights {
  Weight *main = nullptr, *compress = nullptr;
};
InvFreqWeights bind_inv_freq(WeightBinder& binder, const SharedKvSpec& spec);

/// The rotation of the last numbers of a head of `width`; compressed: in a layer with entries.
Rope end_rope(const SharedKvSpec& spec, const InvFreqWeights& inv_freq, bool compressed,
              int64_t width);

/// `prefix` ends in a dot: "layers.2.attn.". chooses: the layer has an indexer.
SharedKvWeights bind_shared_kv(WeightBinder& binder, const std::string& prefix,
                               const SharedKvSpec& spec, int64_t hidden, bool chooses);

/// c_q = norm(W_qa h), and q made of it and turned.   h [T, hidden], c_q [T, q_lora_rank], q [T,
/// heads head_dim]
void shared_kv_queries(Ops& ops, const SharedKvSpec& spec, const SharedKvWeights& w,
                       const Rope& rope, Tensor h, Tensor c_q, Tensor q);

/// Writes kv, turned, to the window.   h [T, hidden]
void shared_kv_window(Ops& ops, const SharedKvSpec& spec, const SharedKvWeights& w,
                      const Rope& rope, const PlaneLayer& window, Tensor h);

/// By what an indexer scores entries.
struct IndexQueries {
  Tensor q{};       // [T, index heads, index_head_dim]
  Tensor weight{};  // [T, index heads]
};
IndexQueries index_queries(Ops& ops, Scratch& scratch, const SharedKvSpec& spec,
                           const SharedKvWeights& w, const Rope& rope, Tensor h, Tensor c_q);

/// f = the output projection of what q finds in the window and among the entries, summed over the
/// ranks.   f [T, hidden]
void shared_kv_output(Ops& ops, const SharedKvSpec& spec, const SharedKvWeights& w, Rope rope,
                      Tensor q, const LatentSegment& window,
                      const std::optional<LatentSegment>& entries, Tensor f);

/// f = Attn(h) of a layer with a window alone, which the rows are written to. block: the rows are
/// those of drafts, so many a sequence, each of which sees a whole window before the block, and all
/// of the block (its `horizon` is the block's last position); 0: each row sees its own window.
void shared_kv_window_attention(Ops& ops, const SharedKvSpec& spec, const SharedKvWeights& w,
                                const Rope& rope, const PlaneLayer& window, int64_t block, Tensor h,
                                Tensor f);

}  // namespace hadal
