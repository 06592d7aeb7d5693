// A fused launch: its plan, as kernels/fused.cl reads it, and what it is given in each step.
#pragma once

#include <string>
#include <vector>

#include "program/fusion.h"

namespace hadal::opencl {

struct FusedLaunch {
  /// Rows of a strand: so many times the step's count.
  struct Rows {
    uint32_t dim;
    int64_t times;
  };

  bool items = false;
  std::string name;     ///< for errors: its operators
  int64_t plan_at = 0;  ///< longs, from the beginning of the program's plan
  int64_t columns = 0;  ///< work-groups of a row
  std::vector<Rows> strands;
  std::vector<MemoryKey> memories;  ///< in the order of the kernel's arguments
  std::vector<uint32_t> planes;     ///< of the tape's tensors
  std::string types;                ///< options of its build, for its types of weights

  [[nodiscard]] bool one_row(const int64_t* rows) const;
  /// Options of its build for a step.
  [[nodiscard]] std::string variant(bool one_row) const;
  /// The second extent of its launch.
  [[nodiscard]] int64_t tiles(const int64_t* rows) const;
};

/// Appends the plan of a group to `plan`.
FusedLaunch encode(const ProgramTape& tape, const Group& group, std::vector<int64_t>& plan);

}  // namespace hadal::opencl
