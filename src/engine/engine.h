// Engine: requests in, tokens out. The only mutable world: one caller's thread adds requests and
// drives step().
//
// `run`, `generate`, `logits` and `bench` go through it, as a server does: it adds requests, and
// not a second engine. A request that cannot go on ends alone, with an error in its last event;
// step() itself fails only where the device does.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "engine/block_manager.h"
#include "engine/model_runner.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "engine/step_builder.h"

namespace hadal {

class Engine {
 public:
  /// Opens, checks memory, loads. The checkpoint must outlive the engine.
  static Result<std::unique_ptr<Engine>> load(const Checkpoint& checkpoint,
                                              const RunnerOptions& options,
                                              const LoadProgress& progress = {});
  /// Around a runner that is already loaded.
  explicit Engine(std::unique_ptr<ModelRunner> runner);

  [[nodiscard]] ModelRunner& runner() { return *runner_; }
  [[nodiscard]] const ModelSpec& spec() const { return runner_->spec(); }
  /// The longest sequence, prompt and answer together: what the context and the cache hold.
  [[nodiscard]] int64_t longest() const { return longest_; }

  /// Takes a request in. Errors: kUsage (an id outside the vocabulary, an empty prompt, a sampling
  /// parameter out of its range), kMemory (the prompt can never fit: both numbers).
  Result<SeqId> add(Request request);
  /// Forgets a request; what it computed may stay in the prefix cache.
  void cancel(SeqId id);
  [[nodiscard]] bool idle() const {
    return scheduler_.waiting().empty() && scheduler_.running().empty();
  }

  /// Runs one step and tells what came of it. kInterrupted leaves every sequence as it was before
  /// the step. A chunk of a long prompt that runs alone is queued without waiting for it: the next
  /// step is scheduled and built while the device works, and an error of both is told there.
  Result<std::vector<TokenEvent>> step();
  /// A step was queued and not waited for.
  [[nodiscard]] bool runs_ahead() const { return ahead_.has_value(); }

  /// Makes a running step() give up with kInterrupted. Safe in a signal handler.
  void interrupt() { runner_->interrupt(); }

  [[nodiscard]] const Scheduler& scheduler() const { return scheduler_; }
  [[nodiscard]] const BlockManager& blocks() const { return blocks_; }

 private:
  /// Rows that were queued and count as computed, though nobody has waited for them yet.
  struct Ahead {
    Sequence* seq;
    int64_t rows;
    int64_t chunk_left;  ///< before
    int64_t chunk_index;
  };
  [[nodiscard]] bool may_run_ahead(std::span<const ScheduledRows> step) const;
  void run_ahead(const ScheduledRows& part);
  /// The queue was waited for: what was queued counts for good, or not at all.
  Status settle(Status waited);
  /// What the device chose for the rows of a step, [R] each; top: [R, limits.top].
  struct Sampled {
    std::vector<int32_t> tokens, top_tokens;
    std::vector<float> logprobs, top_logprobs;
  };
  void propose_drafts();
  Result<Sampled> read_sampled(const StepInputs& inputs, bool top) const;
  Result<Sampled> sample_on_host(const StepInputs& inputs, bool top) const;
  Status read_logits(int64_t row, std::vector<float>& logits) const;
  Status draft(std::span<const ScheduledRows> step);
  Status deliver_logits(const ScheduledRows& part, int64_t first_row, int64_t verified) const;
  Result<bool> starts_finite(const ScheduledRows& part, int64_t row) const;
  void advance(const ScheduledRows& part, int64_t verified, std::vector<TokenEvent>& events);
  /// Appends the tokens that the rows of `part` verified: one, and one for each right draft.
  void accept(const ScheduledRows& part, int64_t first_row, const Sampled& sampled,
              std::vector<TokenEvent>& events) const;
  TokenEvent event_of(const Sequence& seq, int64_t row, const Sampled& sampled) const;
  [[nodiscard]] FinishReason finish_of(const Sequence& seq) const;

  std::unique_ptr<ModelRunner> runner_;
  BlockManager blocks_;
  int64_t longest_;
  Scheduler scheduler_;
  StepBuilder builder_;
  std::optional<Ahead> ahead_;
  int64_t next_id_ = 0;
};

}  // namespace hadal
