// Cases of gather_rows, kv_write, copy_blocks and convert: copies, where every bit counts.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kit.h"

namespace hadal::conformance {
namespace {

const std::vector<uint32_t> kPlaneTypes = {HADAL_F32, HADAL_F16, HADAL_BF16};

// Numbers that are hard to round to `dtype`: ties in both directions, the ends of the range,
// subnormals, infinities, NaN.
std::vector<float> hard_numbers(Random& random, int64_t count) {
  std::vector<float> values = {0.0f,
                               -0.0f,
                               1.0f,
                               2049.0f,
                               2051.0f,
                               65504.0f,
                               65519.0f,
                               65519.996f,
                               65520.0f,
                               -65520.0f,
                               1e30f,
                               3.4e38f,
                               3.3961775e38f,
                               0x1p-14f,
                               0x1.ffcp-15f,
                               0x1p-24f,
                               0x1p-25f,
                               0x1.8p-24f,
                               0x1.000002p-25f,
                               0x1p-126f,
                               0x1p-133f,
                               0x1p-149f,
                               std::bit_cast<float>(0x3f808000u),
                               std::bit_cast<float>(0x3f818000u),
                               std::bit_cast<float>(0x3f808001u),
                               std::numeric_limits<float>::infinity(),
                               -std::numeric_limits<float>::infinity(),
                               std::numeric_limits<float>::quiet_NaN()};
  while (static_cast<int64_t>(values.size()) < count)
    values.push_back(std::ldexp(random.normal(), static_cast<int>(random.range(-30, 20))));
  values.resize(static_cast<size_t>(count));
  return values;
}

Operand plane(Random& random, uint32_t dtype, int64_t blocks, int64_t slots, int64_t width) {
  Operand o = output(dtype, {blocks, slots, width}, HADAL_DIM_CONST);
  o.plane = true;
  o.data = encode(random.normals(blocks * slots * width), dtype);
  return o;
}

struct KvWrite {
  int64_t tokens = 5;
  int64_t sequences = 2;
  int64_t width = 32;
  int64_t slots = 16;
  uint32_t dtype = HADAL_F32;
  uint32_t ratio = 1;
  bool shared_prefix = false;  // write_from above some rows
  bool holes = false;          // some blocks are not mapped
};

Case kv_write_case(Random& random, const KvWrite& spec) {
  Case c;
  c.attr.kv_write.ratio = spec.ratio;
  c.rows[HADAL_DIM_T] = spec.tokens;
  c.rows[HADAL_DIM_S] = spec.sequences;
  c.spare[HADAL_DIM_T] = random.range(0, 3);
  c.spare[HADAL_DIM_S] = random.range(0, 2);
  const int64_t each = (spec.tokens + spec.sequences - 1) / spec.sequences + 1;
  const int64_t start_limit = 2 * spec.slots;
  const int64_t blocks_each = (start_limit + each) / spec.slots + 2;
  const int64_t blocks = blocks_each * spec.sequences + 1;
  std::vector<int32_t> table = random.shuffled(blocks);
  table.resize(static_cast<size_t>(blocks_each * spec.sequences));
  std::vector<int32_t> position, row_seq, next, write_from;
  for (int64_t s = 0; s < spec.sequences; ++s) {
    next.push_back(static_cast<int32_t>(random.pick(
        std::vector<int64_t>{0, spec.slots - 1, spec.slots, spec.slots + 1, start_limit})));
    write_from.push_back(spec.shared_prefix ? next.back() + static_cast<int32_t>(random.range(1, 3))
                                            : 0);
    if (spec.holes) table[static_cast<size_t>(s * blocks_each + next.back() / spec.slots)] = -1;
  }
  for (int64_t t = 0; t < spec.tokens; ++t) {
    const auto s = static_cast<size_t>(t % spec.sequences);
    row_seq.push_back(static_cast<int32_t>(s));
    position.push_back(next[s]++);
  }
  c.operands[HADAL_KV_WRITE_X] = floats({spec.tokens, spec.width}, HADAL_DIM_T,
                                        hard_numbers(random, spec.tokens * spec.width));
  c.operands[HADAL_KV_WRITE_X].row_pad = random.coin() ? 5 : 0;
  c.operands[HADAL_KV_WRITE_PLANE] = plane(random, spec.dtype, blocks, spec.slots, spec.width);
  c.operands[HADAL_KV_WRITE_POSITION] = ints({spec.tokens}, HADAL_DIM_T, position);
  c.operands[HADAL_KV_WRITE_ROW_SEQ] = ints({spec.tokens}, HADAL_DIM_T, row_seq);
  c.operands[HADAL_KV_WRITE_BLOCK_TABLE] = ints({spec.sequences, blocks_each}, HADAL_DIM_S, table);
  c.operands[HADAL_KV_WRITE_WRITE_FROM] = ints({spec.sequences}, HADAL_DIM_S, write_from);
  c.name = spec.ratio > 1       ? "ratio " + std::to_string(spec.ratio)
           : spec.shared_prefix ? "a shared prefix"
           : spec.holes         ? "blocks that are not mapped"
                                : "";
  return c;
}

}  // namespace

void gather_cases(Random& random, bool, std::vector<Case>& cases) {
  const auto whole_numbers = [&](int64_t m, int64_t n) {
    std::vector<int32_t> values = {0,       1,         -1,        7,         1 << 23, (1 << 24) + 1,
                                   1 << 30, INT32_MIN, INT32_MAX, 0x7f800001};
    while (static_cast<int64_t>(values.size()) < m * n)
      values.push_back(static_cast<int32_t>(random.bits() >> random.range(32, 60)));
    values.resize(static_cast<size_t>(m * n));
    return ints({m, n}, HADAL_DIM_T, values);
  };
  const auto add = [&](int64_t m, int64_t r, int64_t n, uint32_t dtype = HADAL_F32) {
    Case c;
    c.rows[HADAL_DIM_T] = m;
    c.rows[HADAL_DIM_R] = r;
    c.spare[HADAL_DIM_T] = random.range(0, 2);
    c.spare[HADAL_DIM_R] = random.range(0, 2);
    c.sliced = HADAL_DIM_R;
    c.every_row = r == 3;
    std::vector<int32_t> index(static_cast<size_t>(r));
    for (int32_t& i : index) i = static_cast<int32_t>(random.range(0, m - 1));
    if (r > 0) index.back() = static_cast<int32_t>(m - 1);
    c.operands[HADAL_GATHER_ROWS_X] =
        dtype == HADAL_I32
            ? whole_numbers(m, n)
            : floats({m, n}, HADAL_DIM_T,
                     m * n > 30 ? hard_numbers(random, m * n) : random.normals(m * n));
    c.operands[HADAL_GATHER_ROWS_X].row_pad = n % 3;
    c.operands[HADAL_GATHER_ROWS_INDEX] = ints({r}, HADAL_DIM_R, index);
    c.operands[HADAL_GATHER_ROWS_OUT] = output(dtype, {r, n}, HADAL_DIM_R);
    c.operands[HADAL_GATHER_ROWS_OUT].row_pad = n % 2;
    cases.push_back(std::move(c));
  };
  for (const int64_t n : kWidths) add(random.range(1, 70), random.pick(kRows), n);
  for (const int64_t r : {0, 1, 3, 65}) add(17, r, 64);
  for (const int64_t n : kWidths) add(random.range(1, 70), random.pick(kRows), n, HADAL_I32);
  for (const int64_t r : {0, 1, 3, 65}) add(17, r, 64, HADAL_I32);
  for (const int32_t wrong : {-1, 17}) {
    add(17, 3, 32);
    cases.back().operands[HADAL_GATHER_ROWS_INDEX] = ints({3}, HADAL_DIM_R, {0, wrong, 1});
    cases.back().wrong_data = true;
    cases.back().name = "index " + std::to_string(wrong) + " of 17 rows";
  }
  for (const uint32_t dtype : {HADAL_F32, HADAL_I32}) {
    add(17, 3, 32, dtype);
    cases.back().operands[HADAL_GATHER_ROWS_OUT].dtype = dtype == HADAL_F32 ? HADAL_I32 : HADAL_F32;
    cases.back().must_fail = true;
    cases.back().name = "two dtypes";
  }
}

void kv_write_cases(Random& random, bool, std::vector<Case>& cases) {
  for (const uint32_t dtype : kPlaneTypes) {
    for (const int64_t tokens : {0, 1, 2, 7, 17, 64, 65})
      cases.push_back(
          kv_write_case(random, {.tokens = tokens,
                                 .sequences = random.range(1, 4),
                                 .width = random.pick(kWidths),
                                 .slots = random.pick(std::vector<int64_t>{1, 4, 16, 64}),
                                 .dtype = dtype}));
    for (const uint32_t ratio : {2u, 4u})
      cases.push_back(kv_write_case(random, {.tokens = 33, .dtype = dtype, .ratio = ratio}));
    cases.push_back(kv_write_case(
        random, {.tokens = 12, .sequences = 3, .dtype = dtype, .shared_prefix = true}));
    cases.push_back(kv_write_case(
        random, {.tokens = 12, .sequences = 3, .slots = 4, .dtype = dtype, .holes = true}));
  }
}

void copy_blocks_cases(Random& random, bool, std::vector<Case>& cases) {
  for (const uint32_t dtype : kPlaneTypes)
    for (const int64_t pairs : {0, 1, 3, 8}) {
      Case c;
      const int64_t blocks = 2 * pairs + 3;
      c.rows[HADAL_DIM_S] = pairs;
      c.spare[HADAL_DIM_S] = random.range(0, 2);
      const std::vector<int32_t> ids = random.shuffled(blocks);
      std::vector<int32_t> from(ids.begin(), ids.begin() + pairs);
      std::vector<int32_t> to(ids.begin() + pairs, ids.begin() + 2 * pairs);
      if (pairs > 1) from[0] = -1;
      if (pairs > 2) to[2] = -1;
      c.operands[HADAL_COPY_BLOCKS_PLANE] =
          plane(random, dtype, blocks, random.range(1, 16), random.pick(kWidths));
      c.operands[HADAL_COPY_BLOCKS_FROM] = ints({pairs}, HADAL_DIM_S, from);
      c.operands[HADAL_COPY_BLOCKS_TO] = ints({pairs}, HADAL_DIM_S, to);
      c.name = pairs > 1 ? "with -1" : "";
      cases.push_back(std::move(c));
    }
}

void convert_cases(Random& random, bool, std::vector<Case>& cases) {
  for (const uint32_t from : kPlaneTypes)
    for (const uint32_t to : kPlaneTypes)
      for (const int64_t m : {0, 1, 3, 17}) {
        Case c;
        const int64_t n = random.pick(kWidths) + 28;
        c.rows[HADAL_DIM_T] = m;
        c.spare[HADAL_DIM_T] = random.range(0, 2);
        c.sliced = HADAL_DIM_T;
        c.every_row = m == 3;
        c.operands[HADAL_CONVERT_X] = output(from, {m, n}, HADAL_DIM_T);
        c.operands[HADAL_CONVERT_X].data = encode(hard_numbers(random, m * n), from);
        c.operands[HADAL_CONVERT_X].row_pad = m;
        c.operands[HADAL_CONVERT_OUT] = output(to, {m, n}, HADAL_DIM_T);
        cases.push_back(std::move(c));
      }
}

}  // namespace hadal::conformance
