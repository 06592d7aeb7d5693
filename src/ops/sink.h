// Sink: where the descriptors that Ops fills go. Here: run at once, add up the cost,
// record a tape; the engine has two more (what the chip takes; where numbers stop being finite).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "device/device.h"
#include "ops/step_layout.h"
#include "ops/tensor.h"

namespace hadal {

/// The part of a model that operators belong to, for who places them on devices. What a draft does
/// is the head's, but for its experts.
struct Region {
  enum class Part { kEmbedding, kLayer, kExperts, kHead };
  Part part = Part::kEmbedding;
  int64_t layer = -1;  ///< of kLayer and kExperts; -1: a draft's
};

/// Receives one operator after another, in program order. tensors[i] belongs to operand i; absent
/// ones have space NONE.
class Sink {
 public:
  virtual ~Sink() = default;
  /// What follows belongs to another part of the model.
  virtual void enter(const Region& /*region*/) {}
  virtual void op(const hadal_op& op, std::span<const Tensor> tensors) = 0;
  /// The scratch bytes [begin, end), used by the last `ops_in_scope` operators, are dead from here
  /// on.
  virtual void release(uint64_t /*begin*/, uint64_t /*end*/, uint64_t /*ops_in_scope*/) {}
};

/// A recorded tape; owns what hadal_tape points to.
struct Tape {
  std::vector<Tensor> tensors;
  std::vector<hadal_op> ops;
  hadal_tape head{};

  /// Fills `head` from the vectors and the layout. The tape must not move afterwards.
  void seal(const StepLayout& layout, uint64_t scratch_bytes, uint32_t planes);
};

/// Appends to a tape.
class TapeSink final : public Sink {
 public:
  explicit TapeSink(Tape& tape) : tape_(tape) {}
  void op(const hadal_op& op, std::span<const Tensor> tensors) override;
  void release(uint64_t begin, uint64_t end, uint64_t ops_in_scope) override;

 private:
  Tape& tape_;
};

/// What a dry run of one step found.
struct StepCost {
  struct OpTotal {
    int64_t count = 0;
    double flops = 0, bytes = 0;
  };
  std::map<std::string, OpTotal> ops;           ///< by operator name, for the rows of that step
  std::map<std::string, std::string> declined;  ///< operator with shapes -> the chip's reason
  std::map<std::string, std::set<std::string>> classes;  ///< class of numerics -> operators
  double flops = 0, bytes = 0;
  uint64_t scratch_bytes = 0, workspace_bytes = 0;
  /// Of another device: what both do together.
  StepCost& operator+=(const StepCost& other);
};

/// Touches no data: adds up cost and asks the chip what it takes.
class CostSink final : public Sink {
 public:
  /// rows: the row counts to cost for; context: positions that attention reads.
  CostSink(const Device& device, const StepLayout& layout,
           std::array<int64_t, HADAL_DIM_COUNT> rows, double context, StepCost& cost)
      : device_(device),
        limits_(layout.limits.dims()),
        rows_(rows),
        context_(context),
        cost_(cost) {}
  void op(const hadal_op& op, std::span<const Tensor> tensors) override;

 private:
  const Device& device_;
  std::array<int64_t, HADAL_DIM_COUNT> limits_, rows_;
  double context_;
  StepCost& cost_;
};

/// Runs each operator at once.
class EagerSink final : public Sink {
 public:
  EagerSink(const Device& device, const hadal_step& step, uint32_t planes)
      : device_(device), step_(step), planes_(planes) {}
  void op(const hadal_op& op, std::span<const Tensor> tensors) override;
  /// The first failure; operators after it are not run.
  [[nodiscard]] const Status& status() const { return status_; }

 private:
  const Device& device_;
  const hadal_step& step_;
  uint32_t planes_;
  Status status_;
};

}  // namespace hadal
