// index_topk and index_blocks: scores of what a row searches, then the k largest entries, or the
// blocks of the k largest.
//
// What a row searches is numbered: entries by themselves or, with candidate blocks, those of one
// block after the other, so that the work follows the candidates. Scores are made in tiles of 64
// numbers, each of its own entry alone: it does not matter who makes which, nor what lies beside
// it. Of blocks only the maxima are kept. In steps of few rows tiles are shared among the workers
// and what is kept goes through the workspace; in others every row is one task.
#include <algorithm>
#include <vector>

#include "plan.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

static_assert(uint32_t{HADAL_INDEX_TOPK_Q} == uint32_t{HADAL_INDEX_BLOCKS_Q} &&
              uint32_t{HADAL_INDEX_TOPK_LIST} == uint32_t{HADAL_INDEX_BLOCKS_LIST});

constexpr int64_t kT = kAttentionTile;
constexpr int64_t kNumbersOfTask = 8 * kT;

/// Numbers that choosing needs of a row: scores of entries, or maxima of blocks. `candidates`: -1
/// for none.
int64_t kept_of(const hadal_op& op, int64_t entries, int64_t candidates) {
  const int64_t size = op.attr.index.block_size;
  if (op.id == HADAL_OP_INDEX_BLOCKS) return (entries + size - 1) / size;
  if (candidates < 0) return entries;
  return std::min(entries, std::min(candidates, (entries + size - 1) / size) * size);
}
int64_t kept_of(const hadal_op& op, const hadal_tensor* t) {
  const bool searches =
      op.id == HADAL_OP_INDEX_TOPK && t[HADAL_INDEX_TOPK_CANDIDATES].space != HADAL_SPACE_NONE;
  return kept_of(op,
                 t[HADAL_INDEX_TOPK_BLOCK_TABLE].extents[1] * t[HADAL_INDEX_TOPK_PLANE].extents[1],
                 searches ? t[HADAL_INDEX_TOPK_CANDIDATES].extents[1] : -1);
}

/// What a row searches: the numbers [begin, end). Without blocks a number is its entry.
struct Search {
  int64_t begin = 0, end = 0;
  const int32_t* blocks = nullptr;
  int64_t size = 1;

  [[nodiscard]] int64_t count() const { return end - begin; }
  [[nodiscard]] int64_t entry(int64_t number) const {
    return blocks ? blocks[number / size] * size + number % size : number;
  }
};

struct Views {
  View q, weight, position, row_seq, plane, table, first, list, candidates;
  bool of_blocks;
  int64_t rows, heads, dim, slots, ratio, block_size, entries, kept;

  Views(const Run& run, const hadal_op& op)
      : q(run.view(op, HADAL_INDEX_TOPK_Q)),
        weight(run.view(op, HADAL_INDEX_TOPK_WEIGHT)),
        position(run.view(op, HADAL_INDEX_TOPK_POSITION)),
        row_seq(run.view(op, HADAL_INDEX_TOPK_ROW_SEQ)),
        plane(run.view(op, HADAL_INDEX_TOPK_PLANE)),
        table(run.view(op, HADAL_INDEX_TOPK_BLOCK_TABLE)),
        first(run.view(op, HADAL_INDEX_TOPK_FIRST)),
        list(run.view(op, HADAL_INDEX_TOPK_LIST)),
        of_blocks(op.id == HADAL_OP_INDEX_BLOCKS),
        rows(q.extents[0]),
        heads(q.extents[1]),
        dim(q.extents[2]),
        slots(plane.extents[1]),
        ratio(op.attr.index.ratio),
        block_size(op.attr.index.block_size),
        entries(table.extents[1] * slots) {
    if (!of_blocks) candidates = run.view(op, HADAL_INDEX_TOPK_CANDIDATES);
    kept = kept_of(op, entries, candidates.present() ? candidates.extents[1] : -1);
  }

  [[nodiscard]] Search search(int64_t row) const {
    const int64_t from = std::max(0, *first.row<int32_t>(*row_seq.row<int32_t>(row)));
    const int64_t low = (from + ratio - 1) / ratio,
                  high = std::max(low, (int64_t{*position.row<int32_t>(row)} + 1) / ratio);
    if (!candidates.present()) return {.begin = low, .end = high};
    const int32_t* begin = candidates.row<int32_t>(row);
    const int32_t* end =
        std::find_if(begin, begin + candidates.extents[1], [](int32_t block) { return block < 0; });
    begin = std::partition_point(begin, end,
                                 [&](int64_t block) { return (block + 1) * block_size <= low; });
    end =
        std::partition_point(begin, end, [&](int64_t block) { return block * block_size < high; });
    if (begin == end) return {};
    // Only the first and the last block can be seen in part.
    return {
        .begin = std::max<int64_t>(0, low - *begin * block_size),
        .end = (end - begin - 1) * block_size + std::min(block_size, high - end[-1] * block_size),
        .blocks = begin,
        .size = block_size};
  }
  /// Blocks that compete: the last one is listed whatever its score.
  [[nodiscard]] int64_t first_block(const Search& s) const { return s.begin / block_size; }
  [[nodiscard]] int64_t last_block(const Search& s) const { return (s.end - 1) / block_size; }

  /// No scores are needed where everything fits.
  [[nodiscard]] bool needs_scores(const Search& s) const {
    const int64_t k = list.extents[1];
    if (!of_blocks) return k > 0 && s.count() > k;
    return k > 1 && s.count() > 0 && last_block(s) - first_block(s) > k - 1;
  }
  /// Numbers of a task: blocks are whole in it.
  [[nodiscard]] int64_t task() const {
    return of_blocks ? std::max<int64_t>(1, kNumbersOfTask / block_size) * block_size
                     : kNumbersOfTask;
  }
};

/// Worker memory, in floats: a tile of keys, the heads of a query, their products, the scores of a
/// tile, what a row keeps.
struct Temp {
  float *keys, *q, *products, *scores, *kept;
  Temp(uint8_t* memory, const Views& a)
      : keys(reinterpret_cast<float*>(memory)),
        q(keys + kT * a.dim),
        products(q + a.heads * a.dim),
        scores(products + a.heads * kT),
        kept(scores + kT) {}
};

/// Scores of at most 64 numbers [from, to), into temp.scores.
void score_tile(const Run& run, const Views& a, const Temp& temp, int64_t row, const Search& s,
                int64_t from, int64_t to) {
  const int32_t* pages = a.table.row<int32_t>(*a.row_seq.row<int32_t>(row));
  for (int64_t i = from; i < to; ++i) {
    const int64_t e = s.entry(i);
    load_numbers(run.kernels, a.plane.dtype,
                 a.plane.row<std::byte>(pages[e / a.slots], e % a.slots), a.dim,
                 temp.keys + (i - from) * a.dim);
  }
  run.kernels.scores(temp.q, a.dim, a.heads, temp.keys, a.dim, to - from, 1.0f, temp.products);
  run.kernels.relu_weigh(temp.products, a.weight.row<float>(row), a.heads, temp.scores);
}

/// Scores of the numbers [from, to): into kept[number], or their maxima into kept[block].
void score_range(const Run& run, const Views& a, const Temp& temp, int64_t row, const Search& s,
                 int64_t from, int64_t to, float* kept) {
  for (int64_t h = 0; h < a.heads; ++h)
    std::copy_n(a.q.row<float>(row, h), a.dim, temp.q + h * a.dim);
  for (int64_t i = from; i < to;) {
    const int64_t end = std::min(to, (i / kT + 1) * kT);
    score_tile(run, a, temp, row, s, i, end);
    if (!a.of_blocks) std::copy_n(temp.scores, end - i, kept + i);
    for (const float* score = temp.scores; i < end; ++i, ++score)
      if (a.of_blocks) {
        float& best = kept[i / a.block_size];
        best = i == from || i % a.block_size == 0 ? *score : std::max(best, *score);
      }
  }
}

/// The k numbers of [begin, end) of which the largest is kept, ascending. Returns their end.
int32_t* choose(const float* kept, int64_t begin, int64_t end, int64_t k, int32_t* out) {
  std::vector<int32_t> order;
  if (k > 0) order.reserve(static_cast<size_t>(end - begin));
  for (int64_t i = begin; k > 0 && i < end; ++i) order.push_back(static_cast<int32_t>(i));
  if (end - begin > k && k > 0) {
    std::nth_element(order.begin(), order.begin() + k, order.end(), [&](int32_t x, int32_t y) {
      return kept[x] > kept[y] || (kept[x] == kept[y] && x < y);
    });
    order.resize(static_cast<size_t>(k));
    std::sort(order.begin(), order.end());
  }
  return std::copy(order.begin(), order.end(), out);
}

void select(const Views& a, int64_t row, const Search& s, const float* kept) {
  const int64_t k = a.list.extents[1];
  int32_t* out = a.list.row<int32_t>(row);
  int32_t* end = out;
  if (!a.of_blocks) {
    end = choose(kept, s.begin, s.end, k, out);
    for (int32_t* at = out; s.blocks && at < end; ++at) *at = static_cast<int32_t>(s.entry(*at));
  } else if (k > 0 && s.count() > 0) {
    end = choose(kept, a.first_block(s), a.last_block(s), k - 1, out);
    *end++ = static_cast<int32_t>(a.last_block(s));
  }
  std::fill(end, out + k, -1);
}

}  // namespace

uint64_t index_temp_bytes(const hadal_op& op, const hadal_tensor* t) {
  const int64_t heads = t[HADAL_INDEX_TOPK_Q].extents[1], dim = t[HADAL_INDEX_TOPK_Q].extents[2];
  return static_cast<uint64_t>(kT * dim + heads * (dim + kT) + kT + kept_of(op, t)) * sizeof(float);
}

uint64_t index_kept_bytes(const hadal_op& op, const hadal_tensor* t, int64_t rows) {
  return static_cast<uint64_t>(std::min(rows, kSplitRows) * kept_of(op, t)) * sizeof(float);
}

bool index_splits(const Run& run, const hadal_op& op, const Stage& stage) {
  if (stage.buffer_bytes == 0 || run.workers == 1) return false;
  const Views a(run, op);
  if (a.rows > kSplitRows) return false;
  int64_t most = 0;
  for (int64_t r = 0; r < a.rows; ++r) most = std::max(most, a.search(r).count());
  return most >= 2 * kNumbersOfTask;
}

void run_index(const Run& run, const hadal_op& op, const Stage& stage, size_t index,
               Worker& worker) {
  const Views a(run, op);
  const Temp temp(worker.temp, a);
  if (!index_splits(run, op, stage)) {
    run.share(index, a.rows, [&](int64_t row) {
      const Search s = a.search(row);
      if (a.needs_scores(s)) score_range(run, a, temp, row, s, s.begin, s.end, temp.kept);
      select(a, row, s, temp.kept);
    });
    return;
  }
  float* kept = reinterpret_cast<float*>(run.workspace + stage.buffer);
  const int64_t width = a.task(), pieces = ((a.of_blocks ? a.entries : a.kept) + width - 1) / width;
  run.share(index, a.rows * pieces, [&](int64_t task) {
    const int64_t row = task / pieces, piece = task % pieces;
    const Search s = a.search(row);
    const int64_t from = std::max(s.begin, piece * width),
                  to = std::min(s.end, (piece + 1) * width);
    if (from < to && a.needs_scores(s))
      score_range(run, a, temp, row, s, from, to, kept + row * a.kept);
  });
}

void run_index_select(const Run& run, const hadal_op& op, const Stage& stage, size_t index) {
  const Views a(run, op);
  const float* kept = reinterpret_cast<const float*>(run.workspace + stage.buffer);
  run.share(index, a.rows,
            [&](int64_t row) { select(a, row, a.search(row), kept + row * a.kept); });
}

}  // namespace hadal::cpu
