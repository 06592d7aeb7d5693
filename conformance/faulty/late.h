// An asynchronous queue in front of a synchronous chip: nothing is done before queue_sync. It keeps
// the contract's rules on completion and lifetime, but for the fault that was chosen.
#pragma once

#include <functional>
#include <memory>

#include "faulty.h"

namespace hadal::faulty::late {

using Work = std::function<hadal_status(hadal_error*)>;

/// Whether this fault needs such a queue.
bool is_used(Fault fault);
/// Queues `work`; copy_out of kReadsTooLate goes behind all else.
hadal_status push(Work work, bool behind_all = false);
/// Does everything, up to the first failure; what stands behind that is dropped, but for `always`.
hadal_status run_all(Fault fault, hadal_error* error);
/// Frees and destroys: done even after a failure.
void push_always(std::function<void()> work);

/// A tape and a step that are the callee's own, but for what the fault keeps of the caller's.
struct Call {
  Call(Fault fault, const hadal_tape& from, const hadal_step& step);
  /// As they stand now.
  [[nodiscard]] hadal_tape tape_now() const;
  [[nodiscard]] hadal_step step_now() const;

 private:
  Fault fault_;
  const hadal_tape* callers_tape_;
  const hadal_step* callers_step_;
  hadal_tape tape_;
  hadal_step step_;
  std::vector<hadal_tensor> tensors_;
  std::vector<hadal_op> ops_;
  std::vector<hadal_memory*> planes_;
};

}  // namespace hadal::faulty::late
