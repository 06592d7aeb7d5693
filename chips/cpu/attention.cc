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

#include "plan.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

constexpr int64_t kT = kAttentionTile;
constexpr int64_t kQueries =
    48;  ///< queries (rows x heads of a group) of a task at most, or one row's
constexpr float kMinus = -std::numeric_limits<float>::infinity();

struct Views {
  View q, k, v, position, row_seq, table, first, out;
  const float* sink;
  int64_t rows, heads, kv_heads, group, dim, dim_v, slots;
  float scale;
  int64_t window;

  Views(const Run& run, const hadal_op& op)
      : q(run.view(op, HADAL_GQA_ATTENTION_Q)),
        k(run.view(op, HADAL_GQA_ATTENTION_K)),
        v(run.view(op, HADAL_GQA_ATTENTION_V)),
        position(run.view(op, HADAL_GQA_ATTENTION_POSITION)),
        row_seq(run.view(op, HADAL_GQA_ATTENTION_ROW_SEQ)),
        table(run.view(op, HADAL_GQA_ATTENTION_BLOCK_TABLE)),
        first(run.view(op, HADAL_GQA_ATTENTION_FIRST)),
        out(run.view(op, HADAL_GQA_ATTENTION_OUT)) {
    const View s = run.view(op, HADAL_GQA_ATTENTION_SINK);
    sink = s.present() ? weight_of(s.weight)->values() : nullptr;
    rows = q.extents[0];
    heads = q.extents[1];
    kv_heads = op.attr.attention.kv_heads;
    group = heads / kv_heads;
    dim = q.extents[2];
    dim_v = out.extents[2];
    slots = k.extents[1];
    scale = op.attr.attention.scale;
    window = op.attr.attention.window;
  }
  [[nodiscard]] int64_t sequence(int64_t row) const { return *row_seq.row<int32_t>(row); }
  [[nodiscard]] int64_t high(int64_t row) const { return int64_t{*position.row<int32_t>(row)} + 1; }
  [[nodiscard]] int64_t low(int64_t row) const {
    int64_t lo = std::max<int64_t>(0, *first.row<int32_t>(sequence(row)));
    if (window > 0) lo = std::max(lo, high(row) - window);
    return lo;
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

/// Positions [lo, hi) of a tile as floats, at index position - base.
void load_tile(const Run& run, const View& plane, const int32_t* blocks, int64_t slots,
               int64_t head, int64_t dim, int64_t base, int64_t lo, int64_t hi, float* out) {
  const int64_t element = plane.strides[2];
  for (int64_t p = lo; p < hi; ++p) {
    const std::byte* from = plane.data + blocks[p / slots] * plane.strides[0] +
                            p % slots * plane.strides[1] + head * dim * element;
    float* to = out + (p - base) * dim;
    switch (plane.dtype) {
      case HADAL_F16:
        run.kernels.f16_to_f32(reinterpret_cast<const uint16_t*>(from), to, dim);
        break;
      case HADAL_BF16:
        run.kernels.bf16_to_f32(reinterpret_cast<const uint16_t*>(from), to, dim);
        break;
      default:
        std::memcpy(to, from, static_cast<size_t>(dim) * sizeof(float));
    }
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

/// One tile for rows [from, to) of one sequence and one KV head: parts in temp.part, m and l of
/// each query in tm, tl (tm = -inf: the row sees nothing of this tile).
void tile_parts(const Run& run, const Views& a, const Temp& temp, int64_t from, int64_t to,
                int64_t head, int64_t tile, float* tm, float* tl) {
  const int64_t base = tile * kT;
  int64_t lo = kT, hi = 0;
  bool same = true;
  int64_t lows[kQueries], highs[kQueries];
  for (int64_t r = from; r < to; ++r) {
    const int64_t x = std::clamp<int64_t>(a.low(r) - base, 0, kT),
                  y = std::clamp<int64_t>(a.high(r) - base, 0, kT);
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
  const int32_t* blocks = a.table.row<int32_t>(a.sequence(from));
  load_tile(run, a.k, blocks, a.slots, head, a.dim, base, base + lo, base + hi, temp.k);
  load_tile(run, a.v, blocks, a.slots, head, a.dim_v, base, base + lo, base + hi, temp.v);
  run.kernels.scores(temp.q, a.dim, queries, temp.k + lo * a.dim, a.dim, hi - lo, a.scale,
                     temp.s + lo);
  for (int64_t i = 0; i < queries; ++i) {
    const int64_t r = i / a.group;
    if (lows[r] < highs[r])
      tm[i] = run.kernels.softmax(temp.s + i * kT, lows[r], highs[r], &tl[i]);
    else
      tm[i] = kMinus;
  }
  if (same) {
    run.kernels.weigh(temp.s, queries, temp.v, a.dim_v, lo, hi, temp.part, a.dim_v);
    return;
  }
  for (int64_t r = 0; r < to - from; ++r)
    if (lows[r] < highs[r])
      run.kernels.weigh(temp.s + r * a.group * kT, a.group, temp.v, a.dim_v, lows[r], highs[r],
                        temp.part + r * a.group * a.dim_v, a.dim_v);
}

void load_queries(const Views& a, const Temp& temp, int64_t from, int64_t to, int64_t head) {
  for (int64_t r = from; r < to; ++r)
    for (int64_t g = 0; g < a.group; ++g)
      std::memcpy(temp.q + ((r - from) * a.group + g) * a.dim,
                  a.q.row<float>(r, head * a.group + g),
                  static_cast<size_t>(a.dim) * sizeof(float));
}

/// Rows [from, to) of one sequence, one KV head, all tiles.
void whole_rows(const Run& run, const Views& a, const Temp& temp, int64_t from, int64_t to,
                int64_t head, float* tm, float* tl) {
  const int64_t queries = (to - from) * a.group;
  load_queries(a, temp, from, to, head);
  std::fill(temp.m, temp.m + queries, kMinus);
  std::fill(temp.l, temp.l + queries, 0.0f);
  std::fill(temp.o, temp.o + queries * a.dim_v, 0.0f);
  int64_t lo = std::numeric_limits<int64_t>::max(), hi = 0;
  for (int64_t r = from; r < to; ++r) {
    lo = std::min(lo, a.low(r));
    hi = std::max(hi, a.high(r));
  }
  for (int64_t tile = lo / kT; tile * kT < hi; ++tile) {
    tile_parts(run, a, temp, from, to, head, tile, tm, tl);
    for (int64_t i = 0; i < queries; ++i)
      merge_part(run.kernels, temp.o + i * a.dim_v, temp.m + i, temp.l + i, temp.part + i * a.dim_v,
                 tm[i], tl[i], a.dim_v);
  }
  for (int64_t i = 0; i < queries; ++i) {
    const int64_t h = head * a.group + i % a.group;
    finish_query(run.kernels, temp.o + i * a.dim_v, temp.m[i], temp.l[i], a.sink, h, a.dim_v,
                 a.out.row<float>(from + i / a.group, h));
  }
}

/// The parts of split attention in the workspace: [row][head][tile][m, l, o].
struct Parts {
  float* data;
  int64_t tiles, width;
  Parts(const Run& run, const Stage& stage, const Views& a)
      : data(reinterpret_cast<float*>(run.workspace + stage.buffer)),
        tiles((a.table.extents[1] * a.slots + kT - 1) / kT),
        width(a.dim_v + 2) {}
  [[nodiscard]] float* at(const Views& a, int64_t row, int64_t head, int64_t tile) const {
    return data + ((row * a.heads + head) * tiles + tile) * width;
  }
};

constexpr int64_t kTilesOfTask = 4;

}  // namespace

uint64_t attention_temp_bytes(int64_t dim, int64_t dim_v, int64_t heads, int64_t kv_heads) {
  const int64_t group = heads / std::max<int64_t>(1, kv_heads);
  return static_cast<uint64_t>(Temp::floats(dim, dim_v, group) + 2 * Temp::queries(group)) *
         sizeof(float);
}

uint64_t attention_parts_bytes(const hadal_tensor& q, const hadal_tensor& k, const hadal_tensor& v,
                               const hadal_tensor& table, const hadal_attention_attr& attr,
                               const int64_t* limits) {
  constexpr uint64_t kMost = uint64_t{256} << 20;
  const int64_t rows = std::min(kSplitRows, q.extents[0] * limits[q.row_dim]);
  const int64_t tiles = (table.extents[1] * k.extents[1] + kT - 1) / kT;
  const int64_t width = v.extents[2] / std::max<int64_t>(1, attr.kv_heads) + 2;
  const uint64_t bytes = static_cast<uint64_t>(rows * q.extents[1] * tiles * width) * sizeof(float);
  return tiles < 2 * kTilesOfTask || bytes > kMost ? 0 : bytes;
}

bool attention_splits(const Run& run, const hadal_op& op, const Stage& stage) {
  if (stage.buffer_bytes == 0 || run.workers == 1) return false;
  const Views a(run, op);
  if (a.rows == 0 || a.rows > kSplitRows || a.rows * a.kv_heads >= 8 * run.workers) return false;
  int64_t tiles = 0;
  for (int64_t r = 0; r < a.rows; ++r)
    tiles = std::max(tiles, (a.high(r) + kT - 1) / kT - a.low(r) / kT);
  return tiles >= 2 * kTilesOfTask;
}

void run_attention(const Run& run, const hadal_op& op, const Stage& stage, size_t index,
                   Worker& worker) {
  const Views a(run, op);
  if (a.rows == 0) return;
  const Temp temp(worker.temp, a);
  float* tm = temp.l + Temp::queries(a.group);
  float* tl = tm + Temp::queries(a.group);
  if (attention_splits(run, op, stage)) {
    const Parts parts(run, stage, a);
    const int64_t pieces = (parts.tiles + kTilesOfTask - 1) / kTilesOfTask;
    run.share(index, a.rows * a.kv_heads * pieces, [&](int64_t task) {
      const int64_t r = task / pieces / a.kv_heads, head = task / pieces % a.kv_heads,
                    piece = task % pieces;
      const int64_t begin = std::max(piece * kTilesOfTask, a.low(r) / kT);
      const int64_t end = std::min((piece + 1) * kTilesOfTask, (a.high(r) + kT - 1) / kT);
      if (begin >= end) return;
      load_queries(a, temp, r, r + 1, head);
      for (int64_t tile = begin; tile < end; ++tile) {
        tile_parts(run, a, temp, r, r + 1, head, tile, tm, tl);
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
  const int64_t most = std::max<int64_t>(1, kQueries / a.group);
  const int64_t block =
      std::clamp<int64_t>(a.rows * a.kv_heads / (int64_t{4} * run.workers), 1, most);
  const int64_t blocks = (a.rows + block - 1) / block;
  run.share(index, blocks * a.kv_heads, [&](int64_t task) {
    const int64_t head = task % a.kv_heads,
                  last = std::min(a.rows, (task / a.kv_heads + 1) * block);
    for (int64_t from = task / a.kv_heads * block; from < last;) {
      int64_t to = from + 1;
      while (to < last && a.sequence(to) == a.sequence(from)) ++to;
      whole_rows(run, a, temp, from, to, head, tm, tl);
      from = to;
    }
  });
}

void run_attention_merge(const Run& run, const hadal_op& op, const Stage& stage, size_t index,
                         Worker& worker) {
  const Views a(run, op);
  const Parts parts(run, stage, a);
  float* o = reinterpret_cast<float*>(worker.temp);
  run.share(index, a.rows * a.heads, [&](int64_t task) {
    const int64_t r = task / a.heads, head = task % a.heads;
    float m = kMinus, l = 0.0f;
    std::fill(o, o + a.dim_v, 0.0f);
    for (int64_t tile = a.low(r) / kT; tile * kT < a.high(r); ++tile) {
      const float* part = parts.at(a, r, head, tile);
      merge_part(run.kernels, o, &m, &l, part + 2, part[0], part[1], a.dim_v);
    }
    finish_query(run.kernels, o, m, l, a.sink, head, a.dim_v, a.out.row<float>(r, head));
  });
}

}  // namespace hadal::cpu
