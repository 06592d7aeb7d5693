// Cases of gqa_attention: several sequences in shuffled blocks, page borders, windows, sinks, head
// groups.
//
// Slots that no row of the step may see hold NaN: what is read beyond the mask shows, even if it is
// multiplied by zero.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kit.h"

namespace hadal::conformance {
namespace {

/// A sequence of the step: `rows` token rows, the last of them at position `last`.
struct Sequence {
  int64_t last = 0;
  int64_t rows = 1;
  int64_t first = 0;
};

struct Attention {
  std::vector<Sequence> sequences;
  int64_t kv_heads = 2;
  int64_t group = 1;
  int64_t d = 64;
  int64_t dv = 64;
  int64_t slots = 16;
  uint32_t dtype = HADAL_F16;
  uint32_t window = 0;
  bool sink = false;
  float loud = 1;  // scale of q: the louder, the sharper the softmax
  std::string name;
};

int64_t first_visible(const Attention& spec, const Sequence& s, int64_t position) {
  return spec.window ? std::max(s.first, position - static_cast<int64_t>(spec.window) + 1)
                     : s.first;
}

/// Block table, rows and planes of a case as they are built.
struct Builder {
  Builder(Random& r, const Attention& s) : random(r), spec(s) {}
  Random& random;
  const Attention& spec;
  int64_t blocks_each = 0;
  int64_t blocks = 0;
  std::vector<int32_t> table, position, row_seq, first;
  std::vector<int64_t> visible;  // slots of the planes that some row sees

  void place() {
    for (const Sequence& s : spec.sequences)
      blocks_each = std::max(blocks_each, s.last / spec.slots + 2);
    const auto count = static_cast<int64_t>(spec.sequences.size());
    blocks = std::max<int64_t>(1, blocks_each * count);
    std::vector<int32_t> ids(static_cast<size_t>(blocks));
    std::iota(ids.begin(), ids.end(), 0);
    for (size_t i = ids.size(); i > 1; --i)
      std::swap(ids[i - 1], ids[static_cast<size_t>(random.range(0, static_cast<int64_t>(i) - 1))]);
    table.assign(static_cast<size_t>(blocks_each * count), -1);
    for (int64_t s = 0; s < count; ++s) {
      const Sequence& sequence = spec.sequences[static_cast<size_t>(s)];
      first.push_back(static_cast<int32_t>(sequence.first));
      for (int64_t t = 0; t < sequence.rows; ++t) {
        position.push_back(static_cast<int32_t>(sequence.last - sequence.rows + 1 + t));
        row_seq.push_back(static_cast<int32_t>(s));
      }
      const auto map = [&](int64_t j) {
        int32_t& block = table[static_cast<size_t>(s * blocks_each + j / spec.slots)];
        if (block != -1) return block;
        block = ids.back();
        ids.pop_back();
        return block;
      };
      // What no row sees is gone from some sequences, and in others still there, as NaN.
      for (int64_t j = 0; s % 2 == 0 && j <= sequence.last; ++j) map(j);
      for (int64_t j = first_visible(spec, sequence, sequence.last - sequence.rows + 1);
           j <= sequence.last; ++j) {
        const int32_t block = map(j);
        visible.push_back(block * spec.slots + j % spec.slots);
      }
    }
  }

  Operand plane(int64_t width) {
    Operand o;
    o.dtype = spec.dtype;
    o.shape = {blocks, spec.slots, width};
    o.plane = true;
    const auto size =
        static_cast<size_t>(dtype_info(static_cast<DType>(spec.dtype))->block_bytes * width);
    o.data.assign(static_cast<size_t>(blocks * spec.slots) * size, std::byte{0xff});
    for (const int64_t slot : visible) {
      const Bytes row = encode(random.normals(width), spec.dtype);
      std::memcpy(o.data.data() + static_cast<size_t>(slot) * size, row.data(), size);
    }
    return o;
  }
};

Case attention_case(Random& random, const Attention& spec) {
  Builder b(random, spec);
  b.place();
  Case c;
  const auto tokens = static_cast<int64_t>(b.position.size());
  const auto count = static_cast<int64_t>(spec.sequences.size());
  const int64_t heads = spec.kv_heads * spec.group;
  c.rows[HADAL_DIM_T] = tokens;
  c.rows[HADAL_DIM_S] = count;
  c.spare[HADAL_DIM_T] = random.range(0, 3);
  c.spare[HADAL_DIM_S] = random.range(0, 2);
  c.sliced = HADAL_DIM_T;
  c.every_row = tokens > 1;
  c.name = spec.name;
  c.attr.attention = {.scale = 1.0f / std::sqrt(static_cast<float>(spec.d)),
                      .kv_heads = static_cast<uint32_t>(spec.kv_heads),
                      .window = spec.window};
  c.operands[HADAL_GQA_ATTENTION_Q] = floats({tokens, heads, spec.d}, HADAL_DIM_T,
                                             random.normals(tokens * heads * spec.d, spec.loud));
  c.operands[HADAL_GQA_ATTENTION_Q].row_pad = random.coin() ? 8 : 0;
  c.operands[HADAL_GQA_ATTENTION_K] = b.plane(spec.kv_heads * spec.d);
  c.operands[HADAL_GQA_ATTENTION_V] = b.plane(spec.kv_heads * spec.dv);
  c.operands[HADAL_GQA_ATTENTION_POSITION] = ints({tokens}, HADAL_DIM_T, b.position);
  c.operands[HADAL_GQA_ATTENTION_ROW_SEQ] = ints({tokens}, HADAL_DIM_T, b.row_seq);
  c.operands[HADAL_GQA_ATTENTION_BLOCK_TABLE] =
      ints({count, std::max<int64_t>(1, b.blocks_each)}, HADAL_DIM_S, b.table);
  c.operands[HADAL_GQA_ATTENTION_FIRST] = ints({count}, HADAL_DIM_S, b.first);
  if (spec.sink)
    c.operands[HADAL_GQA_ATTENTION_SINK] =
        weight_operand(make_vector(random.normals(heads, 2)), {heads});
  c.operands[HADAL_GQA_ATTENTION_OUT] = output(HADAL_F32, {tokens, heads, spec.dv}, HADAL_DIM_T);
  return c;
}

}  // namespace

void attention_cases(Random& random, bool quick, std::vector<Case>& cases) {
  const std::vector<uint32_t> types = {HADAL_F16, HADAL_BF16, HADAL_F32};
  const auto add = [&](Attention spec) { cases.push_back(attention_case(random, spec)); };
  add({.sequences = {}, .name = "no rows"});
  for (const uint32_t dtype : types) {
    for (const int64_t slots : {4, 16, 64})
      for (const int64_t last : {slots - 2, slots - 1, slots,
                                 3 * slots})  // one slot short of a page, all of it, one more
        add({.sequences = {{.last = last}, {.last = last + 1, .rows = 2}},
             .d = 32,
             .dv = 32,
             .slots = slots,
             .dtype = dtype,
             .name = "page borders"});
    for (const int64_t group : {1, 3, 7})
      for (const int64_t d : {16, 64, 128})
        add({.sequences = {{.last = 40}, {.last = 9, .rows = 10}, {.last = 17, .rows = 3}},
             .group = group,
             .d = d,
             .dv = d,
             .dtype = dtype,
             .name = "groups"});
    add({.sequences = {{.last = 20, .rows = 21}},
         .group = 3,
         .d = 7,
         .dv = 5,
         .dtype = dtype,
         .name = "odd widths"});
    add({.sequences = {{.last = 70, .rows = 5, .first = 33}, {.last = 5, .rows = 2, .first = 1}},
         .group = 2,
         .dtype = dtype,
         .name = "first > 0"});
    add({.sequences = {{.last = 70, .rows = 8}, {.last = 10, .rows = 11}},
         .group = 2,
         .dtype = dtype,
         .window = 17,
         .name = "a window"});
    add({.sequences = {{.last = 30, .rows = 31}},
         .dtype = dtype,
         .window = 1,
         .name = "a window of one"});
    add({.sequences = {{.last = 33, .rows = 4}, {.last = 0}},
         .group = 3,
         .dtype = dtype,
         .sink = true,
         .name = "a sink"});
    add({.sequences = {{.last = 90, .rows = 20, .first = 3}},
         .group = 2,
         .dtype = dtype,
         .window = 40,
         .sink = true,
         .name = "first, window and sink"});
    add({.sequences = {{.last = 100, .rows = 6}},
         .group = 2,
         .dtype = dtype,
         .loud = 12,
         .name = "a sharp softmax"});
    add({.sequences = {{.last = 64, .rows = 65}},
         .group = 2,
         .d = 32,
         .dv = 32,
         .dtype = dtype,
         .name = "a prompt"});
    if (!quick)
      add({.sequences = {{.last = 1500, .rows = 3}, {.last = 700}},
           .group = 4,
           .slots = 64,
           .dtype = dtype,
           .name = "a long context"});
    add({.sequences = {{.last = 25, .rows = 9}},
         .d = 24,
         .dv = 40,
         .slots = 1,
         .dtype = dtype,
         .name = "one slot a block"});
  }
}

}  // namespace hadal::conformance
