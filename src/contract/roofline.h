// Roofline of an operator: the least time that it can take by what it moves and computes, and how
// much of that it reaches. The one formula of the kit's level `speed`, of `hadal bench --profile`
// and of `hadal plan`.
//
// Knows no device: who calls it measures peaks and times.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "contract/cost.h"

namespace hadal::contract {

/// What a device was measured to do; 0: not known.
struct Peaks {
  double bytes_per_second = 0;
  double flops_per_second = 0;  ///< in fp32
  double int8_per_second = 0, bf16_per_second = 0;
};

/// Operations a second that a class of numerics, by its name (numerics_name), can reach.
double arithmetic_peak(const Peaks& peaks, std::string_view numerics);

/// The least time of an operator, or of several one after another.
struct Roof {
  double seconds = 0;              ///< of each the larger of the two
  double moved = 0, computed = 0;  ///< seconds of bytes by bandwidth, of operations by arithmetic
  [[nodiscard]] const char* bound() const { return moved >= computed ? "memory" : "arithmetic"; }
  Roof& operator+=(const Roof& other);
};
Roof roof_of(const OpCost& cost, const Peaks& peaks, std::string_view numerics);

/// Per cent of its roof that something reaches which takes so many seconds; 0 where nothing was
/// measured.
double percent_of(const Roof& roof, double seconds);

/// A call without what its launch costs. None where the launch is most of it: the difference of two
/// times that are nearly equal says nothing.
std::optional<double> without_launch(double warm, double launch);

/// Bytes of a copy by which bandwidth is measured where a device does not measure itself, if it has
/// room.
constexpr uint64_t kCopyBytes = uint64_t{64} << 20;
/// Bytes a second of copies of `bytes`, each byte being read and written; 0 if one fails. `copy`
/// returns when the copy is done.
double copy_rate(uint64_t bytes, const std::function<bool()>& copy);

}  // namespace hadal::contract
