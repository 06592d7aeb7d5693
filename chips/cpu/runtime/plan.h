// A plan: some operators of a tape, made ready to run in one parallel region.
//
// Built by program.prepare for a whole tape and by op_run for a few operators; both run the same
// stages, so they give the same bits. What is decided once is the Planner's.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/operator.h"

namespace hadal::cpu {

/// Shapes, types and handles that this chip takes, and what memory it needs for them.
hadal_status query_op(const Device& device, const Query& query, Needs* needs, hadal_error* error);

class Plan {
 public:
  /// Ops [first, first + count) of the tape. `eager`: a barrier before every operator, nothing
  /// shared among operators, workspace from the step. The tape's weights must be bound.
  static hadal_status make(Device& device, const hadal_tape& tape, uint32_t first, uint32_t count,
                           bool eager, std::unique_ptr<Plan>* out, hadal_error* error);

  hadal_status run(const hadal_step& step, hadal_error* error);

 private:
  explicit Plan(Device& device) : device_(device) {}
  friend class Planner;

  hadal_status check_step(const hadal_step& step, hadal_error* error) const;
  hadal_status check_memories(const hadal_op& op, const hadal_step& step, hadal_error* error) const;
  [[nodiscard]] std::string check_indices(const hadal_op& op, const hadal_step& step) const;
  void work(Run& run, Worker& worker, std::atomic<int32_t>* invalid);

  Device& device_;
  bool eager_ = false;
  bool writes_inputs_ = false;  ///< an operator writes into the step's inputs
  std::vector<hadal_tensor> tensors_;
  std::vector<hadal_op> ops_;
  hadal_tape tape_{};
  std::vector<Stage> stages_;
  std::vector<uint32_t>
      checks_;  ///< ops whose indices are checked before a step, each kind of check once
  uint64_t workspace_bytes_ = 0;
  Mapping workspace_;
  uint64_t temp_bytes_ = 0, own_bytes_ = 0;
  std::unique_ptr<std::atomic<int32_t>[]> counters_;
};

}  // namespace hadal::cpu
