// ModelRunner: a loaded model on a device: its weights, planes, tape, and how one step runs.
//
// Owns all device memory. Knows no requests: it is given step inputs and gives back step outputs.
#pragma once

#include <array>
#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "checkpoint/checkpoint.h"
#include "device/device.h"
#include "engine/block_manager.h"
#include "engine/choices.h"
#include "engine/placement.h"
#include "engine/placer.h"
#include "engine/ranks.h"
#include "engine/segments.h"
#include "engine/step_inputs.h"
#include "models/model.h"
#include "ops/sink.h"
#include "weights/adapters.h"
#include "weights/loader.h"

namespace hadal {

class StepSink;

/// An adapter that requests may use: how they call it, and where it lies. An empty one keeps a
/// place free, so that those behind it keep their numbers.
struct NamedAdapter {
  std::string name;
  std::filesystem::path folder;
  [[nodiscard]] bool empty() const { return name.empty(); }
  friend bool operator==(const NamedAdapter&, const NamedAdapter&) = default;
};

struct RunnerOptions {
  DeviceOptions device;
  std::string place;      ///< what is on other devices: Placement's words
  bool fallback = false;  ///< the cpu takes what the devices decline
  /// Of a model in parts, this rank's way to the others; null: it is whole. With `rank_threads`,
  /// rank 0 of so many threads, which load() starts.
  Communicator* ranks = nullptr;
  int64_t rank_threads = 1;
  WeightMode weights = WeightMode::kNative;
  DType kv_cache_dtype = HADAL_F16;
  int64_t context = 0;       ///< longest sequence; 0: the model's limit
  int64_t cache_tokens = 0;  ///< what the caches hold, all sequences together; 0: every context
  int64_t max_tokens = 512;  ///< rows a step
  int64_t max_sequences = 8;
  int64_t max_logit_rows = 8;
  bool draft = false;  ///< load what the model has for drafts and run it behind every step
  std::optional<int64_t> tail_rows;  ///< of FamilyOptions
  bool eager = false;                ///< run each operator at once instead of the tape
  bool lower_all = false;            ///< for a tracer: fused operators are spelt in parts
  ChoiceLog* choices = nullptr;      ///< what the steps choose is noted here, on rank 0
  uint64_t alignment = 1;            ///< of offsets, at least
  /// Of a reference: weights are held in these forms, those of a chip (held_forms()).
  std::vector<HeldForm> forms = {};
  bool check_memory = true;
  std::vector<NamedAdapter> adapters;  ///< loaded with the model; a request names their places
  bool more_adapters = false;          ///< set_adapters will be called, if there are none yet
  /// Asked if the model needs it: who opens the model knows the tokenizer.
  std::function<Result<CompressedVocabulary>()> compressed_vocabulary;
};

/// Memory that a model takes, in bytes, and what the machine has.
struct MemoryPlan {
  std::string where;  ///< the devices whose memory it is, if there are several
  uint64_t weights = 0, adapters = 0, cache = 0, scratch = 0, step = 0, workspace = 0;
  uint64_t mapped = 0;  ///< of the weights: read where the file is mapped
  uint64_t available = 0;
  uint64_t cache_per_token = 0;  ///< of groups that keep all rows
  uint64_t cache_kept = 0;       ///< of those that keep only the last rows
  [[nodiscard]] uint64_t total() const {
    return weights + adapters + cache + scratch + step + workspace;
  }
  MemoryPlan& operator+=(const MemoryPlan& other);
  /// What must be in memory.
  [[nodiscard]] uint64_t needed() const { return total() - mapped; }
  [[nodiscard]] bool fits() const { return needed() <= available; }
  /// What must be read from the disk again and again: the mapped weights that the rest leaves no
  /// room for.
  [[nodiscard]] uint64_t missing() const {
    return fits() && total() > available ? total() - available : 0;
  }
};

/// A model that memory does not hold.
struct FromDisk {
  uint64_t missing = 0;                     ///< MemoryPlan::missing()
  std::optional<double> bytes_per_second;   ///< of the disk, as measured
  std::optional<double> tokens_per_second;  ///< at best
  [[nodiscard]] std::string text() const;
};

/// What a chip declines, in one line: each operator, how often, and the first reason.
Error declined_operators(const std::string& chip,
                         const std::map<std::string, std::string>& declined);

class ModelRunner {
 public:
  /// Opens the device, binds the model, and plans; loads nothing yet. The checkpoint must outlive
  /// the runner.
  static Result<std::unique_ptr<ModelRunner>> open(const Checkpoint& checkpoint,
                                                   const RunnerOptions& options);
  ~ModelRunner();

  [[nodiscard]] const ModelSpec& spec() const { return model_->spec(); }
  /// The first device, the one that the user chose.
  [[nodiscard]] const Device& device() const { return *places_[0].device; }
  [[nodiscard]] const std::vector<Place>& places() const { return places_; }
  [[nodiscard]] const Placer& placer() const { return *placer_; }
  /// The cache memories of a step as operands.
  [[nodiscard]] const StepPlanes& step_planes() const { return *step_planes_; }
  /// A step on a place, for whoever runs operators one by one.
  [[nodiscard]] hadal_step make_step(const Place& place,
                                     const std::array<int64_t, HADAL_DIM_COUNT>& rows);
  /// Neither is it placed on several, nor is it one rank's part.
  [[nodiscard]] bool on_one_device() const {
    return places_.size() == 1 && spec().shard.ranks == 1;
  }
  /// Of all devices.
  [[nodiscard]] bool row_invariant() const;
  [[nodiscard]] bool copies_at_once() const;
  /// What is where, a line a device, if there are several; after the load also how often a step
  /// goes from one to another.
  [[nodiscard]] std::vector<std::string> placement_text() const;
  /// Operators of a step that the cpu computes since their device declines them or is gone.
  [[nodiscard]] int64_t fallback_operators() const;
  /// Bytes that went from one device to another since the load.
  [[nodiscard]] uint64_t transferred_bytes() const { return transferred_; }
  [[nodiscard]] const StepLayout& layout() const { return *layout_; }
  [[nodiscard]] const RunnerOptions& options() const { return options_; }
  [[nodiscard]] int64_t context() const { return context_; }
  [[nodiscard]] std::deque<Weight>& weights() { return model_->weights(); }
  /// Of WeightLoader; none where the user asked for fp32.
  [[nodiscard]] std::vector<std::string> conversions() const;
  /// What whoever opens the model should know: conversions() and placement_text().
  [[nodiscard]] std::vector<std::string> notes() const;
  [[nodiscard]] FileTableTotals file_tables() const { return model_->file_tables(); }

  /// Cost of a step with these row counts after `context` positions; what the chip declines.
  [[nodiscard]] StepCost step_cost(std::array<int64_t, HADAL_DIM_COUNT> rows, double context) const;
  /// Gives every operator of a step to the sink.
  void dry_run(Sink& sink) const {
    each_pass([&](const Pass& pass) { forward(pass, sink, nullptr); });
  }
  [[nodiscard]] MemoryPlan memory_plan() const;
  /// The same by memory: that of the host, and that of each device with memory of its own.
  [[nodiscard]] std::vector<MemoryPlan> memory_plans() const;
  /// An error of code kMemory that says what is needed, what there is and what would fit, unless it
  /// fits.
  Status check_memory() const;
  /// The class in which each operator of a step is computed where it runs, in program order,
  /// without `sample`. With RunnerOptions::lower_all, those of a runner on another chip are the
  /// same ones.
  [[nodiscard]] std::vector<Numerics> classes() const;
  /// The form of each weight, where it is first used.
  [[nodiscard]] std::vector<HeldForm> held_forms() const;
  /// Measures the disk if memory does not hold all mapped weights; none if it does. `context`:
  /// tokens before the one that is generated.
  [[nodiscard]] std::optional<FromDisk> from_disk(double context) const;

  /// Hands the weights to the device, allocates, records the tape. Of rank 0, all ranks do so.
  Status load(const LoadProgress& progress = {});

  /// A device failed, or was not opened again since, or the run of the ranks is over: only reopen()
  /// may be called.
  [[nodiscard]] bool lost() const;
  /// Whether reopen() can succeed in this process: that of a model in parts cannot.
  [[nodiscard]] bool can_reopen() const { return options_.ranks == nullptr; }
  /// Opens the devices again and loads the model anew; caches are empty, and pages, block tables
  /// and adapters in use are the caller's to forget. A device that cannot be opened is left out of
  /// the placement if the cpu may stand in (RunnerOptions::fallback); else the error says why, and
  /// another call tries again. log: told what is done, a line each.
  Status reopen(const std::function<void(std::string_view line)>& log);

  /// Of rank 1 and up, once loaded: runs what rank 0 orders until that one ends the model.
  Status follow();

  /// The adapters by their numbers; a place may be empty.
  [[nodiscard]] const std::vector<NamedAdapter>& adapters() const { return options_.adapters; }
  /// The number of the adapter that is called so; an error of code kUsage that lists those there
  /// are.
  [[nodiscard]] Result<int32_t> adapter_number(std::string_view name) const;
  [[nodiscard]] bool has_adapter(int32_t number) const {
    return number >= 0 && static_cast<size_t>(number) < options_.adapters.size() &&
           !options_.adapters[static_cast<size_t>(number)].empty();
  }
  /// Of all that the adapter at a place adds; null: none is there. Rows that were computed with one
  /// are of no use with another.
  [[nodiscard]] const Digest* adapter_digest(int32_t number) const {
    return has_adapter(number) ? &adapter_files_[static_cast<size_t>(number)]->digest() : nullptr;
  }
  /// Other adapters from the next step on, for a loaded runner that was opened for them. Waits for
  /// the queue. What stays in its place with its name and folder is not read again. After an error
  /// everything is as before.
  Status set_adapters(std::vector<NamedAdapter> adapters);

  /// Blocks of each plane group.
  [[nodiscard]] const std::vector<int64_t>& blocks() const { return blocks_; }

  /// Fills in what the model's host side works out for a step.
  void fill_extra(std::span<const SequenceRows> step, StepInputs& inputs) const {
    if (layout_->limits.extra > 0) model_->fill_extra(step, inputs.at<float>(layout_->extra));
  }
  /// Copies what changed of the inputs and queues one step; sync() tells how it went.
  Status run(StepInputs& inputs, SampleForm sample);
  /// Waits for what was queued. kInterrupted if the stop flag was set; then nothing counts as done.
  Status sync() const;
  /// The passes of a draft: Model::draft, draft_block, draft_next.
  enum class DraftPass { kRows, kBlock, kNext };
  /// Queues one behind the last step. It is short, and the step's tokens are known already: it does
  /// not stop.
  Status run_draft(DraftPass pass, StepInputs& inputs) {
    return run(draft_[static_cast<size_t>(pass)][inputs.masked ? 1 : 0], inputs, false);
  }
  /// Copies whole blocks within the planes of their groups, in the order of the queue.
  Status copy_blocks(std::span<const BlockCopy> copies) const;
  /// What changes the bits of a page beside tokens, adapter and key: model, chip, kernels, types,
  /// options. Reads a part of every tensor when it is first asked.
  [[nodiscard]] const Digest& identity();
  /// Bytes of a cache memory.
  [[nodiscard]] uint64_t plane_bytes(size_t plane) const;
  /// Bytes of the blocks of one unit of reuse, of the groups whose bit is set.
  [[nodiscard]] uint64_t unit_bytes(uint64_t groups) const;
  /// Copies the blocks of one unit out of all planes of its groups, one after another, and back in.
  /// groups: those that lie in `bytes`; of those, the ones that `blocks` has none of are left out.
  Status read_unit(const UnitBlocks& blocks, uint64_t groups, std::span<std::byte> bytes) const;
  Status write_unit(const UnitBlocks& blocks, uint64_t groups,
                    std::span<const std::byte> bytes) const;
  /// The chip declines `sample`: tokens are chosen from the logits by the host.
  [[nodiscard]] bool host_samples() const { return host_samples_; }
  /// Bytes of inputs that the last step copied to the device.
  [[nodiscard]] uint64_t input_bytes_copied() const { return input_bytes_copied_; }
  /// Runs the step again, operator by operator, and tells where numbers that are not finite first
  /// come out: the error of a request that ended so.
  [[nodiscard]] Error explain_not_finite(const StepInputs& inputs);
  /// Copies a step output, rows [first, first + count) of `part`: it is there after sync().
  template <typename T>
  Status read(const Tensor& part, int64_t first, int64_t count, T* to) const {
    const Place& place = places_[place_of_output(part)];
    return checked(place.device->copy_out(
        std::as_writable_bytes(
            std::span(to, static_cast<size_t>(count * part.strides[0]) / sizeof(T))),
        place.outputs, part.offset + static_cast<uint64_t>(first * part.strides[0])));
  }

  /// From now on every operator goes to this sink instead of the tape (step_sink.h); null: no more.
  /// Of one device.
  void run_by(StepSink* sink) { step_sink_ = sink; }

  /// Asks the running step to give up. Safe in a signal handler.
  void interrupt() { stop_.store(1, std::memory_order_relaxed); }
  void clear_interrupt() { stop_.store(0, std::memory_order_relaxed); }

 private:
  /// One pass of the model over a step: what it calls, and what was recorded of it.
  struct Pass {
    void (Model::*forward)(Ops&, const StepPlanes&) const = nullptr;
    SampleForm sample;
    SegmentedTape tape;
  };
  ModelRunner() = default;
  Status check_ranks() const;
  Status join_devices();
  struct Fact {
    const char* name;
    std::string value;
  };
  [[nodiscard]] std::vector<Fact> facts_of_rank() const;
  Status call_ranks();
  Status compare_ranks() const;
  /// As it is; with ranks, an error if one of them has one.
  Status agree_with_ranks(Status own) const;
  Status load_together(Status fits, const LoadProgress& progress);
  Status load_here(const LoadProgress& progress);
  /// scratch_bytes and adapters may be null; else they grow by what the pass uses.
  void forward(const Pass& pass, Sink& sink, uint64_t* scratch_bytes,
               std::set<const AdapterBank*>* adapters = nullptr) const;
  Result<std::vector<Place>> open_places(const std::vector<DeviceName>& names) const;
  [[nodiscard]] StepLimits step_limits();
  Status place_model();
  Status prepare();
  Result<Placer::BlockBytes> block_bytes(std::map<size_t, Error>& refused) const;
  /// Of all places, a step with these row counts; the sets and sums may be null.
  std::vector<StepCost> costs(std::array<int64_t, HADAL_DIM_COUNT> rows, double context,
                              uint64_t* scratch_bytes,
                              std::set<const AdapterBank*>* adapters) const;
  [[nodiscard]] Error does_not_fit(const MemoryPlan& plan) const;
  /// Nothing is larger than what its device gives in one piece.
  [[nodiscard]] Status check_allocations() const;
  /// Steps of fewer rows take less in one piece.
  [[nodiscard]] bool step_is_too_large() const;
  [[nodiscard]] std::string memory_name(size_t place) const;
  [[nodiscard]] int64_t ranks_in_memory(size_t place) const;
  [[nodiscard]] bool is_draft(const Pass& pass) const;
  [[nodiscard]] size_t place_of_output(const Tensor& part) const;
  [[nodiscard]] const DeviceMemory& plane_memory(size_t plane) const;
  [[nodiscard]] MemoryPlan memory_plan_of(size_t place) const;
  void set_drafts();
  void count_replaced();
  void each_pass(const std::function<void(const Pass&)>& body) const;
  Status record(Pass& pass);
  Status record_all();
  /// Reads what is not there yet and finds what the banks need; they are attached afterwards.
  struct Adapters {
    std::vector<std::shared_ptr<const AdapterFile>> files;
    std::unique_ptr<AdapterBanks> banks;
    std::vector<StepCost> costs;  ///< of the largest step with them, by place
    uint64_t scratch_bytes = 0;
  };
  Result<Adapters> plan_adapters(const std::vector<NamedAdapter>& adapters);
  void use_adapters(std::vector<NamedAdapter> named, Adapters adapters);
  Status run(Pass& pass, StepInputs& inputs, bool stoppable);
  Status run_changed(Pass& pass, StepInputs& inputs, std::span<const StepInputs::Range> changed,
                     bool stoppable);
  /// As it is; of rank 0 an error ends the run of all, who would wait for it, and tells what ended
  /// it first.
  Status checked(Status status) const;
  Status run_on_places(Pass& pass, const std::array<int64_t, HADAL_DIM_COUNT>& rows,
                       const std::byte* host_inputs, bool stoppable);
  /// Of all devices, the most rows with which a step of so many is run.
  [[nodiscard]] int64_t filled_rows(int64_t rows) const;
  Status copy_blocks_here(std::span<const BlockCopy> copies) const;
  /// The passes in one order, the same on all ranks.
  [[nodiscard]] std::vector<Pass*> all_passes();
  [[nodiscard]] bool leads() const { return options_.ranks && options_.ranks->rank() == 0; }
  /// Calls body(a cache memory, offset in it, offset in the page, bytes) for each block.
  using PagePart = std::function<Status(size_t plane, uint64_t, uint64_t, uint64_t)>;
  Status each_part(const UnitBlocks& blocks, uint64_t groups, const PagePart& body) const;

  const Checkpoint* checkpoint_ = nullptr;
  RunnerOptions options_;
  int64_t context_ = 0;
  std::unique_ptr<Model> model_;
  std::unique_ptr<StepLayout> layout_;
  std::unique_ptr<StepPlanes> step_planes_;
  std::vector<int64_t> blocks_;
  std::optional<Placement> placement_;  // always there once it is open
  std::string place_reason_;            // of an automatic one
  std::string step_reason_;             // of steps that are smaller than was asked
  std::optional<size_t> fallback_;      // the place that takes what others decline
  uint64_t scratch_bytes_ = 0;
  uint64_t transferred_ = 0;
  // Places of devices that are gone, where the cpu stands in; why, until that was logged.
  std::map<size_t, std::string> replaced_;
  int64_t replaced_operators_ = 0;  // of a step, there
  bool loaded_ = false;
  mutable bool ranks_over_ = false;  // rank 0 has ended the run
  StepSink* step_sink_ = nullptr;
  // The other ranks, if they are threads; they end before what they speak by.
  std::unique_ptr<Communicator> own_rank_;
  std::vector<std::unique_ptr<Communicator>> other_ranks_;  // until load()
  std::unique_ptr<RankThreads> rank_threads_;
  std::atomic<int32_t> stop_{0};
  uint64_t input_bytes_copied_ = 0;
  std::optional<Digest> identity_;
  mutable bool host_samples_ = false;  // found while a pass is recorded

  // Device objects: destroyed in reverse order, programs before weights before the memories that
  // they read.
  std::vector<Place> places_;
  // The ranks' devices sum by themselves; none: the host does, and why. Given up with the run.
  mutable DeviceComm comm_;
  std::string no_comm_;
  std::unique_ptr<Placer> placer_;
  std::unique_ptr<AdapterBanks> banks_;  // never null
  std::vector<std::shared_ptr<const AdapterFile>> adapter_files_;
  // The main pass in each form of sampling, recorded when first used: a mask and a list of the most
  // likely tokens cost every row of a step that has them. The passes of a draft, without a mask and
  // with one, have no forward where the model has no such pass.
  std::array<Pass, 4> main_;
  std::array<std::array<Pass, 2>, 3> draft_;
};

}  // namespace hadal
