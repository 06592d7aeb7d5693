// Cases of index_topk and index_blocks: which entries are listed.
//
// As for attention, slots that no row of the step may see hold NaN.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "pages.h"

namespace hadal::conformance {
namespace {

static_assert(uint32_t{HADAL_INDEX_TOPK_Q} == uint32_t{HADAL_INDEX_BLOCKS_Q} &&
              uint32_t{HADAL_INDEX_TOPK_LIST} == uint32_t{HADAL_INDEX_BLOCKS_LIST});

struct Index {
  std::vector<Sequence> sequences;
  Group group{};  // its list: CANDIDATES, in blocks of its block_size
  int64_t heads = 4;
  int64_t d = 33;
  int64_t k = 8;
  int64_t blocks = 0;  // not 0: index_blocks, a block being so many entries
  bool ties = false;   // few values, so that the lower entry has to win
  std::string name;
};

/// What a row searches.
struct Keys {
  const Operand &plane, &table;
  std::vector<int64_t> entries;
  int64_t sequence;
};

std::vector<int64_t> searched(const Index& spec, const EntryRange& range, const Operand& candidates,
                              int64_t t) {
  std::vector<int64_t> entries;
  const int64_t size = spec.group.block_size, listed = spec.group.listed;
  for (int64_t e = range.begin; !candidates.present() && e < range.end; ++e) entries.push_back(e);
  for (int64_t i = 0; candidates.present() && i < listed; ++i) {
    const int64_t block = candidates.values<int32_t>()[t * listed + i];
    if (block < 0) break;
    for (int64_t e = block * size; e < (block + 1) * size; ++e)
      if (range.holds(e)) entries.push_back(e);
  }
  return entries;
}

/// Whether rounding has no say in the choice: the k-th score and the next one differ by more than
/// 1e-4 of their size, and by twice what the contract leaves open. The score of a block is off by
/// no more than that of any entry in it.
bool is_clear(const Index& spec, const Keys& keys, const std::vector<float>& q,
              const std::vector<float>& weight) {
  if (static_cast<int64_t>(keys.entries.size()) <= spec.k) return true;
  const double part = 4 * std::sqrt(static_cast<double>(spec.heads * spec.d)) * 0x1p-24;
  std::vector<double> key(static_cast<size_t>(spec.d));
  std::vector<std::pair<double, double>> scores;  // and what is open
  int64_t block = -1;
  for (const int64_t e : keys.entries) {
    const int64_t at = slot_of(keys.plane, keys.table, keys.sequence, e) * spec.d;
    double squares = 0, score = 0, open = 0;
    for (int64_t c = 0; c < spec.d; ++c) {
      double& number = key[static_cast<size_t>(c)];
      number = static_cast<double>(decode(keys.plane, at + c));
      squares += number * number;
    }
    for (int64_t h = 0; h < spec.heads; ++h) {
      double product = 0, size = 0;
      for (int64_t c = 0; c < spec.d; ++c) {
        const auto x = static_cast<double>(q[static_cast<size_t>(h * spec.d + c)]);
        product += x * key[static_cast<size_t>(c)];
        size += x * x;
      }
      const auto w = static_cast<double>(weight[static_cast<size_t>(h)]);
      score += w * std::max(0.0, product);
      open += part * std::fabs(w) * std::sqrt(size * squares);
    }
    if (spec.blocks == 0 || e / spec.blocks != block) {
      scores.emplace_back(score, open);
    } else {
      scores.back() = {std::max(scores.back().first, score), std::max(scores.back().second, open)};
    }
    if (spec.blocks != 0) block = e / spec.blocks;
  }
  int64_t k = spec.k;
  if (spec.blocks != 0) {  // the last block does not compete
    scores.pop_back();
    --k;
  }
  if (k < 1 || static_cast<int64_t>(scores.size()) <= k) return true;
  std::sort(scores.begin(), scores.end(), std::greater<>());
  // A large entry far from the border may be off by more than those next to it.
  const auto [last, last_open] = scores[static_cast<size_t>(k - 1)];
  const auto [next, next_open] = scores[static_cast<size_t>(k)];
  if (last - next <= 1e-4 * std::max(std::fabs(last), std::fabs(next))) return false;
  for (size_t i = 0; i < scores.size(); ++i) {
    const bool chosen = static_cast<int64_t>(i) < k;
    const auto& [score, open] = scores[i];
    if (chosen ? score - next <= std::max(open, next_open)
               : last - score <= std::max(open, last_open))
      return false;
  }
  return true;
}

Case index_case(Random& random, const Index& spec) {
  Case c = rows_case(random, spec.sequences, HADAL_INDEX_TOPK_POSITION, HADAL_INDEX_TOPK_ROW_SEQ);
  c.name = spec.name;
  const bool lists = spec.group.list != List::kNone;
  c.attr.index = {.ratio = static_cast<uint32_t>(spec.group.ratio),
                  .block_size = static_cast<uint32_t>(lists ? spec.group.block_size : spec.blocks)};
  Pages pages(random, spec.sequences, spec.group);
  const Operand& plane = c.operands[HADAL_INDEX_TOPK_PLANE] =
      spec.ties ? pages.plane_of_signs(spec.d) : pages.plane(spec.d);
  const Operand& table = c.operands[HADAL_INDEX_TOPK_BLOCK_TABLE] = pages.table();
  const Operand& first = c.operands[HADAL_INDEX_TOPK_FIRST] = pages.first();
  Operand candidates;
  if (lists) candidates = pages.list();
  const auto* position = c.operands[HADAL_INDEX_TOPK_POSITION].values<int32_t>();
  const auto* row_seq = c.operands[HADAL_INDEX_TOPK_ROW_SEQ].values<int32_t>();
  const int64_t tokens = c.rows[HADAL_DIM_T];
  // Whole numbers of a small size have one sum, whatever the order.
  const auto numbers = [&](int64_t count) {
    std::vector<float> values = random.normals(count);
    for (float& v : values) v = spec.ties ? std::round(v) : v;
    return values;
  };
  std::vector<float> q, weight;
  for (int64_t t = 0; t < tokens; ++t) {
    const EntryRange range =
        entry_range(position[t], first.values<int32_t>()[row_seq[t]], spec.group.ratio, 0);
    const Keys keys{plane, table, searched(spec, range, candidates, t), row_seq[t]};
    std::vector<float> query, weights;
    for (int attempt = 0;; ++attempt) {
      if (attempt == 1000)
        throw std::runtime_error("the indexer, " + spec.name + ": no row without near ties");
      query = numbers(spec.heads * spec.d);
      weights = numbers(spec.heads);
      if (spec.ties || is_clear(spec, keys, query, weights)) break;
    }
    q.insert(q.end(), query.begin(), query.end());
    weight.insert(weight.end(), weights.begin(), weights.end());
  }
  c.operands[HADAL_INDEX_TOPK_Q] = floats({tokens, spec.heads, spec.d}, HADAL_DIM_T, q);
  c.operands[HADAL_INDEX_TOPK_Q].head_pad = random.coin() ? 3 : 0;
  c.operands[HADAL_INDEX_TOPK_WEIGHT] = floats({tokens, spec.heads}, HADAL_DIM_T, weight);
  c.operands[HADAL_INDEX_TOPK_LIST] = output(HADAL_I32, {tokens, spec.k}, HADAL_DIM_T);
  for (const uint32_t i : {HADAL_INDEX_TOPK_Q, HADAL_INDEX_TOPK_WEIGHT, HADAL_INDEX_TOPK_LIST})
    c.operands[i].row_pad = random.range(0, 3);
  if (lists) {
    candidates.row_pad = random.range(0, 3);
    c.operands[HADAL_INDEX_TOPK_CANDIDATES] = candidates;
  }
  return c;
}

void refuse_block_size(Case c, uint32_t size, const std::string& name, std::vector<Case>& cases) {
  c.name = name;
  c.must_fail = true;
  c.attr.index.block_size = size;
  cases.push_back(std::move(c));
}

/// index_topk with CANDIDATES.
void candidate_cases(Random& random, bool quick, std::vector<Case>& cases) {
  const auto add = [&](const Index& spec) { cases.push_back(index_case(random, spec)); };
  const std::vector<Sequence> mixed = {
      {.last = 40}, {.last = 9, .rows = 10}, {.last = 17, .rows = 3}, {.last = 70, .rows = 2}};
  const auto group = [](uint32_t dtype, List list, int64_t listed, int64_t size) {
    return Group{.dtype = dtype, .list = list, .listed = listed, .block_size = size};
  };
  add({.sequences = {}, .group = group(HADAL_F16, List::kVisible, 3, 8), .name = "candidates"});
  for (const uint32_t dtype : {HADAL_F16, HADAL_BF16, HADAL_F32}) {
    for (const List list : {List::kVisible, List::kAny, List::kSome, List::kEmpty})
      for (const int64_t size : {1, 3, 8, 16, 100})
        add({.sequences = mixed,
             .group = group(dtype, list, size == 1 ? 30 : 5, size),
             .k = 4,
             .name = list == List::kEmpty ? "no candidates" : "candidates"});
    for (const int64_t slots : {1, 4, 64})
      for (const int64_t size : {2, 7, 64})
        for (const int64_t last : {slots - 1, slots, 3 * slots}) {
          Group pages = group(dtype, List::kVisible, 9, size);
          pages.slots = slots;
          add({.sequences = {{.last = last}, {.last = last + 1, .rows = 2}},
               .group = pages,
               .k = 3,
               .name = "candidates, page borders"});
        }
    for (const int64_t k : {1, 2, 6, 7, 100})
      add({.sequences =
               {{.last = 20}, {.last = 0}, {.last = 20, .rows = 2}, {.last = 23, .first = 3}},
           .group = group(dtype, List::kVisible, 3, 3),
           .k = k,
           .name = "candidates, k = " + std::to_string(k)});
    for (const int64_t ratio : {4, 5}) {
      Group pages = group(dtype, List::kAny, 7, 3);
      pages.slots = 4;
      pages.ratio = ratio;
      add({.sequences = {{.last = ratio - 2},
                         {.last = ratio - 1},
                         {.last = 30 * ratio, .rows = 9},
                         {.last = 19 * ratio, .rows = 3, .first = 7 * ratio + 1},
                         {.last = 6 * ratio, .first = 6 * ratio - 1}},
           .group = pages,
           .k = 5,
           .name = "candidates, an entry for some positions"});
    }
    add({.sequences = {{.last = 70, .rows = 5, .first = 33}, {.last = 200, .first = 67}},
         .group = group(dtype, List::kVisible, 12, 8),
         .name = "candidates, first > 0"});
    add({.sequences = {{.last = 129, .rows = 130}},
         .group = group(dtype, List::kVisible, 9, 8),
         .k = 16,
         .name = "candidates, a prompt"});
    for (const int64_t size : {5, 8})
      add({.sequences = {{.last = 150, .rows = 4}, {.last = 63, .rows = 20, .first = 5}},
           .group = group(dtype, List::kSome, 11, size),
           .heads = 2,
           .d = 3,
           .k = 12,
           .ties = true,
           .name = "candidates, ties"});
    // Searched are enough for a chip to share one row among its threads.
    Group paged = group(dtype, List::kVisible, 375, 8);
    paged.slots = 64;
    add({.sequences = {{.last = 2999}, {.last = 3111, .rows = 2, .first = 613}},
         .group = paged,
         .k = 64,
         .name = "candidates in a long context"});
    paged.block_size = 11;
    add({.sequences = {{.last = 4000, .rows = 2}, {.last = 12}},
         .group = paged,
         .d = 5,
         .k = 500,
         .ties = true,
         .name = "candidates, ties in a long context"});
    if (!quick)
      add({.sequences = {{.last = 2999, .rows = 20}, {.last = 1500, .rows = 3}},
           .group = paged,
           .k = 64,
           .name = "candidates in a long context, many rows"});
  }
  const Index spec{.sequences = {{.last = 30}},
                   .group = {.slots = 4, .list = List::kVisible, .listed = 3, .block_size = 4},
                   .name = ""};
  Case one = index_case(random, spec);
  const auto with = [&](const std::vector<int32_t>& blocks) {
    one.operands[HADAL_INDEX_TOPK_CANDIDATES] = ints({1, 3}, HADAL_DIM_T, blocks);
    return one;
  };
  const auto pages = static_cast<int32_t>(one.operands[HADAL_INDEX_TOPK_BLOCK_TABLE].shape[1]);
  refuse(with({0, 3, 5}), HADAL_INDEX_TOPK_BLOCK_TABLE, 3, -1,
         "a block that is not mapped, of a candidate", cases);
  refuse(with({0, 3, -1}), HADAL_INDEX_TOPK_BLOCK_TABLE, 3, 1000,
         "a block that the plane does not have, of a candidate", cases);
  refuse(with({0, 3, 5}), HADAL_INDEX_TOPK_CANDIDATES, 2, pages,
         "a candidate behind what the block table holds", cases);
  refuse(with({0, 3, 5}), HADAL_INDEX_TOPK_CANDIDATES, 2, 1, "candidates that descend", cases);
  refuse(with({0, 3, 5}), HADAL_INDEX_TOPK_CANDIDATES, 2, 3, "a candidate twice", cases);
  refuse_block_size(with({0, 3, 5}), 0, "candidates of no size", cases);
}

}  // namespace

void index_topk_cases(Random& random, bool quick, std::vector<Case>& cases) {
  const auto add = [&](const Index& spec) { cases.push_back(index_case(random, spec)); };
  const std::vector<Sequence> mixed = {
      {.last = 40}, {.last = 9, .rows = 10}, {.last = 17, .rows = 3}, {.last = 70, .rows = 2}};
  add({.sequences = {}, .name = "no rows"});
  for (const uint32_t dtype : {HADAL_F16, HADAL_BF16, HADAL_F32}) {
    for (const int64_t heads : {1, 2, 5, 64})
      for (const int64_t d : {7, 33, 129})
        add({.sequences = mixed,
             .group = {.dtype = dtype},
             .heads = heads,
             .d = d,
             .k = heads == 1 ? 2 : 6,
             .name = "heads"});
    for (const int64_t slots : {1, 4, 64})
      for (const int64_t last : {slots - 1, slots, 3 * slots})
        add({.sequences = {{.last = last}, {.last = last + 1, .rows = 2}},
             .group = {.slots = slots, .dtype = dtype},
             .k = 3,
             .name = "page borders"});
    for (const int64_t k : {1, 2, 20, 21, 22, 100})
      add({.sequences = {{.last = 20}, {.last = 20, .rows = 2}, {.last = 23, .first = 3}},
           .group = {.dtype = dtype},
           .k = k,
           .name = "k = " + std::to_string(k) + " of 21"});
    for (const int64_t ratio : {4, 5}) {
      add({.sequences = {{.last = ratio - 2}, {.last = ratio - 1}, {.last = 30 * ratio, .rows = 9}},
           .group = {.slots = 4, .dtype = dtype, .ratio = ratio},
           .k = 5,
           .name = "an entry for some positions"});
      add({.sequences = {{.last = 9 * ratio, .rows = 7, .first = 2 * ratio},
                         {.last = 9 * ratio, .rows = 3, .first = 2 * ratio + 1},
                         {.last = 6 * ratio, .first = 6 * ratio - 1},
                         {.last = 6 * ratio, .first = 5 * ratio + 1},
                         {.last = 6 * ratio - 2, .first = 6 * ratio - 3}},
           .group = {.slots = 4, .dtype = dtype, .ratio = ratio},
           .k = 4,
           .name = "first inside an entry"});
    }
    add({.sequences = {{.last = 70, .rows = 5, .first = 33}, {.last = 200, .first = 67}},
         .group = {.dtype = dtype},
         .name = "first > 0"});
    add({.sequences = {{.last = 129, .rows = 130}},
         .group = {.dtype = dtype},
         .k = 16,
         .name = "a prompt"});
    for (const int64_t heads : {1, 4})
      for (const int64_t d : {1, 3, 33})
        add({.sequences = {{.last = 150, .rows = 4}, {.last = 63, .rows = 20, .first = 5}},
             .group = {.dtype = dtype},
             .heads = heads,
             .d = d,
             .k = 12,
             .ties = true,
             .name = "ties"});
    // Long enough for a chip to share one row among its threads.
    add({.sequences = {{.last = 2999}},
         .group = {.slots = 64, .dtype = dtype},
         .k = 64,
         .name = "a long context"});
    add({.sequences = {{.last = 3000, .rows = 2}, {.last = 1700, .first = 613}, {.last = 12}},
         .group = {.slots = 64, .dtype = dtype},
         .d = 5,
         .k = 500,
         .ties = true,
         .name = "ties in a long context"});
    if (quick) continue;
    add({.sequences = {{.last = 12003, .rows = 2, .first = 601}, {.last = 11999}, {.last = 9000}},
         .group = {.slots = 64, .dtype = dtype, .ratio = 4},
         .k = 128,
         .name = "a long context"});
    add({.sequences = {{.last = 2999, .rows = 20}, {.last = 1500, .rows = 3}},
         .group = {.slots = 64, .dtype = dtype},
         .k = 64,
         .name = "a long context, many rows"});
    add({.sequences = {{.last = 3100, .rows = 20}},
         .group = {.slots = 64, .dtype = dtype},
         .d = 5,
         .k = 1000,
         .ties = true,
         .name = "ties in a long context, many rows"});
  }
  const Index one{.sequences = {{.last = 30}}, .group = {.slots = 4}, .name = ""};
  refuse(index_case(random, one), HADAL_INDEX_TOPK_BLOCK_TABLE, 3, -1, "a block that is not mapped",
         cases);
  refuse(index_case(random, one), HADAL_INDEX_TOPK_BLOCK_TABLE, 3, 1000,
         "a block that the plane does not have", cases);
  refuse_block_size(index_case(random, one), 3, "a block size without candidates", cases);
  candidate_cases(random, quick, cases);
}

void index_blocks_cases(Random& random, bool quick, std::vector<Case>& cases) {
  const auto add = [&](const Index& spec) { cases.push_back(index_case(random, spec)); };
  const std::vector<Sequence> mixed = {
      {.last = 40}, {.last = 9, .rows = 10}, {.last = 17, .rows = 3}, {.last = 70, .rows = 2}};
  add({.sequences = {}, .blocks = 8, .name = "no rows"});
  for (const uint32_t dtype : {HADAL_F16, HADAL_BF16, HADAL_F32}) {
    for (const int64_t heads : {1, 2, 5, 64})
      for (const int64_t d : {7, 33, 129})
        add({.sequences = mixed,
             .group = {.dtype = dtype},
             .heads = heads,
             .d = d,
             .k = heads == 1 ? 2 : 4,
             .blocks = heads == 5 ? 8 : 3,
             .name = "heads"});
    for (const int64_t slots : {1, 4, 64})
      for (const int64_t size : {1, 2, 7, 64})
        for (const int64_t last : {slots - 1, slots, 3 * slots})
          add({.sequences = {{.last = last}, {.last = last + 1, .rows = 2}},
               .group = {.slots = slots, .dtype = dtype},
               .k = 3,
               .blocks = size,
               .name = "page borders"});
    for (const int64_t k : {1, 2, 6, 7, 8, 100})
      add({.sequences =
               {{.last = 20}, {.last = 0}, {.last = 20, .rows = 2}, {.last = 23, .first = 4}},
           .group = {.dtype = dtype},
           .k = k,
           .blocks = 3,
           .name = "k = " + std::to_string(k) + " of 7"});
    for (const int64_t ratio : {4, 5})
      add({.sequences = {{.last = ratio - 2},
                         {.last = ratio - 1},
                         {.last = 30 * ratio, .rows = 9},
                         {.last = 19 * ratio, .rows = 3, .first = 7 * ratio + 1},
                         {.last = 6 * ratio, .first = 6 * ratio - 1}},
           .group = {.slots = 4, .dtype = dtype, .ratio = ratio},
           .k = 4,
           .blocks = 3,
           .name = "an entry for some positions"});
    add({.sequences = {{.last = 70, .rows = 5, .first = 33}, {.last = 200, .first = 67}},
         .group = {.dtype = dtype},
         .k = 5,
         .blocks = 8,
         .name = "first > 0"});
    add({.sequences = {{.last = 129, .rows = 130}},
         .group = {.dtype = dtype},
         .k = 6,
         .blocks = 8,
         .name = "a prompt"});
    for (const int64_t size : {1, 5, 8})
      add({.sequences = {{.last = 150, .rows = 4}, {.last = 63, .rows = 20, .first = 5}},
           .group = {.dtype = dtype},
           .heads = 2,
           .d = 3,
           .k = 5,
           .blocks = size,
           .ties = true,
           .name = "ties"});
    // Long enough for a chip to share one row among its threads.
    for (const int64_t size : {8, 11, 700})
      add({.sequences = {{.last = 2999}, {.last = 3111, .rows = 2, .first = 613}},
           .group = {.slots = 64, .dtype = dtype},
           .k = size == 700 ? 3 : 64,
           .blocks = size,
           .name = "a long context"});
    add({.sequences = {{.last = 3000, .rows = 2}, {.last = 1700, .first = 613}, {.last = 12}},
         .group = {.slots = 64, .dtype = dtype},
         .d = 5,
         .k = 100,
         .blocks = 8,
         .ties = true,
         .name = "ties in a long context"});
    if (quick) continue;
    add({.sequences = {{.last = 12003, .rows = 2, .first = 601}, {.last = 11999}, {.last = 9000}},
         .group = {.slots = 64, .dtype = dtype, .ratio = 4},
         .k = 100,
         .blocks = 8,
         .name = "a long context"});
    add({.sequences = {{.last = 2999, .rows = 20}, {.last = 1500, .rows = 3}},
         .group = {.slots = 64, .dtype = dtype},
         .k = 64,
         .blocks = 7,
         .name = "a long context, many rows"});
  }
  const Index one{.sequences = {{.last = 30}}, .group = {.slots = 4}, .blocks = 8, .name = ""};
  refuse(index_case(random, one), HADAL_INDEX_BLOCKS_BLOCK_TABLE, 3, -1,
         "a block that is not mapped", cases);
  refuse(index_case(random, one), HADAL_INDEX_BLOCKS_BLOCK_TABLE, 3, 1000,
         "a block that the plane does not have", cases);
  refuse_block_size(index_case(random, one), 0, "blocks of no size", cases);
}

}  // namespace hadal::conformance
