// The three runs by which a whole model on a chip is judged (contract/distance.h): `ref`, exact;
// `ref`, operator by operator in the classes of numerics that the chip answers, with the weights in
// the forms in which the chip holds them; and the chip, as its user configured it: on one device,
// over several by placement, or in ranks. All over the same tokens.
//
// A run refuses a prompt that the model has no room for. Called by model_distance.h.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "contract/distance.h"
#include "engine/choices.h"
#include "engine/engine.h"
#include "engine/step_sink.h"

namespace hadal {

/// The tokens that all runs are given.
struct ForcedPrompt {
  std::vector<TokenId> ids;
  /// So many at the end are run alone, as in decoding; those before them in one step.
  int64_t alone = 0;
};

/// How a chip computes a model.
struct ModelNumerics {
  std::vector<Numerics> classes;  ///< of ModelRunner::classes
  std::vector<HeldForm> forms;    ///< of ModelRunner::held_forms
  /// What the chip declines, in one line; empty: it runs the model.
  std::string declined;
  /// Each class that occurs, by name: operators.
  [[nodiscard]] std::map<std::string, int64_t> counts() const;
};

/// Asks; loads no weights. `options`: of the chip.
Result<ModelNumerics> ask_numerics(const Checkpoint& checkpoint, const RunnerOptions& options);

/// The options of a reference for a chip with these: one device, operators in parts.
RunnerOptions reference_options(const RunnerOptions& options);

/// Told after every step, with the positions that are done.
using RunProgress = std::function<void(int64_t positions)>;

/// The logits of all positions.
Result<contract::LogitRows> forced_logits(Engine& engine, const ForcedPrompt& prompt,
                                          const RunProgress& progress);

/// Runs the steps of a reference operator by operator, and notes what is chosen: exactly, or in the
/// classes that a chip answered; with its own choices, or with those of another run.
class ReferenceRun final : public StepSink {
 public:
  /// `runner` must have been loaded with reference_options, and outlive the sink. classes: of each
  /// operator; none: all are exact. followed: the choices that are taken; null: its own. alive:
  /// told of each operator.
  ReferenceRun(ModelRunner& runner, std::span<const Numerics> classes, const ChoiceLog* followed,
               std::function<void(std::string_view op)> alive = {})
      : runner_(runner), classes_(classes), followed_(followed), alive_(std::move(alive)) {}
  Status begin(const StepInputs& inputs, const hadal_step& step) override;
  void op(const hadal_op& op, std::span<const Tensor> tensors) override;
  [[nodiscard]] const Status& status() const override { return status_; }
  /// Its own choices, also where others were followed.
  [[nodiscard]] const ChoiceLog& choices() const { return choices_; }

 private:
  Result<const Device*> device_of(const Numerics& numerics);
  Status run(const hadal_op& op, std::span<const Tensor> tensors);
  Status choose(const hadal_op& op, std::span<const Tensor> tensors, uint32_t operand);
  Status follow_router(const hadal_op& op, std::span<const Tensor> tensors, int64_t row,
                       std::span<const int32_t> experts);
  Status write(const Tensor& t, int64_t row, std::span<const std::byte> bytes) const;

  ModelRunner& runner_;
  std::span<const Numerics> classes_;
  const ChoiceLog* followed_;
  std::function<void(std::string_view op)> alive_;
  // By kernel table: memories and weights of ref may be used by any of its devices.
  std::map<std::string, std::unique_ptr<Device>> devices_;
  hadal_step step_{};
  size_t next_ = 0;
  ChoiceLog choices_;
  Status status_;
};

}  // namespace hadal
