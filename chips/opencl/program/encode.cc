#include "program/encode.h"

#include <algorithm>
#include <cstring>

#include "ops/launch.h"

namespace hadal::opencl {
namespace {

constexpr int64_t kTileRows = 4;  ///< TILE_ROWS of kernels/fused.cl
constexpr int64_t kShare = 64;    ///< numbers of a work-group of rows where any shares will do

int64_t bytes_of(uint32_t dtype) { return dtype == HADAL_F16 || dtype == HADAL_BF16 ? 2 : 4; }

class Encoder {
 public:
  Encoder(const ProgramTape& tape, FusedLaunch& launch) : tape_(tape), launch_(launch) {}

  void step(const hadal_op& op, int64_t numbers, int64_t* to) {
    to[layout("STEP_OP")] = op.id;
    to[layout("STEP_NUMBERS")] = numbers;
    for (int i = 0; i < 8; ++i) {
      int32_t word = 0;
      std::memcpy(&word, op.attr.bytes + 4 * i, 4);
      to[layout("STEP_WORDS") + i] = word;
    }
    for (uint32_t i = 0; i < kMostOperands; ++i)
      operand(i < operand_count_of(op.id) ? tape_.tensor(op, i) : nullptr,
              to + layout("STEP_OPERANDS") + i * layout("OPERAND_LONGS"));
  }

 private:
  void operand(const hadal_tensor* t, int64_t* to) {
    to[layout("OPERAND_MEMORY")] = -1;
    if (!t) return;
    const auto at = std::find(launch_.memories.begin(), launch_.memories.end(), memory_key(*t));
    to[layout("OPERAND_MEMORY")] = at - launch_.memories.begin();
    int64_t* extents = to + layout("OPERAND_EXTENT");
    if (t->space == HADAL_SPACE_WEIGHT) {
      to[layout("OPERAND_TYPE")] = weight_of(t->weight).type;
      to[layout("OPERAND_ROW")] = weight_of(t->weight).stride;
      extents[0] = extents[1] = 1;
      for (uint32_t d = 0; d < t->rank; ++d) extents[3 - t->rank + d] = t->extents[d];
      return;
    }
    const int64_t size = bytes_of(t->dtype);
    to[layout("OPERAND_TYPE")] = type_of(t->dtype);
    to[layout("OPERAND_DIM")] = t->row_dim;
    to[layout("OPERAND_PLANE")] = plane_of(*t);
    to[layout("OPERAND_AT")] = static_cast<int64_t>(t->offset) / size;
    to[layout("OPERAND_ROW")] = t->strides[0] / size;
    to[layout("OPERAND_HEAD")] = t->rank == 3 ? t->strides[1] / size : 0;
    std::copy(t->extents, t->extents + 3, extents);
  }

  int64_t plane_of(const hadal_tensor& t) {
    if (t.space != HADAL_SPACE_PLANE) return 0;
    const auto index = static_cast<uint32_t>(&t - tape_.tensors.data());
    std::vector<uint32_t>& planes = launch_.planes;
    const auto same = [&](uint32_t other) { return tape_.tensors[other].index == t.index; };
    const auto at = std::find_if(planes.begin(), planes.end(), same);
    if (at != planes.end()) return at - planes.begin();
    planes.push_back(index);
    return static_cast<int64_t>(planes.size()) - 1;
  }

  const ProgramTape& tape_;
  FusedLaunch& launch_;
};

std::string options_of(const std::set<int32_t>& types) {
  constexpr const char* kNames[] = {"FIRST_TYPE", "SECOND_TYPE", "THIRD_TYPE"};
  std::string text;
  size_t i = 0;
  for (const int32_t type : types)
    text += std::string(" -D") + (types.size() == 1 ? "WEIGHT_TYPE" : kNames[i++]) + "=" +
            std::to_string(type);
  return text;
}

}  // namespace

bool FusedLaunch::one_row(const int64_t* rows) const {
  return std::all_of(strands.begin(), strands.end(),
                     [&](const Rows& s) { return rows[s.dim] <= 1; });
}

std::string FusedLaunch::variant(bool one_row) const {
  return (items ? (one_row ? "-DTILE_ROWS=1" : "-DTILE_ROWS=" + std::to_string(kTileRows))
                : "-DONLY_ROWS") +
         types;
}

int64_t FusedLaunch::tiles(const int64_t* rows) const {
  int64_t most = 0;
  for (const Rows& s : strands) most = std::max(most, s.times * rows[s.dim]);
  const int64_t tile = items && !one_row(rows) ? kTileRows : 1;
  return (most + tile - 1) / tile;
}

FusedLaunch encode(const ProgramTape& tape, const Group& group, std::vector<int64_t>& plan) {
  FusedLaunch launch;
  launch.items = group.items();
  launch.name = name_of(tape, group);
  launch.types = options_of(weight_types_of(tape, group));
  const std::set<MemoryKey> memories = memories_of(tape, group);
  launch.memories.assign(memories.begin(), memories.end());
  launch.plan_at = static_cast<int64_t>(plan.size());
  constexpr int64_t kStrand = layout("STRAND_LONGS"), kStep = layout("STEP_LONGS");
  int64_t next = static_cast<int64_t>(group.strands.size()) * kStrand;  // where steps go
  std::vector<int64_t> own(static_cast<size_t>(next));
  Encoder encoder(tape, launch);
  for (size_t s = 0; s < group.strands.size(); ++s) {
    const Strand& strand = group.strands[s];
    int64_t units = strand.heads;
    if (units == 0) units = strand.numbers % kShare == 0 ? strand.numbers / kShare : 1;
    const auto steps = static_cast<int64_t>(strand.ops.size());
    own.resize(static_cast<size_t>(next + steps * kStep));
    int64_t* header = own.data() + static_cast<int64_t>(s) * kStrand;
    header[layout("STRAND_FIRST")] = launch.columns;
    header[layout("STRAND_UNITS")] = units;
    header[layout("STRAND_NUMBERS")] = strand.numbers;
    header[layout("STRAND_DIM")] = strand.row_dim;
    header[layout("STRAND_ROWS")] = strand.rows;
    header[layout("STRAND_STEP")] = next;
    header[layout("STRAND_STEPS")] = steps;
    for (const uint32_t i : strand.ops) {
      const hadal_op& op = tape.ops[i].op;
      encoder.step(op, find_pattern(tape, op)->numbers(tape, op), own.data() + next);
      next += kStep;
    }
    launch.strands.push_back({strand.row_dim, strand.rows});
    launch.columns += launch.items ? (strand.numbers + kShare - 1) / kShare : units;
  }
  plan.insert(plan.end(), own.begin(), own.end());
  return launch;
}

}  // namespace hadal::opencl
