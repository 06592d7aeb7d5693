// The placement that a user need not write: what the memory of the chosen device does not hold goes
// to the cpu.
//
// Attention, with the caches, is what gains most by a fast memory, and routed experts are large and
// each read by few tokens: so experts can leave, from the last layer on; or whole layers with their
// caches, and the head with them; or all. Of those that fit, the one whose bytes of a token are
// read soonest is taken, by the bandwidths of both memories and the time of a copy between them, as
// measured then.
#pragma once

#include <string>

#include "engine/model_runner.h"

namespace hadal {

/// What --place says for this.
inline constexpr const char* kAutomaticPlace = "auto";

struct AutomaticPlace {
  std::string rules;    ///< of --place; empty: it fits where it is
  bool leaves = false;  ///< nothing stays on the device, which need not be opened
  std::string reason;   ///< a line for the user
};

/// Rules for a runner that was opened with everything on one device; none if it fits there, or if
/// that device has no memory of its own. Where nothing can be measured, the first way that fits.
AutomaticPlace automatic_place(const ModelRunner& together);

}  // namespace hadal
