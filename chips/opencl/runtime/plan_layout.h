// How the plan of a fused launch lies in memory: what program/encode.cc writes and
// kernels/fused.cl reads. All are counts of longs; device.cc tells them to the kernels.
#pragma once

#include <cstdint>
#include <utility>

#include "hadal/chip.h"

namespace hadal::opencl {

/// An operator of this chip's own, into which moe_experts is taken apart: its two products and
/// swiglu, of the pairs that moe_sort has put in order.
constexpr uint32_t kOpExperts = 0x10000;
enum ExpertsOperand : uint32_t {
  kExpertsX,
  kExpertsGate,
  kExpertsUp,
  kExpertsOffset,
  kExpertsOrder,
  kExpertsRowWeight,
  kExpertsOut,
  kExpertsOperands
};

/// Memories that a fused launch is given, and planes among them.
constexpr size_t kMostMemories = 16;
constexpr size_t kMostPlanes = 4;
constexpr size_t kMostOperands = 7;

constexpr std::pair<const char*, int64_t> kPlanLayout[] = {
    {"STRAND_FIRST", 0},    // its first work-group
    {"STRAND_UNITS", 1},    // rows: work-groups of a row
    {"STRAND_NUMBERS", 2},  // items: work-items of a row
    {"STRAND_DIM", 3},      // its rows are so many …
    {"STRAND_ROWS", 4},     // … times the step's count of that kind
    {"STRAND_STEP", 5},     // where its steps begin, from the beginning of the launch's plan
    {"STRAND_STEPS", 6},
    {"STRAND_LONGS", 8},
    {"STEP_OP", 0},
    {"STEP_NUMBERS", 1},
    {"STEP_WORDS", 2},  // eight words of its attributes
    {"STEP_OPERANDS", 10},
    {"STEP_LONGS", 96},
    {"OPERAND_MEMORY", 0},  // which of the launch's; -1: absent
    {"OPERAND_TYPE", 1},
    {"OPERAND_DIM", 2},
    {"OPERAND_PLANE", 3},  // which of the launch's planes
    {"OPERAND_AT", 4},     // elements
    {"OPERAND_ROW",
     5},  // elements from row to row; of a plane from block to block; of a weight bytes
    {"OPERAND_HEAD", 6},    // elements from head to head
    {"OPERAND_EXTENT", 7},  // three; of a weight matrices, rows, columns
    {"OPERAND_LONGS", 12},
    {"OP_EXPERTS", kOpExperts},
    {"EXPERTS_X", kExpertsX},
    {"EXPERTS_GATE", kExpertsGate},
    {"EXPERTS_UP", kExpertsUp},
    {"EXPERTS_OFFSET", kExpertsOffset},
    {"EXPERTS_ORDER", kExpertsOrder},
    {"EXPERTS_ROW_WEIGHT", kExpertsRowWeight},
    {"EXPERTS_OUT", kExpertsOut}};

/// A number of the list, at compile time.
consteval int64_t layout(const char* name) {
  for (const auto& [own, value] : kPlanLayout) {
    const char *a = own, *b = name;
    while (*a != '\0' && *a == *b) ++a, ++b;
    if (*a == *b) return value;
  }
  throw "no such number";
}

}  // namespace hadal::opencl
