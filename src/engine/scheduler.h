// Scheduler: which rows of which sequences make the next step, and who waits.
//
// Sequences wait until a step has a place for them and the cache has blocks for what they hold so
// far; only then do they look for their prefix: by then more of it may be cached, and what waits
// holds no block. Smaller priorities come first, among equals whoever came first; one that does
// not fit lets others pass for a while only. Running ones decode first. What a step's time has
// left is shared among prompts: the oldest has its part, then the shortest go first, so that a long
// prompt neither starves nor holds up short ones. Where blocks run out, the youngest running
// sequence of the largest priority gives up its own and waits again: what it computed may stay in
// the prefix tree until others need the blocks. How a prompt is cut, and whether a part of it is
// computed twice, changes no bit of the result: the rule of bits.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/block_manager.h"
#include "engine/sequence.h"
#include "engine/step_times.h"
#include "ops/step_layout.h"

namespace hadal {

/// Rows [begin, begin + rows) of one sequence in a step.
struct ScheduledRows {
  Sequence* seq = nullptr;
  int64_t begin = 0, rows = 0;
  int64_t logit_rows = 0;    ///< the last so many rows want logits
  int64_t sampled_rows = 0;  ///< the last so many of those choose a token: one, and one a draft
  /// Positions that the rows attend to, summed over them.
  [[nodiscard]] double context() const {
    return static_cast<double>(rows) *
           (static_cast<double>(begin) + static_cast<double>(rows + 1) / 2);
  }
};

/// What a step may take.
struct StepBudget {
  StepLimits limits;
  double seconds = 0;  ///< a step should take no longer; 0: as long as its rows take
  /// Above 0, prompts are cut at multiples of it, whatever the step's time: the bits of a chip
  /// without `row_invariant` depend on the cut.
  int64_t fixed_chunk = 0;
};

/// Chooses the rows of a step within the budget; drafts that do not fit are forgotten. Empty when
/// there is nothing to run. running: in the order in which they are served.
std::vector<ScheduledRows> choose_rows(std::span<const std::unique_ptr<Sequence>> running,
                                       const StepBudget& budget, const StepTimes& times);

class Scheduler {
 public:
  struct Options {
    bool draft = false;       ///< behind each row a draft layer writes one more position
    double step_seconds = 0;  ///< of StepBudget
    int64_t fixed_chunk = 0;  ///< of StepBudget
  };
  Scheduler(BlockManager& blocks, const StepLimits& limits, const Options& options);

  void add(std::unique_ptr<Sequence> seq);
  /// Takes in what waits as far as there is room. now: by the engine's clock.
  void admit(double now);
  /// The rows of the next step; each has its blocks. Empty only when nothing runs.
  std::vector<ScheduledRows> next(const StepTimes& times);
  /// Takes a sequence out; what it computed stays in the prefix tree as long as nobody needs the
  /// room. Null if there is none of this number.
  std::unique_ptr<Sequence> remove(SeqId id);
  /// Sequences whose deadline has passed.
  [[nodiscard]] std::vector<SeqId> expired(double now) const;

  /// The prompt of `leader` is computed: samples that wait for it start with its blocks as long as
  /// there are places; the others wait like everybody. Blocks that must be copied before the next
  /// step are handed to `copy`.
  Status start_followers(const Sequence& leader,
                         const std::function<Status(std::span<const BlockCopy>)>& copy);

  [[nodiscard]] const std::vector<std::unique_ptr<Sequence>>& waiting() const { return waiting_; }
  [[nodiscard]] const std::vector<std::unique_ptr<Sequence>>& running() const { return running_; }
  /// How often a sequence lost its place so far.
  [[nodiscard]] int64_t preemptions() const { return preemptions_; }

 private:
  using List = std::vector<std::unique_ptr<Sequence>>;
  void insert(List& list, std::unique_ptr<Sequence> seq);
  bool make_room(const Sequence& seq);
  [[nodiscard]] bool has_room(const Sequence& seq) const;
  void take_slot(Sequence& seq);
  void start(std::unique_ptr<Sequence> seq);
  void give_up(Sequence& seq);
  void preempt(Sequence& seq);
  void leave_followers(SeqId leader);

  BlockManager& blocks_;
  StepBudget budget_;
  bool draft_;
  List waiting_, running_;  // both by priority, then in order of arrival
  std::vector<int64_t> free_slots_;
  int64_t preemptions_ = 0;
};

}  // namespace hadal
