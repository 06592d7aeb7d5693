// Cases of compress: what entries are made of.
//
// As for attention, slots that no row of the step may see hold NaN.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "pages.h"

namespace hadal::conformance {
namespace {

struct Compress {
  std::vector<Sequence> sequences;
  int64_t slots = 16;
  int64_t d = 33;
  int64_t ratio = 4;
  bool overlap = false;
  bool ape = true;
  float far = 0;  // is added to every score
  std::string name;
};

Case compress_case(Random& random, const Compress& spec) {
  Case c = rows_case(random, spec.sequences, HADAL_COMPRESS_POSITION, HADAL_COMPRESS_ROW_SEQ);
  const int64_t width = spec.overlap ? 2 * spec.d : spec.d;
  c.name = spec.name + (spec.name.empty() ? "" : ", ") + "ratio " + std::to_string(spec.ratio) +
           (spec.overlap ? ", overlap" : "");
  c.attr.compress = {.ratio = static_cast<uint32_t>(spec.ratio), .overlap = spec.overlap ? 1u : 0u};
  Pages pages(random, spec.sequences,
              {.slots = spec.slots,
               .dtype = HADAL_F32,
               .span = spec.overlap ? 2 * spec.ratio : spec.ratio,
               .period = spec.ratio});
  Operand& plane = c.operands[HADAL_COMPRESS_PLANE] = pages.plane(2 * width);
  auto* numbers = reinterpret_cast<float*>(plane.data.data());
  for (int64_t i = 0; i < plane.count(); ++i)
    if (i / width % 2 == 1) numbers[i] += spec.far;
  c.operands[HADAL_COMPRESS_BLOCK_TABLE] = pages.table();
  if (spec.ape)
    c.operands[HADAL_COMPRESS_APE] =
        weight_operand(make_vector(random.normals(spec.ratio * width)), {spec.ratio * width});
  c.operands[HADAL_COMPRESS_OUT] = output(HADAL_F32, {c.rows[HADAL_DIM_T], spec.d}, HADAL_DIM_T);
  c.operands[HADAL_COMPRESS_OUT].row_pad = random.range(0, 3);
  return c;
}

}  // namespace

void compress_cases(Random& random, bool quick, std::vector<Case>& cases) {
  const auto add = [&](const Compress& spec) { cases.push_back(compress_case(random, spec)); };
  add({.sequences = {}, .name = "no rows"});
  for (const bool overlap : {false, true})
    for (const int64_t ratio : {1, 4, 5, 128}) {
      for (const bool ape : {true, false})
        add({.sequences = {{.last = 3 * ratio - 1, .rows = std::min<int64_t>(ratio + 1, 20)},
                           {.last = 4 * ratio, .rows = 2},
                           {.last = 2 * ratio - 1}},
             .d = random.pick(kWidths),
             .ratio = ratio,
             .overlap = overlap,
             .ape = ape,
             .name = ape ? "" : "no APE"});
      for (const float far : {-200.0f, 200.0f})  // exp of it is not a number of fp32
        add({.sequences = {{.last = 3 * ratio - 1}, {.last = 2 * ratio, .rows = 2}},
             .ratio = ratio,
             .overlap = overlap,
             .ape = false,
             .far = far,
             .name = "scores far from zero"});
      // The first entry has no rows before it.
      add({.sequences = {{.last = ratio - 1}, {.last = 2 * ratio - 1, .rows = 2 * ratio}},
           .ratio = ratio,
           .overlap = overlap,
           .name = "from position 0"});
      if (ratio > 1)
        add({.sequences = {{.last = ratio - 2}, {.last = 2 * ratio}},
             .ratio = ratio,
             .overlap = overlap,
             .name = "no entry ends"});
      for (const int64_t slots : {1, 3, 4, 64})
        add({.sequences = {{.last = 5 * ratio - 1, .rows = 2}, {.last = 6 * ratio - 1}},
             .slots = slots,
             .d = 7,
             .ratio = ratio,
             .overlap = overlap,
             .name = "page borders"});
      for (const int64_t d : {1, 255, 257, 513})
        add({.sequences = {{.last = 7 * ratio - 1}, {.last = ratio, .rows = 2}},
             .d = d,
             .ratio = ratio,
             .overlap = overlap,
             .name = "odd widths"});
      if (!quick)
        add({.sequences = {{.last = 20 * ratio - 1, .rows = std::min<int64_t>(20 * ratio, 200)}},
             .d = 65,
             .ratio = ratio,
             .overlap = overlap,
             .name = "a prompt"});
    }
  const Compress one{.sequences = {{.last = 31}}, .slots = 4, .ratio = 16, .name = ""};
  refuse(compress_case(random, one), HADAL_COMPRESS_BLOCK_TABLE, 5, -1,
         "a block that is not mapped", cases);
  refuse(compress_case(random, one), HADAL_COMPRESS_BLOCK_TABLE, 5, 1000,
         "a block that the plane does not have", cases);
}

}  // namespace hadal::conformance
