// Stages that work row by row: embed, norm, RoPE, SwiGLU, add, cache writes, copies and
// conversions.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "plan.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

constexpr int64_t kColumns =
    1024;  ///< values of a task of an elementwise operator, a whole number of vectors

/// body(row, from, to): pieces of rows of an elementwise operator on [M, n].
template <typename Body>
void share_pieces(const Run& run, size_t index, const View& v, Body&& body) {
  const int64_t n = v.extents[1], pieces = (n + kColumns - 1) / kColumns,
                total = v.extents[0] * pieces;
  run.share_rows(index, total, std::max<int64_t>(1, kColumns / std::max<int64_t>(n, 1)),
                 [&](int64_t from, int64_t to) {
                   for (int64_t i = from; i < to; ++i) {
                     const int64_t column = i % pieces * kColumns;
                     body(i / pieces, column, std::min(n, column + kColumns));
                   }
                 });
}

/// Is row t turned or written, and where? -1: no. `ratio` as in hadal_rope_attr and
/// hadal_kv_write_attr.
int64_t turned_position(int32_t position, uint32_t ratio) {
  if (ratio <= 1) return position;
  return (int64_t{position} + 1) % ratio == 0 ? int64_t{position} + 1 - ratio : -1;
}

/// cos and sin of fp32(position) * inv_freq, rounded from double (below 1 ulp), times the
/// amplitude.
void fill_angles(const hadal_rope_attr& attr, int64_t position, const float* inv_freq, float* cos,
                 float* sin) {
  for (uint32_t i = 0; i < attr.dims / 2; ++i) {
    const float angle = static_cast<float>(position) * inv_freq[i];
    const double a = static_cast<double>(angle);
    cos[i] = static_cast<float>(std::cos(a)) * attr.amplitude;
    const float s = static_cast<float>(std::sin(a)) * attr.amplitude;
    sin[i] = attr.inverse != 0 ? -s : s;
  }
}

const float* vector_of(const View& v) {
  return v.present() ? weight_of(v.weight)->values() : nullptr;
}

}  // namespace

void run_embed(const Run& run, const hadal_op& op, size_t index) {
  const View token = run.view(op, HADAL_EMBED_TOKEN), out = run.view(op, HADAL_EMBED_OUT);
  const Weight& table = *weight_of(run.view(op, HADAL_EMBED_TABLE).weight);
  run.share_rows(index, out.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t)
      table.decode(*token.row<int32_t>(t), 0, table.desc.cols, out.row<float>(t));
  });
}

void run_norm(const Run& run, const hadal_op& op, size_t index) {
  const View x = run.view(op, HADAL_NORM_X), out = run.view(op, HADAL_NORM_OUT),
             residual = run.view(op, HADAL_NORM_RESIDUAL);
  const bool heads = x.rank == 3;
  const int64_t per_row = heads ? x.extents[1] : 1, n = heads ? x.extents[2] : x.extents[1];
  const auto at = [&](const View& v, int64_t i) {
    return heads ? v.row<float>(i / per_row, i % per_row) : v.row<float>(i);
  };
  NormArgs args{nullptr,
                vector_of(run.view(op, HADAL_NORM_W)),
                vector_of(run.view(op, HADAL_NORM_B)),
                nullptr,
                nullptr,
                n,
                op.attr.norm.eps,
                op.attr.norm.layer != 0};
  run.share_rows(index, x.extents[0] * per_row, std::max<int64_t>(1, 512 / std::max<int64_t>(n, 1)),
                 [&](int64_t from, int64_t to) {
                   NormArgs a = args;
                   for (int64_t i = from; i < to; ++i) {
                     a.x = at(x, i);
                     a.out = at(out, i);
                     a.residual = residual.present() ? at(residual, i) : nullptr;
                     run.kernels.norm(a);
                   }
                 });
}

void run_rope_table(const Run& run, const hadal_op& op, const Stage& stage, size_t index) {
  const View position = run.view(op, HADAL_ROPE_POSITION);
  const hadal_rope_attr& attr = op.attr.rope;
  const float* inv_freq = vector_of(run.view(op, HADAL_ROPE_INV_FREQ));
  float* table = reinterpret_cast<float*>(run.workspace + stage.buffer);
  run.share_rows(index, position.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) {
      const int64_t p = turned_position(*position.row<int32_t>(t), attr.ratio);
      float* row = table + t * attr.dims;
      if (p >= 0) fill_angles(attr, p, inv_freq, row, row + attr.dims / 2);
    }
  });
}

void run_rope(const Run& run, const hadal_op& op, const Stage& stage, size_t index,
              Worker& worker) {
  const View x = run.view(op, HADAL_ROPE_X), position = run.view(op, HADAL_ROPE_POSITION);
  const hadal_rope_attr& attr = op.attr.rope;
  const float* inv_freq = vector_of(run.view(op, HADAL_ROPE_INV_FREQ));
  run.share_rows(index, x.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) {
      const int64_t p = turned_position(*position.row<int32_t>(t), attr.ratio);
      if (p < 0) continue;
      float* angles = reinterpret_cast<float*>(worker.temp);
      if (stage.shares_table)
        angles = reinterpret_cast<float*>(run.workspace + stage.buffer) + t * attr.dims;
      else
        fill_angles(attr, p, inv_freq, angles, angles + attr.dims / 2);
      for (int64_t h = 0; h < x.extents[1]; ++h)
        run.kernels.rope(x.row<float>(t, h) + attr.first, angles, angles + attr.dims / 2,
                         attr.dims / 2, attr.interleaved != 0);
    }
  });
}

void run_swiglu(const Run& run, const hadal_op& op, size_t index) {
  const View gate = run.view(op, HADAL_SWIGLU_GATE), up = run.view(op, HADAL_SWIGLU_UP),
             out = run.view(op, HADAL_SWIGLU_OUT);
  const View weight = run.view(op, HADAL_SWIGLU_WEIGHT);
  share_pieces(run, index, out, [&](int64_t m, int64_t from, int64_t to) {
    const float w = weight.present() ? *weight.row<float>(m) : 1.0f;
    run.kernels.swiglu(gate.row<float>(m) + from, up.row<float>(m) + from, w, op.attr.swiglu.clamp,
                       out.row<float>(m) + from, to - from);
  });
}

void run_add(const Run& run, const hadal_op& op, size_t index) {
  const View x = run.view(op, HADAL_ADD_X), y = run.view(op, HADAL_ADD_Y);
  share_pieces(run, index, x, [&](int64_t m, int64_t from, int64_t to) {
    run.kernels.add(x.row<float>(m) + from, y.row<float>(m) + from, to - from);
  });
}

void run_kv_write(const Run& run, const hadal_op& op, size_t index) {
  const View x = run.view(op, HADAL_KV_WRITE_X), plane = run.view(op, HADAL_KV_WRITE_PLANE);
  const View position = run.view(op, HADAL_KV_WRITE_POSITION),
             row_seq = run.view(op, HADAL_KV_WRITE_ROW_SEQ);
  const View table = run.view(op, HADAL_KV_WRITE_BLOCK_TABLE),
             write_from = run.view(op, HADAL_KV_WRITE_WRITE_FROM);
  const int64_t slots = plane.extents[1], width = plane.extents[2];
  const int64_t ratio = std::max<int64_t>(1, op.attr.kv_write.ratio);
  run.share_rows(index, x.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) {
      const int64_t p = *position.row<int32_t>(t), s = *row_seq.row<int32_t>(t);
      if (p < 0 || p < *write_from.row<int32_t>(s) || (p + 1) % ratio != 0) continue;
      const int64_t slot = p / ratio;
      const int32_t block = table.row<int32_t>(s)[slot / slots];
      if (block < 0) continue;
      std::byte* target = plane.data + block * plane.strides[0] + slot % slots * plane.strides[1];
      switch (plane.dtype) {
        case HADAL_F16:
          run.kernels.f32_to_f16(x.row<float>(t), reinterpret_cast<uint16_t*>(target), width);
          break;
        case HADAL_BF16:
          run.kernels.f32_to_bf16(x.row<float>(t), reinterpret_cast<uint16_t*>(target), width);
          break;
        default:
          std::memcpy(target, x.row<float>(t), static_cast<size_t>(width) * sizeof(float));
      }
    }
  });
}

void run_gather_rows(const Run& run, const hadal_op& op, size_t index) {
  const View x = run.view(op, HADAL_GATHER_ROWS_X), rows = run.view(op, HADAL_GATHER_ROWS_INDEX),
             out = run.view(op, HADAL_GATHER_ROWS_OUT);
  run.share_rows(index, out.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; ++r)
      std::memcpy(out.row<float>(r), x.row<float>(*rows.row<int32_t>(r)),
                  static_cast<size_t>(out.extents[1]) * sizeof(float));
  });
}

void run_copy_blocks(const Run& run, const hadal_op& op, size_t index) {
  const View plane = run.view(op, HADAL_COPY_BLOCKS_PLANE),
             source = run.view(op, HADAL_COPY_BLOCKS_FROM),
             target = run.view(op, HADAL_COPY_BLOCKS_TO);
  const size_t bytes = static_cast<size_t>(plane.extents[2] * plane.strides[2]);
  run.share_rows(index, source.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int32_t a = *source.row<int32_t>(i), b = *target.row<int32_t>(i);
      if (a < 0 || b < 0) continue;
      for (int64_t slot = 0; slot < plane.extents[1]; ++slot)
        std::memcpy(plane.row<std::byte>(b, slot), plane.row<std::byte>(a, slot), bytes);
    }
  });
}

void run_convert(const Run& run, const hadal_op& op, size_t index, Worker& worker) {
  const View x = run.view(op, HADAL_CONVERT_X), out = run.view(op, HADAL_CONVERT_OUT);
  const int64_t element_in = x.strides[1], element_out = out.strides[1];
  share_pieces(run, index, out, [&](int64_t m, int64_t from, int64_t to) {
    const std::byte* source = x.row<std::byte>(m) + from * element_in;
    std::byte* target = out.row<std::byte>(m) + from * element_out;
    const int64_t n = to - from;
    if (x.dtype == out.dtype) {
      std::memcpy(target, source, static_cast<size_t>(n * element_out));
      return;
    }
    const float* values = reinterpret_cast<const float*>(source);
    if (x.dtype != HADAL_F32) {
      float* wide = out.dtype == HADAL_F32 ? reinterpret_cast<float*>(target)
                                           : reinterpret_cast<float*>(worker.temp);
      const auto* halves = reinterpret_cast<const uint16_t*>(source);
      if (x.dtype == HADAL_F16)
        run.kernels.f16_to_f32(halves, wide, n);
      else
        run.kernels.bf16_to_f32(halves, wide, n);
      values = wide;
    }
    if (out.dtype == HADAL_F16)
      run.kernels.f32_to_f16(values, reinterpret_cast<uint16_t*>(target), n);
    if (out.dtype == HADAL_BF16)
      run.kernels.f32_to_bf16(values, reinterpret_cast<uint16_t*>(target), n);
  });
}

}  // namespace hadal::cpu
