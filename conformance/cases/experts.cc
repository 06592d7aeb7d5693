// Cases of the mixture of experts: router, moe_sort, grouped_matmul, moe_combine.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "kit.h"

namespace hadal::conformance {
namespace {

// ---- router

struct Router {
  int64_t tokens = 17;
  int64_t experts = 16;
  int64_t k = 4;
  hadal_router_attr attr{.score = HADAL_ROUTER_SOFTMAX,
                         .groups = 1,
                         .groups_kept = 1,
                         .group_best = 1,
                         .normalise = 1,
                         .scale = 1};
  float bias = 0;       // its size; 0: none
  float bias_mean = 0;  // below -1 every selection score is negative
  bool ties = false;    // few values, so that the lower index has to win
  int64_t hash = 0;     // rows of HASH; 0: none
  int32_t wrong = 0;    // an expert of HASH
  std::string name;
};

std::vector<double> scores_of(const std::vector<float>& logits, uint32_t kind) {
  std::vector<double> scores(logits.begin(), logits.end());
  double sum = 0;
  for (double& s : scores) {
    const double power = std::exp(s);
    sum += power;
    s = kind == HADAL_ROUTER_SOFTMAX   ? power
        : kind == HADAL_ROUTER_SIGMOID ? power / (1 + power)
                                       : std::sqrt(std::log1p(power));
  }
  if (kind == HADAL_ROUTER_SOFTMAX)
    for (double& s : scores) s /= sum;
  return scores;
}

/// Whether rounding has no say in the choice: what stands on the two sides of a border differs by
/// more than 1e-4 of its size, and by twice what the contract leaves open.
bool is_clear(const Router& spec, const std::vector<float>& logits,
              const std::vector<float>& bias) {
  const double open = 64 * 0x1p-24 * (1 + static_cast<double>(spec.bias - spec.bias_mean) * 4);
  // Of `values`, the `count` largest stand apart from each other and from the rest.
  const auto apart = [&](std::vector<double>& values, int64_t first, int64_t count) {
    std::sort(values.begin(), values.end(), std::greater<>());
    for (auto i = static_cast<size_t>(first); i + 1 < values.size(); ++i) {
      if (static_cast<int64_t>(i) >= count) return true;
      const double size = std::max(std::fabs(values[i]), std::fabs(values[i + 1]));
      if (values[i] - values[i + 1] <= std::max(1e-4 * size, open)) return false;
    }
    return true;
  };
  std::vector<double> selection = scores_of(logits, spec.attr.score);
  for (size_t e = 0; e < bias.size(); ++e) selection[e] += static_cast<double>(bias[e]);
  if (spec.attr.groups == 1) return apart(selection, 0, spec.k);
  const size_t run = selection.size() / spec.attr.groups;
  std::vector<std::pair<double, size_t>> groups;
  for (size_t g = 0; g < spec.attr.groups; ++g) {
    std::vector<double> members(&selection[g * run], &selection[g * run] + run);
    std::sort(members.begin(), members.end(), std::greater<>());
    groups.emplace_back(
        std::accumulate(members.begin(), members.begin() + spec.attr.group_best, 0.0), g);
  }
  std::sort(groups.begin(), groups.end(), std::greater<>());
  std::vector<double> sums, searched;
  for (const auto& [sum, g] : groups) {
    if (sums.size() < spec.attr.groups_kept)
      searched.insert(searched.end(), &selection[g * run], &selection[g * run] + run);
    sums.push_back(sum);
  }
  return apart(sums, spec.attr.groups_kept - 1, spec.attr.groups_kept) &&
         apart(searched, 0, spec.k);
}

std::vector<float> router_row(Random& random, const Router& spec, const std::vector<float>& bias) {
  if (spec.ties) {
    std::vector<float> row(static_cast<size_t>(spec.experts));
    for (float& v : row) v = random.pick(std::vector<float>{-1, 0.5f, 2});
    return row;
  }
  for (int attempt = 0; attempt < 10000; ++attempt)
    if (const std::vector<float> row = random.normals(spec.experts, 2);
        spec.hash != 0 || is_clear(spec, row, bias))
      return row;
  throw std::runtime_error("router, " + spec.name + ": no row without near ties");
}

Case router_case(Random& random, const Router& spec) {
  Case c;
  c.name = spec.name;
  c.rows[HADAL_DIM_T] = spec.tokens;
  c.spare[HADAL_DIM_T] = random.range(0, 2);
  c.sliced = HADAL_DIM_T;
  c.every_row = spec.tokens > 1;
  c.attr.router = spec.attr;
  std::vector<float> bias;
  if (spec.bias > 0) bias = random.normals(spec.experts, spec.bias);
  for (float& b : bias) b += spec.bias_mean;
  std::vector<float> logits;
  for (int64_t t = 0; t < spec.tokens; ++t) {
    const std::vector<float> row = router_row(random, spec, bias);
    logits.insert(logits.end(), row.begin(), row.end());
  }
  c.operands[HADAL_ROUTER_LOGITS] = floats({spec.tokens, spec.experts}, HADAL_DIM_T, logits);
  if (!bias.empty())
    c.operands[HADAL_ROUTER_BIAS] = weight_operand(make_vector(bias), {spec.experts});
  if (spec.hash != 0) {
    std::vector<int32_t> token, table;
    for (int64_t t = 0; t < spec.tokens; ++t)
      token.push_back(static_cast<int32_t>(random.range(0, spec.hash - 1)));
    for (int64_t v = 0; v < spec.hash; ++v) {
      const std::vector<int32_t> ids = random.shuffled(spec.experts);
      table.insert(table.end(), ids.begin(), ids.begin() + spec.k);
    }
    if (spec.wrong != 0) table[static_cast<size_t>(token[0] * spec.k)] = spec.wrong;
    c.operands[HADAL_ROUTER_TOKEN] = ints({spec.tokens}, HADAL_DIM_T, token);
    c.operands[HADAL_ROUTER_HASH] = weight_operand(
        make_table(table, spec.k, random.coin() ? HADAL_I32 : HADAL_I64), {spec.hash, spec.k});
    c.wrong_data = spec.wrong != 0;
  }
  c.operands[HADAL_ROUTER_EXPERT] = output(HADAL_I32, {spec.tokens, spec.k}, HADAL_DIM_T);
  c.operands[HADAL_ROUTER_WEIGHT] = output(HADAL_F32, {spec.tokens, spec.k}, HADAL_DIM_T);
  for (const uint32_t i : {HADAL_ROUTER_LOGITS, HADAL_ROUTER_EXPERT, HADAL_ROUTER_WEIGHT})
    c.operands[i].row_pad = random.range(0, 3);
  return c;
}

// ---- pairs of a token row and an expert

enum class Load : uint8_t {
  kEven,  // any expert
  kOne,   // one has everything
  kFew    // three at most have anything
};

/// Of experts on several devices those of this one: from `first` on, of `of`; 0: all are here.
struct Range {
  int64_t first = 0, of = 0;
  void put(Case& c) const {
    c.attr.experts.first = static_cast<uint32_t>(first);
    c.attr.experts.of = static_cast<uint32_t>(of);
  }
};

/// Who computes what, and the answer of moe_sort.
struct Routing {
  int64_t tokens = 0, fan = 0, experts = 0;
  std::vector<int32_t> expert, order, offset;

  Routing(Random& random, int64_t t, int64_t k, int64_t e, Load load, const Range& range = {})
      : tokens(t), fan(k), experts(e) {
    std::vector<int32_t> used = random.shuffled(range.of != 0 ? range.of : experts);
    const size_t most = load == Load::kEven ? used.size() : load == Load::kOne ? 1 : 3;
    used.resize(std::min(used.size(), most));
    for (int64_t i = 0; i < tokens * fan; ++i) expert.push_back(random.pick(used));
    for (int32_t id = 0; id < experts; ++id) {
      offset.push_back(static_cast<int32_t>(order.size()));
      for (size_t i = 0; i < expert.size(); ++i)
        if (expert[i] == range.first + id) order.push_back(static_cast<int32_t>(i));
    }
    offset.push_back(static_cast<int32_t>(order.size()));
    order.resize(expert.size(), INT32_MIN);  // nothing of value
  }
};

/// A case over so many token rows.
Case pairs_case(Random& random, int64_t tokens, std::string name) {
  Case c;
  c.name = std::move(name);
  c.rows[HADAL_DIM_T] = tokens;
  c.spare[HADAL_DIM_T] = random.range(0, 2);
  return c;
}

Case sort_case(Random& random, int64_t tokens, int64_t fan, int64_t experts, Load load,
               std::string name, const Range& range) {
  const Routing routing(random, tokens, fan, experts, load, range);
  const int64_t pairs = tokens * fan;
  Case c = pairs_case(random, tokens, std::move(name));
  range.put(c);
  c.operands[HADAL_MOE_SORT_EXPERT] = ints({tokens, fan}, HADAL_DIM_T, routing.expert);
  c.operands[HADAL_MOE_SORT_EXPERT].row_pad = random.range(0, 2);
  c.operands[HADAL_MOE_SORT_WEIGHT] = floats({tokens, fan}, HADAL_DIM_T, random.normals(pairs));
  c.operands[HADAL_MOE_SORT_WEIGHT].row_pad = random.range(0, 2);
  for (const uint32_t i : {HADAL_MOE_SORT_ORDER, HADAL_MOE_SORT_PLACE})
    c.operands[i] = per_row(output(HADAL_I32, {pairs}, HADAL_DIM_T), fan);
  c.operands[HADAL_MOE_SORT_OFFSET] = output(HADAL_I32, {experts + 1}, HADAL_DIM_CONST);
  c.operands[HADAL_MOE_SORT_ROW_WEIGHT] = per_row(output(HADAL_F32, {pairs}, HADAL_DIM_T), fan);
  return c;
}

struct Grouped {
  int64_t tokens = 9;
  int64_t fan = 3;
  int64_t experts = 5;
  int64_t k = 64;
  int64_t n = 17;
  uint32_t dtype = HADAL_BF16;
  WeightShape weight{};  // pieces and block scales
  Load load = Load::kEven;
  bool ordered = true;  // ORDER is given, X has a row a token
  Range range{};        // of which OFFSET and ORDER are
  std::string name;
};

Case grouped_case(Random& random, const Grouped& spec) {
  const Routing routing(random, spec.tokens, spec.fan, spec.experts, spec.load, spec.range);
  const int64_t pairs = spec.tokens * spec.fan, x_rows = spec.ordered ? 1 : spec.fan;
  Case c = pairs_case(random, spec.tokens, spec.name);
  c.every_row = pairs > 0;
  c.attr.experts.fan = static_cast<uint32_t>(spec.fan);
  c.operands[HADAL_GROUPED_MATMUL_X] =
      per_row(floats({spec.tokens * x_rows, spec.k}, HADAL_DIM_T,
                     random.normals(spec.tokens * x_rows * spec.k)),
              x_rows);
  WeightShape weight = spec.weight;
  weight.batch = spec.experts;
  weight.rows = spec.n;
  weight.cols = spec.k;
  c.operands[HADAL_GROUPED_MATMUL_W] =
      weight_operand(make_weight(random, spec.dtype, weight), {spec.experts, spec.n, spec.k});
  c.operands[HADAL_GROUPED_MATMUL_OFFSET] =
      ints({spec.experts + 1}, HADAL_DIM_CONST, routing.offset);
  if (spec.ordered)
    c.operands[HADAL_GROUPED_MATMUL_ORDER] =
        per_row(ints({pairs}, HADAL_DIM_T, routing.order), spec.fan);
  c.operands[HADAL_GROUPED_MATMUL_OUT] =
      per_row(output(HADAL_F32, {pairs, spec.n}, HADAL_DIM_T), spec.fan);
  for (const uint32_t i : {HADAL_GROUPED_MATMUL_X, HADAL_GROUPED_MATMUL_OUT})
    c.operands[i].row_pad = random.coin() ? random.range(1, 9) : 0;
  return c;
}

// One matrix of a weight. Where it has block scales, matrices begin with a block.
std::shared_ptr<const WeightData> matrix_of(const WeightData& w, int64_t index) {
  auto one = std::make_shared<WeightData>();
  one->desc = w.desc;
  one->desc.batch = 1;
  one->skew = w.skew;
  const int64_t rows = w.desc.rows, begin = index * rows;
  one->values.assign(w.values.begin() + begin * w.desc.cols,
                     w.values.begin() + (begin + rows) * w.desc.cols);
  int64_t at = 0;  // the source's first row
  for (const WeightData::Source& source : w.sources) {
    const int64_t from = std::max<int64_t>(0, begin - at);
    const int64_t to = std::min(source.rows, begin + rows - at);
    at += source.rows;
    if (from >= to) continue;
    WeightData::Source part = source;
    const auto cut = [&](Bytes& bytes, int64_t count) {
      const auto start = bytes.begin() + static_cast<std::ptrdiff_t>(w.skew);
      if (!bytes.empty()) bytes.erase(start, start + count);
    };
    part.rows = to - from;
    cut(part.bytes, from * part.row_stride);
    if (w.desc.scale_block_rows != 0)
      cut(part.scale_bytes, from / w.desc.scale_block_rows * part.scale_row_stride);
    one->sources.push_back(std::move(part));
  }
  return one;
}

/// SHARED, ADD and OUT of moe_combine or moe_experts. `add`: 1, its own memory; 2, that of OUT.
struct Sums {
  uint32_t shared, add, out;
  void put(Random& random, Case& c, int64_t n, bool has_shared, int has_add) const {
    const int64_t tokens = c.rows[HADAL_DIM_T];
    const auto rows = [&](float scale) {
      return floats({tokens, n}, HADAL_DIM_T, random.normals(tokens * n, scale));
    };
    if (has_shared) c.operands[shared] = rows(4);
    if (has_add == 1) c.operands[add] = rows(16);
    c.operands[out] = has_add == 2 ? rows(16) : output(HADAL_F32, {tokens, n}, HADAL_DIM_T);
    if (has_add == 2) c.operands[add].alias = static_cast<int32_t>(out);
    // They have the same strides.
    const int64_t pad = random.range(0, 5);
    for (const uint32_t i : {shared, add, out}) c.operands[i].row_pad = pad;
  }
};

struct Combine {
  int64_t tokens = 17;
  int64_t fan = 4;
  int64_t n = 64;
  bool shared = false;
  int add = 0;            // 1: its own memory, 2: the memory of OUT
  int64_t elsewhere = 0;  // of so many pairs one belongs to another device's expert; 0: none
};

Case combine_case(Random& random, const Combine& spec) {
  const int64_t pairs = spec.tokens * spec.fan;
  Case c = pairs_case(random, spec.tokens, "");
  c.attr.experts.fan = static_cast<uint32_t>(spec.fan);
  // Terms of different sizes, so that the order of the additions shows.
  std::vector<float> x = random.normals(pairs * spec.n);
  for (float& v : x) v = std::ldexp(v, static_cast<int>(random.range(-6, 6)));
  c.operands[HADAL_MOE_COMBINE_X] = per_row(floats({pairs, spec.n}, HADAL_DIM_T, x), spec.fan);
  c.operands[HADAL_MOE_COMBINE_X].row_pad = random.range(0, 5);
  std::vector<int32_t> place = random.shuffled(pairs);
  for (size_t i = 0; spec.elsewhere != 0 && i < place.size(); ++i)
    if (random.range(1, spec.elsewhere) == 1) place[i] = -1;
  c.operands[HADAL_MOE_COMBINE_PLACE] = per_row(ints({pairs}, HADAL_DIM_T, place), spec.fan);
  Sums{HADAL_MOE_COMBINE_SHARED, HADAL_MOE_COMBINE_ADD, HADAL_MOE_COMBINE_OUT}.put(
      random, c, spec.n, spec.shared, spec.add);
  return c;
}

struct Fused {
  int64_t tokens = 9;
  int64_t fan = 3;
  int64_t experts = 5;
  int64_t d = 64;
  int64_t n = 32;
  uint32_t dtype = HADAL_BF16;
  float clamp = 0;
  Load load = Load::kEven;
  bool shared = false;
  int add = 0;  // 1: its own memory, 2: the memory of OUT
  Range range{};
};

Case fused_case(Random& random, const Fused& spec) {
  const Routing routing(random, spec.tokens, spec.fan, spec.experts, spec.load, spec.range);
  Case c = pairs_case(random, spec.tokens, spec.clamp > 0 ? "clamped" : "");
  c.sliced = HADAL_DIM_T;
  c.every_row = spec.tokens > 1;
  c.attr.experts = {.clamp = spec.clamp, .fan = static_cast<uint32_t>(spec.fan)};
  spec.range.put(c);
  c.operands[HADAL_MOE_EXPERTS_X] =
      floats({spec.tokens, spec.d}, HADAL_DIM_T, random.normals(spec.tokens * spec.d, 0.5f));
  c.operands[HADAL_MOE_EXPERTS_EXPERT] = ints({spec.tokens, spec.fan}, HADAL_DIM_T, routing.expert);
  c.operands[HADAL_MOE_EXPERTS_WEIGHT] =
      floats({spec.tokens, spec.fan}, HADAL_DIM_T, random.normals(spec.tokens * spec.fan));
  const auto weight = [&](int64_t rows, int64_t cols) {
    const WeightShape shape{.batch = spec.experts, .rows = rows, .cols = cols};
    return weight_operand(make_weight(random, spec.dtype, shape), {spec.experts, rows, cols});
  };
  c.operands[HADAL_MOE_EXPERTS_GATE] = weight(spec.n, spec.d);
  c.operands[HADAL_MOE_EXPERTS_UP] = weight(spec.n, spec.d);
  c.operands[HADAL_MOE_EXPERTS_DOWN] = weight(spec.d, spec.n);
  Sums{HADAL_MOE_EXPERTS_SHARED, HADAL_MOE_EXPERTS_ADD, HADAL_MOE_EXPERTS_OUT}.put(
      random, c, spec.d, spec.shared, spec.add);
  return c;
}

}  // namespace

int64_t source_row(const Case& c, int64_t i) {
  const Operand& order = c.operands[HADAL_GROUPED_MATMUL_ORDER];
  return order.present() ? order.values<int32_t>()[i] / int64_t{c.attr.experts.fan} : i;
}

Case expert_alone(const Case& c, int64_t expert) {
  const Operand& x = c.operands[HADAL_GROUPED_MATMUL_X];
  const Operand& w = c.operands[HADAL_GROUPED_MATMUL_W];
  const auto* offset = c.operands[HADAL_GROUPED_MATMUL_OFFSET].values<int32_t>();
  const int64_t k = w.shape[2], rows = offset[expert + 1] - offset[expert];
  std::vector<float> gathered;
  for (int64_t i = offset[expert]; i < offset[expert + 1]; ++i) {
    const int64_t row = source_row(c, i);
    gathered.insert(gathered.end(), x.values<float>() + row * k, x.values<float>() + (row + 1) * k);
  }
  Case alone;
  alone.id = HADAL_OP_MATMUL;
  alone.name = "expert " + std::to_string(expert) + " alone";
  alone.rows[HADAL_DIM_T] = rows;
  alone.sliced = HADAL_DIM_T;
  alone.operands[HADAL_MATMUL_X] = floats({rows, k}, HADAL_DIM_T, gathered);
  alone.operands[HADAL_MATMUL_W] =
      weight_operand(matrix_of(*w.weight, expert), {w.shape[1], w.shape[2]});
  alone.operands[HADAL_MATMUL_OUT] = output(HADAL_F32, {rows, w.shape[1]}, HADAL_DIM_T);
  return alone;
}

void router_cases(Random& random, bool, std::vector<Case>& cases) {
  const auto add = [&](const Router& spec) { cases.push_back(router_case(random, spec)); };
  for (const int64_t tokens : kRows)
    add({.tokens = tokens, .experts = random.range(8, 40), .k = random.range(1, 8)});
  for (const uint32_t score :
       {HADAL_ROUTER_SOFTMAX, HADAL_ROUTER_SIGMOID, HADAL_ROUTER_SQRT_SOFTPLUS}) {
    for (const uint32_t normalise : {0u, 1u}) {
      const hadal_router_attr plain{score, 1, 1, 1, normalise, 2.5f};
      add({.experts = 64, .k = 6, .attr = plain, .name = "no bias"});
      add({.experts = 64, .k = 6, .attr = plain, .bias = 0.3f, .name = "a bias"});
      add({.experts = 32, .k = 1, .attr = plain, .bias = 0.3f, .name = "one expert"});
      add({.experts = 8, .k = 8, .attr = plain, .bias = 0.3f, .name = "all experts"});
      add({.experts = 30, .k = 7, .attr = plain, .ties = true, .name = "ties"});
      add({.experts = 24, .k = 6, .attr = plain, .hash = 50, .name = "a hash table"});
    }
    for (const uint32_t best : {1u, 2u}) {
      const hadal_router_attr grouped{score, 8, 4, best, 1, 2.5f};
      add({.experts = 64, .k = 6, .attr = grouped, .name = "groups"});
      add({.experts = 64, .k = 6, .attr = grouped, .bias = 0.3f, .name = "groups, a bias"});
      add({.experts = 32,
           .k = 5,
           .attr = grouped,
           .bias = 0.3f,
           .bias_mean = -4,
           .name = "groups, a bias below all scores"});
      add({.experts = 40, .k = 6, .attr = grouped, .ties = true, .name = "groups, ties"});
      add({.experts = 12,
           .k = 4,
           .attr = {score, 6, 2, best, 0, 1},
           .bias = 0.2f,
           .name = "all experts of the groups that are kept"});
    }
  }
  add({.tokens = 5,
       .experts = 256,
       .k = 8,
       .attr = {HADAL_ROUTER_SIGMOID, 8, 4, 2, 1, 2.5f},
       .bias = 0.2f,
       .name = "as V3 has it"});
  add({.tokens = 5,
       .experts = 160,
       .k = 6,
       .attr = {HADAL_ROUTER_SOFTMAX, 8, 3, 1, 0, 16},
       .name = "as V2 has it"});
  add({.tokens = 5,
       .experts = 384,
       .k = 6,
       .attr = {HADAL_ROUTER_SQRT_SOFTPLUS, 1, 1, 1, 1, 2.5f},
       .bias = 0.2f,
       .name = "as V4-Pro has it"});
  for (const int32_t wrong : {-1, 24})
    add({.tokens = 3,
         .experts = 24,
         .hash = 9,
         .wrong = wrong,
         .name = "expert " + std::to_string(wrong) + " of 24 in the hash table"});
  for (const int32_t wrong : {-1, 9}) {
    add({.tokens = 3, .hash = 9, .name = "token " + std::to_string(wrong) + " of 9"});
    cases.back().operands[HADAL_ROUTER_TOKEN] = ints({3}, HADAL_DIM_T, {0, wrong, 1});
    cases.back().wrong_data = true;
  }
}

void moe_sort_cases(Random& random, bool, std::vector<Case>& cases) {
  const auto add = [&](int64_t tokens, int64_t fan, int64_t experts, Load load, std::string name,
                       const Range& range = {}) {
    cases.push_back(sort_case(random, tokens, fan, experts, load, std::move(name), range));
  };
  for (const int64_t tokens : kRows)
    add(tokens, random.range(1, 8), random.range(1, 20), Load::kEven, "");
  for (const int64_t tokens : {1, 17, 130}) {
    add(tokens, 1, 8, Load::kEven, "one expert a row");
    add(tokens, 4, 8, Load::kOne, "everything on one expert");
    add(tokens, 6, 64, Load::kFew, "most experts have nothing");
    add(tokens, 8, 256, Load::kEven, "many experts");
  }
  for (const int64_t tokens : {0, 1, 17, 130})
    for (const int64_t first : {0, 5, 24}) {
      add(tokens, 4, 8, Load::kEven, "a range of the experts", {first, 32});
      add(tokens, 2, 8, Load::kOne, "a range, everything on one expert", {first, 32});
    }
  add(17, 4, 8, Load::kEven, "a range that is all of them", {0, 8});
  for (const int32_t wrong : {-1, 32}) {
    add(3, 2, 8, Load::kEven, "a range, expert " + std::to_string(wrong) + " of 32", {8, 32});
    cases.back().operands[HADAL_MOE_SORT_EXPERT] =
        ints({3, 2}, HADAL_DIM_T, {0, 9, 31, wrong, 3, 4});
    cases.back().wrong_data = true;
  }
  for (const int32_t wrong : {-1, 8}) {
    add(3, 2, 8, Load::kEven, "expert " + std::to_string(wrong) + " of 8");
    cases.back().operands[HADAL_MOE_SORT_EXPERT] =
        ints({3, 2}, HADAL_DIM_T, {0, 1, 2, wrong, 3, 4});
    cases.back().wrong_data = true;
  }
}

void grouped_matmul_cases(Random& random, bool quick, std::vector<Case>& cases) {
  const auto add = [&](const Grouped& spec) { cases.push_back(grouped_case(random, spec)); };
  const std::vector<int64_t> outputs = {1, 2, 15, 16, 17, 33};
  for (const int64_t tokens : kRows)
    for (const bool ordered : {true, false})
      add({.tokens = tokens,
           .fan = random.range(1, 4),
           .experts = random.range(1, 9),
           .k = random.pick(kWidths),
           .n = random.pick(outputs),
           .dtype = random.pick(std::vector<uint32_t>{HADAL_F32, HADAL_BF16, HADAL_F16}),
           .ordered = ordered});
  for (const uint32_t dtype : {HADAL_F32, HADAL_BF16, HADAL_F16, HADAL_Q8_0, HADAL_Q4_K}) {
    const int64_t k = 256;
    add({.tokens = 130,
         .fan = 1,
         .k = k,
         .dtype = dtype,
         .load = Load::kOne,
         .name = "everything on one expert"});
    add({.tokens = 3,
         .fan = 6,
         .experts = 64,
         .k = k,
         .dtype = dtype,
         .load = Load::kFew,
         .name = "most experts have nothing"});
    if (!quick)  // large enough for a chip to use all its threads
      add({.tokens = 65, .fan = 4, .experts = 8, .k = 512, .n = 200, .dtype = dtype});
  }
  for (const int64_t tokens : {1, 17, 130})
    for (const bool ordered : {true, false}) {
      add({.tokens = tokens, .ordered = ordered, .range = {5, 32}, .name = "a range"});
      add({.tokens = tokens,
           .load = Load::kOne,
           .ordered = ordered,
           .range = {27, 32},
           .name = "a range, everything on one expert"});
    }
  for (const uint32_t dtype : weight_dtypes()) {
    if (quick && is_quantised(dtype) && dtype != HADAL_Q6_K) continue;
    const int64_t block = block_of(dtype);
    add({.k = block == 1 ? random.pick(kWidths) : std::max<int64_t>(block, 64),
         .n = random.pick(outputs),
         .dtype = dtype,
         .weight = {.pieces = static_cast<uint32_t>(random.range(1, 3))},
         .ordered = random.coin(),
         .name = "pieces"});
  }
  for (const uint32_t dtype : {HADAL_F8_E4M3, HADAL_F8_E5M2, HADAL_F4_E2M1})
    for (const uint32_t scale : {HADAL_F32, HADAL_BF16, HADAL_F16, HADAL_F8_E8M0}) {
      if (quick && scale != HADAL_BF16) continue;
      const bool small = dtype == HADAL_F4_E2M1;
      WeightShape weight{.pieces = 5,
                         .block_rows = small ? 1 : random.pick(std::vector<int64_t>{16, 128}),
                         .block_cols = small ? 32 : random.pick(std::vector<int64_t>{32, 128}),
                         .scale_dtype = scale};
      add({.k = 200,
           .n = 40,
           .dtype = dtype,
           .weight = weight,
           .name = "scales, a piece an expert"});
      weight.pieces = 1;
      weight.block_rows = small ? 1 : 16;
      add({.k = 200, .n = 48, .dtype = dtype, .weight = weight, .name = "scales, one piece"});
    }
}

void moe_combine_cases(Random& random, bool, std::vector<Case>& cases) {
  const auto add = [&](const Combine& spec) { cases.push_back(combine_case(random, spec)); };
  for (const int64_t tokens : kRows)
    add({.tokens = tokens, .fan = random.range(1, 8), .n = random.pick(kWidths)});
  for (int64_t fan = 1; fan <= 8; ++fan)
    for (const bool shared : {false, true})
      for (const int how : {0, 1, 2})
        add({.fan = fan, .n = random.pick(kWidths), .shared = shared, .add = how});
  for (const int64_t elsewhere : {1, 2})
    for (const bool shared : {false, true})
      for (const int how : {0, 1, 2})
        add({.n = random.pick(kWidths), .shared = shared, .add = how, .elsewhere = elsewhere});
}

void moe_experts_cases(Random& random, bool, std::vector<Case>& cases) {
  const auto add = [&](const Fused& spec) { cases.push_back(fused_case(random, spec)); };
  for (const int64_t tokens : kRows)
    add({.tokens = tokens, .fan = random.range(1, 8), .experts = random.range(1, 9)});
  for (const uint32_t dtype : {HADAL_F32, HADAL_F16, HADAL_Q8_0, HADAL_F8_E4M3}) {
    add({.dtype = dtype, .clamp = 1.5f, .load = Load::kOne, .shared = true, .add = 1});
    add({.tokens = 3, .fan = 6, .experts = 64, .dtype = dtype, .load = Load::kFew, .add = 2});
  }
  for (const int64_t first : {0, 5, 11}) {
    add({.shared = first > 0, .add = first > 5 ? 2 : 0, .range = {first, 16}});
    add({.load = Load::kOne, .range = {first, 16}});
  }
}

}  // namespace hadal::conformance
