// Cases of gqa_attention and latent_attention: several sequences in shuffled blocks, page borders,
// windows, sinks, head groups, lists.
//
// Slots that no row of the step may see hold NaN: what is read beyond the mask shows, even if it is
// multiplied by zero.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "pages.h"

namespace hadal::conformance {
namespace {

Operand queries(Random& random, int64_t tokens, int64_t heads, int64_t d, float loud) {
  return floats({tokens, heads, d}, HADAL_DIM_T, random.normals(tokens * heads * d, loud));
}

Operand sinks(Random& random, int64_t heads) {
  return weight_operand(make_vector(random.normals(heads, 2)), {heads});
}

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

Case attention_case(Random& random, const Attention& spec) {
  Case c =
      rows_case(random, spec.sequences, HADAL_GQA_ATTENTION_POSITION, HADAL_GQA_ATTENTION_ROW_SEQ);
  Pages pages(random, spec.sequences,
              {.slots = spec.slots, .dtype = spec.dtype, .window = spec.window});
  const int64_t tokens = c.rows[HADAL_DIM_T], heads = spec.kv_heads * spec.group;
  c.name = spec.name;
  c.attr.attention = {.scale = 1.0f / std::sqrt(static_cast<float>(spec.d)),
                      .kv_heads = static_cast<uint32_t>(spec.kv_heads),
                      .window = spec.window};
  c.operands[HADAL_GQA_ATTENTION_Q] = queries(random, tokens, heads, spec.d, spec.loud);
  c.operands[HADAL_GQA_ATTENTION_Q].row_pad = random.coin() ? 8 : 0;
  c.operands[HADAL_GQA_ATTENTION_K] = pages.plane(spec.kv_heads * spec.d);
  c.operands[HADAL_GQA_ATTENTION_V] = pages.plane(spec.kv_heads * spec.dv);
  c.operands[HADAL_GQA_ATTENTION_BLOCK_TABLE] = pages.table();
  c.operands[HADAL_GQA_ATTENTION_FIRST] = pages.first();
  if (spec.sink) c.operands[HADAL_GQA_ATTENTION_SINK] = sinks(random, heads);
  c.operands[HADAL_GQA_ATTENTION_OUT] = output(HADAL_F32, {tokens, heads, spec.dv}, HADAL_DIM_T);
  return c;
}

struct Latent {
  std::vector<Sequence> sequences;
  std::vector<Group> groups = std::vector<Group>(1);  // one a segment
  int64_t heads = 5;
  int64_t d = 48;
  int64_t tail = 16;  // 0: there is none
  int64_t dv = 48;
  bool sink = false;
  float loud = 1;
  std::string name;
};

Case latent_case(Random& random, const Latent& spec) {
  Case c = rows_case(random, spec.sequences, HADAL_LATENT_ATTENTION_POSITION,
                     HADAL_LATENT_ATTENTION_ROW_SEQ);
  const int64_t tokens = c.rows[HADAL_DIM_T], width = spec.d + spec.tail;
  c.name = spec.name;
  c.attr.latent.scale = 1.0f / std::sqrt(static_cast<float>(width));
  Operand* operand = &c.operands[HADAL_LATENT_ATTENTION_PLANE];
  for (size_t i = 0; i < spec.groups.size(); ++i) {
    const Group& group = spec.groups[i];
    c.attr.latent.segments[i] = {.ratio = static_cast<uint32_t>(group.ratio),
                                 .window = group.window};
    Pages pages(random, spec.sequences, group);
    *operand++ = pages.plane(width);
    *operand++ = pages.table();
    *operand++ = pages.first();
    *operand++ = group.list == List::kNone ? Operand() : pages.list();
  }
  c.operands[HADAL_LATENT_ATTENTION_Q] = queries(random, tokens, spec.heads, spec.d, spec.loud);
  c.operands[HADAL_LATENT_ATTENTION_Q].row_pad = random.coin() ? 8 : 0;
  if (spec.tail != 0) {
    Operand& tail = c.operands[HADAL_LATENT_ATTENTION_TAIL] =
        queries(random, tokens, spec.heads, spec.tail, spec.loud);
    tail.head_pad = random.coin() ? 24 : 0;
  }
  if (spec.sink) c.operands[HADAL_LATENT_ATTENTION_SINK] = sinks(random, spec.heads);
  c.operands[HADAL_LATENT_ATTENTION_OUT] =
      output(HADAL_F32, {tokens, spec.heads, spec.dv}, HADAL_DIM_T);
  return c;
}

/// mla_attention over the cache of a latent_attention: D is the latent's rank, the tail that of q.
Case mla_case(Random& random, const Latent& spec, int64_t dn, uint32_t dtype) {
  const Case latent = latent_case(random, spec);
  Case c = latent;
  c.operands = {};
  const int64_t tokens = c.rows[HADAL_DIM_T];
  const auto weight = [&](int64_t rows, int64_t cols) {
    const WeightShape shape{.batch = spec.heads, .rows = rows, .cols = cols};
    return weight_operand(make_weight(random, dtype, shape), {spec.heads, rows, cols});
  };
  c.operands[HADAL_MLA_ATTENTION_Q_NOPE] = queries(random, tokens, spec.heads, dn, 0.1f);
  c.operands[HADAL_MLA_ATTENTION_W_UK] = weight(spec.d, dn);
  c.operands[HADAL_MLA_ATTENTION_W_UV] = weight(spec.dv, spec.d);
  for (const auto& [to, from] :
       {std::pair{HADAL_MLA_ATTENTION_Q_ROPE, HADAL_LATENT_ATTENTION_TAIL},
        std::pair{HADAL_MLA_ATTENTION_PLANE, HADAL_LATENT_ATTENTION_PLANE},
        std::pair{HADAL_MLA_ATTENTION_POSITION, HADAL_LATENT_ATTENTION_POSITION},
        std::pair{HADAL_MLA_ATTENTION_ROW_SEQ, HADAL_LATENT_ATTENTION_ROW_SEQ},
        std::pair{HADAL_MLA_ATTENTION_BLOCK_TABLE, HADAL_LATENT_ATTENTION_BLOCK_TABLE},
        std::pair{HADAL_MLA_ATTENTION_FIRST, HADAL_LATENT_ATTENTION_FIRST},
        std::pair{HADAL_MLA_ATTENTION_LIST, HADAL_LATENT_ATTENTION_LIST},
        std::pair{HADAL_MLA_ATTENTION_OUT, HADAL_LATENT_ATTENTION_OUT}})
    c.operands[to] = latent.operands[from];
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

void latent_cases(Random& random, bool quick, std::vector<Case>& cases) {
  const auto add = [&](const Latent& spec) { cases.push_back(latent_case(random, spec)); };
  const std::vector<Sequence> mixed = {
      {.last = 40}, {.last = 9, .rows = 10}, {.last = 17, .rows = 3}, {.last = 70, .rows = 2}};
  add({.sequences = {}, .name = "no rows"});
  for (const uint32_t dtype : {HADAL_F16, HADAL_BF16, HADAL_F32}) {
    for (const int64_t slots : {1, 4, 64})
      for (const int64_t last : {slots - 1, slots, 3 * slots})
        add({.sequences = {{.last = last}, {.last = last + 1, .rows = 2}},
             .groups = {{.slots = slots, .dtype = dtype}},
             .name = "page borders"});
    for (const int64_t heads : {1, 5, 16, 128})
      add({.sequences = mixed,
           .groups = {{.dtype = dtype}},
           .heads = heads,
           .dv = heads == 5 ? 48 : 40,
           .name = "heads"});
    add({.sequences = mixed, .groups = {{.dtype = dtype}}, .tail = 0, .name = "no tail"});
    add({.sequences = mixed,
         .groups = {{.dtype = dtype}},
         .d = 7,
         .tail = 4,
         .dv = 11,
         .name = "odd widths, values as wide as entries"});
    for (const int64_t ratio : {4, 5, 128}) {
      add({.sequences = {{.last = ratio - 2}, {.last = ratio - 1}, {.last = 3 * ratio, .rows = 9}},
           .groups = {{.slots = 4, .dtype = dtype, .ratio = ratio}},
           .name = "an entry for some positions"});
      add({.sequences = {{.last = 9 * ratio, .rows = 7, .first = 2 * ratio},
                         {.last = 9 * ratio, .rows = 3, .first = 2 * ratio + 1},
                         {.last = 6 * ratio, .first = 6 * ratio - 1},
                         {.last = 6 * ratio, .first = 5 * ratio + 1}},
           .groups = {{.slots = 4, .dtype = dtype, .ratio = ratio}},
           .name = "first inside an entry"});
      add({.sequences = {{.last = 20 * ratio, .rows = 9}, {.last = 2 * ratio + 1, .rows = 3}},
           .groups = {{.slots = 4, .dtype = dtype, .ratio = ratio, .window = 3}},
           .name = "a window of entries"});
    }
    add({.sequences = {{.last = 90, .rows = 20, .first = 3}, {.last = 16, .rows = 17}},
         .groups = {{.dtype = dtype, .window = 16}},
         .sink = true,
         .name = "first, window and sink"});
    for (const List list : {List::kVisible, List::kAny, List::kSome, List::kEmpty})
      for (const int64_t listed : {1, 8, 150})
        add({.sequences = {{.last = 300, .rows = 5, .first = 17}, {.last = 12, .rows = 7}},
             .groups = {{.dtype = dtype, .window = 200, .list = list, .listed = listed}},
             .sink = listed == 8,
             .name = "lists of up to " + std::to_string(listed)});
    // As V4 has them: the last rows, and of all before some entries, or all of them.
    for (const List list : {List::kNone, List::kVisible, List::kSome})
      add({.sequences = {{.last = 200, .rows = 9, .first = 5}, {.last = 2, .rows = 3}},
           .groups = {{.dtype = dtype, .window = 32},
                      {.slots = 4,
                       .dtype = HADAL_BF16,
                       .ratio = 4,
                       .list = list,
                       .listed = list == List::kNone ? 0 : 20,
                       .from_start = true}},
           .tail = 0,
           .sink = true,
           .name = "two segments"});
    add({.sequences = {{.last = 100, .rows = 6}},
         .groups = {{.dtype = dtype}},
         .loud = 12,
         .name = "a sharp softmax"});
    add({.sequences = {{.last = 129, .rows = 130}},
         .groups = {{.dtype = dtype}},
         .name = "a prompt"});
    if (quick) continue;
    add({.sequences = {{.last = 1500, .rows = 3}, {.last = 700}},
         .groups = {{.slots = 64, .dtype = dtype}},
         .heads = 16,
         .name = "a long context"});
    add({.sequences = {{.last = 150, .rows = 3}},
         .groups = {{.slots = 64, .dtype = dtype}},
         .heads = 128,
         .d = 512,
         .tail = 64,
         .dv = 512,
         .name = "as wide as V3"});
    add({.sequences = {{.last = 700, .rows = 2}},
         .groups = {{.slots = 64, .dtype = dtype, .window = 128},
                    {.slots = 64,
                     .dtype = dtype,
                     .ratio = 4,
                     .list = List::kSome,
                     .listed = 64,
                     .from_start = true}},
         .heads = 64,
         .d = 512,
         .tail = 0,
         .dv = 512,
         .sink = true,
         .name = "as wide as V4"});
  }
  const auto refuse = [&](uint32_t operand, int64_t at, int32_t value, const std::string& name) {
    Group group{.slots = 4};
    if (operand == HADAL_LATENT_ATTENTION_LIST) group = {.list = List::kVisible, .listed = 6};
    add({.sequences = {{.last = 30, .rows = 1}}, .groups = {group}, .name = name});
    std::memcpy(cases.back().operands[operand].data.data() + at * 4, &value, 4);
    cases.back().wrong_data = true;
  };
  refuse(HADAL_LATENT_ATTENTION_BLOCK_TABLE, 3, -1, "a block that is not mapped");
  refuse(HADAL_LATENT_ATTENTION_BLOCK_TABLE, 3, 1000, "a block that the plane does not have");
  refuse(HADAL_LATENT_ATTENTION_LIST, 0, 29, "a list that descends");
  refuse(HADAL_LATENT_ATTENTION_LIST, 0, 1 << 20, "an entry that no block could hold");
  refuse(HADAL_LATENT_ATTENTION_LIST, 0, 0, "a list that names an entry twice");
  Bytes& list = cases.back().operands[HADAL_LATENT_ATTENTION_LIST].data;
  std::copy_n(list.begin() + sizeof(int32_t), sizeof(int32_t), list.begin());
}

void mla_attention_cases(Random& random, bool, std::vector<Case>& cases) {
  const std::vector<Sequence> mixed = {{.last = 40}, {.last = 9, .rows = 10, .first = 2}};
  cases.push_back(mla_case(random, {.name = "no rows"}, 32, HADAL_BF16));
  for (const uint32_t dtype : {HADAL_F32, HADAL_BF16, HADAL_Q8_0})
    for (const int64_t heads : {1, 5, 16})
      cases.push_back(
          mla_case(random, {.sequences = mixed, .heads = heads, .d = 64, .dv = 24}, 32, dtype));
  for (const List list : {List::kVisible, List::kSome})
    cases.push_back(mla_case(
        random, {.sequences = mixed, .groups = {{.list = list, .listed = 8}}, .name = "a list"}, 32,
        HADAL_BF16));
}

}  // namespace hadal::conformance
