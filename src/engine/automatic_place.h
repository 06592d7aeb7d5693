// The placement that a user need not write: what the memory of the chosen device does not hold goes
// to the cpu.
//
// Attention, with the caches, is what gains most by a fast memory, and routed experts are large and
// each read by few tokens: so experts leave first, from the last layer on; then whole layers with
// their caches, and the head with them.
#pragma once

#include <string>

#include "engine/model_runner.h"

namespace hadal {

/// What --place says for this.
inline constexpr const char* kAutomaticPlace = "auto";

/// Rules for a runner that was opened with everything on one device; "" if it fits there, or if
/// that device has no memory of its own.
std::string automatic_place(const ModelRunner& together);

}  // namespace hadal
