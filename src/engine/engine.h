// Engine: requests in, tokens out. The only mutable world: one caller's thread adds requests and
// drives step().
//
// `run`, `generate`, `logits` and `bench` go through it, as a server does: it adds requests, and
// not a second engine. A request that cannot go on ends alone, with an error in its last event;
// step() itself fails only where the device does.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "engine/block_manager.h"
#include "engine/drafter.h"
#include "engine/model_runner.h"
#include "engine/page_swap.h"
#include "engine/request.h"
#include "engine/sampled.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "engine/speculation.h"
#include "engine/step_builder.h"
#include "engine/step_times.h"

namespace hadal {

struct EngineOptions {
  /// A step should take no longer, so that whoever comes is served soon and tokens come evenly; 0:
  /// as long as its rows take, which is fastest where nobody waits.
  double step_seconds = 0;
  /// With RunnerOptions::draft: so many tokens are drafted and verified, whether it pays or not;
  /// none: as many as pay.
  std::optional<int64_t> draft_tokens = {};
  /// The clock of deadlines, in seconds; none: the machine's steady clock.
  std::function<double()> now = {};
  /// Told when a device was lost and what became of it, a line each.
  std::function<void(std::string_view line)> log = {};
};

/// How its devices fared since an engine was made.
struct DeviceState {
  std::string lost;   ///< why no step can be run; "": all devices are there
  bool away = false;  ///< and they could not be opened again when it was last tried
  int64_t losses = 0, reopened = 0;
};

/// What an engine did since it was made.
struct EngineCounts {
  int64_t steps = 0, prompt_tokens = 0, cached_tokens = 0, new_tokens = 0;
  int64_t drafted_tokens = 0, accepted_tokens = 0;
  /// Of a step, computed by the cpu since the chip declines them or is lost.
  int64_t fallback_operators = 0;
  int64_t transferred_bytes = 0;  ///< from one device to another
};

class Engine {
 public:
  /// Opens, checks memory, loads. The checkpoint must outlive the engine.
  static Result<std::unique_ptr<Engine>> load(const Checkpoint& checkpoint,
                                              const RunnerOptions& options,
                                              const LoadProgress& progress = {},
                                              EngineOptions engine = {});
  /// Around a runner that is already loaded. When a device fails, step() tells so; whoever drives
  /// the engine then cancels what runs, and reopen() or the next step opens the devices again.
  explicit Engine(std::unique_ptr<ModelRunner> runner, EngineOptions options = {});

  [[nodiscard]] ModelRunner& runner() { return *runner_; }
  [[nodiscard]] const ModelRunner& runner() const { return *runner_; }
  [[nodiscard]] const ModelSpec& spec() const { return runner_->spec(); }
  /// The longest sequence, prompt and answer together: what the context and the cache hold.
  [[nodiscard]] int64_t longest() const { return longest_; }

  /// Takes a request in. Errors: kUsage (an id outside the vocabulary, an empty prompt, a sampling
  /// parameter out of its range), kMemory (the prompt can never fit: both numbers).
  Result<SeqId> add(Request request);
  /// The same for n answers to one prompt, which is computed once: those of the sample numbers from
  /// the request's own on, each the same as by a request of its own.
  Result<std::vector<SeqId>> add_samples(const Request& request, int64_t n);
  /// Forgets a request; what it computed may stay in the prefix cache.
  void cancel(SeqId id);
  /// Other adapters from the next step on (ModelRunner::set_adapters). kUsage where a request uses
  /// one that would go or be another: nothing has changed then.
  Status set_adapters(std::vector<NamedAdapter> adapters);
  [[nodiscard]] bool idle() const {
    return scheduler_.waiting().empty() && scheduler_.running().empty();
  }

  /// Runs one step and tells what came of it. kInterrupted leaves every sequence as it was before
  /// the step. A chunk of a long prompt that runs alone is queued without waiting for it: the next
  /// step is scheduled and built while the device works, and an error of both is told there.
  Result<std::vector<TokenEvent>> step();
  /// Behind a device's failure, when nothing runs any more: opens the devices again and loads the
  /// model anew. What waits goes on behind it. Errors: why not; another call tries again.
  Status reopen();
  [[nodiscard]] const DeviceState& devices() const { return devices_; }
  /// A step was queued and not waited for.
  [[nodiscard]] bool runs_ahead() const { return ahead_.has_value(); }

  /// Keeps what memory has no room for in a file, and takes from it what an engine of the same
  /// model left there. Before the first request. Errors: of PageFile::open.
  Status swap_to(const SwapOptions& options);
  /// Writes all that is cached to that file, for the next engine. Nothing may be running.
  void save_pages();
  [[nodiscard]] const PageSwap* swap() const { return swap_.get(); }

  /// Makes a running step() give up with kInterrupted. Safe in a signal handler.
  void interrupt() { runner_->interrupt(); }

  [[nodiscard]] EngineCounts counts() const;
  /// The clock of deadlines.
  [[nodiscard]] double now() const { return options_.now(); }
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
  Result<std::vector<TokenEvent>> run_step();
  void note_loss(const Error& why);
  SeqId enqueue(Request request, SeqId leader);
  void measure(std::span<const ScheduledRows> step, double seconds);
  RequestStats retire(SeqId id);
  void end_expired(std::vector<TokenEvent>& events);
  Status after_step(std::span<const ScheduledRows> step, std::span<const int64_t> verified,
                    const StepInputs& inputs, std::vector<TokenEvent>& events);
  Result<std::vector<DraftWish>> wishes(std::span<const ScheduledRows> step,
                                        std::span<const TokenEvent> events);
  Status draft(std::span<const ScheduledRows> step, std::span<const TokenEvent> events);
  Status deliver_logits(const ScheduledRows& part, int64_t first_row, int64_t verified) const;
  Result<bool> starts_finite(const ScheduledRows& part, int64_t row) const;
  void advance(const ScheduledRows& part, int64_t verified, std::vector<TokenEvent>& events);
  /// Appends the tokens that the rows of `part` verified: one, and one for each right draft.
  void accept(const ScheduledRows& part, int64_t first_row, const Sampled& sampled,
              std::vector<TokenEvent>& events);
  TokenEvent event_of(const Sequence& seq, int64_t row, const Sampled& sampled) const;
  [[nodiscard]] FinishReason finish_of(const Sequence& seq) const;

  EngineOptions options_;
  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<PageSwap> swap_;
  BlockManager blocks_;
  int64_t longest_;
  Scheduler scheduler_;
  StepBuilder builder_;
  StepTimes times_;
  Speculation speculation_;
  EngineCounts counts_;
  DeviceState devices_;
  std::unique_ptr<Drafter> drafter_;  ///< with RunnerOptions::draft
  std::optional<Ahead> ahead_;
  int64_t next_id_ = 0;
};

}  // namespace hadal
