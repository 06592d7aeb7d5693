// Scheduler: which rows of which sequences make the next step, and who waits.
//
// Sequences wait until a step has a place for them and the cache has blocks for what they hold so
// far; only then do they look for their prefix: by then more of it may be cached, and what waits
// holds no block. Running ones decode first, then prompts are cut into chunks in order of arrival.
// Where blocks run out, the youngest running sequence gives up its own and waits again: what it
// computed may stay in the prefix tree until others need the blocks. How a prompt is cut, and
// whether a part of it is computed twice, changes no bit of the result: the rule of bits.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/block_manager.h"
#include "engine/sequence.h"
#include "ops/step_layout.h"

namespace hadal {

/// Rows [begin, begin + rows) of one sequence in a step.
struct ScheduledRows {
  Sequence* seq = nullptr;
  int64_t begin = 0, rows = 0;
  int64_t logit_rows = 0;    ///< the last so many rows want logits
  int64_t sampled_rows = 0;  ///< the last so many of those choose a token: one, and one a draft
};

/// Chooses the rows of a step within the limits; drafts that do not fit are forgotten. Empty when
/// there is nothing to run.
std::vector<ScheduledRows> choose_rows(std::span<const std::unique_ptr<Sequence>> running,
                                       const StepLimits& limits);

class Scheduler {
 public:
  /// draft: behind each row a draft layer writes one more position.
  Scheduler(BlockManager& blocks, const StepLimits& limits, bool draft);

  void add(std::unique_ptr<Sequence> seq) { waiting_.push_back(std::move(seq)); }
  /// Takes in what waits as far as there is room.
  void admit();
  /// The rows of the next step; each has its blocks. Empty only when nothing runs.
  std::vector<ScheduledRows> next();
  /// Takes a sequence out; what it computed stays in the prefix tree as long as nobody needs the
  /// room.
  void remove(SeqId id);

  [[nodiscard]] const std::vector<std::unique_ptr<Sequence>>& waiting() const { return waiting_; }
  [[nodiscard]] const std::vector<std::unique_ptr<Sequence>>& running() const { return running_; }
  /// How often a sequence lost its place so far.
  [[nodiscard]] int64_t preemptions() const { return preemptions_; }

 private:
  void start(std::unique_ptr<Sequence> seq);
  void give_up(Sequence& seq);
  void preempt(Sequence& seq);

  BlockManager& blocks_;
  const StepLimits& limits_;
  bool draft_;
  std::vector<std::unique_ptr<Sequence>> waiting_, running_;  // both in order of arrival
  std::vector<int64_t> free_slots_;
  int64_t preemptions_ = 0;
};

}  // namespace hadal
