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

#include "ops/numbers.h"
#include "ops/operators.h"
#include "runtime/planner.h"

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

  explicit Views(const Call& call)
      : q(call.view(HADAL_INDEX_TOPK_Q)),
        weight(call.view(HADAL_INDEX_TOPK_WEIGHT)),
        position(call.view(HADAL_INDEX_TOPK_POSITION)),
        row_seq(call.view(HADAL_INDEX_TOPK_ROW_SEQ)),
        plane(call.view(HADAL_INDEX_TOPK_PLANE)),
        table(call.view(HADAL_INDEX_TOPK_BLOCK_TABLE)),
        first(call.view(HADAL_INDEX_TOPK_FIRST)),
        list(call.view(HADAL_INDEX_TOPK_LIST)),
        of_blocks(call.op.id == HADAL_OP_INDEX_BLOCKS),
        rows(q.extents[0]),
        heads(q.extents[1]),
        dim(q.extents[2]),
        slots(plane.extents[1]),
        ratio(call.op.attr.index.ratio),
        block_size(call.op.attr.index.block_size),
        entries(table.extents[1] * slots) {
    if (!of_blocks) candidates = call.view(HADAL_INDEX_TOPK_CANDIDATES);
    kept = kept_of(call.op, entries, candidates.present() ? candidates.extents[1] : -1);
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
void score_tile(const Call& call, const Views& a, const Temp& temp, int64_t row, const Search& s,
                int64_t from, int64_t to) {
  const int32_t* pages = a.table.row<int32_t>(*a.row_seq.row<int32_t>(row));
  const int64_t groups = (to - from + kPanel - 1) / kPanel;
  for (int64_t g = 0; g < groups; ++g) {
    const uint8_t* rows[kPanel];
    for (int64_t i = 0; i < kPanel; ++i) {
      const int64_t e = s.entry(std::min(from + g * kPanel + i, to - 1));
      rows[i] = a.plane.row<uint8_t>(pages[e / a.slots], e % a.slots);
    }
    call.kernels().side_by_side[cache_layout(a.plane.dtype)](rows, nullptr, a.dim,
                                                             temp.keys + g * kPanel * a.dim);
  }
  call.kernels().scores({.q = temp.q,
                         .queries = a.heads,
                         .dim = a.dim,
                         .keys = temp.keys,
                         .groups = groups,
                         .out = temp.products});
  call.kernels().relu_weigh(temp.products, a.weight.row<float>(row), a.heads, temp.scores);
}

/// Scores of the numbers [from, to): into kept[number], or their maxima into kept[block].
void score_range(const Call& call, const Views& a, const Temp& temp, int64_t row, const Search& s,
                 int64_t from, int64_t to, float* kept) {
  for (int64_t h = 0; h < a.heads; ++h)
    std::copy_n(a.q.row<float>(row, h), a.dim, temp.q + h * a.dim);
  for (int64_t i = from; i < to;) {
    const int64_t end = std::min(to, (i / kT + 1) * kT);
    score_tile(call, a, temp, row, s, i, end);
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

Needs index_needs(const Query& query) {
  const hadal_tensor& q = query[HADAL_INDEX_TOPK_Q];
  const int64_t heads = q.extents[1], dim = q.extents[2], kept = kept_of(query.op, query.tensors);
  const auto floats = [](int64_t n) { return static_cast<uint64_t>(n) * sizeof(float); };
  return {.temp = floats(kT * dim + heads * (dim + kT) + kT + kept),
          .workspace = floats(std::min(query.rows(HADAL_INDEX_TOPK_Q), kSplitRows) * kept)};
}

/// Do the rows of this step share their work among the workers?
bool splits(const Call& call) {
  if (call.stage.buffers[0].bytes == 0 || call.run.workers == 1) return false;
  const Views a(call);
  if (a.rows > kSplitRows) return false;
  int64_t most = 0;
  for (int64_t r = 0; r < a.rows; ++r) most = std::max(most, a.search(r).count());
  return most >= 2 * kNumbersOfTask;
}

void search(const Call& call) {
  const Views a(call);
  const Temp temp(call.worker.temp, a);
  if (!splits(call)) {
    call.share(a.rows, [&](int64_t row) {
      const Search s = a.search(row);
      if (a.needs_scores(s)) score_range(call, a, temp, row, s, s.begin, s.end, temp.kept);
      select(a, row, s, temp.kept);
    });
    return;
  }
  float* kept = call.buffer<float>(0);
  const int64_t width = a.task(), pieces = ((a.of_blocks ? a.entries : a.kept) + width - 1) / width;
  call.share(a.rows * pieces, [&](int64_t task) {
    const int64_t row = task / pieces, piece = task % pieces;
    const Search s = a.search(row);
    const int64_t from = std::max(s.begin, piece * width),
                  to = std::min(s.end, (piece + 1) * width);
    if (from < to && a.needs_scores(s))
      score_range(call, a, temp, row, s, from, to, kept + row * a.kept);
  });
}

void choose_kept(const Call& call) {
  const Views a(call);
  const float* kept = call.buffer<float>(0);
  call.share(a.rows, [&](int64_t row) { select(a, row, a.search(row), kept + row * a.kept); });
}

void plan_index(Planner& planner, Stage main) {
  planner.push_in_two(main, {.run = choose_kept, .wanted = splits});
}

/// Of index_topk and index_blocks, which have the same operands up to LIST.
std::string index_indices(const Indices& at) {
  const View position = at.view(HADAL_INDEX_TOPK_POSITION),
             row_seq = at.view(HADAL_INDEX_TOPK_ROW_SEQ), plane = at.view(HADAL_INDEX_TOPK_PLANE),
             table = at.view(HADAL_INDEX_TOPK_BLOCK_TABLE), first = at.view(HADAL_INDEX_TOPK_FIRST),
             candidates =
                 at.op.id == HADAL_OP_INDEX_TOPK ? at.view(HADAL_INDEX_TOPK_CANDIDATES) : View();
  const int64_t slots = plane.extents[1], ratio = at.op.attr.index.ratio,
                entries = table.extents[1] * slots, size = at.op.attr.index.block_size,
                blocks = candidates.present() ? (entries + size - 1) / size : 0;
  HADAL_RETURN_IF_TEXT(at.in_range(HADAL_INDEX_TOPK_ROW_SEQ, 0, table.extents[0]));
  HADAL_RETURN_IF_TEXT(at.in_range(HADAL_INDEX_TOPK_POSITION, 0, entries * ratio));
  for (int64_t t = 0; t < position.extents[0]; ++t) {
    const int64_t s = *row_seq.row<int32_t>(t),
                  end = (int64_t{*position.row<int32_t>(t)} + 1) / ratio;
    const int64_t begin = (std::max<int64_t>(0, *first.row<int32_t>(s)) + ratio - 1) / ratio;
    const int32_t* pages = table.row<int32_t>(s);
    int64_t checked = 0;  // below it every page that is needed was looked at
    // A page of the entries [from, to) that is not mapped; -1: all are.
    const auto unmapped = [&](int64_t from, int64_t to) -> int64_t {
      if (to <= std::max(from, checked)) return -1;
      for (int64_t page = from / slots; page * slots < to; ++page) {
        if (pages[page] < 0 || pages[page] >= plane.extents[0]) return page;
        checked = (page + 1) * slots;
      }
      return -1;
    };
    const auto refuse = [&](int64_t page) {
      return at.outside(HADAL_INDEX_TOPK_BLOCK_TABLE, page, pages[page], 0, plane.extents[0]);
    };
    if (!candidates.present()) {
      if (const int64_t page = unmapped(begin, end); page >= 0) return refuse(page);
      continue;
    }
    // There may be thousands, a row: texts are for what is wrong.
    const int32_t* list = candidates.row<int32_t>(t);
    int64_t last = -1;
    for (int64_t i = 0; i < candidates.extents[1] && list[i] >= 0; ++i) {
      const int64_t block = list[i];
      if (block <= last || block >= blocks)
        return at.outside(HADAL_INDEX_TOPK_CANDIDATES, i, block, last + 1, blocks);
      last = block;
      if (const int64_t page =
              unmapped(std::max(begin, block * size), std::min(end, (block + 1) * size));
          page >= 0)
        return refuse(page);
    }
  }
  return {};
}

}  // namespace

const Operator kIndexTopk = {.id = HADAL_OP_INDEX_TOPK,
                             .run = search,
                             .query = index_needs,
                             .indices = index_indices,
                             .plan = plan_index};
const Operator kIndexBlocks = {.id = HADAL_OP_INDEX_BLOCKS,
                               .run = search,
                               .query = index_needs,
                               .indices = index_indices,
                               .plan = plan_index};

}  // namespace hadal::cpu
