// Attention over paged planes, on the absolute grid of positions.
//
// Positions are cut into tiles of 64, tiles into pieces of 8. For each (row, head) a tile gives a
// maximum, a sum and a weighted row of V of its own; the tiles of a piece are merged in ascending
// order by one formula, then the pieces by the same. Which worker computes a piece, whether pieces
// are merged at once or from memory, and how many rows share the decoded tile, all leave the bits
// alone.
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
constexpr int64_t kPieceTiles = 8, kPiece = kPieceTiles * kT;
constexpr int64_t kQueries =
    48;  ///< queries (rows x heads of a group) of a task at most, or one row's
constexpr int64_t kMostHeads = 64;                    ///< of a task of latent attention
constexpr uint64_t kMostParts = uint64_t{256} << 20;  ///< bytes of split attention
constexpr float kMinus = -std::numeric_limits<float>::infinity();

int64_t pieces_of(int64_t entries) { return (entries + kPiece - 1) / kPiece; }

/// One cache that attention looks at. Entries are numbered by position div ratio, or by their place
/// in a list.
struct Segment {
  View k, v, table, first, list;
  int64_t slots = 1, ratio = 1, window = 0;
  int64_t first_piece = 0;  ///< among the pieces of all segments

  /// Entries [low, high) are seen by a query at `position` of sequence `s`; without a list.
  [[nodiscard]] int64_t high(int64_t position) const { return (position + 1) / ratio; }
  [[nodiscard]] int64_t low(int64_t position, int64_t s) const {
    const int64_t from = (std::max<int64_t>(0, *first.row<int32_t>(s)) + ratio - 1) / ratio;
    return window > 0 ? std::max(from, high(position) - window) : from;
  }
  /// Pieces that it can have.
  [[nodiscard]] int64_t pieces() const {
    return pieces_of(list.present() ? list.extents[1] : table.extents[1] * slots);
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
  int64_t pieces = 0;  ///< of all segments together
  int64_t split = 1;   ///< pieces that a row of this step is split into, at most; 1: it is not
  float scale;

  explicit Views(const Call& call) : latent(call.op.id == HADAL_OP_LATENT_ATTENTION) {
    latent ? read_latent(call) : read_gqa(call);
    rows = q.extents[0];
    heads = q.extents[1];
    dim_v = out.extents[2];
    for (Segment& g : all()) {
      g.first_piece = pieces;
      pieces += g.pieces();
    }
    split = splits(call);
    if (latent) kv_heads = head_runs(call.run.workers);
    group = heads / kv_heads;
  }
  [[nodiscard]] std::span<Segment> all() { return {segments, static_cast<size_t>(segment_count)}; }
  [[nodiscard]] std::span<const Segment> all() const {
    return {segments, static_cast<size_t>(segment_count)};
  }
  /// Numbers of a part of split attention: m, l, o.
  [[nodiscard]] int64_t part() const { return dim_v + 2; }
  [[nodiscard]] int64_t sequence(int64_t row) const { return *row_seq.row<int32_t>(row); }
  /// Entries of the segment that a row sees: indices into the list if there is one.
  [[nodiscard]] int64_t high(const Segment& g, int64_t row) const {
    return place(g, row, g.high(*position.row<int32_t>(row)));
  }
  [[nodiscard]] int64_t low(const Segment& g, int64_t row) const {
    return place(g, row, g.low(*position.row<int32_t>(row), sequence(row)));
  }

 private:
  /// How many of a row's list, which ascends and ends in -1, lie below an entry.
  static int64_t place(const Segment& g, int64_t row, int64_t entry) {
    if (!g.list.present()) return entry;
    const int32_t* list = g.list.row<int32_t>(row);
    return std::partition_point(list, list + g.list.extents[1],
                                [&](int32_t e) { return e >= 0 && e < entry; }) -
           list;
  }
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
  [[nodiscard]] int64_t splits(const Call& call) const {
    const auto row_bytes = static_cast<uint64_t>(heads * pieces * part()) * sizeof(float);
    const int64_t tasks = rows * (latent ? (heads + kMostHeads - 1) / kMostHeads : kv_heads);
    if (call.run.workers == 1 || rows > kSplitRows || tasks >= 8 * call.run.workers ||
        call.stage.buffers[0].bytes < static_cast<uint64_t>(rows) * row_bytes)
      return 1;
    int64_t most = 1;
    for (int64_t r = 0; r < rows; ++r) {
      int64_t seen = 0;
      for (const Segment& g : all())
        seen += std::max<int64_t>(0, pieces_of(high(g, r)) - low(g, r) / kPiece);
      most = std::max(most, seen);
    }
    return most;
  }
  // Runs of at most kMostHeads heads; shorter ones, down to eight, where there are too few tasks.
  [[nodiscard]] int64_t head_runs(int workers) const {
    int64_t runs = 1;
    const auto enough = [&] {
      const int64_t run = heads / runs;
      return run <= kMostHeads && (run <= 8 || rows * runs * split >= int64_t{2} * workers);
    };
    while (runs < heads && (heads % runs != 0 || !enough())) ++runs;
    return runs;
  }
};

/// What has been merged so far of some queries.
struct Merged {
  float *o, *m, *l;
};

/// Worker memory, in floats: a tile of K, 16 positions side by side, and of V; queries and their
/// scores; the weighted rows, maxima and sums of a tile, of a piece and of everything.
struct Temp {
  float *k, *v, *q, *s;
  Merged tile, piece, whole;
  int64_t width;  ///< of rows of V: whole groups of 16

  static int64_t queries(int64_t group) { return std::max(kQueries, group); }
  static int64_t width_of(int64_t dim_v) { return (dim_v + kPanel - 1) / kPanel * kPanel; }
  static uint64_t bytes(int64_t dim, int64_t dim_v, int64_t group) {
    const int64_t wide = width_of(dim_v);
    return static_cast<uint64_t>(kT * (dim + wide) + queries(group) * (dim + kT + 3 * (wide + 2))) *
           sizeof(float);
  }
  Temp(uint8_t* memory, const Views& a) : width(width_of(a.dim_v)) {
    const int64_t n = queries(a.group);
    k = reinterpret_cast<float*>(memory);
    v = k + kT * a.dim;
    q = v + kT * width;
    s = q + n * a.dim;
    float* at = s + n * kT;
    for (Merged* merged : {&tile, &piece, &whole}) {
      *merged = {at, at + n * width, at + n * (width + 1)};
      at += n * (width + 2);
    }
  }
  void clear(const Merged& merged, int64_t count) const {
    std::fill_n(merged.o, count * width, 0.0f);
    std::fill_n(merged.m, count, kMinus);
    std::fill_n(merged.l, count, 0.0f);
  }
};

/// o, m, l <- what has been merged so far, and a further part.
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

/// A tile of a segment: where its entries lie. Some row sees [lo, hi) of them; others repeat one.
struct Tile {
  const uint8_t *k[kT], *v[kT];
  int64_t index = 0, lo = kT, hi = 0;
};

/// Rows [from, to) of one sequence and one KV head, in a worker's memory.
class Queries {
 public:
  Queries(const Call& call, const Views& a, int64_t from, int64_t to, int64_t head)
      : call_(call),
        a_(a),
        temp_(call.worker.temp, a),
        from_(from),
        to_(to),
        head_(head),
        queries_((to - from) * a.group) {
    const int64_t front = a.q.extents[2];
    for (int64_t i = 0; i < queries_; ++i) {
      float* query = temp_.q + i * a.dim;
      std::memcpy(query, a.q.row<float>(row_of(i), head_of(i)),
                  static_cast<size_t>(front) * sizeof(float));
      if (front < a.dim)
        std::memcpy(query + front, a.tail.row<float>(row_of(i), head_of(i)),
                    static_cast<size_t>(a.dim - front) * sizeof(float));
      call.kernels().scale(query, a.scale, a.dim);
    }
  }

  /// All they see of everything, into the operator's output.
  void whole() {
    temp_.clear(temp_.whole, queries_);
    for (const Segment& g : a_.all()) {
      see(g);
      for (int64_t i = lowest_ / kPiece; i * kPiece < highest_; ++i) {
        piece(g, i);
        merge(temp_.whole, temp_.piece);
      }
    }
    const Merged& all = temp_.whole;
    for (int64_t i = 0; i < queries_; ++i)
      finish_query(call_.kernels(), all.o + i * temp_.width, all.m[i], all.l[i], a_.sink,
                   head_of(i), a_.dim_v, a_.out.row<float>(row_of(i), head_of(i)));
  }

  /// What they see of one piece of a segment, as parts: `at(row, head)` is where one goes.
  template <typename At>
  void part(const Segment& g, int64_t index, At&& at) {
    see(g);
    piece(g, index);
    for (int64_t i = 0; i < queries_; ++i) {
      float* to = at(row_of(i), head_of(i));
      to[0] = temp_.piece.m[i];
      to[1] = temp_.piece.l[i];
      std::memcpy(to + 2, temp_.piece.o + i * temp_.width,
                  static_cast<size_t>(a_.dim_v) * sizeof(float));
    }
  }

 private:
  [[nodiscard]] int64_t row_of(int64_t query) const { return from_ + query / a_.group; }
  [[nodiscard]] int64_t head_of(int64_t query) const { return head_ * a_.group + query % a_.group; }

  /// The rows see entries [low, high) of the segment each, [lowest, highest) together.
  void see(const Segment& g) {
    lowest_ = std::numeric_limits<int64_t>::max();
    highest_ = 0;
    for (int64_t r = from_; r < to_; ++r) {
      lowest_ = std::min(lowest_, low_[r - from_] = a_.low(g, r));
      highest_ = std::max(highest_, high_[r - from_] = a_.high(g, r));
    }
  }
  [[nodiscard]] int64_t low(int64_t row, int64_t tile) const {
    return std::clamp<int64_t>(low_[row] - tile * kT, 0, kT);
  }
  [[nodiscard]] int64_t high(int64_t row, int64_t tile) const {
    return std::clamp<int64_t>(high_[row] - tile * kT, low(row, tile), kT);
  }

  void find(const Segment& g, int64_t index, Tile* tile) const {
    *tile = {.k = {}, .v = {}, .index = index};
    for (int64_t r = 0; r < to_ - from_; ++r)
      if (low(r, index) < high(r, index)) {
        tile->lo = std::min(tile->lo, low(r, index));
        tile->hi = std::max(tile->hi, high(r, index));
      }
    if (tile->lo >= tile->hi) return;
    const int32_t* blocks = g.table.row<int32_t>(a_.sequence(from_));
    const int32_t* list = g.list.present() ? g.list.row<int32_t>(from_) : nullptr;
    const View& v = a_.latent ? g.k : g.v;
    const int64_t head = a_.latent ? 0 : head_, k_at = head * a_.dim * g.k.strides[2],
                  v_at = head * a_.dim_v * v.strides[2];
    int64_t block = -1, slot = 0;
    for (int64_t i = tile->lo; i < tile->hi; ++i) {
      if (list || block < 0) {
        const int64_t entry = list ? list[index * kT + i] : index * kT + i;
        block = entry / g.slots;
        slot = entry % g.slots;
      } else if (++slot == g.slots) {
        slot = 0;
        ++block;
      }
      tile->k[i] = g.k.row<uint8_t>(blocks[block], slot) + k_at;
      tile->v[i] = v.row<uint8_t>(blocks[block], slot) + v_at;
    }
    for (const uint8_t** rows : {tile->k, tile->v}) {
      std::fill(rows, rows + tile->lo, rows[tile->lo]);
      std::fill(rows + tile->hi, rows + kT, rows[tile->hi - 1]);
    }
  }

  void piece(const Segment& g, int64_t index) {
    temp_.clear(temp_.piece, queries_);
    const int64_t begin = std::max(index * kPieceTiles, lowest_ / kT),
                  end = std::min((index + 1) * kPieceTiles, (highest_ + kT - 1) / kT);
    Tile tiles[2];
    if (begin < end) find(g, begin, &tiles[begin % 2]);
    for (int64_t t = begin; t < end; ++t) {
      const Tile& now = tiles[t % 2];
      Tile& next = tiles[(t + 1) % 2];
      if (t + 1 < end) find(g, t + 1, &next);
      if (now.lo >= now.hi) continue;
      attend(g, now, t + 1 < end && next.lo < next.hi ? &next : nullptr);
      merge(temp_.piece, temp_.tile);
    }
  }

  /// temp.tile <- the tile. The next one (may be null) is fetched meanwhile.
  void attend(const Segment& g, const Tile& tile, const Tile* next) const {
    const KernelTable& kernels = call_.kernels();
    const int64_t first = tile.lo / kPanel * kPanel;
    for (int64_t n = first; n < tile.hi; n += kPanel)
      kernels.side_by_side[cache_layout(g.k.dtype)](tile.k + n, next ? next->k + n : nullptr,
                                                    a_.dim, temp_.k + n * a_.dim);
    kernels.scores({.q = temp_.q,
                    .queries = queries_,
                    .dim = a_.dim,
                    .keys = temp_.k + first * a_.dim,
                    .groups = (tile.hi - first + kPanel - 1) / kPanel,
                    .out = temp_.s + first});
    bool same = true;
    for (int64_t i = 0; i < queries_; ++i) {
      const int64_t r = i / a_.group, lo = low(r, tile.index), hi = high(r, tile.index);
      same = same && lo == tile.lo && hi == tile.hi;
      temp_.tile.m[i] =
          lo < hi ? kernels.softmax(temp_.s + i * kT, lo, hi, &temp_.tile.l[i]) : kMinus;
    }
    const auto weigh = [&](int64_t from, int64_t queries, int64_t lo, int64_t hi) {
      if (lo >= hi) return;
      kernels.weigh[cache_layout(g.k.dtype)](
          {.p = temp_.s + from * kT + lo,
           .queries = queries,
           .count = hi - lo,
           .dim = a_.dim_v,
           .values = tile.v + lo,
           .next = next && !a_.latent && from == 0 ? next->v + lo : nullptr,
           .temp = temp_.v,
           .out = temp_.tile.o + from * temp_.width,
           .stride = temp_.width});
    };
    if (same) return weigh(0, queries_, tile.lo, tile.hi);
    for (int64_t r = 0; r < to_ - from_; ++r)
      weigh(r * a_.group, a_.group, low(r, tile.index), high(r, tile.index));
  }
  void merge(const Merged& to, const Merged& part) const {
    for (int64_t i = 0; i < queries_; ++i)
      merge_part(call_.kernels(), to.o + i * temp_.width, to.m + i, to.l + i,
                 part.o + i * temp_.width, part.m[i], part.l[i], a_.dim_v);
  }

  const Call& call_;
  const Views& a_;
  const Temp temp_;
  const int64_t from_, to_, head_, queries_;
  int64_t low_[kQueries] = {}, high_[kQueries] = {};
  int64_t lowest_ = 0, highest_ = 0;
};

/// The parts of split attention in the workspace: [row][head][piece][m, l, o].
float* part_of(const Call& call, const Views& a, int64_t row, int64_t head, int64_t piece) {
  return call.buffer<float>(0) + ((row * a.heads + head) * a.pieces + piece) * a.part();
}

/// Worker memory, and memory for the parts of as many rows as fit; `pieces`: of all segments.
Needs needs_of(const Query& query, uint32_t q, int64_t dim, int64_t dim_v, int64_t group,
               int64_t pieces) {
  const auto row =
      static_cast<uint64_t>(query[q].extents[1] * pieces * (dim_v + 2)) * sizeof(float);
  const auto rows = static_cast<uint64_t>(std::min(kSplitRows, query.rows(q)));
  return {.temp = Temp::bytes(dim, dim_v, group),
          .workspace = pieces < 2 || row > kMostParts ? 0 : std::min(rows, kMostParts / row) * row};
}

Needs gqa_needs(const Query& query) {
  const int64_t entries =
      query[HADAL_GQA_ATTENTION_BLOCK_TABLE].extents[1] * query[HADAL_GQA_ATTENTION_K].extents[1];
  const hadal_tensor& q = query[HADAL_GQA_ATTENTION_Q];
  return needs_of(query, HADAL_GQA_ATTENTION_Q, q.extents[2],
                  query[HADAL_GQA_ATTENTION_OUT].extents[2],
                  q.extents[1] / query.op.attr.attention.kv_heads, pieces_of(entries));
}

Needs latent_needs(const Query& query) {
  int64_t pieces = 0;
  for (const contract::SegmentOperands& operands : contract::kLatentSegments) {
    const hadal_tensor &plane = query[operands.plane], &list = query[operands.list];
    if (plane.space == HADAL_SPACE_NONE) continue;
    pieces += pieces_of(list.space != HADAL_SPACE_NONE
                            ? list.extents[1]
                            : query[operands.block_table].extents[1] * plane.extents[1]);
  }
  return needs_of(query, HADAL_LATENT_ATTENTION_Q, query[HADAL_LATENT_ATTENTION_PLANE].extents[2],
                  query[HADAL_LATENT_ATTENTION_OUT].extents[2],
                  query[HADAL_LATENT_ATTENTION_Q].extents[1], pieces);
}

bool splits(const Call& call) { return Views(call).split > 1; }

void attend(const Call& call) {
  const Views a(call);
  if (a.rows == 0) return;
  if (a.split > 1) {
    // Neighbouring tasks are heads of one piece: they read the same rows.
    const int64_t pieces = a.pieces;
    call.share(a.rows * pieces * a.kv_heads, [&](int64_t task) {
      const int64_t head = task % a.kv_heads, index = task / a.kv_heads % pieces,
                    row = task / a.kv_heads / pieces;
      const Segment* g = &a.segments[a.segment_count - 1];
      while (index < g->first_piece) --g;
      const int64_t piece = index - g->first_piece;
      if (piece < a.low(*g, row) / kPiece || piece >= pieces_of(a.high(*g, row))) return;
      Queries(call, a, row, row + 1, head).part(*g, piece, [&](int64_t r, int64_t h) {
        return part_of(call, a, r, h, index);
      });
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
      Queries(call, a, from, to, head).whole();
      from = to;
    }
  });
}

void merge_parts(const Call& call) {
  const Views a(call);
  float* o = reinterpret_cast<float*>(call.worker.temp);
  call.share(a.rows * a.heads, [&](int64_t task) {
    const int64_t row = task / a.heads, head = task % a.heads;
    float m = kMinus, l = 0.0f;
    std::fill(o, o + a.dim_v, 0.0f);
    for (const Segment& g : a.all()) {
      const int64_t end = pieces_of(a.high(g, row));
      for (int64_t i = a.low(g, row) / kPiece; i < end; ++i) {
        const float* part = part_of(call, a, row, head, g.first_piece + i);
        merge_part(call.kernels(), o, &m, &l, part + 2, part[0], part[1], a.dim_v);
      }
    }
    finish_query(call.kernels(), o, m, l, a.sink, head, a.dim_v, a.out.row<float>(row, head));
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
                                   .indices = latent_indices,
                                   .plan = plan_attention};

}  // namespace hadal::cpu
