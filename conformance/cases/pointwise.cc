// Cases of norm, rope, swiglu and add.
#include <cmath>
#include <string>

#include "kit.h"

namespace hadal::conformance {
namespace {

struct Norm {
  int64_t m = 3;
  int64_t heads = 0;  // 0: rank 2
  int64_t n = 64;
  bool layer = false;
  bool weight = true;
  bool residual = false;
  bool in_place = false;
  int64_t pad = 0;
  float eps = 1e-5f;
  float scale = 1;
};

Case norm_case(Random& random, const Norm& spec) {
  Case c;
  c.rows[HADAL_DIM_T] = spec.m;
  c.spare[HADAL_DIM_T] = random.range(0, 2);
  c.sliced = HADAL_DIM_T;
  c.every_row = spec.m == 3 || spec.m == 17;
  c.attr.norm = {.eps = spec.eps, .layer = spec.layer ? 1u : 0u};
  const std::vector<int64_t> shape = spec.heads ? std::vector<int64_t>{spec.m, spec.heads, spec.n}
                                                : std::vector<int64_t>{spec.m, spec.n};
  const int64_t count = spec.m * std::max<int64_t>(spec.heads, 1) * spec.n;
  c.operands[HADAL_NORM_X] = floats(shape, HADAL_DIM_T, random.normals(count, spec.scale));
  c.operands[HADAL_NORM_X].row_pad = spec.pad;
  c.operands[HADAL_NORM_X].head_pad = spec.heads ? spec.pad : 0;
  if (spec.weight)
    c.operands[HADAL_NORM_W] = weight_operand(make_vector(random.normals(spec.n)), {spec.n});
  if (spec.weight && spec.layer)
    c.operands[HADAL_NORM_B] = weight_operand(make_vector(random.normals(spec.n)), {spec.n});
  if (spec.residual)
    c.operands[HADAL_NORM_RESIDUAL] =
        floats(shape, HADAL_DIM_T, random.normals(count, spec.scale * 2));
  c.operands[HADAL_NORM_OUT] = output(HADAL_F32, shape, HADAL_DIM_T);
  if (spec.in_place) c.operands[HADAL_NORM_OUT].alias = HADAL_NORM_X;
  c.name = std::string(spec.layer ? "layer norm" : "rms norm") + (spec.pad ? ", strided" : "") +
           (spec.scale < 1 ? ", tiny values" : "");
  return c;
}

struct Rope {
  int64_t tokens = 5;
  int64_t heads = 3;
  int64_t d = 64;
  hadal_rope_attr attr{
      .first = 0, .dims = 64, .interleaved = 0, .inverse = 0, .ratio = 1, .amplitude = 1};
  int64_t pad = 0;
};

Case rope_case(Random& random, const Rope& spec) {
  Case c;
  c.rows[HADAL_DIM_T] = spec.tokens;
  c.spare[HADAL_DIM_T] = random.range(0, 2);
  c.sliced = HADAL_DIM_T;
  c.every_row = spec.tokens == 3 || spec.tokens == 17;
  c.attr.rope = spec.attr;
  std::vector<int32_t> position;
  for (int64_t t = 0; t < spec.tokens; ++t)
    position.push_back(static_cast<int32_t>(random.pick(
        std::vector<int64_t>{t, random.range(0, 4096), random.range(0, 1000000), 1000000})));
  std::vector<float> inv_freq;
  for (uint32_t i = 0; i < spec.attr.dims / 2; ++i)
    inv_freq.push_back(
        std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(spec.attr.dims)));
  c.operands[HADAL_ROPE_X] = floats({spec.tokens, spec.heads, spec.d}, HADAL_DIM_T,
                                    random.normals(spec.tokens * spec.heads * spec.d));
  c.operands[HADAL_ROPE_X].row_pad = spec.pad;
  c.operands[HADAL_ROPE_X].head_pad = spec.pad / 2;
  c.operands[HADAL_ROPE_POSITION] = ints({spec.tokens}, HADAL_DIM_T, position);
  c.operands[HADAL_ROPE_INV_FREQ] = weight_operand(make_vector(inv_freq), {spec.attr.dims / 2});
  c.name = std::string(spec.attr.interleaved ? "interleaved" : "half") +
           (spec.attr.inverse ? ", inverse" : "") +
           (spec.attr.first ? ", first " + std::to_string(spec.attr.first) : "") + ", dims " +
           std::to_string(spec.attr.dims) +
           (spec.attr.ratio > 1 ? ", ratio " + std::to_string(spec.attr.ratio) : "") +
           (spec.pad ? ", strided" : "");
  return c;
}

}  // namespace

void norm_cases(Random& random, bool, std::vector<Case>& cases) {
  for (const int64_t m : kRows)
    cases.push_back(norm_case(random, {.m = m,
                                       .n = random.pick(kWidths),
                                       .weight = random.coin(),
                                       .residual = random.coin(),
                                       .in_place = random.coin()}));
  for (const int64_t n : kWidths) {
    cases.push_back(norm_case(random, {.n = n, .residual = true}));
    cases.push_back(norm_case(random, {.n = n, .in_place = true, .pad = 3}));
    cases.push_back(norm_case(
        random,
        {.m = 17, .n = n, .layer = true, .weight = random.coin(), .residual = random.coin()}));
  }
  for (const int64_t heads : {1, 4, 9}) {
    cases.push_back(
        norm_case(random, {.m = 17, .heads = heads, .n = 64, .in_place = true, .pad = 4}));
    cases.push_back(norm_case(random, {.m = 7, .heads = heads, .n = 33, .pad = 2}));
    cases.push_back(
        norm_case(random, {.m = 3, .heads = heads, .n = 16, .weight = false, .residual = true}));
  }
  // As wide as V3's rows, and its heads.
  cases.push_back(norm_case(random, {.m = 3, .n = 7168, .residual = true}));
  cases.push_back(norm_case(random, {.m = 3, .heads = 128, .n = 192}));
  cases.push_back(norm_case(random, {.n = 64, .eps = 1e-2f, .scale = 1e-2f}));
  cases.push_back(norm_case(random, {.n = 64,
                                     .weight = false,
                                     .residual = true,
                                     .in_place = true,
                                     .eps = 1e-5f,
                                     .scale = 1e-3f}));
}

void rope_cases(Random& random, bool, std::vector<Case>& cases) {
  for (const int64_t tokens : kRows)
    cases.push_back(rope_case(random, {.tokens = tokens,
                                       .heads = random.range(1, 9),
                                       .attr = {.first = 0,
                                                .dims = 64,
                                                .interleaved = static_cast<uint32_t>(tokens % 2),
                                                .inverse = 0,
                                                .ratio = 1,
                                                .amplitude = 1}}));
  for (const uint32_t interleaved : {0u, 1u})
    for (const uint32_t inverse : {0u, 1u}) {
      const auto add = [&](int64_t d, uint32_t first, uint32_t dims, uint32_t ratio,
                           float amplitude, int64_t pad) {
        cases.push_back(rope_case(random, {.tokens = 17,
                                           .heads = 3,
                                           .d = d,
                                           .attr = {.first = first,
                                                    .dims = dims,
                                                    .interleaved = interleaved,
                                                    .inverse = inverse,
                                                    .ratio = ratio,
                                                    .amplitude = amplitude},
                                           .pad = pad}));
      };
      add(64, 0, 64, 1, 1, 0);
      add(192, 128, 64, 1, 1, 0);
      add(512, 448, 64, 1, 1, 0);
      add(80, 0, 32, 1, 1.25f, 6);
      add(7, 3, 4, 1, 1, 2);
      add(2, 0, 2, 1, 1, 0);
      add(64, 0, 64, 4, 1, 0);
      add(33, 1, 30, 2, 0.5f, 0);
    }
}

void swiglu_cases(Random& random, bool, std::vector<Case>& cases) {
  const auto add = [&](int64_t m, int64_t n, float clamp, bool weighted, int32_t alias,
                       float scale) {
    Case c;
    c.rows[HADAL_DIM_T] = m;
    c.spare[HADAL_DIM_T] = random.range(0, 2);
    c.sliced = HADAL_DIM_T;
    c.every_row = m == 3 || m == 17;
    c.attr.swiglu.clamp = clamp;
    c.operands[HADAL_SWIGLU_GATE] = floats({m, n}, HADAL_DIM_T, random.normals(m * n, scale));
    c.operands[HADAL_SWIGLU_UP] = floats({m, n}, HADAL_DIM_T, random.normals(m * n, scale));
    c.operands[HADAL_SWIGLU_GATE].row_pad = c.operands[HADAL_SWIGLU_UP].row_pad = n % 3;
    if (weighted) c.operands[HADAL_SWIGLU_WEIGHT] = floats({m}, HADAL_DIM_T, random.normals(m));
    c.operands[HADAL_SWIGLU_OUT] = output(HADAL_F32, {m, n}, HADAL_DIM_T);
    c.operands[HADAL_SWIGLU_OUT].alias = alias;
    c.name = clamp > 0 ? "clamped" : "";
    cases.push_back(std::move(c));
  };
  for (const int64_t m : kRows) add(m, random.pick(kWidths), 0, false, -1, 4);
  for (const int64_t n : kWidths) {
    add(3, n, 7, true, -1, 8);
    add(3, n, 0, true, n % 2 == 0 ? HADAL_SWIGLU_GATE : HADAL_SWIGLU_UP, 2);
  }
  add(3, 18432, 10, true, -1, 4);  // V3's dense layers
  add(17, 100, 0, false, -1, 60);  // exp(-gate) over- and underflows
}

void add_cases(Random& random, bool, std::vector<Case>& cases) {
  for (const int64_t m : kRows) {
    Case c;
    const int64_t n = random.pick(kWidths);
    c.rows[HADAL_DIM_T] = m;
    c.spare[HADAL_DIM_T] = random.range(0, 2);
    c.sliced = HADAL_DIM_T;
    c.every_row = m == 3;
    c.operands[HADAL_ADD_X] = floats({m, n}, HADAL_DIM_T, random.normals(m * n));
    c.operands[HADAL_ADD_X].row_pad = n % 2;
    c.operands[HADAL_ADD_Y] = floats({m, n}, HADAL_DIM_T, random.normals(m * n, 100));
    cases.push_back(std::move(c));
  }
}

}  // namespace hadal::conformance
