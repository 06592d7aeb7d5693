// StepTimes: how long a step of so many rows takes on this device, fitted while the engine runs.
//
// seconds(rows, context) = a curve through `rows`, given at some numbers of rows and straight
// between them, + a cost for each pair of a row and a position that it attends to. Each measured
// step moves the points next to it; the cost of a pair comes from least squares over steps, the
// older ones fading (recursive least squares: no history is kept, and a machine that becomes slower
// is followed within some steps). The scheduler cuts prompts by it, speculation learns from it what
// one more row costs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace hadal {

class StepTimes {
 public:
  /// context: positions that the rows attend to, summed over the rows.
  void measured(int64_t rows, double context, double seconds);
  /// 0 before the first step was measured.
  [[nodiscard]] double seconds(int64_t rows, double context) const;
  /// The most rows, up to `most`, that a step of `seconds` has room for beside `before`, if each of
  /// them attends to `positions`.
  struct Load {
    int64_t rows = 0;
    double context = 0;
  };
  [[nodiscard]] int64_t room(double seconds, const Load& before, double positions,
                             int64_t most) const;
  [[nodiscard]] bool known() const { return known_ > 0; }

 private:
  static constexpr double kUncertain = 1e4;
  static constexpr std::array<int64_t, 17> kRows = {1,  2,  3,   4,   6,   8,   12,  16,  24,
                                                    32, 64, 128, 256, 384, 512, 768, 1024};
  struct Place {
    size_t below = 0;
    double above_part = 0;  ///< how far between kRows[below] and the next
  };
  [[nodiscard]] static Place place_of(int64_t rows);
  [[nodiscard]] double curve(const Place& place) const;
  void fit_pairs(int64_t rows, double context, double seconds);
  void guess_unseen();

  std::array<double, kRows.size()> seconds_{};
  std::array<bool, kRows.size()> seen_{};
  double per_pair_ = 0;  ///< seconds for a row and a position
  // Of the least squares: seconds = line[0] + line[1] rows + line[2] context, in units of
  // step_times.cc, and the inverse of the steps' moments.
  std::array<double, 3> line_{};
  std::array<std::array<double, 3>, 3> inverse_{
      {{kUncertain, 0, 0}, {0, kUncertain, 0}, {0, 0, kUncertain}}};
  int64_t known_ = 0;
};

}  // namespace hadal
