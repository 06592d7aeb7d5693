// Which operators of a tape share a launch, and in what order the launches come.
//
// An operator goes into the first launch behind all that it depends on whose pattern (patterns.h)
// takes it, else into a launch of its own; then what stands alone and may wait joins a later
// launch. The choice is made by the tape alone, so every step has the same launches.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "program/access.h"
#include "program/patterns.h"

namespace hadal::opencl {

/// Operators that follow each other.
struct Strand {
  std::vector<uint32_t> ops;  ///< of the program's tape
  uint32_t row_dim = HADAL_DIM_CONST;
  int64_t rows = 1;     ///< times the step's count of row_dim
  int64_t numbers = 0;  ///< items: of a row
  int64_t heads = 0;    ///< rows: work-groups of a row; 0: any will do
};

struct Group {
  uint32_t flavours = kAlone;
  std::vector<Strand> strands;

  [[nodiscard]] bool fused() const { return strands.size() > 1 || strands[0].ops.size() > 1; }
  /// A launch that could be of both kinds is one of items.
  [[nodiscard]] bool items() const { return (flavours & kItems) != 0; }
};

std::vector<Group> fuse(const ProgramTape& tape);

/// The memories and types of weights that a launch of these operators is given.
using MemoryKey = std::pair<uint32_t, uintptr_t>;  ///< space, and which plane or weight
MemoryKey memory_key(const hadal_tensor& t);
std::set<MemoryKey> memories_of(const ProgramTape& tape, const Group& group);
std::set<int32_t> weight_types_of(const ProgramTape& tape, const Group& group);

/// "matmul + matmul": a line of what is launched.
std::string name_of(const ProgramTape& tape, const Group& group);

}  // namespace hadal::opencl
