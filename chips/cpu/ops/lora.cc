// lora_add: low-rank adapters, each row with its own, by the float kernels of matmul.
//
// Two stages: y = A x of all rows, then out += B y. Rows that stand side by side and have one
// adapter are multiplied together, at most a tile of them. A row of A x is a float product like any
// other; B is turned, 16 rows side by side, so that a sum along the short rank stays in its lane,
// rank ascending. Zeros leave either sum alone: no bit depends on the neighbours, nor on how far
// the bank pads a rank. A step without adapters runs neither stage.
#include <algorithm>

#include "ops/operators.h"
#include "runtime/planner.h"
#include "runtime/weights.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

/// Rows of a matrix that the dot kernel takes at once, and fewest that are worth a task.
constexpr int64_t kTogether = 4;
/// Columns of OUT that are made at once: four panels of B.
constexpr int64_t kWide = kAttentionTile;
/// What a tile's products are written to, floats.
constexpr int64_t kProduct = kTile * kWide;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// The kernels read floats without scales as they lie; other rows are decoded first.
bool in_place(const Weight& w) {
  return w.layout && !is_int(*w.layout) && *w.layout - kIntLayouts < kCacheLayouts &&
         w.scale_cols() == 0;
}

/// The adapters of a step's rows.
struct Adapters {
  View adapter, row_seq;
  explicit Adapters(const Call& call)
      : adapter(call.view(HADAL_LORA_ADD_ADAPTER)), row_seq(call.view(HADAL_LORA_ADD_ROW_SEQ)) {}
  [[nodiscard]] int32_t of(int64_t row) const {
    return *adapter.row<int32_t>(*row_seq.row<int32_t>(row));
  }
  /// body(adapter, from, to) for each run of rows of [begin, end) that share an adapter.
  template <typename Body>
  void for_each_run(int64_t begin, int64_t end, Body&& body) const {
    for (int64_t from = begin, to; from < end; from = to) {
      const int32_t a = of(from);
      for (to = from + 1; to < end && of(to) == a;) ++to;
      if (a >= 0) body(a, from, to);
    }
  }
};

/// Rows [first, first + count) of matrix `a`, at most kPanel, as a kernel of float layout
/// `layout_of` reads them: where they lie, or decoded to `memory`.
NativePanel panel_of(const Weight& w, int64_t a, int64_t first, int64_t count, float* memory) {
  NativePanel panel{};
  w.find_panel(a * w.desc.rows + first, count, &panel);
  if (in_place(w)) return panel;
  for (int64_t r = 0; r < kPanel; ++r, memory += r < count ? w.desc.cols : 0) {
    if (r < count) w.decode(a * w.desc.rows + first + r, 0, w.desc.cols, memory);
    panel.rows[r] = reinterpret_cast<const uint8_t*>(memory);
  }
  return panel;
}
int float_layout(const Weight& w) {
  return in_place(w) ? static_cast<int>(*w.layout - kIntLayouts) : 0;
}

/// At most kPanel rows of a matrix of a bank, ready for the dot kernel.
class Rows {
 public:
  Rows(const Call& call, const Weight& w, float* memory) : call_(call), w_(w), memory_(memory) {}
  void take(int64_t a, int64_t first, int64_t count) {
    if (a == a_ && first == first_ && count == count_) return;
    a_ = a;
    first_ = first;
    count_ = count;
    panel_ = panel_of(w_, a, first, count, memory_);
  }
  /// out[rows][kPanel] = rows of x times those that were taken.
  void multiply(const float* x, int64_t stride, int64_t rows, float* out) const {
    call_.kernels().dot[float_layout(w_)](panel_.rows, count_, nullptr, 0, w_.desc.cols, x, stride,
                                          rows, out);
  }

 private:
  const Call& call_;
  const Weight& w_;
  float* memory_;
  NativePanel panel_{};
  int64_t a_ = -1, first_ = -1, count_ = 0;
};

/// At most kWide rows of a matrix of a bank, turned: [panel][rank][16].
class Turned {
 public:
  Turned(const Call& call, const Weight& w, float* memory) : call_(call), w_(w), memory_(memory) {}
  void take(int64_t a, int64_t first, int64_t count) {
    if (a == a_ && first == first_) return;
    a_ = a;
    first_ = first;
    panels_ = ceil_div(count, kPanel);
    for (int64_t p = 0; p < panels_; ++p) {
      const int64_t rows = std::min<int64_t>(kPanel, count - p * kPanel);
      const NativePanel panel =
          panel_of(w_, a, first + p * kPanel, rows, memory_ + kWide * w_.desc.cols);
      call_.kernels().side_by_side[float_layout(w_)](panel.rows, nullptr, w_.desc.cols,
                                                     memory_ + p * kPanel * w_.desc.cols);
    }
  }
  /// out[rows][kWide] = rows of y, one behind the other, times those that were taken.
  void multiply(const float* y, int64_t rows, float* out) const {
    call_.kernels().scores({.q = y,
                            .queries = rows,
                            .dim = w_.desc.cols,
                            .keys = memory_,
                            .groups = panels_,
                            .out = out});
  }

 private:
  const Call& call_;
  const Weight& w_;
  float* memory_;
  int64_t a_ = -1, first_ = -1, panels_ = 0;
};

/// y = A x.
void lower_rank(const Call& call) {
  const View x = call.view(HADAL_LORA_ADD_X);
  const Weight& w = call.weight(HADAL_LORA_ADD_A);
  const Adapters adapters(call);
  const int64_t rank = w.desc.rows, rows = x.extents[0];
  const int64_t tiles = ceil_div(rows, kTile);
  // Few rows are shared out by ranks as well.
  const int64_t run = tiles < int64_t{4} * call.run.workers ? kTogether : kPanel;
  const int64_t runs = ceil_div(rank, run);
  auto* y = call.buffer<float>(0);
  auto* product = reinterpret_cast<float*>(call.worker.temp);
  const int64_t x_stride = x.strides[0] / static_cast<int64_t>(sizeof(float));
  Rows matrix(call, w, product + kProduct);
  call.share(tiles * runs, [&](int64_t task) {
    const int64_t tile = task / runs * kTile, first = task % runs * run;
    const int64_t count = std::min(run, rank - first);
    adapters.for_each_run(
        tile, std::min(rows, tile + kTile), [&](int32_t a, int64_t from, int64_t to) {
          matrix.take(a, first, count);
          matrix.multiply(x.row<float>(from), x_stride, to - from, product);
          for (int64_t m = from; m < to; ++m)
            std::copy_n(product + (m - from) * kPanel, count, y + m * rank + first);
        });
  });
}

/// out += B y.
void lora_add(const Call& call) {
  const View out = call.view(HADAL_LORA_ADD_OUT);
  const Weight& w = call.weight(HADAL_LORA_ADD_B);
  const Adapters adapters(call);
  const int64_t rank = w.desc.cols, rows = out.extents[0];
  const int64_t tiles = ceil_div(rows, kTile), wides = ceil_div(w.desc.rows, kWide);
  const int64_t chunk = std::max<int64_t>(1, tiles * wides / (int64_t{8} * call.run.workers)),
                chunks = ceil_div(wides, chunk);
  const auto* y = call.buffer<float>(0);
  auto* product = reinterpret_cast<float*>(call.worker.temp);
  Turned matrix(call, w, product + kProduct);
  call.share(tiles * chunks, [&](int64_t task) {
    const int64_t tile = task / chunks * kTile, from_wide = task % chunks * chunk;
    for (int64_t i = from_wide; i < std::min(wides, from_wide + chunk); ++i) {
      const int64_t first = i * kWide, count = std::min(kWide, w.desc.rows - first);
      adapters.for_each_run(
          tile, std::min(rows, tile + kTile), [&](int32_t a, int64_t from, int64_t to) {
            matrix.take(a, first, count);
            matrix.multiply(y + from * rank, to - from, product);
            for (int64_t m = from; m < to; ++m)
              call.kernels().add(out.row<float>(m) + first, product + (m - from) * kWide, count);
          });
    }
  });
}

bool any_adapter(const Call& call) {
  const View adapter = call.view(HADAL_LORA_ADD_ADAPTER);
  for (int64_t s = 0; s < adapter.extents[0]; ++s)
    if (*adapter.row<int32_t>(s) != -1) return true;
  return false;
}

Needs lora_needs(const Query& query) {
  const int64_t k = query[HADAL_LORA_ADD_X].extents[1], rank = query[HADAL_LORA_ADD_A].extents[1];
  const int64_t floats = kProduct + kWide * rank + kPanel * std::max(k, rank);
  return {.temp = static_cast<uint64_t>(floats) * sizeof(float),
          .workspace = static_cast<uint64_t>(query.rows(HADAL_LORA_ADD_X) * rank) * sizeof(float)};
}

std::string lora_indices(const Indices& at) {
  HADAL_RETURN_IF_TEXT(
      at.in_range(HADAL_LORA_ADD_ROW_SEQ, 0, at.view(HADAL_LORA_ADD_ADAPTER).extents[0]));
  return at.in_range(HADAL_LORA_ADD_ADAPTER, -1, at.view(HADAL_LORA_ADD_A).extents[0]);
}

void plan_lora(Planner& planner, Stage main) {
  Stage first = main;
  first.run = lower_rank;
  first.wanted = main.wanted = any_adapter;
  planner.push_in_two(first, main);
}

}  // namespace

const Operator kLoraAdd = {.id = HADAL_OP_LORA_ADD,
                           .run = lora_add,
                           .query = lora_needs,
                           .indices = lora_indices,
                           .plan = plan_lora};

}  // namespace hadal::cpu
