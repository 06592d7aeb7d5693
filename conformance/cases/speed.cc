// Cases of the level `speed`: one decoded row and a chunk of 64, in the shapes of real models,
// small enough for a CPU.
#include <fmt/format.h>

#include <cmath>

#include "pages.h"
#include "speed.h"

namespace hadal::conformance {
namespace {

constexpr int64_t kHidden = 2048, kInner = 5632, kContext = 2048, kVocabulary = 32000;

class Maker {
 public:
  explicit Maker(uint64_t seed) : random_(seed * 77 + 3) {}

  Case rows(int64_t t) {
    Case c;
    c.rows[HADAL_DIM_T] = c.rows[HADAL_DIM_U] = c.rows[HADAL_DIM_R] = t;
    c.rows[HADAL_DIM_S] = 1;
    return c;
  }
  Operand numbers(std::vector<int64_t> shape, uint32_t dim = HADAL_DIM_T) {
    Operand o = output(HADAL_F32, std::move(shape), dim);
    const int64_t count = o.count();
    return floats(o.shape, dim, random_.normals(count, 0.5f));
  }
  Operand matrix(int64_t rows, int64_t cols, int64_t batch = 0, uint32_t use = HADAL_USE_MATMUL) {
    auto w = make_weight(
        random_, HADAL_BF16,
        {.batch = std::max<int64_t>(1, batch), .rows = rows, .cols = cols, .uses = use});
    return weight_operand(std::move(w), batch > 0 ? std::vector<int64_t>{batch, rows, cols}
                                                  : std::vector<int64_t>{rows, cols});
  }
  Operand vector(int64_t n) {
    return weight_operand(make_vector(std::vector<float>(static_cast<size_t>(n), 0.7f)), {n});
  }
  Operand whole(std::vector<int64_t> shape, int64_t below, uint32_t dim = HADAL_DIM_T) {
    const Operand o = output(HADAL_I32, shape, dim);
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < o.count(); ++i)
      ids.push_back(static_cast<int32_t>(random_.range(0, below - 1)));
    return ints(std::move(shape), dim, ids);
  }

  Random random_;
};

void matmul(Maker& m, uint32_t, std::vector<SpeedCase>& all) {
  for (const int64_t t : {1, 64}) {
    Case c = m.rows(t);
    c.operands[HADAL_MATMUL_X] = m.numbers({t, kHidden});
    c.operands[HADAL_MATMUL_W] = m.matrix(kInner, kHidden);
    c.operands[HADAL_MATMUL_OUT] = output(HADAL_F32, {t, kInner}, HADAL_DIM_T);
    all.push_back({c, fmt::format("{} x {} -> {}", t, kHidden, kInner)});
  }
}

void gated(Maker& m, uint32_t, std::vector<SpeedCase>& all) {
  Case c = m.rows(1);
  c.operands[HADAL_GATED_MATMUL_X] = m.numbers({1, kHidden});
  c.operands[HADAL_GATED_MATMUL_GATE] = m.matrix(kInner, kHidden);
  c.operands[HADAL_GATED_MATMUL_UP] = m.matrix(kInner, kHidden);
  c.operands[HADAL_GATED_MATMUL_OUT] = output(HADAL_F32, {1, kInner}, HADAL_DIM_T);
  all.push_back({c, fmt::format("1 x {} -> {}", kHidden, kInner)});
}

void pointwise(Maker& m, uint32_t id, std::vector<SpeedCase>& all) {
  constexpr int64_t kRows = 64;
  Case c = m.rows(kRows);
  if (id == HADAL_OP_NORM) {
    c.attr.norm.eps = 1e-5f;
    c.operands[HADAL_NORM_X] = m.numbers({kRows, kHidden});
    c.operands[HADAL_NORM_W] = m.vector(kHidden);
    c.operands[HADAL_NORM_OUT] = output(HADAL_F32, {kRows, kHidden}, HADAL_DIM_T);
  } else if (id == HADAL_OP_ROPE) {
    c.attr.rope = {.dims = 128, .ratio = 1, .amplitude = 1};
    c.operands[HADAL_ROPE_X] = m.numbers({kRows, 16, 128});
    c.operands[HADAL_ROPE_POSITION] = m.whole({kRows}, kContext);
    c.operands[HADAL_ROPE_INV_FREQ] = m.vector(64);
  } else if (id == HADAL_OP_SWIGLU) {
    c.operands[HADAL_SWIGLU_GATE] = m.numbers({kRows, kInner});
    c.operands[HADAL_SWIGLU_UP] = m.numbers({kRows, kInner});
    c.operands[HADAL_SWIGLU_OUT] = output(HADAL_F32, {kRows, kInner}, HADAL_DIM_T);
  } else {
    c.operands[HADAL_EMBED_TOKEN] = m.whole({kRows}, 8192);
    c.operands[HADAL_EMBED_TABLE] = m.matrix(8192, kHidden, 0, HADAL_USE_GATHER);
    c.operands[HADAL_EMBED_OUT] = output(HADAL_F32, {kRows, kHidden}, HADAL_DIM_T);
  }
  all.push_back({c, id == HADAL_OP_SWIGLU ? fmt::format("{} x {}", kRows, kInner)
                                          : fmt::format("{} x {}", kRows, kHidden)});
}

std::vector<Sequence> one_sequence(int64_t rows) { return {{.last = kContext - 1, .rows = rows}}; }

void gqa(Maker& m, uint32_t, std::vector<SpeedCase>& all) {
  for (const int64_t t : {1, 64}) {
    const std::vector<Sequence> sequences = one_sequence(t);
    Case c =
        rows_case(m.random_, sequences, HADAL_GQA_ATTENTION_POSITION, HADAL_GQA_ATTENTION_ROW_SEQ);
    Pages pages(m.random_, sequences, {.slots = 64});
    c.attr.attention = {.scale = 0.09f, .kv_heads = 4, .window = 0};
    c.operands[HADAL_GQA_ATTENTION_Q] = m.numbers({t, 16, 128});
    c.operands[HADAL_GQA_ATTENTION_K] = pages.plane(4 * 128);
    c.operands[HADAL_GQA_ATTENTION_V] = pages.plane(4 * 128);
    c.operands[HADAL_GQA_ATTENTION_BLOCK_TABLE] = pages.table();
    c.operands[HADAL_GQA_ATTENTION_FIRST] = pages.first();
    c.operands[HADAL_GQA_ATTENTION_OUT] = output(HADAL_F32, {t, 16, 128}, HADAL_DIM_T);
    all.push_back({c, fmt::format("{} row(s), {} positions, 16 heads", t, kContext), kContext});
  }
}

void latent(Maker& m, uint32_t, std::vector<SpeedCase>& all) {
  const std::vector<Sequence> sequences = one_sequence(1);
  Case c = rows_case(m.random_, sequences, HADAL_LATENT_ATTENTION_POSITION,
                     HADAL_LATENT_ATTENTION_ROW_SEQ);
  Pages pages(m.random_, sequences, {.slots = 64});
  c.attr.latent.scale = 0.07f;
  c.attr.latent.segments[0] = {.ratio = 1, .window = 0};
  c.operands[HADAL_LATENT_ATTENTION_Q] = m.numbers({1, 16, 512});
  c.operands[HADAL_LATENT_ATTENTION_TAIL] = m.numbers({1, 16, 64});
  c.operands[HADAL_LATENT_ATTENTION_PLANE] = pages.plane(576);
  c.operands[HADAL_LATENT_ATTENTION_BLOCK_TABLE] = pages.table();
  c.operands[HADAL_LATENT_ATTENTION_FIRST] = pages.first();
  c.operands[HADAL_LATENT_ATTENTION_OUT] = output(HADAL_F32, {1, 16, 512}, HADAL_DIM_T);
  all.push_back({c, fmt::format("1 row, {} positions, 16 heads", kContext), kContext});
}

void experts(Maker& m, uint32_t, std::vector<SpeedCase>& all) {
  constexpr int64_t kExperts = 16, kFan = 4, kWidth = 512;
  Case c = m.rows(1);
  c.attr.experts.fan = kFan;
  std::vector<int32_t> offset(kExperts + 1, kFan);
  for (size_t e = 0; e < kFan; ++e) offset[e] = static_cast<int32_t>(e);
  c.operands[HADAL_GROUPED_MATMUL_X] = m.numbers({1, kHidden});
  c.operands[HADAL_GROUPED_MATMUL_W] = m.matrix(kWidth, kHidden, kExperts);
  c.operands[HADAL_GROUPED_MATMUL_OFFSET] = ints({kExperts + 1}, HADAL_DIM_CONST, offset);
  c.operands[HADAL_GROUPED_MATMUL_ORDER] = per_row(ints({kFan}, HADAL_DIM_T, {0, 1, 2, 3}), kFan);
  c.operands[HADAL_GROUPED_MATMUL_OUT] =
      per_row(output(HADAL_F32, {kFan, kWidth}, HADAL_DIM_T), kFan);
  all.push_back(
      {c, fmt::format("1 row, {} of {} experts, {} -> {}", kFan, kExperts, kHidden, kWidth)});
}

void router(Maker& m, uint32_t, std::vector<SpeedCase>& all) {
  Case c = m.rows(64);
  c.attr.router = {.score = HADAL_ROUTER_SIGMOID,
                   .groups = 8,
                   .groups_kept = 4,
                   .group_best = 2,
                   .normalise = 1,
                   .scale = 2.5f};
  c.operands[HADAL_ROUTER_LOGITS] = m.numbers({64, 256});
  c.operands[HADAL_ROUTER_BIAS] = m.vector(256);
  c.operands[HADAL_ROUTER_EXPERT] = output(HADAL_I32, {64, 8}, HADAL_DIM_T);
  c.operands[HADAL_ROUTER_WEIGHT] = output(HADAL_F32, {64, 8}, HADAL_DIM_T);
  all.push_back({c, "64 rows, 8 of 256 experts"});
}

void sample(Maker& m, uint32_t, std::vector<SpeedCase>& all) {
  Case c = m.rows(1);
  c.attr.sample.top = 5;
  c.operands[HADAL_SAMPLE_LOGITS] = m.numbers({1, kVocabulary}, HADAL_DIM_R);
  c.operands[HADAL_SAMPLE_PARAMS] =
      floats({1, HADAL_PARAM_COUNT}, HADAL_DIM_R, {0.7f, 40, 0.9f, 0, 1, 0, 0, 0});
  c.operands[HADAL_SAMPLE_SEED] = output(HADAL_U32, {1, 2}, HADAL_DIM_R);
  c.operands[HADAL_SAMPLE_SEED].data = ints({2}, HADAL_DIM_R, {7, 9}).data;
  c.operands[HADAL_SAMPLE_POSITION] = ints({1}, HADAL_DIM_R, {11});
  c.operands[HADAL_SAMPLE_ENTRY_START] = ints({1, 2}, HADAL_DIM_R, {0, 0});
  c.operands[HADAL_SAMPLE_ENTRY] = ints({1, 3}, HADAL_DIM_CONST, {0, 0, 0});
  c.operands[HADAL_SAMPLE_ENTRY_BIAS] = floats({1}, HADAL_DIM_CONST, {0});
  c.operands[HADAL_SAMPLE_TOKEN] = output(HADAL_I32, {1}, HADAL_DIM_R);
  c.operands[HADAL_SAMPLE_LOGPROB] = output(HADAL_F32, {1}, HADAL_DIM_R);
  c.operands[HADAL_SAMPLE_TOP_TOKEN] = output(HADAL_I32, {1, 5}, HADAL_DIM_R);
  c.operands[HADAL_SAMPLE_TOP_LOGPROB] = output(HADAL_F32, {1, 5}, HADAL_DIM_R);
  all.push_back({c, fmt::format("1 row, {} tokens", kVocabulary)});
}

void index(Maker& m, uint32_t, std::vector<SpeedCase>& all) {
  const std::vector<Sequence> sequences = one_sequence(1);
  Case c = rows_case(m.random_, sequences, HADAL_INDEX_TOPK_POSITION, HADAL_INDEX_TOPK_ROW_SEQ);
  Pages pages(m.random_, sequences, {.slots = 64});
  c.attr.index = {.ratio = 1, .block_size = 0};
  c.operands[HADAL_INDEX_TOPK_Q] = m.numbers({1, 16, 128});
  c.operands[HADAL_INDEX_TOPK_WEIGHT] = m.numbers({1, 16});
  c.operands[HADAL_INDEX_TOPK_PLANE] = pages.plane(128);
  c.operands[HADAL_INDEX_TOPK_BLOCK_TABLE] = pages.table();
  c.operands[HADAL_INDEX_TOPK_FIRST] = pages.first();
  c.operands[HADAL_INDEX_TOPK_LIST] = output(HADAL_I32, {1, 512}, HADAL_DIM_T);
  all.push_back({c, fmt::format("1 row, 512 of {} entries", kContext), kContext});
}

using Make = void (*)(Maker&, uint32_t, std::vector<SpeedCase>&);
constexpr std::pair<uint32_t, Make> kMakers[] = {
    {HADAL_OP_EMBED, pointwise},         {HADAL_OP_MATMUL, matmul},
    {HADAL_OP_NORM, pointwise},          {HADAL_OP_ROPE, pointwise},
    {HADAL_OP_SWIGLU, pointwise},        {HADAL_OP_GATED_MATMUL, gated},
    {HADAL_OP_GQA_ATTENTION, gqa},       {HADAL_OP_SAMPLE, sample},
    {HADAL_OP_ROUTER, router},           {HADAL_OP_GROUPED_MATMUL, experts},
    {HADAL_OP_LATENT_ATTENTION, latent}, {HADAL_OP_INDEX_TOPK, index}};

}  // namespace

bool has_speed_cases(uint32_t id) {
  return std::any_of(std::begin(kMakers), std::end(kMakers),
                     [id](const auto& known) { return known.first == id; });
}

std::vector<SpeedCase> speed_cases(uint32_t id, uint64_t seed) {
  Maker m(seed);
  std::vector<SpeedCase> all;
  for (const auto& [known, make] : kMakers)
    if (known == id) make(m, id, all);
  for (SpeedCase& s : all) s.c.id = id;
  return all;
}

}  // namespace hadal::conformance
