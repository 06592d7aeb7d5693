// Cases of what works on streams: the hyper-connections hc_pre and hc_post, and engram_gate.
#include <limits>

#include "kit.h"

namespace hadal::conformance {
namespace {

/// Which operands of hc_pre are given.
enum class Form : uint8_t {
  kPlain,     // no PRE
  kDelayed,   // MIX, OUT and PRE
  kCollapse,  // OUT and PRE
  kMix        // MIX and PRE
};

struct Streams {
  int64_t tokens = 17;
  int64_t n = 4;
  int64_t d = 33;
  bool all = true;  // POST and COMB are given
  Form form = Form::kPlain;
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
  const bool mixes = spec.form != Form::kCollapse, all = spec.all && mixes;
  const int64_t t = spec.tokens, n = spec.n, mixed = all ? n * (n + 2) : n;
  c.attr.hc = {.norm_eps = spec.norm_eps, .eps = spec.eps, .iterations = spec.iterations};
  c.operands[HADAL_HC_PRE_X] = streams(random, spec);
  if (mixes) {
    // Products with the streams: as large as they are, until they are divided by the norm.
    c.operands[HADAL_HC_PRE_MIX] =
        floats({t, mixed}, HADAL_DIM_T, random.normals(t * mixed, spec.size));
    std::vector<float> base = random.normals(mixed);
    for (auto i = static_cast<size_t>(2 * n); i < base.size(); ++i) base[i] += spec.far;
    c.operands[HADAL_HC_PRE_BASE] = weight_operand(make_vector(base), {mixed});
    std::vector<float> scale(all ? 3 : 1);
    for (float& s : scale) s = spec.loud * static_cast<float>(random.range(8, 16)) / 16;
    c.operands[HADAL_HC_PRE_SCALE] =
        weight_operand(make_vector(scale), {static_cast<int64_t>(scale.size())});
  }
  if (spec.form != Form::kMix)
    c.operands[HADAL_HC_PRE_OUT] = output(HADAL_F32, {t, spec.d}, HADAL_DIM_T);
  if (all) {
    c.operands[HADAL_HC_PRE_POST] = output(HADAL_F32, {t, n}, HADAL_DIM_T);
    c.operands[HADAL_HC_PRE_COMB] = output(HADAL_F32, {t, n, n}, HADAL_DIM_T);
    c.operands[HADAL_HC_PRE_COMB].head_pad = random.range(0, 3);
  }
  if (spec.form != Form::kPlain) {
    Operand& pre = c.operands[HADAL_HC_PRE_PRE] = output(HADAL_F32, {t, n}, HADAL_DIM_T);
    if (spec.form != Form::kMix) pre = floats({t, n}, HADAL_DIM_T, random.normals(t * n));
    pre.row_pad = random.range(0, 3);
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

/// What the keys of engram_gate are to the streams.
enum class Keys : uint8_t { kAny, kSame, kOpposite, kNothing };

struct Engram {
  int64_t tokens = 5;
  int64_t n = 4;
  int64_t d = 33;
  Keys keys = Keys::kAny;
  float size = 1;      // of the streams: the one behind is twice as large as the one before
  float key_size = 1;  // of the keys: half as large
  float eps = 1e-6f;
  float floor = 1e-6f;
  std::string name;
};

Case engram_case(Random& random, const Engram& spec) {
  const int64_t t = spec.tokens, n = spec.n, d = spec.d;
  Case c = streams_case(random, {.tokens = t, .name = spec.name});
  c.attr.engram = {.eps = spec.eps, .floor = spec.floor};
  std::vector<float> x = random.normals(t * n * d, spec.size);
  std::vector<float> key = random.normals(t * n * d, spec.key_size);
  for (int64_t i = 0; i < t * n * d; ++i) {
    const auto at = static_cast<size_t>(i);
    const auto louder = static_cast<float>(int64_t{1} << (i / d % n % 8));
    x[at] *= louder;
    key[at] /= louder;
    if (spec.keys == Keys::kSame) key[at] = x[at];
    if (spec.keys == Keys::kOpposite) key[at] = -x[at];
    if (spec.keys == Keys::kNothing) (i / d % 2 == 0 ? x : key)[at] = 0;
  }
  const auto operand = [&](uint32_t i, std::vector<int64_t> shape,
                           const std::vector<float>& values) {
    Operand& o = c.operands[i] = floats(std::move(shape), HADAL_DIM_T, values);
    o.row_pad = random.range(0, 5);
    if (o.shape.size() == 3) o.head_pad = random.coin() ? random.range(1, 5) : 0;
  };
  operand(HADAL_ENGRAM_GATE_X, {t, n, d}, x);
  operand(HADAL_ENGRAM_GATE_KEY, {t, n, d}, key);
  operand(HADAL_ENGRAM_GATE_VALUE, {t, d}, random.normals(t * d, spec.size));
  for (const uint32_t i : {HADAL_ENGRAM_GATE_Q_WEIGHT, HADAL_ENGRAM_GATE_K_WEIGHT}) {
    std::vector<float> weight = random.normals(n * d, 0.25f);
    for (float& w : weight) w += 1;
    c.operands[i] = weight_operand(make_vector(weight), {n * d});
  }
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
  add({.tokens = 2, .d = 7168, .iterations = 20, .name = "as wide as V4-Pro"});
  for (const auto& [form, name] :
       {std::pair{Form::kDelayed, "pre of the site before"},
        std::pair{Form::kCollapse, "a collapse"}, std::pair{Form::kMix, "no collapse"}}) {
    for (const int64_t tokens : kRows)
      add({.tokens = tokens, .d = random.pick(kWidths), .form = form, .name = name});
    for (const int64_t n : {1, 2, 4, 16})
      for (const bool all : {true, false})
        for (const int64_t d : {1, 7, 257})
          add({.tokens = 5,
               .n = n,
               .d = d,
               .all = all,
               .form = form,
               .iterations = 1,
               .eps = 0.02f,
               .name = std::string(name) + (all ? "" : ", pre alone")});
    add({.tokens = 5,
         .form = form,
         .size = 1e5f,
         .loud = 6,
         .name = std::string(name) + ", large values"});
    add({.tokens = 3,
         .d = 1009,
         .form = form,
         .iterations = 20,
         .name = std::string(name) + ", as V4.1 has it"});
  }
  // Forms that do not exist.
  const auto refuse = [&](Form form, std::initializer_list<uint32_t> without,
                          const std::string& name) {
    add({.tokens = 2, .form = form, .name = name});
    for (const uint32_t i : without) cases.back().operands[i] = Operand();
    cases.back().must_fail = true;
  };
  refuse(Form::kPlain, {HADAL_HC_PRE_OUT}, "neither out nor pre");
  refuse(Form::kCollapse, {HADAL_HC_PRE_PRE}, "a collapse by nothing");
  refuse(Form::kCollapse, {HADAL_HC_PRE_OUT}, "nothing is asked");
  refuse(Form::kDelayed, {HADAL_HC_PRE_SCALE}, "no scale");
  refuse(Form::kDelayed, {HADAL_HC_PRE_MIX, HADAL_HC_PRE_BASE, HADAL_HC_PRE_SCALE},
         "post and comb of nothing");
}

void hc_post_cases(Random& random, bool, std::vector<Case>& cases) {
  const auto add = [&](const Streams& spec) { cases.push_back(post_case(random, spec)); };
  for (const int64_t tokens : kRows) add({.tokens = tokens, .d = random.pick(kWidths)});
  for (int64_t n = 1; n <= 16; ++n) add({.tokens = 5, .n = n, .d = random.pick(kWidths)});
  for (const int64_t d : {1, 7, 33, 255, 256, 257, 513, 999, 1000})
    add({.tokens = 3, .n = random.range(2, 4), .d = d});
  add({.tokens = 3, .n = 4, .d = 1000, .size = 1e5f, .name = "large values"});
}

void engram_gate_cases(Random& random, bool, std::vector<Case>& cases) {
  const auto add = [&](const Engram& spec) { cases.push_back(engram_case(random, spec)); };
  for (const int64_t tokens : kRows) add({.tokens = tokens, .d = random.pick(kWidths)});
  for (const int64_t n : {1, 2, 3, 4, 16})
    for (const int64_t d : {1, 7, 8, 31, 257, 1009}) add({.n = n, .d = d});
  for (const Keys keys : {Keys::kSame, Keys::kOpposite})
    for (const int64_t d : {1, 33, 1000})
      add({.d = d,
           .keys = keys,
           .name = keys == Keys::kSame ? "keys as the streams" : "keys against the streams"});
  for (const float floor : {0.0f, 1e-6f, 0.25f, 4.0f}) {
    add({.d = 100, .floor = floor, .name = "floor"});
    add({.d = 7, .keys = Keys::kNothing, .floor = floor, .name = "streams or keys of zeros"});
  }
  add({.d = 100, .eps = 0.5f, .name = "a large eps"});
  add({.d = 100, .size = 1e5f, .key_size = 1e4f, .name = "large values"});
  add({.d = 100, .size = 1e-4f, .key_size = 1e-4f, .eps = 1e-9f, .name = "small values"});
  add({.tokens = 3, .d = 4099, .eps = 1e-20f, .floor = 1e-6f, .name = "as V4.1 has it"});
  const auto refuse = [&](const Engram& spec) {
    add(spec);
    cases.back().must_fail = true;
  };
  refuse({.n = 17, .d = 7, .name = "too many streams"});
  refuse({.eps = -1e-6f, .name = "eps below zero"});
  refuse({.floor = -1e-6f, .name = "floor below zero"});
  refuse({.floor = std::numeric_limits<float>::quiet_NaN(), .name = "no floor"});
}

}  // namespace hadal::conformance
