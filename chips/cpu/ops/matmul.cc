// matmul and gated_matmul: quantise activations, hand out panels, finish outputs. The arithmetic is
// in the kernels.
#include "ops/matmul.h"

#include <algorithm>
#include <cstring>

#include "ops/operators.h"
#include "runtime/planner.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

// gated_matmul has X at the same place.
constexpr uint32_t kX = HADAL_MATMUL_X;
static_assert(kX == uint32_t{HADAL_GATED_MATMUL_X});

/// Weights that are decoded on the way: some hundred values of 16 rows at a time, for all rows of
/// activations.
void multiply_decoded(const KernelTable& kernels, const Weight& w, int64_t batch, int64_t panel,
                      const Acts& a, int64_t from, int64_t rows, const MatmulTemp& temp,
                      float* out) {
  const int64_t k = w.desc.cols, first = batch * w.desc.rows + panel * kPanel;
  const int64_t count = std::min<int64_t>(kPanel, w.desc.rows - panel * kPanel);
  std::memset(temp.acc, 0, static_cast<size_t>(rows * kPartials * kPanel) * sizeof(float));
  for (int64_t i = 0; i < k; i += MatmulTemp::kDecodeValues) {
    const int64_t n = std::min(MatmulTemp::kDecodeValues, k - i);
    for (int64_t r = 0; r < count; ++r) w.decode(first + r, i, n, temp.rows + r * n);
    if (count < kPanel)
      std::memset(temp.rows + count * n, 0,
                  static_cast<size_t>((kPanel - count) * n) * sizeof(float));
    kernels.transpose(temp.rows, n, n, temp.panel);
    kernels.float_panel[0](reinterpret_cast<const uint8_t*>(temp.panel), n,
                           a.x + from * a.stride + i, a.stride, rows, temp.acc);
  }
  kernels.fold(temp.acc, rows, nullptr, out);
}

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

void quantise_row(const KernelTable& kernels, const Matrices& x, int64_t batch, int64_t row,
                  uint8_t* quants) {
  const int64_t tile = row / kTile, rows = std::min<int64_t>(kTile, x.rows - tile * kTile);
  uint8_t* to = quants + quant_bytes(batch * x.rows + tile * kTile, x.k);
  kernels.quantize(row_of(x, batch, row), x.k, to, rows, row - tile * kTile);
}

/// How panels and rows are cut into tasks: enough tasks for all workers, each some µs long.
struct Cut {
  int64_t chunk, chunks;  ///< panels of a task, tasks along N
  int64_t tile, row_groups, group_rows;
  Cut(int workers, int64_t batch, int64_t panels, int64_t rows, int64_t tile_rows)
      : tile(tile_rows) {
    const int64_t wanted = int64_t{8} * workers;
    chunk = std::max<int64_t>(1, batch * panels / wanted);
    chunks = (panels + chunk - 1) / chunk;
    const int64_t tiles = std::max<int64_t>(1, (rows + tile - 1) / tile);
    const int64_t groups =
        std::clamp<int64_t>(wanted / std::max<int64_t>(1, batch * chunks), 1, tiles);
    group_rows = (tiles + groups - 1) / groups * tile;
    row_groups = (rows + group_rows - 1) / group_rows;
  }
};

/// The quantised activations of a stage: made by a stage before, or here by each worker for itself.
const uint8_t* quants_of(const Call& call, const Matrices& x) {
  if (call.stage.derived < 0) return nullptr;
  if (!call.run.few) return call.buffer<uint8_t>(0);
  Worker& worker = call.worker;
  if (worker.own_value != call.stage.derived) {
    for (int64_t b = 0; b < x.batch; ++b)
      for (int64_t m = 0; m < x.rows; ++m) quantise_row(call.kernels(), x, b, m, worker.own);
    worker.own_value = call.stage.derived;
  }
  return worker.own;
}

/// body(batch, panel, from, rows, acts) for everything, shared among the workers.
template <typename Body>
void for_each_tile(const Call& call, const View& xv, int64_t panels, int64_t tile, Body&& body) {
  const Matrices x = matrices(xv);
  if (x.rows == 0) return;
  const Cut cut(call.run.workers, x.batch, panels, x.rows, tile);
  call.share(x.batch * cut.chunks * cut.row_groups, [&](int64_t task) {
    const uint8_t* quants = quants_of(call, x);
    const int64_t batch = task / (cut.chunks * cut.row_groups);
    const int64_t chunk = task / cut.row_groups % cut.chunks, group = task % cut.row_groups;
    const Acts acts{row_of(x, batch, 0), x.row_stride / static_cast<int64_t>(sizeof(float)),
                    quants ? quants + quant_bytes(batch * x.rows, x.k) : nullptr, x.rows};
    const int64_t last_panel = std::min(panels, (chunk + 1) * cut.chunk);
    const int64_t last_row = std::min(x.rows, (group + 1) * cut.group_rows);
    for (int64_t panel = chunk * cut.chunk; panel < last_panel; ++panel)
      for (int64_t from = group * cut.group_rows; from < last_row; from += cut.tile)
        body(batch, panel, from, std::min(cut.tile, last_row - from), acts);
  });
}

void quantise(const Call& call) {
  const Matrices x = matrices(call.view(kX));
  auto* quants = call.buffer<uint8_t>(0);
  call.share_rows(x.batch * x.rows, 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i)
      quantise_row(call.kernels(), x, i / x.rows, i % x.rows, quants);
  });
}

void matmul(const Call& call) {
  const View x = call.view(HADAL_MATMUL_X), out = call.view(HADAL_MATMUL_OUT);
  const View add = call.view(HADAL_MATMUL_ADD);
  const Weight& w = call.weight(HADAL_MATMUL_W);
  const float* bias = call.vector(HADAL_MATMUL_BIAS);
  const MatmulTemp temp(call.worker.temp);
  const int64_t panels = (w.desc.rows + kPanel - 1) / kPanel;
  for_each_tile(
      call, x, panels, w.layout ? kTile : MatmulTemp::kDecodeRows,
      [&](int64_t batch, int64_t panel, int64_t from, int64_t rows, const Acts& acts) {
        multiply(call.kernels(), w, batch, panel, acts, from, rows, temp, temp.out);
        const int64_t n = panel * kPanel, count = std::min<int64_t>(kPanel, w.desc.rows - n);
        for (int64_t m = 0; m < rows; ++m) {
          float* to =
              (out.rank == 3 ? out.row<float>(from + m, batch) : out.row<float>(from + m)) + n;
          const float* plus = !add.present() ? nullptr
                                             : (add.rank == 3 ? add.row<float>(from + m, batch)
                                                              : add.row<float>(from + m)) +
                                                   n;
          call.kernels().finish(temp.out + m * kPanel, bias ? bias + n : nullptr, plus, to, count);
        }
      });
}

void gated_matmul(const Call& call) {
  const View x = call.view(HADAL_GATED_MATMUL_X), out = call.view(HADAL_GATED_MATMUL_OUT);
  const Weight& gate = call.weight(HADAL_GATED_MATMUL_GATE);
  const Weight& up = call.weight(HADAL_GATED_MATMUL_UP);
  const float clamp = call.op.attr.swiglu.clamp;
  const MatmulTemp temp(call.worker.temp);
  const int64_t panels = (gate.desc.rows + kPanel - 1) / kPanel;
  for_each_tile(call, x, panels, kTile,
                [&](int64_t batch, int64_t panel, int64_t from, int64_t rows, const Acts& acts) {
                  multiply(call.kernels(), gate, batch, panel, acts, from, rows, temp, temp.out);
                  multiply(call.kernels(), up, batch, panel, acts, from, rows, temp, temp.second);
                  const int64_t n = panel * kPanel,
                                count = std::min<int64_t>(kPanel, gate.desc.rows - n);
                  for (int64_t m = 0; m < rows; ++m)
                    call.kernels().swiglu(temp.out + m * kPanel, temp.second + m * kPanel, 1.0f,
                                          clamp, out.row<float>(from + m) + n, count);
                });
}

bool quantises(const hadal_tensor& w) { return w.weight && weight_of(w.weight)->quantises(); }

Needs needs_of(const Query& query, bool block8) {
  const hadal_tensor& x = query[kX];
  const int64_t batch = x.rank == 3 ? x.extents[1] : 1;
  return {.temp = MatmulTemp::bytes(),
          .workspace =
              static_cast<uint64_t>(quant_bytes(query.rows(kX) * batch, x.extents[x.rank - 1])),
          .block8 = block8};
}

Needs matmul_needs(const Query& query) { return needs_of(query, query.rounds(HADAL_MATMUL_W)); }

Needs gated_needs(const Query& query) {
  return needs_of(query,
                  query.rounds(HADAL_GATED_MATMUL_GATE) || query.rounds(HADAL_GATED_MATMUL_UP));
}

/// Matmuls of the same activations share what they were quantised to.
void share_quants(Planner& planner, Stage& main) {
  const hadal_tensor& x = planner[kX];
  const int64_t batch = x.rank == 3 ? x.extents[1] : 1;
  const int64_t few_rows = kFewRows * batch * std::max<int64_t>(1, x.extents[0]);
  planner.derive(
      main, {.make = quantise,
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

}  // namespace

void multiply(const KernelTable& kernels, const Weight& w, int64_t batch, int64_t panel,
              const Acts& a, int64_t from, int64_t rows, const MatmulTemp& temp, float* out) {
  if (!w.layout) return multiply_decoded(kernels, w, batch, panel, a, from, rows, temp, out);
  const uint8_t* data = w.panel(batch, panel);
  if (is_int(*w.layout))
    return kernels.int_panel[*w.layout](data, w.blocks, a.tiles + quant_bytes(from, w.desc.cols),
                                        rows, out);
  const auto kernel = kernels.float_panel[*w.layout - kIntLayouts];
  const float* x = a.x + from * a.stride;
  const size_t acc_bytes = static_cast<size_t>(rows * kPartials * kPanel) * sizeof(float);
  if (w.column_blocks == 0) {
    std::memset(temp.acc, 0, acc_bytes);
    kernel(data, w.desc.cols, x, a.stride, rows, temp.acc);
    return kernels.fold(temp.acc, rows, nullptr, out);
  }
  const float* scales = reinterpret_cast<const float*>(w.panel_scales.data()) +
                        (batch * w.panels + panel) * w.column_blocks * kPanel;
  const int64_t width = w.desc.scale_block_cols;
  std::memset(out, 0, static_cast<size_t>(rows * kPanel) * sizeof(float));
  for (int64_t c = 0; c < w.column_blocks; ++c) {
    std::memset(temp.acc, 0, acc_bytes);
    kernel(data + c * width * kPanel, std::min(width, w.desc.cols - c * width), x + c * width,
           a.stride, rows, temp.acc);
    kernels.fold(temp.acc, rows, scales + c * kPanel, out);
  }
}

const Operator kMatmul = {
    .id = HADAL_OP_MATMUL, .run = matmul, .query = matmul_needs, .plan = plan_matmul};
const Operator kGatedMatmul = {
    .id = HADAL_OP_GATED_MATMUL, .run = gated_matmul, .query = gated_needs, .plan = plan_gated};

}  // namespace hadal::cpu
