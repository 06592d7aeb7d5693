// Tiny models of DeepSeek-V4 and V4.1: residual streams with hyper-connections, one key for all
// heads in a window and in compressed entries; in V4.1 entries of a source that later layers read,
// candidate blocks, and an n-gram memory.   x: [T, kStreams kWidth], updated in place.
#include <cmath>

#include "levels/recorder.h"

namespace hadal::conformance {
namespace {

constexpr int64_t kWidth = Tiny::kWidth, kStreams = 2, kMixed = kStreams * (kStreams + 2);
constexpr int64_t kHeads = 4, kDim = 32, kTurned = 8, kQueryRank = 32, kGroups = 2, kOutRank = 32;
constexpr int64_t kIndexHeads = 2, kChosen = 3, kBlocksChosen = 4;
constexpr uint32_t kWindow = 6, kSparse = 4, kHeavy = 8, kSource = 2, kBlockSize = 2;

/// What goes from layer to layer.
struct Flow {
  int32_t x = -1;    // the streams
  int32_t pre = -1;  // V4.1: how the site before collapses them
  int32_t list = -1, blocks = -1, entries = -1;
  Turn turn;
};

int32_t streams(Recorder& r, int32_t x) { return r.view(x, 0, {1, kStreams, kWidth}); }

hadal_attributes hyper() {
  hadal_attributes attr{};
  attr.hc = {.norm_eps = 1e-6f, .eps = 1e-6f, .iterations = 3};
  return attr;
}

Recorder::Operands seen(const Recorder& r, std::initializer_list<uint32_t> operands) {
  const int32_t tensors[] = {r.step.position, r.step.row_seq, r.step.block_table, r.step.first};
  Recorder::Operands found;
  const int32_t* next = tensors;
  for (const uint32_t operand : operands) found.emplace_back(operand, *next++);
  return found;
}

Recorder::Operands with(Recorder::Operands some, const Recorder::Operands& more) {
  some.insert(some.end(), more.begin(), more.end());
  return some;
}

/// Rows of a compressor, what it makes of them, without its rotation.
int32_t compressed(Recorder& r, int32_t h, uint32_t ratio, bool overlap, bool with_ape) {
  const int64_t width = overlap ? 2 * kDim : kDim;
  const int32_t rows = r.rows(2 * width);
  r.product_into(h, kWidth, r.view(rows, 0, {1, width}), width);
  r.product_into(h, kWidth, r.view(rows, width, {1, width}), width);
  const int32_t plane = r.plane(HADAL_PLANE_COMPRESSOR_ROW, 2 * width, 1, HADAL_F32);
  r.kv_write(rows, plane);
  const int32_t ape = with_ape ? r.randoms(ratio * width, 0.3f) : -1;
  const int32_t entry = r.rows(kDim);
  hadal_attributes attr{};
  attr.compress = {.ratio = ratio, .overlap = overlap ? 1u : 0u};
  r.emit(HADAL_OP_COMPRESS,
         {{HADAL_COMPRESS_PLANE, plane},
          {HADAL_COMPRESS_APE, ape},
          {HADAL_COMPRESS_POSITION, r.step.position},
          {HADAL_COMPRESS_ROW_SEQ, r.step.row_seq},
          {HADAL_COMPRESS_BLOCK_TABLE, r.step.block_table},
          {HADAL_COMPRESS_OUT, entry}},
         attr);
  r.norm(entry, entry, kDim);
  return entry;
}

int32_t keep(Recorder& r, int32_t entry, uint32_t role, uint32_t ratio, Turn turn) {
  turn.ratio = ratio;
  r.turn(r.view(entry, 0, {1, 1, kDim}), turn);
  const int32_t plane = r.plane(role, kDim);
  r.kv_write(entry, plane, ratio);
  return plane;
}

struct IndexQueries {
  int32_t q, weight;
};

IndexQueries index_queries(Recorder& r, int32_t h, int32_t c_q, const Turn& turn) {
  const int32_t q = r.product(c_q, kQueryRank, kIndexHeads * kDim);
  const int32_t heads = r.view(q, 0, {1, kIndexHeads, kDim});
  r.turn(heads, turn);
  return {heads, r.product(h, kWidth, kIndexHeads)};
}

int32_t choose(Recorder& r, const IndexQueries& index, int32_t keys, uint32_t ratio,
               int32_t candidates) {
  const int32_t list = r.choice(kChosen);
  hadal_attributes attr{};
  attr.index = {.ratio = ratio, .block_size = candidates >= 0 ? kBlockSize : 0};
  r.emit(HADAL_OP_INDEX_TOPK,
         with({{HADAL_INDEX_TOPK_Q, index.q},
               {HADAL_INDEX_TOPK_WEIGHT, index.weight},
               {HADAL_INDEX_TOPK_PLANE, keys},
               {HADAL_INDEX_TOPK_CANDIDATES, candidates},
               {HADAL_INDEX_TOPK_LIST, list}},
              seen(r, {HADAL_INDEX_TOPK_POSITION, HADAL_INDEX_TOPK_ROW_SEQ,
                       HADAL_INDEX_TOPK_BLOCK_TABLE, HADAL_INDEX_TOPK_FIRST})),
         attr);
  return list;
}

int32_t choose_blocks(Recorder& r, const IndexQueries& index, int32_t keys, uint32_t ratio) {
  const int32_t list = r.choice(kBlocksChosen);
  hadal_attributes attr{};
  attr.index = {.ratio = ratio, .block_size = kBlockSize};
  r.emit(HADAL_OP_INDEX_BLOCKS,
         with({{HADAL_INDEX_BLOCKS_Q, index.q},
               {HADAL_INDEX_BLOCKS_WEIGHT, index.weight},
               {HADAL_INDEX_BLOCKS_PLANE, keys},
               {HADAL_INDEX_BLOCKS_LIST, list}},
              seen(r, {HADAL_INDEX_BLOCKS_POSITION, HADAL_INDEX_BLOCKS_ROW_SEQ,
                       HADAL_INDEX_BLOCKS_BLOCK_TABLE, HADAL_INDEX_BLOCKS_FIRST})),
         attr);
  return list;
}

/// Attention over the window and, with `ratio`, entries.
struct Segments {
  int32_t window = -1, entries = -1, list = -1;
  uint32_t ratio = 0;
};

/// f = W_b W_a attention: the values carry the rotation of the keys, which is taken back.
int32_t attend(Recorder& r, int32_t q, const Segments& s, Turn turn) {
  const int32_t o = r.rows(kHeads * kDim);
  const int32_t heads = r.view(o, 0, {1, kHeads, kDim});
  hadal_attributes attr{};
  attr.latent.scale = 0.18f;
  attr.latent.segments[0] = {.ratio = 1, .window = kWindow};
  if (s.entries >= 0) attr.latent.segments[1] = {.ratio = s.ratio, .window = 0};
  Recorder::Operands operands =
      with({{HADAL_LATENT_ATTENTION_Q, q},
            {HADAL_LATENT_ATTENTION_PLANE, s.window},
            {HADAL_LATENT_ATTENTION_SINK, r.randoms(kHeads, 0.5f)},
            {HADAL_LATENT_ATTENTION_OUT, heads}},
           seen(r, {HADAL_LATENT_ATTENTION_POSITION, HADAL_LATENT_ATTENTION_ROW_SEQ,
                    HADAL_LATENT_ATTENTION_BLOCK_TABLE, HADAL_LATENT_ATTENTION_FIRST}));
  if (s.entries >= 0)
    operands = with(operands, {{HADAL_LATENT_ATTENTION_PLANE2, s.entries},
                               {HADAL_LATENT_ATTENTION_BLOCK_TABLE2, r.step.block_table},
                               {HADAL_LATENT_ATTENTION_FIRST2, r.step.first},
                               {HADAL_LATENT_ATTENTION_LIST2, s.list}});
  r.emit(HADAL_OP_LATENT_ATTENTION, operands, attr);
  turn.inverse = 1;
  r.turn(heads, turn);
  const int32_t u = r.rows(kGroups * kOutRank);
  const int64_t part = kHeads * kDim / kGroups;
  const int32_t w_a = r.weight(kOutRank, part, HADAL_USE_MATMUL, kGroups);
  r.emit(HADAL_OP_MATMUL, {{HADAL_MATMUL_X, r.view(o, 0, {1, kGroups, part})},
                           {HADAL_MATMUL_W, w_a},
                           {HADAL_MATMUL_OUT, r.view(u, 0, {1, kGroups, kOutRank})}});
  return r.product(u, kGroups * kOutRank, kWidth);
}

struct Queries {
  int32_t c_q, q, window;
};

Queries queries(Recorder& r, int32_t h, const Turn& turn) {
  const int32_t c_q = r.product(h, kWidth, kQueryRank);
  r.norm(c_q, c_q, kQueryRank);
  const int32_t q = r.product(c_q, kQueryRank, kHeads * kDim);
  const int32_t heads = r.view(q, 0, {1, kHeads, kDim});
  hadal_attributes attr{};
  attr.norm.eps = 1e-6f;
  r.emit(HADAL_OP_NORM, {{HADAL_NORM_X, heads}, {HADAL_NORM_OUT, heads}}, attr);
  r.turn(heads, turn);
  const int32_t kv = r.product(h, kWidth, kDim);
  r.norm(kv, kv, kDim);
  return {c_q, heads, keep(r, kv, HADAL_PLANE_WINDOW, 1, turn)};
}

/// Layer 0: the window alone; 1: chosen entries that overlap; 2: all entries of a larger ratio.
int32_t attention_v4(Recorder& r, int64_t layer, int32_t h, const Flow& flow) {
  const Queries q = queries(r, h, flow.turn);
  Segments segments = {.window = q.window};
  if (layer == 0) return attend(r, q.q, segments, flow.turn);
  segments.ratio = layer == 1 ? kSparse : kHeavy;
  const int32_t entry = compressed(r, h, segments.ratio, layer == 1, true);
  segments.entries = keep(r, entry, HADAL_PLANE_ENTRY, segments.ratio, flow.turn);
  if (layer == 1) {
    const int32_t key = compressed(r, h, kSparse, true, true);
    const int32_t keys = keep(r, key, HADAL_PLANE_INDEX_KEY, kSparse, flow.turn);
    segments.list = choose(r, index_queries(r, h, q.c_q, flow.turn), keys, kSparse, -1);
  }
  return attend(r, q.q, segments, flow.turn);
}

/// Layer 0 makes entries, index keys and the choice; the others read them.
int32_t attention_v41(Recorder& r, int64_t layer, int32_t h, Flow& flow) {
  const Queries q = queries(r, h, flow.turn);
  if (layer == 0) {
    const int32_t latent = compressed(r, h, kSource, false, false);
    const int32_t key = r.product(latent, kDim, kDim);
    r.norm(key, key, kDim);
    const int32_t keys = keep(r, key, HADAL_PLANE_INDEX_KEY, kSource, flow.turn);
    flow.entries = keep(r, latent, HADAL_PLANE_ENTRY, kSource, flow.turn);
    const IndexQueries index = index_queries(r, h, q.c_q, flow.turn);
    flow.blocks = choose_blocks(r, index, keys, kSource);
    flow.list = choose(r, index, keys, kSource, flow.blocks);
  }
  return attend(r, q.q,
                {.window = q.window, .entries = flow.entries, .list = flow.list, .ratio = kSource},
                flow.turn);
}

/// x += what an n-gram looked up.
void record_engram(Recorder& r, int32_t x) {
  const int32_t kv = r.product(r.step.looked_up, Tiny::kLookedUp, (kStreams + 1) * kWidth);
  hadal_attributes attr{};
  attr.engram = {.eps = 1e-6f, .floor = 1e-6f};
  r.emit(HADAL_OP_ENGRAM_GATE,
         {{HADAL_ENGRAM_GATE_X, streams(r, x)},
          {HADAL_ENGRAM_GATE_KEY, r.view(kv, 0, {1, kStreams, kWidth})},
          {HADAL_ENGRAM_GATE_VALUE, r.view(kv, kStreams * kWidth, {1, kWidth})},
          {HADAL_ENGRAM_GATE_Q_WEIGHT, r.constant(kStreams * kWidth, 0.5f)},
          {HADAL_ENGRAM_GATE_K_WEIGHT, r.constant(kStreams * kWidth, 0.5f)}},
         attr);
}

/// A sublayer between the collapse of the streams and their merge.
template <typename Sublayer>
void site(Recorder& r, Flow& flow, bool first, Sublayer sublayer) {
  const bool delayed = flow.pre >= 0;
  const int32_t mix = r.product(flow.x, kStreams * kWidth, kMixed);
  int32_t h = r.rows(kWidth);
  const int32_t post = r.rows(kStreams);
  const int32_t comb =
      r.tensor(HADAL_F32, HADAL_SPACE_SCRATCH, HADAL_DIM_T, {1, kStreams, kStreams});
  const int32_t base = r.randoms(kMixed, 0.3f), scale = r.vector({0.1f, 0.1f, 0.1f});
  // Before the first site of V4.1 the first stream is all there is.
  const bool none = delayed && first;
  r.emit(HADAL_OP_HC_PRE,
         {{HADAL_HC_PRE_X, streams(r, flow.x)},
          {HADAL_HC_PRE_MIX, mix},
          {HADAL_HC_PRE_BASE, base},
          {HADAL_HC_PRE_SCALE, scale},
          {HADAL_HC_PRE_OUT, none ? -1 : h},
          {HADAL_HC_PRE_POST, post},
          {HADAL_HC_PRE_COMB, comb},
          {HADAL_HC_PRE_PRE, flow.pre}},
         hyper());
  const int32_t from = none ? r.view(flow.x, 0, {1, kWidth}) : h;
  r.norm(from, h, kWidth);
  const int32_t f = sublayer(h);
  r.emit(HADAL_OP_HC_POST,
         {{HADAL_HC_POST_X, streams(r, flow.x)},
          {HADAL_HC_POST_F, f},
          {HADAL_HC_POST_POST, post},
          {HADAL_HC_POST_COMB, comb}},
         hyper());
}

/// The streams at the rows whose logits are wanted, collapsed.
int32_t collapse_last(Recorder& r, const Flow& flow) {
  const auto gather = [&](int32_t x, int64_t width) {
    const int32_t last = r.rows(width, HADAL_DIM_R);
    r.emit(HADAL_OP_GATHER_ROWS, {{HADAL_GATHER_ROWS_X, x},
                                  {HADAL_GATHER_ROWS_INDEX, r.step.logit_row},
                                  {HADAL_GATHER_ROWS_OUT, last}});
    return last;
  };
  const int32_t last = gather(flow.x, kStreams * kWidth);
  const int32_t h = r.rows(kWidth, HADAL_DIM_R);
  Recorder::Operands operands = {{HADAL_HC_PRE_X, streams(r, last)}, {HADAL_HC_PRE_OUT, h}};
  if (flow.pre >= 0) {
    operands.emplace_back(HADAL_HC_PRE_PRE, gather(flow.pre, kStreams));
  } else {
    operands.emplace_back(HADAL_HC_PRE_MIX, r.product(last, kStreams * kWidth, kStreams));
    operands.emplace_back(HADAL_HC_PRE_BASE, r.randoms(kStreams, 0.3f));
    operands.emplace_back(HADAL_HC_PRE_SCALE, r.vector({0.1f}));
  }
  r.emit(HADAL_OP_HC_PRE, operands, hyper());
  return h;
}

}  // namespace

void record_v4(Recorder& r, int32_t table, bool delayed) {
  Flow flow;
  flow.x = r.rows(kStreams * kWidth);
  if (delayed) flow.pre = r.rows(kStreams);
  flow.turn = {.first = kDim - kTurned,
               .dims = kTurned,
               .interleaved = 1,
               .inv_freq = r.frequencies(kTurned)};
  for (int64_t i = 0; i < kStreams; ++i)
    r.emit(HADAL_OP_EMBED, {{HADAL_EMBED_TOKEN, r.step.token},
                            {HADAL_EMBED_TABLE, table},
                            {HADAL_EMBED_OUT, r.view(flow.x, i * kWidth, {1, kWidth})}});
  const int64_t layers = delayed ? 2 : 3;
  for (int64_t layer = 0; layer < layers; ++layer) {
    if (delayed && layer == 1) record_engram(r, flow.x);
    site(r, flow, layer == 0, [&](int32_t h) {
      return delayed ? attention_v41(r, layer, h, flow) : attention_v4(r, layer, h, flow);
    });
    site(r, flow, false, [&](int32_t h) {
      const int32_t f = r.rows(kWidth);
      record_experts(r, h, Scores::kSqrtSoftplus, f, -1);
      return f;
    });
  }
  r.record_end(collapse_last(r, flow), table);
}

}  // namespace hadal::conformance
