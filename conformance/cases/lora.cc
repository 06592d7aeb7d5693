// Cases of lora_add: banks of adapters, rows with one, with another and with none.
#include <algorithm>

#include "kit.h"

namespace hadal::conformance {
namespace {

struct Lora {
  int64_t m = 5, k = 64, n = 33;
  int64_t rank = 8, bank = 3, sequences = 4;
  uint32_t a = HADAL_F32, b = HADAL_F32;
  WeightShape pieces{};       // pieces, and block scales of A
  int64_t pad = 0;            // between rows of X and OUT
  std::vector<int32_t> uses;  // of the sequences; empty: any of them
  std::string name;
};

Case lora_case(Random& random, const Lora& spec, uint32_t dim = HADAL_DIM_T) {
  Case c;
  c.name = spec.name;
  c.rows[dim] = spec.m;
  c.rows[HADAL_DIM_S] = spec.sequences;
  c.spare[dim] = random.range(0, 2);
  c.sliced = dim;
  c.operands[HADAL_LORA_ADD_X] =
      floats({spec.m, spec.k}, dim, random.normals(spec.m * spec.k, 0.5f));
  c.operands[HADAL_LORA_ADD_X].row_pad = spec.pad;
  WeightShape a = spec.pieces, b{.batch = spec.bank, .rows = spec.n, .cols = spec.rank};
  a.batch = spec.bank;
  a.rows = spec.rank;
  a.cols = spec.k;
  a.pieces = std::min(a.pieces, static_cast<uint32_t>(spec.bank * spec.rank));
  b.pieces = std::min(spec.pieces.pieces, static_cast<uint32_t>(spec.bank * spec.n));
  c.operands[HADAL_LORA_ADD_A] =
      weight_operand(make_weight(random, spec.a, a), {spec.bank, spec.rank, spec.k});
  c.operands[HADAL_LORA_ADD_B] =
      weight_operand(make_weight(random, spec.b, b), {spec.bank, spec.n, spec.rank});
  std::vector<int32_t> uses = spec.uses, row_seq;
  while (static_cast<int64_t>(uses.size()) < spec.sequences)
    uses.push_back(static_cast<int32_t>(random.range(-1, spec.bank - 1)));
  // Rows of a sequence stand together, as in a step; some do not.
  for (int64_t t = 0; t < spec.m; ++t)
    row_seq.push_back(static_cast<int32_t>(random.range(0, 5) == 0
                                               ? random.range(0, spec.sequences - 1)
                                               : t * spec.sequences / spec.m));
  c.operands[HADAL_LORA_ADD_ADAPTER] = ints({spec.sequences}, HADAL_DIM_S, uses);
  c.operands[HADAL_LORA_ADD_ROW_SEQ] = ints({spec.m}, dim, row_seq);
  c.operands[HADAL_LORA_ADD_OUT] = floats({spec.m, spec.n}, dim, random.normals(spec.m * spec.n));
  c.operands[HADAL_LORA_ADD_OUT].row_pad = spec.pad;
  return c;
}

}  // namespace

void lora_add_cases(Random& random, bool quick, std::vector<Case>& cases) {
  const auto add = [&](const Lora& spec) { cases.push_back(lora_case(random, spec)); };
  for (const int64_t m : kRows)
    for (const uint32_t dtype : {HADAL_F32, HADAL_BF16, HADAL_F16}) {
      add({.m = m,
           .k = random.pick(kWidths),
           .n = random.pick(kWidths),
           .rank = random.range(1, 40),
           .bank = random.range(1, 4),
           .a = dtype,
           .b = random.coin() ? dtype : uint32_t{HADAL_F32},
           .pieces = {.pieces = static_cast<uint32_t>(random.range(1, 3))},
           .pad = random.coin() ? random.range(1, 9) : 0});
      cases.back().every_row = m > 1 && m < 20;
    }
  for (const int64_t rank : {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 32, 64, 100, 256})
    if (!quick || rank == 5 || rank == 17)
      add({.rank = rank, .a = HADAL_BF16, .name = "rank " + std::to_string(rank)});
  add({.m = 7, .uses = {-1, -1, -1, -1}, .name = "no adapters"});
  add({.m = 7, .uses = {-1, 2, -1, 0}, .name = "neighbours without one"});
  add({.m = 1, .sequences = 1, .uses = {2}, .name = "the last one"});
  for (const uint32_t dtype : {HADAL_F16, HADAL_BF16, HADAL_F32})
    for (const int64_t m : {1, 130}) {  // large enough for all of a chip's threads
      if (quick && dtype != HADAL_BF16) continue;
      add({.m = m, .k = 768, .n = 300, .rank = 16, .bank = 2, .a = dtype, .b = dtype});
      cases.back().every_row = true;
    }
  for (const uint32_t dtype : weight_dtypes()) {
    if (quick && dtype != HADAL_Q8_0 && dtype != HADAL_Q4_K) continue;
    const int64_t width = std::max<int64_t>(block_of(dtype), 64);
    add({.k = width, .rank = width, .bank = 2, .a = dtype, .b = dtype});
  }
  add({.k = 200,
       .rank = 6,
       .a = HADAL_F8_E4M3,
       .pieces = {.block_rows = 4, .block_cols = 32, .scale_dtype = HADAL_F32},
       .name = "scales for blocks of 4 x 32"});
  const auto refuse = [&](std::vector<int32_t> uses, const std::string& name) {
    add({.uses = std::move(uses), .name = name});
    cases.back().wrong_data = true;
  };
  refuse({0, 3, 0, 0}, "adapter 3 of 3");
  refuse({0, -2, 0, 0}, "adapter -2");
  refuse({0, 0, 0, 1 << 30}, "adapter far beyond");
  add({.name = "a row of no sequence"});
  cases.back().operands[HADAL_LORA_ADD_ROW_SEQ] = ints({5}, HADAL_DIM_T, {0, 1, 2, 3, 4});
  cases.back().wrong_data = true;
  // Rows of a tail.
  cases.push_back(lora_case(random, {.m = 9, .name = "rows of a tail"}, HADAL_DIM_U));
}

}  // namespace hadal::conformance
