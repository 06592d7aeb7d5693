// Engine: requests in, tokens out. The only mutable world: one caller's thread adds requests and
// drives step().
//
// `run`, `generate`, `logits` and `bench` go through it, as a server does: it adds requests, and
// not a second engine.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "engine/block_manager.h"
#include "engine/model_runner.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"

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

  /// Admits a request. Errors: kUsage (an id outside the vocabulary, an empty prompt, a sampling
  /// parameter out of its range), kMemory (the prompt is longer than the context: both numbers).
  Result<SeqId> add(Request request);
  /// Forgets a request; what it computed may stay in the prefix cache.
  void cancel(SeqId id);
  [[nodiscard]] bool idle() const { return sequences_.empty(); }

  /// Runs one step and tells what came of it. kInterrupted leaves every sequence as it was before
  /// the step.
  Result<std::vector<TokenEvent>> step();

  /// Makes a running step() give up with kInterrupted. Safe in a signal handler.
  void interrupt() { runner_->interrupt(); }

 private:
  void admit();
  Status make_room(std::vector<ScheduledRows>& rows);
  void fill_inputs(const std::vector<ScheduledRows>& rows);
  void fill_sampling(const Sequence& seq, int64_t row, int64_t position);
  Status draft(const std::vector<ScheduledRows>& rows);
  Status deliver_logits(const ScheduledRows& rows, int64_t first_row);
  TokenEvent accept(Sequence& seq, TokenId token, float logprob);
  void finish(Sequence& seq);

  std::unique_ptr<ModelRunner> runner_;
  BlockManager blocks_;
  StepInputs inputs_;
  std::vector<std::unique_ptr<Sequence>> sequences_;  // in order of arrival
  int64_t next_id_ = 0;
};

}  // namespace hadal
