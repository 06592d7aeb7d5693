// Choices: what the operators that choose experts, entries of a cache or blocks gave in a run.
//
// Two that are nearly equal are exchanged by any rounding, so whoever compares a chip with the
// reference must know what it chose. A runner notes them (RunnerOptions::choices), the reference
// takes them (reference_run.h).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/place.h"
#include "ops/tensor.h"

namespace hadal {

/// All rows of a call. Lists of entries and blocks ascend, whatever the chip's order.
struct ChosenRows {
  size_t width = 0;  ///< numbers a row
  std::vector<int32_t> numbers;
};
/// One call after the other.
using ChoiceLog = std::vector<ChosenRows>;

/// All rows, and those that hold other numbers, in whatever order.
struct ChoiceCounts {
  int64_t rows = 0, differ = 0;
};
/// An error if the two are not of the same calls.
Result<ChoiceCounts> compare_choices(const ChoiceLog& a, const ChoiceLog& b);

/// The operand that tells what was chosen; none: the operator does not choose.
std::optional<uint32_t> chosen_operand(uint32_t op_id);

/// Behind such an operator: waits for the place and reads that operand, with so many rows of its
/// dim.
Result<ChosenRows> read_choice(const Place& place, uint32_t op_id, const Tensor& list,
                               int64_t rows);

}  // namespace hadal
