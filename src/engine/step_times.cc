#include "engine/step_times.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

namespace hadal {
namespace {

/// How far a measurement moves what is known. Halves a change of the machine within three steps.
constexpr double kRate = 0.25;
/// What a step leaves of the weight of those before it in the least squares: a hundred count.
constexpr double kFading = 0.99;
/// Units in which rows and pairs are numbers near one.
constexpr double kRowUnit = 64, kPairUnit = 65536;
/// What a row more is taken to cost while nothing was measured: where weights are read once for all
/// rows, little of what the first one costs.
constexpr double kGuessedRow = 0.05;

}  // namespace

StepTimes::Place StepTimes::place_of(int64_t rows) {
  size_t below = 0;
  while (below + 2 < kRows.size() && kRows[below + 1] <= rows) ++below;
  const auto from = static_cast<double>(kRows[below]), to = static_cast<double>(kRows[below + 1]);
  return {.below = below, .above_part = (static_cast<double>(rows) - from) / (to - from)};
}

double StepTimes::curve(const Place& place) const {
  const double low = seconds_[place.below], high = seconds_[place.below + 1];
  return low + place.above_part * (high - low);
}

double StepTimes::seconds(int64_t rows, double context) const {
  if (known_ == 0) return 0;
  return std::max(0.0, curve(place_of(std::max<int64_t>(1, rows)))) + per_pair_ * context;
}

/// Points that no step has touched follow from their neighbours.
void StepTimes::guess_unseen() {
  size_t last = kRows.size();  // the last point that was seen
  for (size_t i = 0; i < kRows.size(); ++i) {
    if (!seen_[i]) continue;
    const auto rows = static_cast<double>(kRows[i]);
    for (size_t j = last == kRows.size() ? 0 : last + 1; j < i; ++j) {
      const auto at = static_cast<double>(kRows[j]);
      if (last == kRows.size())
        seconds_[j] = seconds_[i] * (1 + kGuessedRow * at) / (1 + kGuessedRow * rows);
      else
        seconds_[j] = seconds_[last] + (seconds_[i] - seconds_[last]) *
                                           (at - static_cast<double>(kRows[last])) /
                                           (rows - static_cast<double>(kRows[last]));
    }
    last = i;
  }
  for (size_t j = last + 1; j < kRows.size(); ++j)
    seconds_[j] = seconds_[last] * (1 + kGuessedRow * static_cast<double>(kRows[j])) /
                  (1 + kGuessedRow * static_cast<double>(kRows[last]));
}

void StepTimes::fit_pairs(int64_t rows, double context, double seconds) {
  const std::array<double, 3> x = {1, static_cast<double>(rows) / kRowUnit, context / kPairUnit};
  std::array<double, 3> gain{};
  double norm = kFading, error = seconds;
  for (size_t i = 0; i < 3; ++i) {
    for (size_t j = 0; j < 3; ++j) gain[i] += inverse_[i][j] * x[j];
    norm += x[i] * gain[i];
    error -= line_[i] * x[i];
  }
  for (size_t i = 0; i < 3; ++i) line_[i] += gain[i] / norm * error;
  for (size_t i = 0; i < 3; ++i)
    for (size_t j = 0; j < 3; ++j) inverse_[i][j] -= gain[i] * gain[j] / norm;
  // Steps that are all alike say nothing new: what they leave open must not grow without end.
  if (inverse_[0][0] + inverse_[1][1] + inverse_[2][2] < kUncertain)
    for (auto& row : inverse_)
      for (double& value : row) value /= kFading;
  per_pair_ = std::max(0.0, line_[2]) / kPairUnit;
}

void StepTimes::measured(int64_t rows, double context, double seconds) {
  if (rows <= 0 || !(seconds > 0)) return;
  fit_pairs(rows, context, seconds);
  const Place place = place_of(rows);
  const double beside = std::max(0.0, seconds - per_pair_ * context);
  if (!seen_[place.below] && !seen_[place.below + 1]) {
    // Nothing is known here: the measurement is the nearer point.
    const size_t near = place.below + (place.above_part < 0.5 ? 0 : 1);
    seconds_[near] = beside;
    seen_[near] = true;
  } else {
    const double error = beside - curve(place);
    const double low = 1 - place.above_part, high = place.above_part;
    const double norm = low * low + high * high;
    for (const auto& [i, part] : {std::pair(place.below, low), std::pair(place.below + 1, high)}) {
      seconds_[i] = std::max(0.0, seconds_[i] + kRate * error * part / norm);
      if (part >= 0.5) seen_[i] = true;
    }
  }
  ++known_;
  guess_unseen();
}

int64_t StepTimes::room(double seconds, const Load& before, double positions, int64_t most) const {
  if (known_ == 0) return most;
  int64_t low = 0, high = most;  // low fits, high + 1 may not
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    const double context = before.context + positions * static_cast<double>(middle);
    if (this->seconds(before.rows + middle, context) <= seconds)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

}  // namespace hadal
