// FetchAhead: while weights come from the disk, asks the system for those that a step will read
// soon.
//
// A model that memory does not hold is read from its mapped file again and again. Left to page
// faults, each worker waits for one read at a time; asked for early, many reads are under way at
// once. It changes nothing but time.
#pragma once

#include <cstdint>

#include "runtime/operator.h"

namespace hadal::cpu {

class FetchAhead {
 public:
  /// `on`: the weights are not all in memory, as far as we know.
  FetchAhead(const Device& device, const hadal_tape& tape, const hadal_step& step, bool on)
      : device_(device), tape_(tape), step_(step), on_(on) {}
  /// Operator `op` of the tape begins, each in its turn. Asks for its matrices and those of the
  /// operators behind it, so many bytes ahead; of experts for those that the step uses, as soon as
  /// they are known. For one worker.
  void begin(uint32_t op);

 private:
  [[nodiscard]] const Operator& row(uint32_t op) const { return *device_.find(tape_.ops[op].id); }
  void ask_experts(uint32_t op);

  const Device& device_;
  const hadal_tape& tape_;
  const hadal_step& step_;
  bool on_;
  uint32_t begun_ = 0;                          ///< operators
  uint32_t asked_ = 0, asked_experts_ = 0;      ///< operators that have been asked for
  uint64_t begun_bytes_ = 0, asked_bytes_ = 0;  ///< of whole matrices
};

/// Page faults of this process, so far, that had to read from a disk.
int64_t faults_from_disk();

}  // namespace hadal::cpu
