// What an operator reads and writes, in bytes, and whether two operators meet.
#pragma once

#include <vector>

#include "program/tape.h"

namespace hadal::opencl {

/// Bytes of one operand with the rows at their limits. Weights are read alone and do not count.
struct Access {
  uint32_t space = HADAL_SPACE_NONE;
  uint32_t index = 0;  ///< of a plane
  uint32_t operand = 0;
  uint32_t row_dim = HADAL_DIM_CONST;
  bool write = false;
  bool plane = false;  ///< the whole of it
  uint64_t begin = 0, end = 0;
  uint64_t row = 0, row_width = 0;    ///< bytes from row to row, and of a row
  uint64_t head = 0, head_width = 0;  ///< 0: rows have no heads
  int64_t rows = 0;                   ///< times the step's count of row_dim
};

std::vector<Access> accesses_of(const ProgramTape& tape, const hadal_op& op);

/// They share bytes, and one writes.
bool meet(const Access& a, const Access& b);

/// Row t of one shares bytes with row t of the other alone; with `heads` above 1, so does each of
/// so many equal shares of the rows.
bool same_rows(const Access& a, const Access& b, int64_t heads);
/// Number i of a row of one shares bytes with number i of the other alone.
bool same_numbers(const Access& a, const Access& b);

}  // namespace hadal::opencl
