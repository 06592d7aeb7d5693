// matmul and gated_matmul: quantise activations, hand out panels, finish outputs. The arithmetic is
// in the kernels.
#include "ops/matmul.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/quant.h"
#include "ops/operators.h"
#include "runtime/planner.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

/// What a panel's products with a tile are written to.
constexpr int64_t kProductBytes = kTile * kPanel * static_cast<int64_t>(sizeof(float));

// gated_matmul has X at the same place.
constexpr uint32_t kX = HADAL_MATMUL_X;
static_assert(kX == uint32_t{HADAL_GATED_MATMUL_X});

struct Matrices {
  int64_t batch, rows, k;
  const std::byte* data;
  int64_t row_stride, batch_stride;
};

Matrices matrices(const View& x) {
  if (x.rank == 3)
    return {x.extents[1], x.extents[0], x.extents[2], x.data, x.strides[0], x.strides[1]};
  return {1, x.extents[0], x.extents[1], x.data, x.strides[0], 0};
}

const float* row_of(const Matrices& x, int64_t batch, int64_t row) {
  return reinterpret_cast<const float*>(x.data + batch * x.batch_stride + row * x.row_stride);
}

/// How panels and rows are cut into tasks: enough tasks for all workers, each some µs long, none of
/// more than `most` tiles of rows.
struct Cut {
  int64_t chunk, chunks;  ///< panels of a task, tasks along N
  int64_t row_groups, group_rows;
  Cut(int workers, int64_t batch, int64_t panels, int64_t rows, int64_t most) {
    const int64_t wanted = int64_t{8} * workers;
    chunk = std::max<int64_t>(1, batch * panels / wanted);
    chunks = (panels + chunk - 1) / chunk;
    const int64_t tiles = std::max<int64_t>(1, (rows + kTile - 1) / kTile);
    const int64_t groups = std::clamp<int64_t>(
        std::max(wanted / std::max<int64_t>(1, batch * chunks), (tiles + most - 1) / most), 1,
        tiles);
    group_rows = (tiles + groups - 1) / groups * kTile;
    row_groups = (rows + group_rows - 1) / group_rows;
  }
};

/// Tiles of rows that are multiplied by one panel after the other. Floats must stay in the worker's
/// cache; int8 are a third as large and may come from afar; and what has no layout is decoded so
/// slowly that it must be decoded once.
int64_t most_tiles(const Weight& w) {
  constexpr int64_t kCachedBytes = 512 << 10;
  if (!w.layout || is_int(*w.layout)) return INT32_MAX;
  const int64_t tile = kTile * w.desc.cols * static_cast<int64_t>(sizeof(float));
  return std::max<int64_t>(1, kCachedBytes / tile);
}

/// The quantised activations of a stage: made by a stage before, or here by each worker for itself.
const uint8_t* quants_of(const Call& call, const Matrices& x) {
  if (call.stage.derived < 0) return nullptr;
  if (!call.run.few) return call.buffer<uint8_t>(0);
  Worker& worker = call.worker;
  if (worker.own_value != call.stage.derived) {
    for (int64_t b = 0; b < x.batch; ++b)
      for (int64_t m = 0; m < x.rows; ++m)
        quantise(call.kernels(), row_of(x, b, m), x.k, x.rows, m,
                 worker.own + quant_bytes(b * x.rows, x.k));
    worker.own_value = call.stage.derived;
  }
  return worker.own;
}

/// A panel's products with a run of rows: rows [from, to) of matrix `batch`.
struct Piece {
  int64_t batch, panel, from, to;
  int64_t rows;  ///< of the whole matrix
  Acts acts;
  /// body(m, rows) for each tile of them.
  template <typename Body>
  void for_each_tile(Body&& body) const {
    for (int64_t m = from; m < to; m += kTile) body(m, std::min<int64_t>(kTile, to - m));
  }
};

/// body(piece) for all panels of a weight, shared among the workers.
template <typename Body>
void for_each_piece(const Call& call, const View& xv, const Weight& w, Body&& body) {
  const Matrices x = matrices(xv);
  if (x.rows == 0) return;
  const int64_t panels = w.panels();
  const Cut cut(call.run.workers, x.batch, panels, x.rows, most_tiles(w));
  call.share(x.batch * cut.chunks * cut.row_groups, [&](int64_t task) {
    const uint8_t* quants = quants_of(call, x);
    const int64_t batch = task / (cut.chunks * cut.row_groups);
    const int64_t chunk = task / cut.row_groups % cut.chunks, group = task % cut.row_groups;
    const Acts acts{row_of(x, batch, 0), x.row_stride / static_cast<int64_t>(sizeof(float)),
                    quants ? quants + quant_bytes(batch * x.rows, x.k) : nullptr};
    const int64_t last_panel = std::min(panels, (chunk + 1) * cut.chunk);
    const int64_t last_row = std::min(x.rows, (group + 1) * cut.group_rows);
    for (int64_t panel = chunk * cut.chunk; panel < last_panel; ++panel)
      body(Piece{batch, panel, group * cut.group_rows, last_row, x.rows, acts});
  });
}

void quantise_all(const Call& call) {
  const Matrices x = matrices(call.view(kX));
  auto* quants = call.buffer<uint8_t>(0);
  call.share_rows(x.batch * x.rows, 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i)
      quantise(call.kernels(), row_of(x, i / x.rows, i % x.rows), x.k, x.rows, i % x.rows,
               quants + quant_bytes(i / x.rows * x.rows, x.k));
  });
}

void matmul(const Call& call) {
  const View x = call.view(HADAL_MATMUL_X), out = call.view(HADAL_MATMUL_OUT);
  const View add = call.view(HADAL_MATMUL_ADD);
  const Weight& w = call.weight(HADAL_MATMUL_W);
  const float* bias = call.vector(HADAL_MATMUL_BIAS);
  const auto row_at = [](const View& v, int64_t row, int64_t batch) {
    return v.rank == 3 ? v.row<float>(row, batch) : v.row<float>(row);
  };
  auto* product = reinterpret_cast<float*>(call.worker.temp);
  Panel panel(call.kernels(), call.worker.temp + kProductBytes);
  for_each_piece(call, x, w, [&](const Piece& piece) {
    panel.take(w, piece.batch, piece.panel, piece.rows);
    const int64_t n = piece.panel * kPanel;
    piece.for_each_tile([&](int64_t from, int64_t rows) {
      panel.multiply(piece.acts, from, rows, product);
      for (int64_t m = 0; m < rows; ++m)
        call.kernels().finish(product + m * kPanel, bias ? bias + n : nullptr,
                              add.present() ? row_at(add, from + m, piece.batch) + n : nullptr,
                              row_at(out, from + m, piece.batch) + n, panel.count());
    });
  });
}

void gated_matmul(const Call& call) {
  const View x = call.view(HADAL_GATED_MATMUL_X), out = call.view(HADAL_GATED_MATMUL_OUT);
  const Weight& gate = call.weight(HADAL_GATED_MATMUL_GATE);
  const Weight& up = call.weight(HADAL_GATED_MATMUL_UP);
  const float clamp = call.op.attr.swiglu.clamp;
  auto* product = reinterpret_cast<float*>(call.worker.temp);
  float* second = product + kTile * kPanel;
  uint8_t* memory = call.worker.temp + 2 * kProductBytes;
  Panel gates(call.kernels(), memory);
  Panel ups(call.kernels(), memory + Panel::bytes(gate.desc.cols));
  for_each_piece(call, x, gate, [&](const Piece& piece) {
    gates.take(gate, piece.batch, piece.panel, piece.rows);
    ups.take(up, piece.batch, piece.panel, piece.rows);
    piece.for_each_tile([&](int64_t from, int64_t rows) {
      gates.multiply(piece.acts, from, rows, product);
      ups.multiply(piece.acts, from, rows, second);
      for (int64_t m = 0; m < rows; ++m)
        call.kernels().swiglu(product + m * kPanel, second + m * kPanel, 1.0f, clamp,
                              out.row<float>(from + m) + piece.panel * kPanel, gates.count());
    });
  });
}

bool quantises(const hadal_tensor& w) { return w.weight && weight_of(w.weight)->quantises(); }

Needs needs_of(const Query& query, int weights, bool block8) {
  const hadal_tensor& x = query[kX];
  const int64_t batch = x.rank == 3 ? x.extents[1] : 1, k = x.extents[x.rank - 1];
  return {.temp = static_cast<uint64_t>(weights) *
                  (static_cast<uint64_t>(kProductBytes) + Panel::bytes(k)),
          .workspace = static_cast<uint64_t>(quant_bytes(query.rows(kX) * batch, k)),
          .block8 = block8};
}

Needs matmul_needs(const Query& query) { return needs_of(query, 1, query.rounds(HADAL_MATMUL_W)); }

Needs gated_needs(const Query& query) {
  return needs_of(query, 2,
                  query.rounds(HADAL_GATED_MATMUL_GATE) || query.rounds(HADAL_GATED_MATMUL_UP));
}

/// Matmuls of the same activations share what they were quantised to.
void share_quants(Planner& planner, Stage& main) {
  const hadal_tensor& x = planner[kX];
  const int64_t batch = x.rank == 3 ? x.extents[1] : 1;
  const int64_t few_rows = kFewRows * batch * std::max<int64_t>(1, x.extents[0]);
  planner.derive(
      main, {.make = quantise_all,
             .source = kX,
             .key = {},
             .bytes = planner.needs().workspace,
             .few = false,
             .own_bytes = static_cast<uint64_t>(quant_bytes(few_rows, x.extents[x.rank - 1]))});
}

void plan_matmul(Planner& planner, Stage main) {
  if (quantises(planner[HADAL_MATMUL_W])) share_quants(planner, main);
  planner.push(main);
}

void plan_gated(Planner& planner, Stage main) {
  if (quantises(planner[HADAL_GATED_MATMUL_GATE]) || quantises(planner[HADAL_GATED_MATMUL_UP]))
    share_quants(planner, main);
  planner.push(main);
}

/// Floats from one decoded row to the next: pieces of 16 rows, side by side in a small cache, must
/// not all ask for the same places.
int64_t decoded_stride(int64_t k) { return (k + 1023) / 1024 * 1024 + 256; }

}  // namespace

uint64_t Panel::bytes(int64_t k) {
  // 16 decoded rows and the block scales of one, a panel of dwords, or what in_place needs.
  const int64_t floats = kPanel * decoded_stride(k) + k + kPanel;
  const int64_t ints = std::max<int64_t>(kInPlaceBytes, 2 * kPanel * (k + kBlock));
  return static_cast<uint64_t>(
      (std::max<int64_t>(floats * static_cast<int64_t>(sizeof(float)), ints) + 63) / 64 * 64);
}

void Panel::take(const Weight& w, int64_t batch, int64_t index, int64_t rows) {
  weight_ = &w;
  first_ = batch * w.desc.rows + index * kPanel;
  count_ = std::min<int64_t>(kPanel, w.desc.rows - index * kPanel);
  in_place_ = w.layout &&
              (rows <= (is_int(*w.layout) ? kInPlaceRows : kFloatInPlaceRows) || w.layout == kF32);
  fetch_behind_ = nullptr;
  if (!w.layout) return decode();
  w.find_panel(first_, count_, &native_);
  if (is_int(*w.layout)) {
    if (!in_place_)
      kernels_.make_panel[*w.layout](native_, w.desc.cols / kBlock / kLayoutInfo[*w.layout].blocks,
                                     memory_);
    fetch_behind_ = native_.rows[kPanel - 1];
    return;
  }
  if (!in_place_) return decode();
  if (w.scale_cols() == 0) return;
  const int64_t across = (w.desc.cols + w.scale_cols() - 1) / w.scale_cols();
  auto* to = reinterpret_cast<float*>(memory_);
  for (int64_t r = 0; r < count_; ++r, to += across) {
    if (r > 0 && native_.scales[r] == native_.scales[r - 1]) {
      scales_[r] = scales_[r - 1];
      continue;
    }
    decode_scales(r, across, to);
    scales_[r] = to;
  }
}

/// The block scales of row r, as floats.
void Panel::decode_scales(int64_t r, int64_t count, float* to) const {
  decode_to_f32(static_cast<DType>(weight_->desc.scale_dtype),
                reinterpret_cast<const std::byte*>(native_.scales[r]), count, to);
}

/// To fp32 in memory_, block scales multiplied in.
void Panel::decode() {
  const Weight& w = *weight_;
  const int64_t k = w.desc.cols, width = w.scale_cols();
  auto* to = reinterpret_cast<float*>(memory_);
  float* scales = to + kPanel * decoded_stride(k);
  for (int64_t r = 0; r < count_; ++r, to += decoded_stride(k)) {
    if (w.layout) {
      kernels_.decode[*w.layout - kIntLayouts](native_.rows[r], k, to);
      if (width > 0) decode_scales(r, (k + width - 1) / width, scales);
      for (int64_t i = 0; width > 0 && i < k; i += width)
        kernels_.scale(to + i, scales[i / width], std::min(width, k - i));
    } else {
      w.decode(first_ + r, 0, k, to);
    }
    native_.rows[r] = reinterpret_cast<const uint8_t*>(to);
  }
}

void Panel::multiply(const Acts& acts, int64_t from, int64_t rows, float* out) {
  const Weight& w = *weight_;
  const int64_t k = w.desc.cols;
  if (!w.quantises()) {
    const bool scales = in_place_ && w.scale_cols() > 0;
    return kernels_.dot[in_place_ ? *w.layout - kIntLayouts : 0](
        native_.rows, count_, scales ? scales_ : nullptr, w.scale_cols(), k,
        acts.x + from * acts.stride, acts.stride, rows, out);
  }
  const uint8_t* tile = acts.tiles + quant_bytes(from, k);
  if (in_place_) return kernels_.in_place[*w.layout](native_, k / kBlock, tile, rows, memory_, out);
  kernels_.int_panel[*w.layout](memory_, k / kBlock, tile, rows,
                                std::exchange(fetch_behind_, nullptr), out);
}

const Operator kMatmul = {
    .id = HADAL_OP_MATMUL, .run = matmul, .query = matmul_needs, .plan = plan_matmul};
const Operator kGatedMatmul = {
    .id = HADAL_OP_GATED_MATMUL, .run = gated_matmul, .query = gated_needs, .plan = plan_gated};

}  // namespace hadal::cpu
