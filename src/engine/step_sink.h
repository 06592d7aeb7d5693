// StepSink: stands in for a runner's tape, operator by operator: a tracer that compares each with
// the reference, or a reference that computes each in another class (reference_run.h).
#pragma once

#include "engine/step_inputs.h"
#include "ops/sink.h"

namespace hadal {

class StepSink : public Sink {
 public:
  /// A step begins. Its inputs are on the device.
  virtual Status begin(const StepInputs& inputs, const hadal_step& step) = 0;
  /// The first failure; operators after it are not run.
  [[nodiscard]] virtual const Status& status() const = 0;
};

}  // namespace hadal
