#include "contract/roofline.h"

#include <algorithm>
#include <chrono>

namespace hadal::contract {
namespace {

/// The part of a call that its launch may be.
constexpr double kMostLaunch = 0.75;
/// The first copy touches the pages.
constexpr int kCopies = 6;

}  // namespace

double arithmetic_peak(const Peaks& peaks, std::string_view numerics) {
  const bool int8 = numerics.starts_with("block8") || numerics == "row8";
  if (int8 && peaks.int8_per_second > 0) return peaks.int8_per_second;
  if (numerics == "half" && peaks.bf16_per_second > 0) return peaks.bf16_per_second;
  return peaks.flops_per_second;
}

Roof& Roof::operator+=(const Roof& other) {
  seconds += other.seconds;
  moved += other.moved;
  computed += other.computed;
  return *this;
}

Roof roof_of(const OpCost& cost, const Peaks& peaks, std::string_view numerics) {
  const double arithmetic = arithmetic_peak(peaks, numerics);
  Roof roof;
  if (peaks.bytes_per_second > 0) roof.moved = cost.bytes / peaks.bytes_per_second;
  if (arithmetic > 0) roof.computed = cost.flops / arithmetic;
  roof.seconds = std::max(roof.moved, roof.computed);
  return roof;
}

double percent_of(const Roof& roof, double seconds) {
  return seconds > 0 ? 100 * roof.seconds / seconds : 0;
}

std::optional<double> without_launch(double warm, double launch) {
  if (!(warm > 0) || launch > kMostLaunch * warm) return std::nullopt;
  return warm - launch;
}

double copy_rate(uint64_t bytes, const std::function<bool()>& copy) {
  using Clock = std::chrono::steady_clock;
  double best = 0;
  for (int i = 0; i < kCopies; ++i) {
    const auto start = Clock::now();
    if (!copy()) return 0;
    const double took = std::chrono::duration<double>(Clock::now() - start).count();
    if (i > 0 && took > 0) best = std::max(best, 2.0 * static_cast<double>(bytes) / took);
  }
  return best;
}

}  // namespace hadal::contract
