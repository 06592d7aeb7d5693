// Cases of the hyper-connections: hc_pre and hc_post.
#include "kit.h"

namespace hadal::conformance {
namespace {

struct Streams {
  int64_t tokens = 17;
  int64_t n = 4;
  int64_t d = 33;
  bool all = true;  // POST and COMB are given
  uint32_t iterations = 6;
  float eps = 1e-6f;
  float norm_eps = 1e-6f;
  float size = 1;  // of the streams
  float loud = 1;  // SCALE: the louder, the farther the mixing is from even
  float far = 0;   // is added to all that comb is made of
  std::string name;
};

Case streams_case(Random& random, const Streams& spec) {
  Case c;
  c.name = spec.name;
  c.rows[HADAL_DIM_T] = spec.tokens;
  c.spare[HADAL_DIM_T] = random.range(0, 2);
  c.sliced = HADAL_DIM_T;
  c.every_row = spec.tokens > 1;
  return c;
}

Operand streams(Random& random, const Streams& spec) {
  Operand x = floats({spec.tokens, spec.n, spec.d}, HADAL_DIM_T,
                     random.normals(spec.tokens * spec.n * spec.d, spec.size));
  x.row_pad = random.range(0, 5);
  x.head_pad = random.coin() ? random.range(1, 5) : 0;
  return x;
}

Case pre_case(Random& random, const Streams& spec) {
  Case c = streams_case(random, spec);
  const int64_t t = spec.tokens, n = spec.n, mixed = spec.all ? n * (n + 2) : n;
  c.attr.hc = {.norm_eps = spec.norm_eps, .eps = spec.eps, .iterations = spec.iterations};
  c.operands[HADAL_HC_PRE_X] = streams(random, spec);
  // Products with the streams: as large as they are, until they are divided by the norm.
  c.operands[HADAL_HC_PRE_MIX] =
      floats({t, mixed}, HADAL_DIM_T, random.normals(t * mixed, spec.size));
  std::vector<float> base = random.normals(mixed);
  for (auto i = static_cast<size_t>(2 * n); i < base.size(); ++i) base[i] += spec.far;
  c.operands[HADAL_HC_PRE_BASE] = weight_operand(make_vector(base), {mixed});
  std::vector<float> scale(spec.all ? 3 : 1);
  for (float& s : scale) s = spec.loud * static_cast<float>(random.range(8, 16)) / 16;
  c.operands[HADAL_HC_PRE_SCALE] =
      weight_operand(make_vector(scale), {static_cast<int64_t>(scale.size())});
  c.operands[HADAL_HC_PRE_OUT] = output(HADAL_F32, {t, spec.d}, HADAL_DIM_T);
  if (spec.all) {
    c.operands[HADAL_HC_PRE_POST] = output(HADAL_F32, {t, n}, HADAL_DIM_T);
    c.operands[HADAL_HC_PRE_COMB] = output(HADAL_F32, {t, n, n}, HADAL_DIM_T);
    c.operands[HADAL_HC_PRE_COMB].head_pad = random.range(0, 3);
  }
  for (const uint32_t i : {HADAL_HC_PRE_MIX, HADAL_HC_PRE_OUT, HADAL_HC_PRE_POST})
    c.operands[i].row_pad = random.range(0, 3);
  return c;
}

Case post_case(Random& random, const Streams& spec) {
  Case c = streams_case(random, spec);
  const int64_t t = spec.tokens, n = spec.n;
  c.operands[HADAL_HC_POST_X] = streams(random, spec);
  c.operands[HADAL_HC_POST_F] =
      floats({t, spec.d}, HADAL_DIM_T, random.normals(t * spec.d, spec.size));
  c.operands[HADAL_HC_POST_POST] = floats({t, n}, HADAL_DIM_T, random.normals(t * n));
  c.operands[HADAL_HC_POST_COMB] = floats({t, n, n}, HADAL_DIM_T, random.normals(t * n * n));
  c.operands[HADAL_HC_POST_COMB].head_pad = random.range(0, 3);
  for (const uint32_t i : {HADAL_HC_POST_F, HADAL_HC_POST_POST})
    c.operands[i].row_pad = random.range(0, 3);
  return c;
}

}  // namespace

void hc_pre_cases(Random& random, bool, std::vector<Case>& cases) {
  const auto add = [&](const Streams& spec) { cases.push_back(pre_case(random, spec)); };
  for (const int64_t tokens : kRows) add({.tokens = tokens, .d = random.pick(kWidths)});
  for (const int64_t n : {1, 2, 4, 16}) {
    for (const int64_t d : {1, 7, 257})
      add({.tokens = 5, .n = n, .d = d, .all = false, .name = "pre alone"});
    for (const uint32_t iterations : {1u, 6u, 20u}) {
      add({.n = n, .iterations = iterations});
      add({.tokens = 5, .n = n, .d = 101, .iterations = iterations, .loud = 3, .name = "uneven"});
      add({.tokens = 9,
           .n = n,
           .iterations = iterations,
           .eps = 0.02f,
           .norm_eps = 0.5f,
           .name = "large epsilons"});
      add({.tokens = 5,
           .n = n,
           .iterations = iterations,
           .size = 1e5f,
           .loud = 6,
           .name = "large values"});
    }
    for (const float far : {-100.0f, 100.0f})  // exp of it is not a number of fp32
      add({.tokens = 3, .n = n, .far = far, .name = "far from zero"});
    add({.tokens = 3, .n = n, .d = 1000, .norm_eps = 1e-8f, .size = 1e-4f, .name = "small values"});
  }
  add({.tokens = 3, .d = 1009, .iterations = 20, .name = "as V4 has it"});
}

void hc_post_cases(Random& random, bool, std::vector<Case>& cases) {
  const auto add = [&](const Streams& spec) { cases.push_back(post_case(random, spec)); };
  for (const int64_t tokens : kRows) add({.tokens = tokens, .d = random.pick(kWidths)});
  for (int64_t n = 1; n <= 16; ++n) add({.tokens = 5, .n = n, .d = random.pick(kWidths)});
  for (const int64_t d : {1, 7, 33, 255, 256, 257, 513, 999, 1000})
    add({.tokens = 3, .n = random.range(2, 4), .d = d});
  add({.tokens = 3, .n = 4, .d = 1000, .size = 1e5f, .name = "large values"});
}

}  // namespace hadal::conformance
