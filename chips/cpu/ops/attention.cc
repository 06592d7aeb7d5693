// Attention over paged planes, on the absolute grid of positions.
//
// Positions are cut into tiles of 64. For each (row, head) a tile gives a maximum, a sum and a
// weighted row of V of its own; tiles are merged in ascending order by one formula. Which worker
// computes a tile, whether tiles are merged at once or from memory, and how many rows share the
// decoded tile, all leave the bits alone.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>

#include "contract/operators.h"
#include "ops/numbers.h"
#include "ops/operators.h"
#include "runtime/planner.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

constexpr int64_t kT = kAttentionTile;
constexpr int64_t kQueries =
    48;  ///< queries (rows x heads of a group) of a task at most, or one row's
constexpr int64_t kMostHeads = 64;  ///< of a task of latent attention
constexpr float kMinus = -std::numeric_limits<float>::infinity();

/// One cache that attention looks at. Entries are numbered by position div ratio, or by their place
/// in a list.
struct Segment {
  View k, v, table, first, list;
  int64_t slots = 1, ratio = 1, window = 0;

  /// Entries [low, high) are seen by a query at `position` of sequence `s`; without a list.
  [[nodiscard]] int64_t high(int64_t position) const { return (position + 1) / ratio; }
  [[nodiscard]] int64_t low(int64_t position, int64_t s) const {
    const int64_t from = (std::max<int64_t>(0, *first.row<int32_t>(s)) + ratio - 1) / ratio;
    return window > 0 ? std::max(from, high(position) - window) : from;
  }
};

/// The operands of gqa_attention or latent_attention. In the latter every head reads the same
/// entries, V is the front of K, and `kv_heads` is the number of runs of heads that are tasks of
/// their own: no bit depends on it.
struct Views {
  View q, tail, position, row_seq, out;
  Segment segments[2];
  int segment_count = 1;
  const float* sink = nullptr;
  bool latent = false, lists = false;
  int64_t rows, heads, kv_heads, group, dim, dim_v;
  float scale;

  explicit Views(const Call& call) : latent(call.op.id == HADAL_OP_LATENT_ATTENTION) {
    latent ? read_latent(call) : read_gqa(call);
    rows = q.extents[0];
    heads = q.extents[1];
    dim_v = out.extents[2];
    if (latent) kv_heads = head_runs(call.run.workers);
    group = heads / kv_heads;
  }
  [[nodiscard]] int64_t sequence(int64_t row) const { return *row_seq.row<int32_t>(row); }
  /// Entries of the segment that a row sees: indices into the list if there is one.
  [[nodiscard]] int64_t high(const Segment& g, int64_t row) const {
    const int64_t end = g.high(*position.row<int32_t>(row));
    if (!g.list.present()) return end;
    const int32_t* list = g.list.row<int32_t>(row);
    int64_t i = 0;
    while (i < g.list.extents[1] && list[i] >= 0 && list[i] < end) ++i;
    return i;
  }
  [[nodiscard]] int64_t low(const Segment& g, int64_t row) const {
    const int64_t begin = g.low(*position.row<int32_t>(row), sequence(row));
    if (!g.list.present()) return begin;
    const int32_t* list = g.list.row<int32_t>(row);
    int64_t i = 0;
    while (i < g.list.extents[1] && list[i] >= 0 && list[i] < begin) ++i;
    return i;
  }

 private:
  void read_gqa(const Call& call) {
    q = call.view(HADAL_GQA_ATTENTION_Q);
    position = call.view(HADAL_GQA_ATTENTION_POSITION);
    row_seq = call.view(HADAL_GQA_ATTENTION_ROW_SEQ);
    out = call.view(HADAL_GQA_ATTENTION_OUT);
    Segment& g = segments[0];
    g.k = call.view(HADAL_GQA_ATTENTION_K);
    g.v = call.view(HADAL_GQA_ATTENTION_V);
    g.table = call.view(HADAL_GQA_ATTENTION_BLOCK_TABLE);
    g.first = call.view(HADAL_GQA_ATTENTION_FIRST);
    g.slots = g.k.extents[1];
    g.window = call.op.attr.attention.window;
    sink = call.vector(HADAL_GQA_ATTENTION_SINK);
    kv_heads = call.op.attr.attention.kv_heads;
    dim = q.extents[2];
    scale = call.op.attr.attention.scale;
  }
  void read_latent(const Call& call) {
    q = call.view(HADAL_LATENT_ATTENTION_Q);
    tail = call.view(HADAL_LATENT_ATTENTION_TAIL);
    position = call.view(HADAL_LATENT_ATTENTION_POSITION);
    row_seq = call.view(HADAL_LATENT_ATTENTION_ROW_SEQ);
    out = call.view(HADAL_LATENT_ATTENTION_OUT);
    for (int i = 0; i < 2; ++i) {
      const contract::SegmentOperands& operands = contract::kLatentSegments[i];
      Segment& g = segments[i];
      g.k = call.view(operands.plane);
      if (!g.k.present()) continue;
      segment_count = i + 1;
      g.table = call.view(operands.block_table);
      g.first = call.view(operands.first);
      g.list = call.view(operands.list);
      g.slots = g.k.extents[1];
      g.ratio = call.op.attr.latent.segments[i].ratio;
      g.window = call.op.attr.latent.segments[i].window;
      lists = lists || g.list.present();
    }
    sink = call.vector(HADAL_LATENT_ATTENTION_SINK);
    dim = segments[0].k.extents[2];
    scale = call.op.attr.latent.scale;
  }
  // Runs of at most kMostHeads heads; shorter ones, down to eight, where there are too few tasks.
  [[nodiscard]] int64_t head_runs(int workers) const {
    int64_t runs = 1;
    const auto enough = [&] {
      const int64_t run = heads / runs;
      return run <= kMostHeads && (run <= 8 || rows * runs >= int64_t{2} * workers);
    };
    while (runs < heads && (heads % runs != 0 || !enough())) ++runs;
    return runs;
  }
};

/// Worker memory, in floats.
struct Temp {
  float *k, *v, *q, *s, *part, *o, *m, *l;
  static int64_t queries(int64_t group) { return std::max(kQueries, group); }
  static int64_t floats(int64_t dim, int64_t dim_v, int64_t group) {
    return kT * (dim + dim_v) + queries(group) * (dim + kT + 2 * dim_v + 2) + 64;
  }
  Temp(uint8_t* memory, const Views& a) {
    const int64_t n = queries(a.group);
    k = reinterpret_cast<float*>(memory);
    v = k + kT * a.dim;
    q = v + kT * a.dim_v;
    s = q + n * a.dim;
    part = s + n * kT;
    o = part + n * a.dim_v;
    m = o + n * a.dim_v;
    l = m + n;
  }
};

/// Entries [lo, hi) of a tile as floats, at index entry - base. `list`: what the entries stand for;
/// null: themselves.
void load_tile(const Call& call, const View& plane, const int32_t* blocks, int64_t slots,
               const int32_t* list, int64_t head, int64_t dim, int64_t base, int64_t lo, int64_t hi,
               float* out) {
  const int64_t element = plane.strides[2];
  for (int64_t i = lo; i < hi; ++i) {
    const int64_t p = list ? list[i] : i;
    const std::byte* from = plane.data + blocks[p / slots] * plane.strides[0] +
                            p % slots * plane.strides[1] + head * dim * element;
    float* to = out + (i - base) * dim;
    load_numbers(call.kernels(), plane.dtype, from, dim, to);
  }
}

/// o, m, l <- what has been merged so far, and a further tile's part.
void merge_part(const KernelTable& kernels, float* o, float* m, float* l, const float* part,
                float part_m, float part_l, int64_t dim) {
  if (part_m == kMinus) return;
  const float top = std::max(*m, part_m);
  // exp(0) is exactly 1, and one of the two is always that.
  const float a = *m == top ? 1.0f : kernels.exp1(*m - top),
              b = part_m == top ? 1.0f : kernels.exp1(part_m - top);
  *l = *l * a + part_l * b;
  *m = top;
  kernels.merge(o, part, a, b, dim);
}

/// The sink, and the division by the sum.
void finish_query(const KernelTable& kernels, float* o, float m, float l, const float* sink,
                  int64_t head, int64_t dim, float* out) {
  if (sink) {
    const float top = std::max(m, sink[head]);
    const float a = kernels.exp1(m - top);
    l = l * a + kernels.exp1(sink[head] - top);
    kernels.scale(o, a, dim);
  }
  if (m == kMinus) {  // nothing is seen
    std::memset(out, 0, static_cast<size_t>(dim) * sizeof(float));
    return;
  }
  kernels.scale(o, 1.0f / l, dim);
  std::memcpy(out, o, static_cast<size_t>(dim) * sizeof(float));
}

/// What the rows [from, to) see of a segment: entries [low, high) each, [lowest, highest) together.
struct Seen {
  int64_t low[kQueries], high[kQueries];
  int64_t lowest = std::numeric_limits<int64_t>::max(), highest = 0;
  Seen(const Views& a, const Segment& g, int64_t from, int64_t to) {
    for (int64_t r = from; r < to; ++r) {
      lowest = std::min(lowest, low[r - from] = a.low(g, r));
      highest = std::max(highest, high[r - from] = a.high(g, r));
    }
  }
};

/// One tile of a segment for rows [from, to) of one sequence and one KV head: parts in temp.part, m
/// and l of each query in tm, tl (tm = -inf: the row sees nothing of this tile).
void tile_parts(const Call& call, const Views& a, const Segment& g, const Seen& seen,
                const Temp& temp, int64_t from, int64_t to, int64_t head, int64_t tile, float* tm,
                float* tl) {
  const int64_t base = tile * kT;
  int64_t lo = kT, hi = 0;
  bool same = true;
  int64_t lows[kQueries], highs[kQueries];
  for (int64_t r = from; r < to; ++r) {
    const int64_t x = std::clamp<int64_t>(seen.low[r - from] - base, 0, kT),
                  y = std::clamp<int64_t>(seen.high[r - from] - base, 0, kT);
    lows[r - from] = x;
    highs[r - from] = std::max(x, y);
    if (x < y) {
      lo = std::min(lo, x);
      hi = std::max(hi, y);
    }
    same = same && x == lows[0] && y == highs[0];
  }
  const int64_t queries = (to - from) * a.group;
  if (lo >= hi) {
    std::fill(tm, tm + queries, kMinus);
    return;
  }
  const int32_t* blocks = g.table.row<int32_t>(a.sequence(from));
  const int32_t* list = g.list.present() ? g.list.row<int32_t>(from) : nullptr;
  load_tile(call, g.k, blocks, g.slots, list, a.latent ? 0 : head, a.dim, base, base + lo,
            base + hi, temp.k);
  const float* v = temp.v;
  if (!a.latent) {
    load_tile(call, g.v, blocks, g.slots, list, head, a.dim_v, base, base + lo, base + hi, temp.v);
  } else if (a.dim == a.dim_v) {
    v = temp.k;
  } else {
    for (int64_t e = lo; e < hi; ++e)
      std::memcpy(temp.v + e * a.dim_v, temp.k + e * a.dim,
                  static_cast<size_t>(a.dim_v) * sizeof(float));
  }
  call.kernels().scores(temp.q, a.dim, queries, temp.k + lo * a.dim, a.dim, hi - lo, a.scale,
                        temp.s + lo);
  for (int64_t i = 0; i < queries; ++i) {
    const int64_t r = i / a.group;
    if (lows[r] < highs[r])
      tm[i] = call.kernels().softmax(temp.s + i * kT, lows[r], highs[r], &tl[i]);
    else
      tm[i] = kMinus;
  }
  if (same) {
    call.kernels().weigh(temp.s, queries, v, a.dim_v, lo, hi, temp.part, a.dim_v);
    return;
  }
  for (int64_t r = 0; r < to - from; ++r)
    if (lows[r] < highs[r])
      call.kernels().weigh(temp.s + r * a.group * kT, a.group, v, a.dim_v, lows[r], highs[r],
                           temp.part + r * a.group * a.dim_v, a.dim_v);
}

void load_queries(const Views& a, const Temp& temp, int64_t from, int64_t to, int64_t head) {
  const int64_t front = a.q.extents[2];
  for (int64_t r = from; r < to; ++r)
    for (int64_t g = 0; g < a.group; ++g) {
      float* query = temp.q + ((r - from) * a.group + g) * a.dim;
      const int64_t h = head * a.group + g;
      std::memcpy(query, a.q.row<float>(r, h), static_cast<size_t>(front) * sizeof(float));
      if (front < a.dim)
        std::memcpy(query + front, a.tail.row<float>(r, h),
                    static_cast<size_t>(a.dim - front) * sizeof(float));
    }
}

/// Rows [from, to) of one sequence, one KV head, all tiles.
void whole_rows(const Call& call, const Views& a, const Temp& temp, int64_t from, int64_t to,
                int64_t head, float* tm, float* tl) {
  const int64_t queries = (to - from) * a.group;
  load_queries(a, temp, from, to, head);
  std::fill(temp.m, temp.m + queries, kMinus);
  std::fill(temp.l, temp.l + queries, 0.0f);
  std::fill(temp.o, temp.o + queries * a.dim_v, 0.0f);
  for (const Segment& g : std::span(a.segments, static_cast<size_t>(a.segment_count))) {
    const Seen seen(a, g, from, to);
    for (int64_t tile = seen.lowest / kT; tile * kT < seen.highest; ++tile) {
      tile_parts(call, a, g, seen, temp, from, to, head, tile, tm, tl);
      for (int64_t i = 0; i < queries; ++i)
        merge_part(call.kernels(), temp.o + i * a.dim_v, temp.m + i, temp.l + i,
                   temp.part + i * a.dim_v, tm[i], tl[i], a.dim_v);
    }
  }
  for (int64_t i = 0; i < queries; ++i) {
    const int64_t h = head * a.group + i % a.group;
    finish_query(call.kernels(), temp.o + i * a.dim_v, temp.m[i], temp.l[i], a.sink, h, a.dim_v,
                 a.out.row<float>(from + i / a.group, h));
  }
}

/// The parts of split attention in the workspace: [row][head][tile][m, l, o].
struct Parts {
  float* data;
  int64_t tiles, width;
  Parts(const Call& call, const Views& a)
      : data(call.buffer<float>(0)),
        tiles((a.segments[0].table.extents[1] * a.segments[0].slots + kT - 1) / kT),
        width(a.dim_v + 2) {}
  [[nodiscard]] float* at(const Views& a, int64_t row, int64_t head, int64_t tile) const {
    return data + ((row * a.heads + head) * tiles + tile) * width;
  }
};

constexpr int64_t kTilesOfTask = 4;

uint64_t temp_bytes(int64_t dim, int64_t dim_v, int64_t group) {
  return static_cast<uint64_t>(Temp::floats(dim, dim_v, group) + 2 * Temp::queries(group)) *
         sizeof(float);
}

Needs gqa_needs(const Query& query) {
  constexpr uint64_t kMost = uint64_t{256} << 20;
  const int64_t heads = query[HADAL_GQA_ATTENTION_Q].extents[1],
                dim_v = query[HADAL_GQA_ATTENTION_OUT].extents[2];
  const int64_t rows = std::min(kSplitRows, query.rows(HADAL_GQA_ATTENTION_Q));
  const int64_t tiles =
      (query[HADAL_GQA_ATTENTION_BLOCK_TABLE].extents[1] * query[HADAL_GQA_ATTENTION_K].extents[1] +
       kT - 1) /
      kT;
  const uint64_t parts = static_cast<uint64_t>(rows * heads * tiles * (dim_v + 2)) * sizeof(float);
  return {.temp = temp_bytes(query[HADAL_GQA_ATTENTION_Q].extents[2], dim_v,
                             heads / query.op.attr.attention.kv_heads),
          .workspace = tiles < 2 * kTilesOfTask || parts > kMost ? 0 : parts};
}

Needs latent_needs(const Query& query) {
  return {.temp = temp_bytes(query[HADAL_LATENT_ATTENTION_PLANE].extents[2],
                             query[HADAL_LATENT_ATTENTION_OUT].extents[2],
                             query[HADAL_LATENT_ATTENTION_Q].extents[1])};
}

/// Does attention of this step split over tiles?
bool splits(const Call& call) {
  if (call.stage.buffers[0].bytes == 0 || call.run.workers == 1) return false;
  const Views a(call);
  if (a.rows == 0 || a.rows > kSplitRows || a.rows * a.kv_heads >= 8 * call.run.workers)
    return false;
  int64_t tiles = 0;
  for (int64_t r = 0; r < a.rows; ++r)
    tiles =
        std::max(tiles, (a.high(a.segments[0], r) + kT - 1) / kT - a.low(a.segments[0], r) / kT);
  return tiles >= 2 * kTilesOfTask;
}

void attend(const Call& call) {
  const Views a(call);
  if (a.rows == 0) return;
  const Temp temp(call.worker.temp, a);
  float* tm = temp.l + Temp::queries(a.group);
  float* tl = tm + Temp::queries(a.group);
  if (splits(call)) {
    const Segment& segment = a.segments[0];
    const Parts parts(call, a);
    const int64_t pieces = (parts.tiles + kTilesOfTask - 1) / kTilesOfTask;
    call.share(a.rows * a.kv_heads * pieces, [&](int64_t task) {
      const int64_t r = task / pieces / a.kv_heads, head = task / pieces % a.kv_heads,
                    piece = task % pieces;
      const Seen seen(a, segment, r, r + 1);
      const int64_t begin = std::max(piece * kTilesOfTask, seen.lowest / kT);
      const int64_t end = std::min((piece + 1) * kTilesOfTask, (seen.highest + kT - 1) / kT);
      if (begin >= end) return;
      load_queries(a, temp, r, r + 1, head);
      for (int64_t tile = begin; tile < end; ++tile) {
        tile_parts(call, a, segment, seen, temp, r, r + 1, head, tile, tm, tl);
        for (int64_t g = 0; g < a.group; ++g) {
          float* to = parts.at(a, r, head * a.group + g, tile);
          to[0] = tm[g];
          to[1] = tl[g];
          std::memcpy(to + 2, temp.part + g * a.dim_v,
                      static_cast<size_t>(a.dim_v) * sizeof(float));
        }
      }
    });
    return;
  }
  // Rows of a task: as many as share a decoded tile well, fewer if there would be too few tasks.
  // A list belongs to one row.
  const int64_t most = a.lists ? 1 : std::max<int64_t>(1, kQueries / a.group);
  const int64_t block =
      std::clamp<int64_t>(a.rows * a.kv_heads / (int64_t{4} * call.run.workers), 1, most);
  const int64_t blocks = (a.rows + block - 1) / block;
  call.share(blocks * a.kv_heads, [&](int64_t task) {
    const int64_t head = task % a.kv_heads,
                  last = std::min(a.rows, (task / a.kv_heads + 1) * block);
    for (int64_t from = task / a.kv_heads * block; from < last;) {
      int64_t to = from + 1;
      while (to < last && a.sequence(to) == a.sequence(from)) ++to;
      whole_rows(call, a, temp, from, to, head, tm, tl);
      from = to;
    }
  });
}

void merge_parts(const Call& call) {
  const Views a(call);
  const Parts parts(call, a);
  float* o = reinterpret_cast<float*>(call.worker.temp);
  call.share(a.rows * a.heads, [&](int64_t task) {
    const int64_t r = task / a.heads, head = task % a.heads;
    float m = kMinus, l = 0.0f;
    std::fill(o, o + a.dim_v, 0.0f);
    for (int64_t tile = a.low(a.segments[0], r) / kT; tile * kT < a.high(a.segments[0], r);
         ++tile) {
      const float* part = parts.at(a, r, head, tile);
      merge_part(call.kernels(), o, &m, &l, part + 2, part[0], part[1], a.dim_v);
    }
    finish_query(call.kernels(), o, m, l, a.sink, head, a.dim_v, a.out.row<float>(r, head));
  });
}

void plan_attention(Planner& planner, Stage main) {
  planner.push_in_two(main, {.run = merge_parts, .wanted = splits});
}

std::string gqa_indices(const Indices& at) {
  const View position = at.view(HADAL_GQA_ATTENTION_POSITION),
             row_seq = at.view(HADAL_GQA_ATTENTION_ROW_SEQ);
  const View table = at.view(HADAL_GQA_ATTENTION_BLOCK_TABLE),
             first = at.view(HADAL_GQA_ATTENTION_FIRST);
  const View k = at.view(HADAL_GQA_ATTENTION_K), v = at.view(HADAL_GQA_ATTENTION_V);
  const int64_t slots = k.extents[1], blocks = std::min(k.extents[0], v.extents[0]),
                window = at.op.attr.attention.window;
  HADAL_RETURN_IF_TEXT(at.in_range(HADAL_GQA_ATTENTION_ROW_SEQ, 0, table.extents[0]));
  HADAL_RETURN_IF_TEXT(at.in_range(HADAL_GQA_ATTENTION_POSITION, 0, table.extents[1] * slots));
  // Rows of one sequence usually follow each other: their blocks are looked at once, from the
  // lowest to the highest seen.
  for (int64_t t = 0; t < position.extents[0];) {
    const int64_t s = *row_seq.row<int32_t>(t);
    int64_t lo = table.extents[1] * slots, hi = 0;
    for (; t < position.extents[0] && *row_seq.row<int32_t>(t) == s; ++t) {
      const int64_t end = int64_t{*position.row<int32_t>(t)} + 1;
      int64_t begin = std::max<int64_t>(0, *first.row<int32_t>(s));
      if (window > 0) begin = std::max(begin, end - window);
      if (begin >= end) continue;
      lo = std::min(lo, begin);
      hi = std::max(hi, end);
    }
    for (int64_t i = lo / slots; i * slots < hi; ++i)
      HADAL_RETURN_IF_TEXT(
          at.outside(HADAL_GQA_ATTENTION_BLOCK_TABLE, i, table.row<int32_t>(s)[i], 0, blocks));
  }
  return {};
}

std::string latent_indices(const Indices& at) {
  const View position = at.view(HADAL_LATENT_ATTENTION_POSITION),
             row_seq = at.view(HADAL_LATENT_ATTENTION_ROW_SEQ);
  for (int i = 0; i < 2; ++i) {
    const contract::SegmentOperands& operands = contract::kLatentSegments[i];
    const View plane = at.view(operands.plane), table = at.view(operands.block_table),
               first = at.view(operands.first), list = at.view(operands.list);
    if (!plane.present()) continue;
    const hadal_segment_attr& a = at.op.attr.latent.segments[i];
    const int64_t slots = plane.extents[1], ratio = a.ratio, window = a.window;
    const int64_t entries = table.extents[1] * slots;
    HADAL_RETURN_IF_TEXT(at.in_range(HADAL_LATENT_ATTENTION_ROW_SEQ, 0, table.extents[0]));
    HADAL_RETURN_IF_TEXT(at.in_range(HADAL_LATENT_ATTENTION_POSITION, 0, entries * ratio));
    for (int64_t t = 0; t < position.extents[0]; ++t) {
      const int64_t s = *row_seq.row<int32_t>(t);
      const auto mapped = [&](int64_t block) {
        return at.outside(operands.block_table, block, table.row<int32_t>(s)[block], 0,
                          plane.extents[0]);
      };
      const int64_t end = (int64_t{*position.row<int32_t>(t)} + 1) / ratio;
      int64_t begin = (std::max<int64_t>(0, *first.row<int32_t>(s)) + ratio - 1) / ratio;
      if (window > 0) begin = std::max(begin, end - window);
      if (!list.present()) {
        for (int64_t block = begin / slots; begin < end && block * slots < end; ++block)
          HADAL_RETURN_IF_TEXT(mapped(block));
        continue;
      }
      int64_t last = -1;
      for (int64_t n = 0; n < list.extents[1] && list.row<int32_t>(t)[n] >= 0; ++n) {
        const int64_t e = list.row<int32_t>(t)[n];
        HADAL_RETURN_IF_TEXT(at.outside(operands.list, n, e, last + 1, entries));
        last = e;
        if (e >= begin && e < end) HADAL_RETURN_IF_TEXT(mapped(e / slots));
      }
    }
  }
  return {};
}

}  // namespace

const Operator kGqaAttention = {.id = HADAL_OP_GQA_ATTENTION,
                                .run = attend,
                                .query = gqa_needs,
                                .indices = gqa_indices,
                                .plan = plan_attention};
const Operator kLatentAttention = {.id = HADAL_OP_LATENT_ATTENTION,
                                   .run = attend,
                                   .query = latent_needs,
                                   .indices = latent_indices};

}  // namespace hadal::cpu
