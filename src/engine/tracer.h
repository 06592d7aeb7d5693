// Tracer: finds where a chip leaves the reference on a real model.
//
// Each operator runs on the chip; then what the chip read is given to the reference, which computes
// the operator twice, exactly and in the class of numerics that the chip answered. So an error does
// not grow from operator to operator, and the first one that is wrong has a name: the operator, its
// layer, the row. A chip is off where its distance from the exact result, over the numbers of a
// row, is more than kAllowed times that of the class, and more than rounding of fp32 sums explains.
// Whole numbers (choices) are off where more than a quarter of a row differs. Caches are the chip's
// own: the reference writes its caches from the rows that the chip writes.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/model_runner.h"
#include "engine/step_sink.h"

namespace hadal {

class Tracer final : public StepSink {
 public:
  static constexpr double kAllowed = 4;

  /// `chip` must be loaded, be on one device, have its fused operators in parts
  /// (RunnerOptions::lower_all), and outlive the tracer.
  Tracer(const Checkpoint& checkpoint, ModelRunner& chip) : checkpoint_(checkpoint), chip_(chip) {}

  Status begin(const StepInputs& inputs, const hadal_step& step) override;
  void enter(const Region& region) override { region_ = region; }
  void op(const hadal_op& op, std::span<const Tensor> tensors) override;
  [[nodiscard]] const Status& status() const override { return status_; }

  /// Where a result lies farthest from the reference.
  struct Finding {
    int64_t operator_number = 0;  ///< of the step
    Region region;
    std::string operands;  ///< the operator with its shapes
    std::string numerics;
    int64_t step = 0, row = 0, column = 0;
    float found = 0, expected = 0;
    double ratio = 0;  ///< distance from the exact result, by what the class allows
  };
  struct Total {
    int64_t operators = 0, off = 0;
    Finding worst;
  };
  /// By operator.
  [[nodiscard]] const std::map<std::string, Total>& totals() const { return totals_; }
  /// The first that is off.
  [[nodiscard]] const std::optional<Finding>& first() const { return first_; }

 private:
  struct Reference {
    std::unique_ptr<ModelRunner> runner;
    hadal_step step{};
  };
  Result<Reference*> reference(const Numerics& numerics);
  Status compare(const hadal_op& op, std::span<const Tensor> tensors);
  Status run_on(Reference& reference, const hadal_op& op, std::span<const Tensor> tensors);
  Result<std::vector<std::byte>> read(const Place& place, const Tensor& t) const;
  struct Answers {
    std::span<const std::byte> found, exact, in_class;
  };
  void judge(const hadal_op& op, std::span<const Tensor> tensors, uint32_t operand,
             const std::string& numerics, const Answers& answers);

  const Checkpoint& checkpoint_;
  ModelRunner& chip_;
  std::map<std::string, Reference> references_;  // by kernel table
  const StepInputs* inputs_ = nullptr;
  hadal_step step_{};
  Region region_;
  int64_t steps_ = 0, operators_ = 0;
  std::map<std::string, Total> totals_;
  std::optional<Finding> first_;
  Status status_;
};

}  // namespace hadal
