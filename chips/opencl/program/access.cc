#include "program/access.h"

#include <algorithm>

#include "contract/operators.h"
#include "ops/operators.h"

namespace hadal::opencl {
namespace {

Access access_of(const ProgramTape& tape, const hadal_tensor& t, uint32_t operand, bool write) {
  Access a;
  a.space = t.space;
  a.operand = operand;
  a.write = write;
  a.row_dim = t.row_dim;
  a.rows = t.extents[0];
  a.plane = t.space == HADAL_SPACE_PLANE;
  if (a.plane) {
    a.index = t.index;
    return a;
  }
  const auto bytes_behind = [&](uint32_t first) {
    uint64_t bytes = 4;
    for (uint32_t d = first; d < t.rank; ++d)
      bytes += static_cast<uint64_t>((t.extents[d] - 1) * t.strides[d]);
    return bytes;
  };
  a.row = static_cast<uint64_t>(t.strides[0]);
  a.row_width = bytes_behind(1);
  if (t.rank == 3) {
    a.head = static_cast<uint64_t>(t.strides[1]);
    a.head_width = bytes_behind(2);
  }
  const int64_t rows = t.extents[0] * tape.limits[t.row_dim];
  a.begin = t.offset;
  a.end = rows == 0 ? t.offset : t.offset + static_cast<uint64_t>(rows - 1) * a.row + a.row_width;
  return a;
}

/// Of rows of `stride` bytes the columns that begin with byte a and those that begin with byte b do
/// not meet.
bool apart(uint64_t a, uint64_t a_width, uint64_t b, uint64_t b_width, uint64_t stride) {
  if (stride == 0) return false;
  if (a > b) return apart(b, b_width, a, a_width, stride);
  const uint64_t behind = (b - a) % stride;  // in a's rows
  return a_width <= behind && behind + b_width <= stride;
}

}  // namespace

std::vector<Access> accesses_of(const ProgramTape& tape, const hadal_op& op) {
  std::vector<Access> all;
  for (uint32_t i = 0; i < operand_count_of(op.id); ++i) {
    const hadal_tensor* t = tape.tensor(op, i);
    if (t && t->space != HADAL_SPACE_WEIGHT)
      all.push_back(access_of(tape, *t, i, contract::writes(operand_role_of(op.id, i))));
  }
  // An operator that works in the workspace has all of it.
  const Operator* known = find_operator(op.id);
  if (known && known->workspace) {
    Access a;
    a.space = kSpaceWorkspace;
    a.operand = HADAL_MAX_OPERANDS;
    a.write = true;
    a.end = tape.workspace_bytes;
    all.push_back(a);
  }
  return all;
}

bool meet(const Access& a, const Access& b) {
  if (a.space != b.space || (!a.write && !b.write)) return false;
  if (a.plane) return a.index == b.index;
  if (a.end <= b.begin || b.end <= a.begin) return false;
  if (a.row == b.row && apart(a.begin, a.row_width, b.begin, b.row_width, a.row)) return false;
  const bool heads = a.head != 0 && a.head == b.head && a.row % a.head == 0 && b.row % a.head == 0;
  return !heads || !apart(a.begin, a.head_width, b.begin, b.head_width, a.head);
}

bool same_rows(const Access& a, const Access& b, int64_t heads) {
  if (a.plane || a.row_dim != b.row_dim || a.rows != b.rows || a.row != b.row) return false;
  const auto window = [](uint64_t first, uint64_t first_end, uint64_t second, uint64_t second_end) {
    return std::max(first_end, second_end) - std::min(first, second);
  };
  if (window(a.begin, a.begin + a.row_width, b.begin, b.begin + b.row_width) > a.row) return false;
  if (heads == 1) return true;
  // A share of a row without heads: as many bytes as the head of the other.
  const auto stride = [&](const Access& x) {
    return x.head != 0 ? x.head : x.row_width / static_cast<uint64_t>(heads);
  };
  const auto width = [&](const Access& x) { return x.head != 0 ? x.head_width : stride(x); };
  return stride(a) == stride(b) &&
         window(a.begin, a.begin + width(a), b.begin, b.begin + width(b)) <= stride(a);
}

bool same_numbers(const Access& a, const Access& b) {
  return !a.plane && a.row_dim == b.row_dim && a.rows == b.rows && a.begin == b.begin &&
         a.row == b.row && a.row_width == b.row_width && a.head == b.head &&
         a.head_width == b.head_width;
}

}  // namespace hadal::opencl
