// Tensor: a small view passed by value. It is the contract's own struct; memory belongs to the
// step's spaces.
#pragma once

#include <initializer_list>

#include "base/dtype.h"
#include "base/result.h"
#include "hadal/chip.h"

namespace hadal {

using Tensor = hadal_tensor;

/// A contiguous tensor of the given extents, the first a multiple of `dim`. `extents` has 1 to 4
/// numbers.
inline Tensor make_tensor(DType dtype, hadal_space space, hadal_dim dim,
                          std::initializer_list<int64_t> extents) {
  HADAL_CHECK(extents.size() >= 1 && extents.size() <= HADAL_MAX_RANK);
  Tensor t{};
  t.dtype = dtype;
  t.space = space;
  t.rank = static_cast<uint32_t>(extents.size());
  t.row_dim = dim;
  for (int64_t& e : t.extents) e = 1;
  int i = 0;
  for (const int64_t e : extents) t.extents[i++] = e;
  if (space == HADAL_SPACE_WEIGHT) return t;
  int64_t stride = dtype_info(dtype)->block_bytes;
  for (int d = static_cast<int>(t.rank) - 1; d >= 0; --d) {
    t.strides[d] = stride;
    stride *= t.extents[d];
  }
  return t;
}

/// Columns [first, first + count) of a [rows, n] tensor: a view with the same row stride, which
/// need not begin where a device would have it.
inline Tensor columns(Tensor t, int64_t first, int64_t count) {
  HADAL_CHECK(t.rank == 2 && first >= 0 && first + count <= t.extents[1]);
  t.offset += static_cast<uint64_t>(first * t.strides[1]);
  t.extents[1] = count;
  if (first > 0) t.flags |= HADAL_TENSOR_COLUMNS;
  return t;
}

/// [rows, heads * width] seen as [rows, heads, width].
inline Tensor heads_view(Tensor t, int64_t heads) {
  HADAL_CHECK(t.rank == 2 && heads > 0 && t.extents[1] % heads == 0);
  const int64_t width = t.extents[1] / heads;
  t.rank = 3;
  t.extents[1] = heads;
  t.extents[2] = width;
  t.strides[2] = t.strides[1];
  t.strides[1] = width * t.strides[2];
  return t;
}

/// [rows, parts * width], contiguous, seen as [parts rows, width].
inline Tensor parts_as_rows(Tensor t, int64_t parts) {
  HADAL_CHECK(t.rank == 2 && t.extents[1] % parts == 0);
  HADAL_CHECK(t.strides[0] == t.extents[1] * t.strides[1]);
  t.extents[0] *= parts;
  t.extents[1] /= parts;
  t.strides[0] = t.extents[1] * t.strides[1];
  return t;
}

/// Numbers [first, first + count) of each head of a [rows, heads, width] tensor.
inline Tensor inner(Tensor t, int64_t first, int64_t count) {
  HADAL_CHECK(t.rank == 3 && first >= 0 && first + count <= t.extents[2]);
  t.offset += static_cast<uint64_t>(first * t.strides[2]);
  t.extents[2] = count;
  if (first > 0) t.flags |= HADAL_TENSOR_COLUMNS;
  return t;
}

}  // namespace hadal
