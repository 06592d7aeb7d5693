// ThreadGroup: the ranks of one model as threads of this process.
//
// Nothing is copied to exchange it: a rank says where its numbers lie, and each rank makes the sums
// of its share of them in place, everywhere. Calls that do not fit together (another function,
// another size) are an error on all ranks, as is a rank that has gone. Who waits sleeps: with more
// busy threads than cores, spinning first made a sum of 7168 numbers ten times slower (2 ranks on 2
// loaded cores: 65 us and 800 us).
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "device/communicator.h"

namespace hadal {

class ThreadGroup {
 public:
  /// A communicator for each of so many ranks, each to be used by one thread at a time.
  static std::vector<std::unique_ptr<Communicator>> make(int64_t ranks);

  ThreadGroup(const ThreadGroup&) = delete;
  ThreadGroup& operator=(const ThreadGroup&) = delete;

 private:
  friend class ThreadCommunicator;
  enum class Call : uint8_t { kNone, kAllReduce, kBroadcast, kBarrier, kLeave };
  /// What a rank brings to a call.
  struct Offer {
    Call call = Call::kNone;
    std::byte* data = nullptr;
    size_t bytes = 0;
  };
  explicit ThreadGroup(int64_t ranks) : offers_(static_cast<size_t>(ranks)) {}

  /// Waits until all ranks have come with offers that fit together.
  Status meet(int64_t rank, const Offer& offer);
  /// Waits until all ranks are done with each other's memory.
  Status part();
  void end(int64_t rank, std::string_view why);
  /// whatever_happens: the others do come, even if the run is over.
  Status wait(std::unique_lock<std::mutex>& lock, bool whatever_happens);
  [[nodiscard]] std::string misfit() const;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Offer> offers_;
  size_t arrived_ = 0;
  uint64_t round_ = 0;
  std::optional<std::string> over_;  ///< why no call can succeed any more
};

}  // namespace hadal
