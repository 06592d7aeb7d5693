// OperatorTimes: how long each operator of a step takes on a chip, and what a launch costs.
//
// Runs a step operator by operator and waits for each. The first step gives the first calls; each
// later one a warm call, and behind it the same call without rows, which is what a launch costs.
// What an operator moves and computes is counted by contract/cost.h, for the step's own rows.
//
// Refuses steps that are not alike: a table is of one kind of step. Called by
// `hadal bench --profile`.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "contract/cost.h"
#include "engine/model_runner.h"
#include "engine/step_sink.h"

namespace hadal {

class OperatorTimes final : public StepSink {
 public:
  /// `runner` must be loaded with RunnerOptions::eager, be on one device and outlive the sink.
  explicit OperatorTimes(ModelRunner& runner) : runner_(runner) {}
  Status begin(const StepInputs& inputs, const hadal_step& step) override;
  void op(const hadal_op& op, std::span<const Tensor> tensors) override;
  [[nodiscard]] const Status& status() const override { return status_; }

  /// One operator of the step, in program order; seconds.
  struct Call {
    uint32_t id = 0;
    std::string numerics;
    contract::OpCost cost;  ///< of all steps together
    double first = 0;
    std::vector<double> warm;
    std::vector<double> launch;
    bool launches = true;  ///< false: the chip refuses it without rows
  };
  [[nodiscard]] const std::vector<Call>& calls() const { return calls_; }
  [[nodiscard]] int64_t steps() const { return steps_; }
  /// Of a step.
  [[nodiscard]] int64_t rows() const { return rows_[HADAL_DIM_T]; }

 private:
  Status run(const hadal_op& op, std::span<const Tensor> tensors);
  /// Seconds of one call.
  Result<double> timed(const hadal_op& op, std::span<const Tensor> tensors,
                       const hadal_step& step) const;

  ModelRunner& runner_;
  hadal_step step_{};
  std::array<int64_t, HADAL_DIM_COUNT> rows_{};
  double context_ = 0;  ///< positions that a row sees, on average
  size_t next_ = 0;
  int64_t steps_ = 0;
  std::vector<Call> calls_;
  Status status_;
};

}  // namespace hadal
