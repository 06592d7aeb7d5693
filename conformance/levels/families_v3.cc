// Tiny models of the families up to V3.2: grouped-query attention or latent attention, a dense
// feed-forward or experts.   x: [T, kWidth], the residual stream, updated in place.
#include "levels/recorder.h"

namespace hadal::conformance {
namespace {

constexpr int64_t kWidth = Tiny::kWidth, kHeads = 4, kKvHeads = 2, kHeadDim = 16, kInner = 96,
                  kLayers = 2;
constexpr int64_t kNope = 32, kPe = 16, kValue = 32, kQueryRank = 32, kRank = 32;
constexpr int64_t kIndexHeads = 2, kIndexDim = 32, kChosen = 8;
constexpr int64_t kExperts = 8, kFan = 2, kExpertInner = 32;

/// h -> x += attention over keys and values of their own.
void record_gqa(Recorder& r, int32_t h, int32_t x) {
  const int32_t qkv = r.product(h, kWidth, (kHeads + 2 * kKvHeads) * kHeadDim);
  // Views of the merged product: heads of q, k and v in rows that are wider than they are.
  const int32_t q = r.view(qkv, 0, {1, kHeads, kHeadDim});
  const int32_t k = r.view(qkv, kHeads * kHeadDim, {1, kKvHeads, kHeadDim});
  const int32_t k_row = r.view(qkv, kHeads * kHeadDim, {1, kKvHeads * kHeadDim});
  const int32_t v_row = r.view(qkv, (kHeads + kKvHeads) * kHeadDim, {1, kKvHeads * kHeadDim});
  const Turn turn = {.dims = kHeadDim, .inv_freq = r.frequencies(kHeadDim)};
  r.turn(q, turn);
  r.turn(k, turn);
  const int32_t keys = r.plane(HADAL_PLANE_KEY, kKvHeads * kHeadDim, kKvHeads);
  const int32_t values = r.plane(HADAL_PLANE_VALUE, kKvHeads * kHeadDim, kKvHeads);
  r.kv_write(k_row, keys);
  r.kv_write(v_row, values);
  const int32_t mixed = r.rows(kHeads * kHeadDim);
  hadal_attributes attr{};
  attr.attention = {.scale = 0.05f, .kv_heads = kKvHeads, .window = 0};
  r.emit(HADAL_OP_GQA_ATTENTION,
         {{HADAL_GQA_ATTENTION_Q, q},
          {HADAL_GQA_ATTENTION_K, keys},
          {HADAL_GQA_ATTENTION_V, values},
          {HADAL_GQA_ATTENTION_POSITION, r.step.position},
          {HADAL_GQA_ATTENTION_ROW_SEQ, r.step.row_seq},
          {HADAL_GQA_ATTENTION_BLOCK_TABLE, r.step.block_table},
          {HADAL_GQA_ATTENTION_FIRST, r.step.first},
          {HADAL_GQA_ATTENTION_OUT, r.view(mixed, 0, {1, kHeads, kHeadDim})}},
         attr);
  r.product_into(mixed, kHeads * kHeadDim, x, kWidth, x);
}

/// The entries that each row attends to.
int32_t record_indexer(Recorder& r, int32_t h, int32_t c_q, const Turn& pe) {
  Turn turn = pe;
  turn.interleaved = 0;
  const int32_t key = r.product(h, kWidth, kIndexDim);
  hadal_attributes layer{}, index{};
  layer.norm = {.eps = 1e-6f, .layer = 1};
  r.emit(HADAL_OP_NORM,
         {{HADAL_NORM_X, key},
          {HADAL_NORM_W, r.constant(kIndexDim, 0.5f)},
          {HADAL_NORM_B, r.randoms(kIndexDim, 0.1f)},
          {HADAL_NORM_OUT, key}},
         layer);
  r.turn(r.view(key, 0, {1, 1, kIndexDim}), turn);
  const int32_t keys = r.plane(HADAL_PLANE_INDEX_KEY, kIndexDim);
  r.kv_write(key, keys);
  const int32_t q = r.product(c_q, kQueryRank, kIndexHeads * kIndexDim);
  const int32_t q_heads = r.view(q, 0, {1, kIndexHeads, kIndexDim});
  r.turn(q_heads, turn);
  const int32_t weight = r.product(h, kWidth, kIndexHeads);
  const int32_t list = r.choice(kChosen);
  index.index = {.ratio = 1, .block_size = 0};
  r.emit(HADAL_OP_INDEX_TOPK,
         {{HADAL_INDEX_TOPK_Q, q_heads},
          {HADAL_INDEX_TOPK_WEIGHT, weight},
          {HADAL_INDEX_TOPK_POSITION, r.step.position},
          {HADAL_INDEX_TOPK_ROW_SEQ, r.step.row_seq},
          {HADAL_INDEX_TOPK_PLANE, keys},
          {HADAL_INDEX_TOPK_BLOCK_TABLE, r.step.block_table},
          {HADAL_INDEX_TOPK_FIRST, r.step.first},
          {HADAL_INDEX_TOPK_LIST, list}},
         index);
  return list;
}

/// h -> x += attention over latents; `sparse`: over those that an indexer chooses.
void record_mla(Recorder& r, int32_t h, int32_t x, bool sparse) {
  const Turn turn = {.dims = kPe, .interleaved = 1, .inv_freq = r.frequencies(kPe)};
  const int32_t c_q = r.product(h, kWidth, kQueryRank);
  r.norm(c_q, c_q, kQueryRank);
  const int32_t list = sparse ? record_indexer(r, h, c_q, turn) : -1;
  const int32_t q = r.product(c_q, kQueryRank, kHeads * (kNope + kPe));
  const auto part = [&](int64_t from, int64_t width) {
    const int32_t heads = r.view(q, from, {1, kHeads, width});
    r.tensors[static_cast<size_t>(heads)].strides[1] = (kNope + kPe) * 4;
    return heads;
  };
  const int32_t q_nope = part(0, kNope), q_pe = part(kNope, kPe);
  r.turn(q_pe, turn);
  const int32_t kv = r.product(h, kWidth, kRank + kPe);
  const int32_t c_kv = r.view(kv, 0, {1, kRank});
  r.norm(c_kv, c_kv, kRank);
  r.turn(r.view(kv, kRank, {1, 1, kPe}), turn);
  const int32_t latents = r.plane(HADAL_PLANE_LATENT, kRank + kPe);
  r.kv_write(kv, latents);
  const int32_t w_uk = r.weight(kRank, kNope, HADAL_USE_MATMUL, kHeads);
  const int32_t w_uv = r.weight(kValue, kRank, HADAL_USE_MATMUL, kHeads);
  const int32_t out = r.rows(kHeads * kValue);
  hadal_attributes attr{};
  attr.latent.scale = 0.1f;
  attr.latent.segments[0] = {.ratio = 1, .window = 0};
  r.emit(HADAL_OP_MLA_ATTENTION,
         {{HADAL_MLA_ATTENTION_Q_NOPE, q_nope},
          {HADAL_MLA_ATTENTION_Q_ROPE, q_pe},
          {HADAL_MLA_ATTENTION_W_UK, w_uk},
          {HADAL_MLA_ATTENTION_W_UV, w_uv},
          {HADAL_MLA_ATTENTION_PLANE, latents},
          {HADAL_MLA_ATTENTION_POSITION, r.step.position},
          {HADAL_MLA_ATTENTION_ROW_SEQ, r.step.row_seq},
          {HADAL_MLA_ATTENTION_BLOCK_TABLE, r.step.block_table},
          {HADAL_MLA_ATTENTION_FIRST, r.step.first},
          {HADAL_MLA_ATTENTION_LIST, list},
          {HADAL_MLA_ATTENTION_OUT, r.view(out, 0, {1, kHeads, kValue})}},
         attr);
  r.product_into(out, kHeads * kValue, x, kWidth, x);
}

}  // namespace

void record_experts(Recorder& r, int32_t h, Scores scores, int32_t out, int32_t add) {
  const bool softmax = scores == Scores::kSoftmax;
  const int32_t logits = r.product(h, kWidth, kExperts);
  const int32_t expert = r.choice(kFan);
  const int32_t weight = r.rows(kFan);
  hadal_attributes router{}, experts{};
  router.router = {.score = softmax                      ? uint32_t{HADAL_ROUTER_SOFTMAX}
                            : scores == Scores::kSigmoid ? uint32_t{HADAL_ROUTER_SIGMOID}
                                                         : uint32_t{HADAL_ROUTER_SQRT_SOFTPLUS},
                   .groups = softmax ? 1u : 4u,
                   .groups_kept = softmax ? 1u : 2u,
                   .group_best = softmax ? 1u : 2u,
                   .normalise = softmax ? 0u : 1u,
                   .scale = softmax ? 1.0f : 1.5f};
  const int32_t bias = softmax ? -1 : r.randoms(kExperts, 0.05f);
  r.emit(HADAL_OP_ROUTER,
         {{HADAL_ROUTER_LOGITS, logits},
          {HADAL_ROUTER_BIAS, bias},
          {HADAL_ROUTER_EXPERT, expert},
          {HADAL_ROUTER_WEIGHT, weight}},
         router);
  const int32_t shared = r.gated(h, kExpertInner);
  const int32_t gate = r.weight(kExpertInner, kWidth, HADAL_USE_MATMUL, kExperts);
  const int32_t up = r.weight(kExpertInner, kWidth, HADAL_USE_MATMUL, kExperts);
  const int32_t down = r.weight(kWidth, kExpertInner, HADAL_USE_MATMUL, kExperts);
  experts.experts.fan = kFan;
  experts.experts.clamp = scores == Scores::kSqrtSoftplus ? 10.0f : 0.0f;
  r.emit(HADAL_OP_MOE_EXPERTS,
         {{HADAL_MOE_EXPERTS_X, h},
          {HADAL_MOE_EXPERTS_EXPERT, expert},
          {HADAL_MOE_EXPERTS_WEIGHT, weight},
          {HADAL_MOE_EXPERTS_GATE, gate},
          {HADAL_MOE_EXPERTS_UP, up},
          {HADAL_MOE_EXPERTS_DOWN, down},
          {HADAL_MOE_EXPERTS_SHARED, shared},
          {HADAL_MOE_EXPERTS_ADD, add},
          {HADAL_MOE_EXPERTS_OUT, out}},
         experts);
}

void record_family(Recorder& r, const std::string& family) {
  r.record_inputs();
  const int32_t table = r.weight(Tiny::kVocabulary, kWidth, HADAL_USE_GATHER | HADAL_USE_MATMUL);
  if (family == "v4" || family == "v4.1") return record_v4(r, table, family == "v4.1");
  const bool latent = family == "mla" || family == "v3.2";
  const int32_t x = r.rows(kWidth);
  r.emit(HADAL_OP_EMBED,
         {{HADAL_EMBED_TOKEN, r.step.token}, {HADAL_EMBED_TABLE, table}, {HADAL_EMBED_OUT, x}});
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    const int32_t h = r.rows(kWidth), h2 = r.rows(kWidth);
    r.norm(x, h, kWidth);
    if (latent)
      record_mla(r, h, x, family == "v3.2");
    else
      record_gqa(r, h, x);
    r.norm(x, h2, kWidth);
    if (family == "llama" || layer == 0)
      r.gated(h2, kInner, x);
    else
      record_experts(r, h2, latent ? Scores::kSigmoid : Scores::kSoftmax, x, x);
  }
  const int32_t last = r.rows(kWidth, HADAL_DIM_R);
  r.emit(HADAL_OP_GATHER_ROWS, {{HADAL_GATHER_ROWS_X, x},
                                {HADAL_GATHER_ROWS_INDEX, r.step.logit_row},
                                {HADAL_GATHER_ROWS_OUT, last}});
  r.record_end(last, table);
}

}  // namespace hadal::conformance
