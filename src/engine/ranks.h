// Ranks: one model in parts, a part a rank, each with a runner and a device of its own.
//
// Rank 0 schedules, samples and serves; it tells the others what to run (Order), and they follow
// it step by step. Where the tape has an all_reduce the devices sum what all ranks made, if they
// can among themselves, else the host does. Ranks are threads of this process (RankThreads), or
// processes; all but rank 0 call follow_rank_0() and nothing else.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/hash.h"
#include "checkpoint/checkpoint.h"
#include "device/communicator.h"
#include "engine/block_manager.h"
#include "engine/step_inputs.h"

namespace hadal {

class ModelRunner;
struct RunnerOptions;

/// What rank 0 asks of the others. Plain data: it is sent as its bytes.
struct Order {
  /// kLeave: there is no more to do. kLoad: a model, whose end kEnd is.
  enum class Kind : int32_t { kLeave, kLoad, kEnd, kStep, kCopyBlocks };
  Kind kind = Kind::kLeave;
  int32_t pass = 0;  ///< kStep: which recording (ModelRunner::pass_number)
  std::array<int64_t, HADAL_DIM_COUNT> rows{};
  int64_t count = 0;  ///< kStep: ranges of changed inputs; kCopyBlocks: copies
  int64_t bytes = 0;  ///< kStep: of those ranges together
};

/// What rank 0 made of its command and its memory, and the others cannot know. Plain data.
struct LoadOrder {
  Digest model{};  ///< of rank 0's files; zero if all ranks read the same ones
  int64_t context = 0, cache_tokens = 0;
  int64_t max_tokens = 0, max_sequences = 0, max_logit_rows = 0;
  int64_t tail_rows = -1;  ///< -1: the model's own
  int64_t draft = 0;
};

/// Sends and receives orders with what belongs to them.
Status send_load(Communicator& ranks, LoadOrder load);
Status send_step(Communicator& ranks, int32_t pass, const StepInputs& inputs,
                 std::span<const StepInputs::Range> changed);
Status send_copies(Communicator& ranks, std::span<const BlockCopy> copies);
Status send_end(Communicator& ranks);
/// Also leaves the group: nothing may be called after it.
Status send_leave(Communicator& ranks);

/// Where the changed inputs of a received step go.
struct ReceivedRange {
  uint64_t offset = 0, bytes = 0;
};
struct ReceivedStep {
  std::vector<ReceivedRange> ranges;
  std::vector<std::byte> data;  ///< one range after another
};
Result<Order> receive_order(Communicator& ranks);
Result<ReceivedStep> receive_step(Communicator& ranks, const Order& order);
Result<std::vector<BlockCopy>> receive_copies(Communicator& ranks, const Order& order);

/// Called by all ranks with how each fared: an error if one failed. The lowest of those gets its
/// own and ends the run by it; the others wait for that.
Status agree(Communicator& ranks, Status own);

/// What a rank opens its part of.
struct RankModel {
  const Checkpoint* checkpoint = nullptr;
  const RunnerOptions* options = nullptr;
};
/// Of rank 1 and up: opens, loads and follows what rank 0 loads, one model after another, until
/// that one leaves. Nothing is opened before rank 0 has opened it. An error has ended the run.
Status follow_rank_0(Communicator& ranks, const std::function<Result<RankModel>()>& open);

/// Which device a rank that is a thread takes: one behind another from the user's on, if the chip
/// has enough of them; else all are instances of that one.
int32_t device_of_rank(int32_t first, int64_t rank, int64_t ranks, int32_t devices);

/// The ranks 1 and up of a model whose ranks are threads.
class RankThreads {
 public:
  /// Follows rank 0 in a thread for each communicator; the checkpoint must outlive them.
  /// devices: how many the chip has.
  RankThreads(const Checkpoint& checkpoint, const RunnerOptions& options,
              std::vector<std::unique_ptr<Communicator>> ranks, int32_t devices);
  /// Waits for all; rank 0 must have left, or have ended the run.
  ~RankThreads();
  RankThreads(const RankThreads&) = delete;
  RankThreads& operator=(const RankThreads&) = delete;

 private:
  std::vector<std::unique_ptr<Communicator>> ranks_;
  std::vector<std::thread> threads_;
};

}  // namespace hadal
