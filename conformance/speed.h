// The level `speed`: how fast an operator is on shapes of real models, as a part of what the
// device's own bandwidth and arithmetic allow.
//
// It is run after all others, so that nobody is praised for wrong numbers. It fails nothing. What
// an operator moves and computes is counted by contract/cost.h, as by `hadal plan` and
// `hadal bench`.
#pragma once

#include "report.h"

namespace hadal::conformance {

/// Calls of one operator on memories that stay.
struct Timing {
  std::string why;  ///< not empty: it cannot be run
  bool declined = false;
  hadal_op op{};
  std::array<hadal_tensor, HADAL_MAX_OPERANDS> tensors{};  ///< of the operands
  Numerics numerics;
  double first = 0;                  ///< seconds of the first call, with its wait
  std::vector<double> warm, launch;  ///< of later ones, and of steps without rows
};
Timing time_case(const Case& c, const Layout& layout, const Device& device, double seconds,
                 int samples);

/// A case of a real model's shape, and how many positions attention sees.
struct SpeedCase {
  Case c;
  std::string shape;
  double context = 0;
};
std::vector<SpeedCase> speed_cases(uint32_t id, uint64_t seed);
bool has_speed_cases(uint32_t id);

/// The part of the level that goes before the operators, each of them for a worker of its own.
constexpr const char* kPeaks = "peaks";
/// `part`: kPeaks, or an operator. Measurements go into `extra` of the line "speed".
void level_speed(Chip& chip, const std::string& part, const Options& options, Report& report);
/// Adds to each measurement what per cent of its roof it reaches, and what bounds it.
void rate_speed(const Json& peaks, Json& operators);

}  // namespace hadal::conformance
