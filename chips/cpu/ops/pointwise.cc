// Operators that look at one row: norm, rope, swiglu, add.
#include <cmath>

#include "ops/operators.h"
#include "runtime/planner.h"

namespace hadal::cpu {
namespace {

using host_chip::View;

void norm(const Call& call) {
  const View x = call.view(HADAL_NORM_X), out = call.view(HADAL_NORM_OUT),
             residual = call.view(HADAL_NORM_RESIDUAL);
  const bool heads = x.rank == 3;
  const int64_t per_row = heads ? x.extents[1] : 1, n = heads ? x.extents[2] : x.extents[1];
  const auto at = [&](const View& v, int64_t i) {
    return heads ? v.row<float>(i / per_row, i % per_row) : v.row<float>(i);
  };
  NormArgs args{nullptr, call.vector(HADAL_NORM_W), call.vector(HADAL_NORM_B),   nullptr, nullptr,
                n,       call.op.attr.norm.eps,     call.op.attr.norm.layer != 0};
  call.share_rows(x.extents[0] * per_row, std::max<int64_t>(1, 512 / std::max<int64_t>(n, 1)),
                  [&](int64_t from, int64_t to) {
                    NormArgs a = args;
                    for (int64_t i = from; i < to; ++i) {
                      a.x = at(x, i);
                      a.out = at(out, i);
                      a.residual = residual.present() ? at(residual, i) : nullptr;
                      call.kernels().norm(a);
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

void rope_table(const Call& call) {
  const View position = call.view(HADAL_ROPE_POSITION);
  const hadal_rope_attr& attr = call.op.attr.rope;
  const float* inv_freq = call.vector(HADAL_ROPE_INV_FREQ);
  float* table = call.buffer<float>(0);
  call.share_rows(position.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) {
      const int64_t p = turned_position(*position.row<int32_t>(t), attr.ratio);
      float* row = table + t * attr.dims;
      if (p >= 0) fill_angles(attr, p, inv_freq, row, row + attr.dims / 2);
    }
  });
}

void rope(const Call& call) {
  const View x = call.view(HADAL_ROPE_X), position = call.view(HADAL_ROPE_POSITION);
  const hadal_rope_attr& attr = call.op.attr.rope;
  const float* inv_freq = call.vector(HADAL_ROPE_INV_FREQ);
  call.share_rows(x.extents[0], 1, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) {
      const int64_t p = turned_position(*position.row<int32_t>(t), attr.ratio);
      if (p < 0) continue;
      float* angles = reinterpret_cast<float*>(call.worker.temp);
      if (call.stage.derived >= 0)
        angles = call.buffer<float>(0) + t * attr.dims;
      else
        fill_angles(attr, p, inv_freq, angles, angles + attr.dims / 2);
      for (int64_t h = 0; h < x.extents[1]; ++h)
        call.kernels().rope(x.row<float>(t, h) + attr.first, angles, angles + attr.dims / 2,
                            attr.dims / 2, attr.interleaved != 0);
    }
  });
}

Needs rope_needs(const Query& query) { return {.temp = query.op.attr.rope.dims * sizeof(float)}; }

/// RoPEs of the same positions share one table of cos and sin.
void plan_rope(Planner& planner, Stage main) {
  const hadal_rope_attr& a = planner.op().attr.rope;
  if (!planner.eager() && planner[HADAL_ROPE_POSITION].space == HADAL_SPACE_INPUT) {
    const struct {
      const hadal_weight* inv_freq;
      uint32_t dims, inverse, ratio;
      float amplitude;
    } key = {planner[HADAL_ROPE_INV_FREQ].weight, a.dims, a.inverse, a.ratio, a.amplitude};
    planner.derive(main, {.make = rope_table,
                          .source = HADAL_ROPE_POSITION,
                          .key = std::string(reinterpret_cast<const char*>(&key), sizeof key),
                          .bytes = static_cast<uint64_t>(planner.rows(HADAL_ROPE_POSITION)) *
                                   a.dims * sizeof(float),
                          .keep = true});
  }
  planner.push(main);
}

void swiglu(const Call& call) {
  const View gate = call.view(HADAL_SWIGLU_GATE), up = call.view(HADAL_SWIGLU_UP),
             out = call.view(HADAL_SWIGLU_OUT);
  const View weight = call.view(HADAL_SWIGLU_WEIGHT);
  call.share_pieces(out.extents[0], out.extents[1], [&](int64_t m, int64_t from, int64_t to) {
    const float w = weight.present() ? *weight.row<float>(m) : 1.0f;
    call.kernels().swiglu(gate.row<float>(m) + from, up.row<float>(m) + from, w,
                          call.op.attr.swiglu.clamp, out.row<float>(m) + from, to - from);
  });
}

void add(const Call& call) {
  const View x = call.view(HADAL_ADD_X), y = call.view(HADAL_ADD_Y);
  call.share_pieces(x.extents[0], x.extents[1], [&](int64_t m, int64_t from, int64_t to) {
    call.kernels().add(x.row<float>(m) + from, y.row<float>(m) + from, to - from);
  });
}

}  // namespace

const Operator kNorm = {.id = HADAL_OP_NORM, .run = norm};
const Operator kRope = {.id = HADAL_OP_ROPE, .run = rope, .query = rope_needs, .plan = plan_rope};
const Operator kSwiglu = {.id = HADAL_OP_SWIGLU, .run = swiglu};
const Operator kAdd = {.id = HADAL_OP_ADD, .run = add};

}  // namespace hadal::cpu
