// index_topk: scores of all visible entries, then the k largest.
//
// Scores are made in tiles of 64 entries on the absolute grid, so it does not matter who makes
// which. In steps of few rows the tiles are shared among the workers and the scores go through the
// workspace; in others every row is one task.
#include <algorithm>
#include <vector>

#include "plan.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

constexpr int64_t kT = kAttentionTile;
constexpr int64_t kTilesOfTask = 8;

struct Views {
  View q, weight, position, row_seq, plane, table, first, list;
  int64_t rows, heads, dim, slots, ratio, entries;
  Views(const Run& run, const hadal_op& op)
      : q(run.view(op, HADAL_INDEX_TOPK_Q)),
        weight(run.view(op, HADAL_INDEX_TOPK_WEIGHT)),
        position(run.view(op, HADAL_INDEX_TOPK_POSITION)),
        row_seq(run.view(op, HADAL_INDEX_TOPK_ROW_SEQ)),
        plane(run.view(op, HADAL_INDEX_TOPK_PLANE)),
        table(run.view(op, HADAL_INDEX_TOPK_BLOCK_TABLE)),
        first(run.view(op, HADAL_INDEX_TOPK_FIRST)),
        list(run.view(op, HADAL_INDEX_TOPK_LIST)),
        rows(q.extents[0]),
        heads(q.extents[1]),
        dim(q.extents[2]),
        slots(plane.extents[1]),
        ratio(op.attr.index.ratio),
        entries(table.extents[1] * slots) {}
  [[nodiscard]] int64_t high(int64_t row) const {
    return (int64_t{*position.row<int32_t>(row)} + 1) / ratio;
  }
  [[nodiscard]] int64_t low(int64_t row) const {
    const int64_t from = std::max(0, *first.row<int32_t>(*row_seq.row<int32_t>(row)));
    return (from + ratio - 1) / ratio;
  }
};

/// Worker memory, in floats: a tile of keys, the heads of a query, their products, a row's scores.
struct Temp {
  float *keys, *q, *products, *scores;
  Temp(uint8_t* memory, const Views& a)
      : keys(reinterpret_cast<float*>(memory)),
        q(keys + kT * a.dim),
        products(q + a.heads * a.dim),
        scores(products + a.heads * kT) {}
};

/// Scores of the entries [from, to) of one tile, into out[entry].
void score_tile(const Run& run, const Views& a, const Temp& temp, int64_t row, int64_t from,
                int64_t to, float* out) {
  const int32_t* blocks = a.table.row<int32_t>(*a.row_seq.row<int32_t>(row));
  for (int64_t e = from; e < to; ++e)
    load_numbers(run.kernels, a.plane.dtype,
                 a.plane.row<std::byte>(blocks[e / a.slots], e % a.slots), a.dim,
                 temp.keys + (e - from) * a.dim);
  run.kernels.scores(temp.q, a.dim, a.heads, temp.keys, a.dim, to - from, 1.0f, temp.products);
  const float* weight = a.weight.row<float>(row);
  for (int64_t e = from; e < to; ++e) {
    float sum = 0;
    for (int64_t h = 0; h < a.heads; ++h)
      sum += weight[h] * std::max(0.0f, temp.products[h * kT + e - from]);
    out[e] = sum;
  }
}

void score_range(const Run& run, const Views& a, const Temp& temp, int64_t row, int64_t from,
                 int64_t to, float* out) {
  for (int64_t h = 0; h < a.heads; ++h)
    std::copy_n(a.q.row<float>(row, h), a.dim, temp.q + h * a.dim);
  for (int64_t e = from; e < to; e = (e / kT + 1) * kT)
    score_tile(run, a, temp, row, e, std::min(to, (e / kT + 1) * kT), out);
}

void select(const Views& a, int64_t row, const float* scores) {
  const int64_t begin = a.low(row), end = std::max(begin, a.high(row)), k = a.list.extents[1];
  int32_t* out = a.list.row<int32_t>(row);
  std::fill(out, out + k, -1);
  if (end - begin <= k) {
    for (int64_t e = begin; e < end; ++e) out[e - begin] = static_cast<int32_t>(e);
    return;
  }
  std::vector<int32_t> order;
  order.reserve(static_cast<size_t>(end - begin));
  for (int64_t e = begin; e < end; ++e) order.push_back(static_cast<int32_t>(e));
  std::nth_element(order.begin(), order.begin() + k, order.end(), [&](int32_t x, int32_t y) {
    return scores[x] > scores[y] || (scores[x] == scores[y] && x < y);
  });
  std::copy_n(order.begin(), k, out);
  std::sort(out, out + k);
}

}  // namespace

uint64_t index_temp_bytes(int64_t heads, int64_t dim, int64_t entries) {
  return static_cast<uint64_t>(kT * dim + heads * (dim + kT) + entries) * sizeof(float);
}

uint64_t index_scores_bytes(int64_t rows, int64_t entries) {
  return static_cast<uint64_t>(std::min(rows, kSplitRows) * entries) * sizeof(float);
}

bool index_splits(const Run& run, const hadal_op& op, const Stage& stage) {
  if (stage.buffer_bytes == 0 || run.workers == 1) return false;
  const Views a(run, op);
  int64_t most = 0;
  for (int64_t r = 0; r < std::min(a.rows, kSplitRows); ++r)
    most = std::max(most, a.high(r) - a.low(r));
  return a.rows <= kSplitRows && most >= 2 * kTilesOfTask * kT;
}

void run_index_topk(const Run& run, const hadal_op& op, const Stage& stage, size_t index,
                    Worker& worker) {
  const Views a(run, op);
  const Temp temp(worker.temp, a);
  if (!index_splits(run, op, stage)) {
    run.share(index, a.rows, [&](int64_t row) {
      // No scores are needed where everything fits.
      if (a.high(row) - a.low(row) > a.list.extents[1])
        score_range(run, a, temp, row, a.low(row), a.high(row), temp.scores);
      select(a, row, temp.scores);
    });
    return;
  }
  float* scores = reinterpret_cast<float*>(run.workspace + stage.buffer);
  const int64_t width = kTilesOfTask * kT, pieces = (a.entries + width - 1) / width;
  run.share(index, a.rows * pieces, [&](int64_t task) {
    const int64_t row = task / pieces, piece = task % pieces;
    const int64_t from = std::max(a.low(row), piece * width),
                  to = std::min(a.high(row), (piece + 1) * width);
    if (from < to) score_range(run, a, temp, row, from, to, scores + row * a.entries);
  });
}

void run_index_select(const Run& run, const hadal_op& op, const Stage& stage, size_t index) {
  const Views a(run, op);
  const float* scores = reinterpret_cast<const float*>(run.workspace + stage.buffer);
  run.share(index, a.rows, [&](int64_t row) { select(a, row, scores + row * a.entries); });
}

}  // namespace hadal::cpu
