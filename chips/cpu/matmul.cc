// The driver of matmul: quantises activations, hands out panels, and finishes outputs. The
// arithmetic is in the kernels.
#include <algorithm>
#include <cstring>
#include <vector>

#include "plan.h"

namespace hadal::cpu {
namespace {

/// Activations of one matrix of the batch: floats, and their quantised tiles if any.
struct Acts {
  const float* x;
  int64_t stride;  ///< floats from row to row
  const uint8_t* tiles;
  int64_t rows;
};

struct Matrices {
  int64_t batch, rows, k;
  const std::byte* data;
  int64_t row_stride, batch_stride;
};

Matrices matrices(const host_chip::View& x) {
  if (x.rank == 3)
    return {x.extents[1], x.extents[0], x.extents[2], x.data, x.strides[0], x.strides[1]};
  return {1, x.extents[0], x.extents[1], x.data, x.strides[0], 0};
}

const float* row_of(const Matrices& x, int64_t batch, int64_t row) {
  return reinterpret_cast<const float*>(x.data + batch * x.batch_stride + row * x.row_stride);
}

void quantise_row(const Run& run, const Matrices& x, int64_t batch, int64_t row, uint8_t* quants) {
  const int64_t tile = row / kTile, rows = std::min<int64_t>(kTile, x.rows - tile * kTile);
  uint8_t* to = quants + quant_bytes(batch * x.rows + tile * kTile, x.k);
  run.kernels.quantize(row_of(x, batch, row), x.k, to, rows, row - tile * kTile);
}

// Worker memory of a matmul, in floats.
constexpr int64_t kOutFloats = kDecodeRows * kPanel;
constexpr int64_t kAccFloats = kDecodeRows * kPartials * kPanel;
constexpr int64_t kDecodeFloats = kDecodeValues * kPanel;

struct Temp {
  float *out, *second, *acc, *rows, *panel;
  explicit Temp(uint8_t* memory)
      : out(reinterpret_cast<float*>(memory)),
        second(out + kOutFloats),
        acc(second + kOutFloats),
        rows(acc + kAccFloats),
        panel(rows + kDecodeFloats) {}
};

/// Weights that are decoded on the way: some hundred values of 16 rows at a time, for all rows of
/// activations.
void multiply_decoded(const Run& run, const Weight& w, int64_t batch, int64_t panel, const Acts& a,
                      int64_t from, int64_t rows, const Temp& temp, float* out) {
  const int64_t k = w.desc.cols, first = batch * w.desc.rows + panel * kPanel;
  const int64_t count = std::min<int64_t>(kPanel, w.desc.rows - panel * kPanel);
  std::memset(temp.acc, 0, static_cast<size_t>(rows * kPartials * kPanel) * sizeof(float));
  for (int64_t i = 0; i < k; i += kDecodeValues) {
    const int64_t n = std::min(kDecodeValues, k - i);
    for (int64_t r = 0; r < count; ++r) w.decode(first + r, i, n, temp.rows + r * n);
    if (count < kPanel)
      std::memset(temp.rows + count * n, 0,
                  static_cast<size_t>((kPanel - count) * n) * sizeof(float));
    run.kernels.transpose(temp.rows, n, n, temp.panel);
    run.kernels.float_panel[0](reinterpret_cast<const uint8_t*>(temp.panel), n,
                               a.x + from * a.stride + i, a.stride, rows, temp.acc);
  }
  run.kernels.fold(temp.acc, rows, nullptr, out);
}

/// out[rows][16] for rows [from, from + rows) of the activations.
void multiply(const Run& run, const Weight& w, int64_t batch, int64_t panel, const Acts& a,
              int64_t from, int64_t rows, const Temp& temp, float* out) {
  const KernelTable& kernels = run.kernels;
  if (!w.layout) return multiply_decoded(run, w, batch, panel, a, from, rows, temp, out);
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

/// How panels and rows are cut into tasks: enough tasks for all workers, each some µs long.
struct Cut {
  int64_t chunk, chunks;  ///< panels of a task, tasks along N
  int64_t tile, row_groups, group_rows;
  Cut(const Run& run, int64_t batch, int64_t panels, int64_t rows, int64_t tile_rows)
      : tile(tile_rows) {
    const int64_t wanted = int64_t{8} * run.workers;
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
const uint8_t* quants_of(const Run& run, const Matrices& x, const Stage& stage, Worker& worker) {
  if (stage.quants < 0) return nullptr;
  if (!run.few) return run.workspace + stage.buffer;
  if (worker.quantised != stage.quants) {
    for (int64_t b = 0; b < x.batch; ++b)
      for (int64_t m = 0; m < x.rows; ++m) quantise_row(run, x, b, m, worker.quants);
    worker.quantised = stage.quants;
  }
  return worker.quants;
}

/// body(batch, panel, from, rows, acts) for everything, shared among the workers.
template <typename Body>
void for_each_tile(const Run& run, const host_chip::View& xv, int64_t panels, int64_t tile,
                   const Stage& stage, size_t index, Worker& worker, Body&& body) {
  const Matrices x = matrices(xv);
  if (x.rows == 0) return;
  const Cut cut(run, x.batch, panels, x.rows, tile);
  run.share(index, x.batch * cut.chunks * cut.row_groups, [&](int64_t task) {
    const uint8_t* quants = quants_of(run, x, stage, worker);
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

}  // namespace

uint64_t matmul_temp_bytes() {
  return static_cast<uint64_t>(2 * kOutFloats + kAccFloats + 2 * kDecodeFloats) * sizeof(float);
}

uint64_t grouped_temp_bytes(int64_t k) {
  return matmul_temp_bytes() + static_cast<uint64_t>(kTile * k) * sizeof(float);
}

void run_quantise(const Run& run, const hadal_op& op, const Stage& stage, size_t index) {
  const Matrices x =
      matrices(run.view(op, HADAL_MATMUL_X));  // gated_matmul has X at the same place
  static_assert(static_cast<int>(HADAL_MATMUL_X) == static_cast<int>(HADAL_GATED_MATMUL_X));
  uint8_t* quants = run.workspace + stage.buffer;
  run.share_rows(index, x.batch * x.rows, 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) quantise_row(run, x, i / x.rows, i % x.rows, quants);
  });
}

void run_matmul(const Run& run, const hadal_op& op, const Stage& stage, size_t index,
                Worker& worker) {
  const host_chip::View x = run.view(op, HADAL_MATMUL_X), out = run.view(op, HADAL_MATMUL_OUT);
  const host_chip::View add = run.view(op, HADAL_MATMUL_ADD),
                        bias = run.view(op, HADAL_MATMUL_BIAS);
  const Weight& w = *weight_of(run.view(op, HADAL_MATMUL_W).weight);
  const float* bias_values = bias.present() ? weight_of(bias.weight)->values() : nullptr;
  const Temp temp(worker.temp);
  const int64_t panels = (w.desc.rows + kPanel - 1) / kPanel;
  for_each_tile(
      run, x, panels, w.layout ? kTile : kDecodeRows, stage, index, worker,
      [&](int64_t batch, int64_t panel, int64_t from, int64_t rows, const Acts& acts) {
        multiply(run, w, batch, panel, acts, from, rows, temp, temp.out);
        const int64_t n = panel * kPanel, count = std::min<int64_t>(kPanel, w.desc.rows - n);
        for (int64_t m = 0; m < rows; ++m) {
          float* to =
              (out.rank == 3 ? out.row<float>(from + m, batch) : out.row<float>(from + m)) + n;
          const float* plus = !add.present() ? nullptr
                                             : (add.rank == 3 ? add.row<float>(from + m, batch)
                                                              : add.row<float>(from + m)) +
                                                   n;
          run.kernels.finish(temp.out + m * kPanel, bias_values ? bias_values + n : nullptr, plus,
                             to, count);
        }
      });
}

// A task is some panels of one expert, for all its rows. The rows are gathered into the worker's
// own memory, quantised where the weights ask for it, so that no barrier is needed.
void run_grouped_matmul(const Run& run, const hadal_op& op, size_t index, Worker& worker) {
  const host_chip::View x = run.view(op, HADAL_GROUPED_MATMUL_X),
                        out = run.view(op, HADAL_GROUPED_MATMUL_OUT),
                        offset = run.view(op, HADAL_GROUPED_MATMUL_OFFSET),
                        order = run.view(op, HADAL_GROUPED_MATMUL_ORDER);
  const Weight& w = *weight_of(run.view(op, HADAL_GROUPED_MATMUL_W).weight);
  const int64_t k = w.desc.cols, fan = op.attr.experts.fan;
  const int64_t panels = (w.desc.rows + kPanel - 1) / kPanel;
  const auto begin = [&](int64_t e) { return int64_t{*offset.row<int32_t>(e)}; };
  std::vector<int64_t> active;
  for (int64_t e = 0; e < w.desc.batch; ++e)
    if (begin(e) < begin(e + 1)) active.push_back(e);
  const auto experts = static_cast<int64_t>(active.size());
  const int64_t chunk = std::max<int64_t>(1, experts * panels / (int64_t{16} * run.workers));
  const int64_t chunks = (panels + chunk - 1) / chunk;
  const Temp temp(worker.temp);
  float* gathered = reinterpret_cast<float*>(worker.temp + matmul_temp_bytes());
  run.share(index, experts * chunks, [&](int64_t task) {
    const int64_t e = active[static_cast<size_t>(task / chunks)];
    const int64_t first = task % chunks * chunk, last = std::min(panels, first + chunk);
    for (int64_t from = begin(e); from < begin(e + 1); from += kTile) {
      const int64_t rows = std::min<int64_t>(kTile, begin(e + 1) - from);
      for (int64_t m = 0; m < rows; ++m) {
        const int64_t source = order.present() ? *order.row<int32_t>(from + m) / fan : from + m;
        if (w.quantises())
          run.kernels.quantize(x.row<float>(source), k, reinterpret_cast<uint8_t*>(gathered), rows,
                               m);
        else
          std::memcpy(gathered + m * k, x.row<float>(source),
                      static_cast<size_t>(k) * sizeof(float));
      }
      const Acts acts{gathered, k, reinterpret_cast<const uint8_t*>(gathered), rows};
      for (int64_t panel = first; panel < last; ++panel) {
        multiply(run, w, e, panel, acts, 0, rows, temp, temp.out);
        const int64_t n = panel * kPanel, count = std::min<int64_t>(kPanel, w.desc.rows - n);
        for (int64_t m = 0; m < rows; ++m)
          std::memcpy(out.row<float>(from + m) + n, temp.out + m * kPanel,
                      static_cast<size_t>(count) * sizeof(float));
      }
    }
  });
}

void run_gated_matmul(const Run& run, const hadal_op& op, const Stage& stage, size_t index,
                      Worker& worker) {
  const host_chip::View x = run.view(op, HADAL_GATED_MATMUL_X),
                        out = run.view(op, HADAL_GATED_MATMUL_OUT);
  const Weight& gate = *weight_of(run.view(op, HADAL_GATED_MATMUL_GATE).weight);
  const Weight& up = *weight_of(run.view(op, HADAL_GATED_MATMUL_UP).weight);
  const float clamp = op.attr.swiglu.clamp;
  const Temp temp(worker.temp);
  const int64_t panels = (gate.desc.rows + kPanel - 1) / kPanel;
  for_each_tile(run, x, panels, kTile, stage, index, worker,
                [&](int64_t batch, int64_t panel, int64_t from, int64_t rows, const Acts& acts) {
                  multiply(run, gate, batch, panel, acts, from, rows, temp, temp.out);
                  multiply(run, up, batch, panel, acts, from, rows, temp, temp.second);
                  const int64_t n = panel * kPanel,
                                count = std::min<int64_t>(kPanel, gate.desc.rows - n);
                  for (int64_t m = 0; m < rows; ++m)
                    run.kernels.swiglu(temp.out + m * kPanel, temp.second + m * kPanel, 1.0f, clamp,
                                       out.row<float>(from + m) + n, count);
                });
}

}  // namespace hadal::cpu
