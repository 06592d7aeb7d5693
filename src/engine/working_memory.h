// Operands that lie in a step's scratch or outputs: what the host copies and looks at where it runs
// or cuts a tape.
#pragma once

#include "engine/place.h"
#include "hadal/chip.h"
#include "ops/tensor.h"

namespace hadal {

inline bool is_working_memory(const Tensor& t) {
  return t.space == HADAL_SPACE_SCRATCH || t.space == HADAL_SPACE_OUTPUT;
}

inline bool is_read(hadal_role role) { return role != HADAL_ROLE_OUT; }
inline bool is_written(hadal_role role) {
  return role == HADAL_ROLE_OUT || role == HADAL_ROLE_INOUT || role == HADAL_ROLE_OPT_INOUT;
}

inline const DeviceMemory& memory_of(const Place& place, const Tensor& t) {
  return t.space == HADAL_SPACE_SCRATCH ? place.scratch : place.outputs;
}

/// Bytes from the first number of an operand to its last, with so many rows of its dim. Numbers in
/// working memory have four bytes.
inline uint64_t reach(const Tensor& t, int64_t rows) {
  const int64_t count = t.extents[0] * rows;
  if (count <= 0) return 0;
  int64_t bytes = static_cast<int64_t>(sizeof(float)) + (count - 1) * t.strides[0];
  for (uint32_t d = 1; d < t.rank; ++d) {
    if (t.extents[d] <= 0) return 0;
    bytes += (t.extents[d] - 1) * t.strides[d];
  }
  return static_cast<uint64_t>(bytes);
}

}  // namespace hadal
