// Communicator: how the ranks that run one model in parts speak to each other.
//
// Ranks are threads of this process (thread_group.h) or processes (world.h); callers do not see
// which. All ranks call the same functions in the same order with the same sizes; a rank that meets
// an error calls abort(), and then nobody is left waiting. A communicator that is destroyed without
// leave() has aborted. Called by the engine where a tape is cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"

namespace hadal {

class Communicator {
 public:
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual ~Communicator() = default;

  [[nodiscard]] virtual int64_t rank() const = 0;
  [[nodiscard]] virtual int64_t ranks() const = 0;

  /// values <- the sums of the values of all ranks, added in fp32 in the ascending order of the
  /// ranks: the same bits everywhere. An error says which rank ended the run and why.
  virtual Status all_reduce(std::span<float> values) = 0;
  /// bytes <- those of rank 0.
  virtual Status broadcast(std::span<std::byte> bytes) = 0;
  /// Returns when all ranks have come.
  virtual Status barrier() = 0;
  /// The run is over for all ranks: those that wait or come get an error with this rank and text.
  /// Of processes, it ends them all and does not return.
  virtual void abort(std::string_view why) = 0;
  /// This rank has done its part. Waits for the others; nothing may be called after it.
  virtual Status leave() = 0;
};

}  // namespace hadal
