// Cases of matmul, gated_matmul and embed: shapes, weight types, pieces, block scales, batches.
#include <algorithm>

#include "kit.h"

namespace hadal::conformance {
namespace {

const std::vector<int64_t> kOutputs = {1, 2, 15, 16, 17, 33};

struct Matmul {
  int64_t m = 1;
  int64_t k = 64;
  int64_t n = 16;
  int64_t batch = 0;  // 0: rank 2
  uint32_t dtype = HADAL_F32;
  WeightShape weight{};  // pieces and block scales
  bool bias = false;
  int add = 0;  // 1: its own memory, 2: the memory of OUT
  int64_t pad = 0;
  float mean = 0;  // of x: a sum that does not cancel grows with K, and so do its rounding errors
};

std::vector<float> activations(Random& random, int64_t count, float mean) {
  std::vector<float> x = random.normals(count);
  for (float& v : x) v += mean;
  return x;
}

Case matmul_case(Random& random, const Matmul& spec, uint32_t dim = HADAL_DIM_T,
                 int64_t factor = 1) {
  Case c;
  c.rows[dim] = spec.m / factor;
  c.spare[dim] = random.range(0, 2);
  c.sliced = dim;
  const int64_t b = std::max<int64_t>(spec.batch, 1);
  const auto shape = [&](int64_t last) {
    return spec.batch ? std::vector<int64_t>{spec.m, spec.batch, last}
                      : std::vector<int64_t>{spec.m, last};
  };
  c.operands[HADAL_MATMUL_X] =
      floats(shape(spec.k), dim, activations(random, spec.m * b * spec.k, spec.mean));
  c.operands[HADAL_MATMUL_X].row_pad = spec.pad;
  WeightShape weight = spec.weight;
  weight.batch = b;
  weight.rows = spec.n;
  weight.cols = spec.k;
  c.operands[HADAL_MATMUL_W] = weight_operand(
      make_weight(random, spec.dtype, weight),
      spec.batch ? std::vector<int64_t>{b, spec.n, spec.k} : std::vector<int64_t>{spec.n, spec.k});
  if (spec.bias)
    c.operands[HADAL_MATMUL_BIAS] =
        weight_operand(make_vector(random.normals(spec.n, 3)), {spec.n});
  c.operands[HADAL_MATMUL_OUT] = output(HADAL_F32, shape(spec.n), dim);
  c.operands[HADAL_MATMUL_OUT].row_pad = spec.pad;
  if (spec.add == 1)
    c.operands[HADAL_MATMUL_ADD] =
        floats(shape(spec.n), dim, random.normals(spec.m * b * spec.n, 3));
  if (spec.add == 2) {
    c.operands[HADAL_MATMUL_OUT].data =
        floats({}, dim, random.normals(spec.m * b * spec.n, 3)).data;
    c.operands[HADAL_MATMUL_ADD].alias = HADAL_MATMUL_OUT;
  }
  for (const uint32_t i : {HADAL_MATMUL_X, HADAL_MATMUL_ADD, HADAL_MATMUL_OUT})
    c.operands[i].per_row = factor;
  if (spec.weight.pieces > 1) c.name = std::to_string(spec.weight.pieces) + " pieces";
  if (spec.weight.scale_dtype != HADAL_DTYPE_NONE)
    c.name = "scales for blocks of " + std::to_string(spec.weight.block_rows) + " x " +
             std::to_string(spec.weight.block_cols);
  if (factor > 1) c.name = std::to_string(factor) + " rows a sequence";
  return c;
}

// Element types of checkpoints that come with block scales.
std::vector<Matmul> scaled_specs(Random& random, bool quick) {
  std::vector<Matmul> specs;
  const std::vector<uint32_t> scales = {HADAL_F32, HADAL_BF16, HADAL_F16, HADAL_F8_E8M0};
  for (const uint32_t dtype : {HADAL_F8_E4M3, HADAL_F8_E5M2, HADAL_F4_E2M1})
    for (const uint32_t scale : scales) {
      if (quick && scale != HADAL_BF16) continue;
      Matmul spec{.m = random.pick(kRows), .k = 200, .n = 33, .dtype = dtype};
      spec.weight.scale_dtype = scale;
      const bool small = dtype == HADAL_F4_E2M1;
      spec.weight.block_rows = small ? 1 : random.pick(std::vector<int64_t>{1, 16, 32, 128});
      spec.weight.block_cols = small ? 32 : random.pick(std::vector<int64_t>{32, 128});
      spec.m = std::max<int64_t>(spec.m, 1);
      specs.push_back(spec);
      // Two pieces: each begins with a block of its own.
      spec.weight.pieces = 2;
      spec.n = 40;
      specs.push_back(spec);
    }
  return specs;
}

// One case a type that compares its rows, with enough of them for every kernel of a chip.
Case invariant_case(Random& random, uint32_t dtype, int64_t m) {
  const int64_t block = block_of(dtype);
  Case c = matmul_case(random, {.m = m,
                                .k = block == 1 ? 288 : std::max<int64_t>(2 * block, 256),
                                .n = 33,
                                .dtype = dtype,
                                .bias = true});
  c.every_row = true;
  return c;
}

}  // namespace

void matmul_cases(Random& random, bool quick, std::vector<Case>& cases) {
  for (const int64_t m : kRows)
    for (const uint32_t dtype : {HADAL_F32, HADAL_BF16, HADAL_F16})
      cases.push_back(matmul_case(random, {.m = m,
                                           .k = random.pick(kWidths),
                                           .n = random.pick(kOutputs),
                                           .dtype = dtype,
                                           .bias = random.coin(),
                                           .add = static_cast<int>(random.range(0, 2)),
                                           .pad = random.coin() ? random.range(1, 9) : 0,
                                           .mean = random.coin() ? 1.0f : 0.0f}));
  cases.push_back(matmul_case(random, {.m = 3, .k = 64, .n = 17, .bias = true}));
  cases.push_back(matmul_case(random, {.m = 3, .k = 64, .n = 17, .add = 1}));
  cases.push_back(matmul_case(random, {.m = 3, .k = 64, .n = 17, .bias = true, .add = 2}));
  cases.push_back(matmul_case(random, {.m = 6, .k = 64, .n = 16}, HADAL_DIM_S, 2));
  for (const int64_t k : kWidths)
    for (const int64_t n : kOutputs)
      if (!quick || k == 33)
        cases.push_back(matmul_case(
            random, {.m = random.range(1, 5), .k = k, .n = n, .dtype = HADAL_BF16, .mean = 1}));
  for (const uint32_t dtype : weight_dtypes()) {
    const int64_t block = block_of(dtype);
    for (const int64_t blocks : {1, 2, 3, 5}) {
      if (quick && blocks != 2) continue;
      const int64_t k = block == 1 ? random.pick(kWidths) : block * blocks;
      Matmul spec{.m = random.pick(std::vector<int64_t>{1, 2, 5, 17}),
                  .k = k,
                  .n = random.pick(kOutputs),
                  .dtype = dtype};
      spec.bias = random.coin();
      spec.add = static_cast<int>(random.range(0, 2));
      spec.mean = random.coin() ? 0.5f : 0.0f;
      if (blocks > 1)
        spec.weight.pieces = static_cast<uint32_t>(random.range(1, std::min<int64_t>(3, spec.n)));
      cases.push_back(matmul_case(random, spec));
    }
    for (const int64_t m : {2, 3, 7, 8, 16, 17, 63, 64, 65}) {
      const bool plain = dtype == HADAL_F32 || dtype == HADAL_BF16 || dtype == HADAL_F16 ||
                         dtype == HADAL_Q8_0 || dtype == HADAL_Q4_K;
      if (quick ? m == 7 && plain : plain || m == 3 || m == 17 || m == 65)
        cases.push_back(invariant_case(random, dtype, m));
    }
  }
  // As long as V3's rows, and its longest sums.
  if (!quick)
    for (const uint32_t dtype : {HADAL_BF16, HADAL_Q8_0, HADAL_Q4_K}) {
      cases.push_back(matmul_case(random, {.m = 3, .k = 7168, .n = 40, .dtype = dtype}));
      cases.push_back(matmul_case(random, {.m = 1, .k = 18432, .n = 24, .dtype = dtype}));
    }
  // Large enough for a chip to use all its threads.
  for (const uint32_t dtype :
       {HADAL_F32, HADAL_BF16, HADAL_F16, HADAL_Q8_0, HADAL_Q4_K, HADAL_Q6_K})
    for (const int64_t m : {1, 130}) {
      if (quick && dtype != HADAL_BF16) continue;
      cases.push_back(matmul_case(
          random, {.m = m, .k = 768, .n = 300, .dtype = dtype, .bias = true, .add = 2}));
      cases.back().every_row = true;
    }
  for (const Matmul& spec : scaled_specs(random, quick)) cases.push_back(matmul_case(random, spec));
  for (const uint32_t dtype : {HADAL_F32, HADAL_BF16, HADAL_Q8_0})
    for (const int64_t batch : {1, 3, 8}) {
      cases.push_back(matmul_case(random, {.m = random.pick(kRows),
                                           .k = 64,
                                           .n = 17,
                                           .batch = batch,
                                           .dtype = dtype,
                                           .add = static_cast<int>(batch % 3)}));
      cases.push_back(matmul_case(
          random, {.m = 5, .k = 128, .n = 16, .batch = batch, .dtype = dtype, .pad = 3}));
      cases.back().every_row = true;
    }
}

void gated_matmul_cases(Random& random, bool quick, std::vector<Case>& cases) {
  const auto add = [&](int64_t m, int64_t k, int64_t n, uint32_t gate, uint32_t up, float clamp,
                       uint32_t pieces) {
    Case c;
    c.rows[HADAL_DIM_T] = m;
    c.spare[HADAL_DIM_T] = random.range(0, 2);
    c.sliced = HADAL_DIM_T;
    c.every_row = m > 1;
    c.attr.swiglu.clamp = clamp;
    c.operands[HADAL_GATED_MATMUL_X] = floats({m, k}, HADAL_DIM_T, random.normals(m * k, 0.5f));
    const WeightShape shape{.rows = n, .cols = k, .pieces = pieces};
    c.operands[HADAL_GATED_MATMUL_GATE] = weight_operand(make_weight(random, gate, shape), {n, k});
    c.operands[HADAL_GATED_MATMUL_UP] = weight_operand(make_weight(random, up, shape), {n, k});
    c.operands[HADAL_GATED_MATMUL_OUT] = output(HADAL_F32, {m, n}, HADAL_DIM_T);
    if (clamp > 0) c.name = "clamped";
    cases.push_back(std::move(c));
  };
  for (const int64_t m : kRows)
    add(m, random.pick(kWidths), random.pick(kOutputs), HADAL_BF16, HADAL_BF16, 0, 1);
  add(5, 64, 33, HADAL_F32, HADAL_F32, 0.75f, 1);
  add(5, 64, 33, HADAL_F32, HADAL_Q8_0, 0, 2);
  for (const uint32_t dtype : weight_dtypes()) {
    const int64_t block = block_of(dtype);
    if (!quick || dtype == HADAL_Q4_K)
      add(random.pick(std::vector<int64_t>{1, 3, 17}),
          block == 1 ? 96 : std::max<int64_t>(block, 64), 18, dtype, dtype,
          random.coin() ? 1.5f : 0, 1);
  }
}

void embed_cases(Random& random, bool quick, std::vector<Case>& cases) {
  const auto add = [&](int64_t t, int64_t v, const WeightShape& shape, uint32_t dtype) {
    Case c;
    c.rows[HADAL_DIM_T] = t;
    c.spare[HADAL_DIM_T] = random.range(0, 2);
    c.sliced = HADAL_DIM_T;
    c.every_row = t == 3;
    std::vector<int32_t> tokens(static_cast<size_t>(t));
    for (int32_t& id : tokens) id = static_cast<int32_t>(random.range(0, v - 1));
    if (t > 1) tokens[0] = static_cast<int32_t>(v - 1);
    c.operands[HADAL_EMBED_TOKEN] = ints({t}, HADAL_DIM_T, tokens);
    c.operands[HADAL_EMBED_TABLE] =
        weight_operand(make_weight(random, dtype, shape), {v, shape.cols});
    c.operands[HADAL_EMBED_OUT] = output(HADAL_F32, {t, shape.cols}, HADAL_DIM_T);
    c.operands[HADAL_EMBED_OUT].row_pad = t % 3;
    cases.push_back(std::move(c));
  };
  const auto plain = [](int64_t v, int64_t d, uint32_t pieces) {
    return WeightShape{.rows = v, .cols = d, .uses = HADAL_USE_GATHER, .pieces = pieces};
  };
  for (const int64_t t : kRows) add(t, 50, plain(50, random.pick(kWidths), 1), HADAL_BF16);
  for (const uint32_t dtype : weight_dtypes()) {
    if (quick && is_quantised(dtype) && dtype != HADAL_Q6_K) continue;
    add(3, 17,
        plain(17, std::max<int64_t>(block_of(dtype), 64),
              static_cast<uint32_t>(random.range(1, 3))),
        dtype);
  }
  WeightShape scaled = plain(17, 100, 2);
  scaled.block_rows = 4;
  scaled.block_cols = 32;
  scaled.scale_dtype = HADAL_F32;
  add(7, 17, scaled, HADAL_F8_E4M3);
  for (const int32_t wrong : {-1, 17, 1 << 30}) {
    add(3, 17, plain(17, 64, 1), HADAL_F32);
    cases.back().operands[HADAL_EMBED_TOKEN] = ints({3}, HADAL_DIM_T, {0, wrong, 1});
    cases.back().wrong_data = true;
    cases.back().name = "token " + std::to_string(wrong) + " of 17";
  }
}

}  // namespace hadal::conformance
