// Which operators may stand with others in one launch: a table, a row for each operator.
//
// Operators share a launch of `items`, where a work-item has a number (a column) of a row, or of
// `rows`, where a work-group has a row or a head of it. Those that do not touch each other's
// numbers stand side by side, as strands; one that reads what another wrote follows it in its
// strand, if it needs no more than the work-item or the work-group has made itself. fusion.cc
// decides by this table and by the memory that is read and written; it knows no model.
#pragma once

#include <cstdint>

#include "program/tape.h"

namespace hadal::opencl {

enum Flavour : uint32_t { kAlone = 0, kItems = 1, kRows = 2, kBoth = 3 };

constexpr uint32_t operand_bit(uint32_t i) { return uint32_t{1} << i; }

struct Pattern {
  uint32_t id;
  uint32_t flavours;
  /// Operands of which a work-item, or a work-group of `rows`, touches its own numbers alone.
  uint32_t own_numbers, own_rows;
  /// Its rows are those of this operand.
  uint32_t rows_of;
  /// Numbers of a row; of a norm: those of all its heads.
  int64_t (*numbers)(const ProgramTape&, const hadal_op&);
  /// Heads that are work-groups of their own; null: any equal shares of the numbers will do.
  int64_t (*heads)(const ProgramTape&, const hadal_op&);
};

/// Kernels of several operators read weights that lie in one buffer.
bool is_plain(const hadal_tensor& weight);

/// Null: it has a launch of its own.
const Pattern* find_pattern(const ProgramTape& tape, const hadal_op& op);

}  // namespace hadal::opencl
