#include "engine/operator_times.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "contract/operators.h"

namespace hadal {

Status OperatorTimes::begin(const StepInputs& inputs, const hadal_step& step) {
  if (steps_ > 0 && !std::equal(rows_.begin(), rows_.end(), step.rows))
    return failed("a step has other rows than those measured before it");
  if (steps_ > 0 && next_ != calls_.size())
    return failed("a step has fewer operators than those measured before it");
  step_ = step;
  std::copy(std::begin(step.rows), std::end(step.rows), rows_.begin());
  const std::span position(inputs.at<int32_t>(runner_.layout().position),
                           static_cast<size_t>(rows()));
  context_ =
      1 + std::accumulate(position.begin(), position.end(), 0.0) / static_cast<double>(rows());
  next_ = 0;
  ++steps_;
  return runner_.device().sync();  // the copies of the inputs are not the first operator's
}

Result<double> OperatorTimes::timed(const hadal_op& op, std::span<const Tensor> tensors,
                                    const hadal_step& step) const {
  using Clock = std::chrono::steady_clock;
  EagerSink sink(runner_.device(), step, runner_.step_planes().count());
  const auto start = Clock::now();
  sink.op(op, tensors);
  HADAL_TRY(sink.status());
  HADAL_TRY(runner_.device().sync());
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Status OperatorTimes::run(const hadal_op& op, std::span<const Tensor> tensors) {
  const Device& device = runner_.device();
  if (steps_ == 1) {
    const auto limits = runner_.layout().limits.dims();
    calls_.push_back(
        {.id = op.id, .numerics = device.query(op, tensors, limits.data()).numerics.name()});
  }
  if (next_ >= calls_.size() || calls_[next_].id != op.id)
    return failed("a step has other operators than those measured before it");
  Call& call = calls_[next_++];
  const contract::OpCost cost = contract::op_cost(op, tensors, rows_, context_);
  call.cost.flops += cost.flops;
  call.cost.bytes += cost.bytes;
  HADAL_TRY(const double took, timed(op, tensors, step_));
  if (steps_ == 1) {
    call.first = took;
    return {};
  }
  call.warm.push_back(took);
  if (!call.launches) return {};
  hadal_step empty = step_;
  std::fill(empty.rows + HADAL_DIM_T, empty.rows + HADAL_DIM_COUNT, 0);
  const Result<double> launch = timed(op, tensors, empty);
  if (launch) {
    call.launch.push_back(*launch);
    return {};
  }
  if (device.lost()) return launch.error();
  // Offsets of rows that are not there are wrong data, which a chip may refuse.
  call.launches = false;
  return {};
}

void OperatorTimes::op(const hadal_op& op, std::span<const Tensor> tensors) {
  if (status_) status_ = run(op, tensors);
}

}  // namespace hadal
