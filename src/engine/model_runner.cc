#include "engine/model_runner.h"

#include <algorithm>
#include <map>

#include "base/cpu_info.h"
#include "base/disk.h"
#include "checkpoint/digest.h"
#include "checkpoint/printable.h"
#include "device/thread_group.h"
#include "engine/automatic_place.h"
#include "engine/request.h"
#include "engine/step_sink.h"
#include "hadal/version.h"

namespace hadal {
namespace {

/// A context that is too long, and one that would not be.
Error context_error(std::string message, int64_t fits) {
  Error error = memory_error(std::move(message));
  error.setting = Setting::kContext;
  error.suggestion = fits;
  return error;
}

std::string gib(uint64_t bytes) {
  const double value = static_cast<double>(bytes) / static_cast<double>(uint64_t{1} << 30);
  char text[32];
  std::snprintf(text, sizeof text, value < 0.1 ? "%.3f GiB" : "%.2f GiB", value);
  return text;
}

}  // namespace

namespace {

Shard shard_of(const RunnerOptions& options) {
  if (!options.ranks) return {};
  return {.rank = options.ranks->rank(), .ranks = options.ranks->ranks()};
}

}  // namespace

Error declined_operators(const std::string& chip,
                         const std::map<std::string, std::string>& declined) {
  constexpr size_t kShapes = 60;  // bytes of an operator with its shapes
  struct Group {
    int more = -1;
    std::string first, reason;
  };
  std::map<std::string, Group> groups;
  for (const auto& [what, why] : declined) {
    Group& group = groups[what.substr(0, what.find('('))];
    if (++group.more > 0) continue;
    group.first = printable(what, kShapes);
    // A chip may begin with its own name and the operator's, as if nobody had said them.
    const std::string name = what.substr(0, what.find('(')) + ": ";
    const size_t at = why.find(name);
    const bool said = at == 0 || (at != std::string::npos && why.find(": ") + 2 == at);
    group.reason = said ? why.substr(at + name.size()) : why;
  }
  std::string text = "chip " + chip + " declines operators that this model needs";
  const char* separator = ": ";
  for (const auto& [op, group] : groups) {
    text += separator + group.first;
    if (group.more > 0) text += " and " + std::to_string(group.more) + " more";
    text += ": " + group.reason;
    separator = "; ";
  }
  return failed(std::move(text));
}

Result<std::unique_ptr<ModelRunner>> ModelRunner::open(const Checkpoint& checkpoint,
                                                       const RunnerOptions& options) {
  const bool divided = options.ranks || options.rank_threads > 1;  // refused by check_ranks
  if (options.place == kAutomaticPlace && !divided) {
    RunnerOptions placed = options;
    placed.place.clear();
    HADAL_TRY(std::unique_ptr<ModelRunner> together, open(checkpoint, placed));
    AutomaticPlace chosen = automatic_place(*together);
    if (chosen.rules.empty()) return together;
    together.reset();
    placed.place = std::move(chosen.rules);
    if (chosen.leaves) {
      placed.place.clear();
      placed.device = {.chip = "cpu",
                       .threads = options.device.threads,
                       .exact = options.device.exact,
                       .plugin_folders = options.device.plugin_folders,
                       .log = options.device.log};
    }
    HADAL_TRY(std::unique_ptr<ModelRunner> runner, open(checkpoint, placed));
    runner->place_reason_ = std::move(chosen.reason);
    return runner;
  }
  std::unique_ptr<ModelRunner> r(new ModelRunner);
  r->checkpoint_ = &checkpoint;
  r->options_ = options;
  HADAL_TRY(r->check_ranks());
  if (options.rank_threads > 1) {
    r->other_ranks_ = ThreadGroup::make(options.rank_threads);
    r->own_rank_ = std::move(r->other_ranks_[0]);
    r->other_ranks_.erase(r->other_ranks_.begin());
    r->options_.ranks = r->own_rank_.get();
  }
  HADAL_TRY(r->model_, make_model(checkpoint.config(), {.draft = options.draft,
                                                        .tail_rows = options.tail_rows,
                                                        .shard = shard_of(r->options_)}));
  for (size_t i = 0; i < r->main_.size(); ++i) {
    r->main_[i].forward = &Model::forward;
    r->main_[i].sample = {.mask = (i & 1) != 0, .top = (i & 2) != 0};
  }
  HADAL_TRY(r->model_->bind(checkpoint));
  if (r->model_->needs_compressed_vocabulary()) {
    HADAL_CHECK(options.compressed_vocabulary);
    HADAL_TRY(const CompressedVocabulary vocabulary, options.compressed_vocabulary());
    HADAL_TRY(r->model_->take_vocabulary(vocabulary));
  }
  Placement placement(DeviceName{.chip = options.device.chip, .index = options.device.index});
  if (!options.place.empty()) {
    HADAL_TRY(placement, Placement::parse(options.place, placement.devices()[0]));
  }
  HADAL_TRY(placement.check(r->model_->spec().num_hidden_layers));
  r->placement_ = std::move(placement);
  if (options.fallback) r->fallback_ = r->placement_->add({.chip = "cpu"});
  HADAL_TRY(r->places_, r->open_places(r->placement_->devices()));

  const ModelSpec& spec = r->model_->spec();
  r->context_ = options.context > 0 ? options.context : spec.max_position_embeddings;
  if (r->context_ > spec.max_position_embeddings)
    return context_error("a context of " + std::to_string(r->context_) +
                             " tokens is more than the model's limit of " +
                             std::to_string(spec.max_position_embeddings),
                         spec.max_position_embeddings);
  r->set_drafts();
  const int64_t asked = options.max_tokens;
  for (;; r->options_.max_tokens /= 2) {
    r->layout_ = std::make_unique<StepLayout>(r->step_limits());
    HADAL_TRY(r->prepare());
    if (!r->step_is_too_large() || r->options_.max_tokens <= 1) break;
  }
  if (const int64_t used = r->options_.max_tokens; used < asked)
    r->step_reason_ = "steps bring at most " + std::to_string(used) + " tokens: the memory for " +
                      std::to_string(asked) + " would not be given in one piece";
  return r;
}

/// The most that a step may bring, and the blocks that this takes.
StepLimits ModelRunner::step_limits() {
  const ModelSpec& spec = model_->spec();
  StepLimits limits;
  limits.tokens = std::max<int64_t>(1, options_.max_tokens);
  limits.sequences = std::max<int64_t>(1, options_.max_sequences);
  limits.logit_rows = std::max<int64_t>(1, options_.max_logit_rows);
  limits.vocab = spec.vocab_size;
  limits.top = std::min(kMaxTopLogprobs, spec.vocab_size);
  limits.hidden = spec.draft.hidden;
  limits.blocks = spec.draft.is_dspark();
  limits.logit_rows = std::max(limits.logit_rows, spec.draft.block);
  // A draft's rows whose logits are wanted leave their states where rows of tokens have them.
  if (limits.hidden > 0) limits.tokens = std::max(limits.tokens, limits.logit_rows);
  limits.entries =
      (std::min(context_, spec.vocab_size) + limit("logit_bias").most + kMostBadWords) *
      limits.sequences;
  limits.tail = spec.tail_halo > 0;
  limits.extra = spec.extra_width;
  limits.adapters = options_.more_adapters || !options_.adapters.empty();
  // What a draft writes behind the last token has a place at the end of the context, too.
  const int64_t positions = context_ + spec.draft.reach();
  blocks_ = blocks_of_groups(spec, positions, limits.sequences, limits.tokens + spec.draft.reach(),
                             options_.cache_tokens);
  for (const PlaneGroup& group : spec.groups) {
    const int64_t block_tokens = group.block_slots * group.ratio;
    limits.max_blocks.push_back((positions + block_tokens - 1) / block_tokens);
  }
  limits.alignment = options_.alignment;
  for (const Place& place : places_)
    limits.alignment = std::max(limits.alignment, place.device->alignment());
  return limits;
}

void ModelRunner::set_drafts() {
  const DraftSpec& draft = model_->spec().draft;
  for (size_t mask = 0; mask < 2; ++mask) {
    for (auto& pass : draft_) pass[mask].sample.mask = mask == 1;
    if (draft.kind == DraftSpec::Kind::kNone) continue;
    draft_[static_cast<size_t>(DraftPass::kRows)][mask].forward = &Model::draft;
    if (!draft.is_dspark()) continue;
    draft_[static_cast<size_t>(DraftPass::kBlock)][mask].forward = &Model::draft_block;
    draft_[static_cast<size_t>(DraftPass::kNext)][mask].forward = &Model::draft_next;
  }
}

bool ModelRunner::is_draft(const Pass& pass) const { return pass.forward != main_[0].forward; }

void ModelRunner::forward(const Pass& pass, Sink& sink, uint64_t* scratch_bytes,
                          std::set<const AdapterBank*>* adapters) const {
  const auto takes = [&](const hadal_op& op, std::span<const Tensor> tensors) {
    if (options_.lower_all && op.id != HADAL_OP_SAMPLE) return false;
    const bool taken = placer_->takes(op, tensors);
    if (op.id == HADAL_OP_SAMPLE && !taken) host_samples_ = true;
    return taken;
  };
  Ops ops(sink, *layout_, takes, pass.sample, model_->spec().shard.ranks);
  ops.begin(is_draft(pass) ? Region::Part::kHead : Region::Part::kEmbedding);
  ((*model_).*pass.forward)(ops, *step_planes_);
  if (adapters) adapters->insert(ops.adapters_used().begin(), ops.adapters_used().end());
  if (scratch_bytes) *scratch_bytes = std::max(*scratch_bytes, ops.scratch_bytes());
}

void ModelRunner::each_pass(const std::function<void(const Pass&)>& body) const {
  body(main_.back());  // the form of sampling that does most
  for (const auto& pass : draft_)
    if (pass[1].forward) body(pass[1]);
}

Status ModelRunner::check_memory() const {
  for (const MemoryPlan& m : memory_plans())
    if (!m.fits()) return does_not_fit(m);
  return check_allocations();
}

Error ModelRunner::does_not_fit(const MemoryPlan& m) const {
  const uint64_t made = m.weights - m.mapped;
  std::string text = checkpoint_->path().string() + " needs " + gib(m.needed()) + " of memory" +
                     (m.where.empty() ? "" : " on " + m.where) + " (";
  if (made > 0) text += "weights " + gib(made) + ", ";
  if (m.adapters > 0) text += "adapters " + gib(m.adapters) + ", ";
  text += "cache " + gib(m.cache) + ", working memory " + gib(m.scratch + m.step + m.workspace) +
          "), " + gib(m.available) + " are free";
  const uint64_t fixed = m.needed() - m.cache + m.cache_kept;
  if (fixed < m.available && m.cache_per_token > 0) {
    const auto contexts =
        static_cast<uint64_t>(options_.cache_tokens > 0 ? 1 : layout_->limits.sequences);
    const uint64_t tokens = (m.available - fixed) / m.cache_per_token / contexts / 64 * 64;
    if (tokens > 0)
      return context_error(text + "; a context of " + std::to_string(tokens) + " tokens would fit",
                           static_cast<int64_t>(tokens));
  }
  const uint64_t rest = m.needed() - made;
  const bool as_stored = std::all_of(places_.begin(), places_.end(), [](const Place& place) {
    return place.loader->conversions().empty();
  });
  if (on_one_device() && device().info().host_memory == 0)
    text += "; --place auto puts what does not fit on the cpu";
  else if (made > 0 && m.available > rest && as_stored)
    text += "; a file quantised to at most " + gib(m.available - rest) + " of weights would fit";
  return memory_error(text);
}

std::optional<FromDisk> ModelRunner::from_disk(double context) const {
  constexpr double kSeconds = 0.2;
  const std::vector<MemoryPlan> plans = memory_plans();  // one of them is the host's
  const auto short_of = std::find_if(plans.begin(), plans.end(),
                                     [](const MemoryPlan& plan) { return plan.missing() > 0; });
  if (short_of == plans.end()) return std::nullopt;
  const MemoryPlan& m = *short_of;
  FromDisk disk{.missing = m.missing(), .bytes_per_second = {}, .tokens_per_second = {}};
  // The largest file tells how fast the disk is.
  const auto& files = checkpoint_->files();
  const auto largest = std::max_element(
      files.begin(), files.end(),
      [](const MappedFile& a, const MappedFile& b) { return a.bytes().size() < b.bytes().size(); });
  if (largest == files.end()) return disk;
  disk.bytes_per_second = disk_bytes_per_second(largest->path(), kSeconds);
  const double part = static_cast<double>(m.missing()) / static_cast<double>(m.mapped);
  const double bytes = step_cost({1, 1, 1, 1, 1}, context).bytes * part;
  if (disk.bytes_per_second && bytes > 0) disk.tokens_per_second = *disk.bytes_per_second / bytes;
  return disk;
}

std::string FromDisk::text() const {
  std::string text = gib(missing) +
                     " of the weights do not fit in memory: they are read from the "
                     "disk again and again";
  if (!tokens_per_second) return text;
  char rate[96];
  std::snprintf(rate, sizeof rate, "; at its %.2f GB/s that allows about %.2g tokens/s",
                *bytes_per_second / 1e9, *tokens_per_second);
  return text + rate;
}

Status ModelRunner::load(const LoadProgress& progress) {
  Status fits = options_.check_memory ? check_memory() : Status();
  if (!fits && (!options_.ranks || leads())) return fits;  // nobody else was asked yet
  if (leads()) HADAL_TRY(call_ranks());
  return checked(load_together(std::move(fits), progress));
}

Status ModelRunner::load_together(Status fits, const LoadProgress& progress) {
  HADAL_TRY(agree_with_ranks(std::move(fits)));
  HADAL_TRY(compare_ranks());
  HADAL_TRY(agree_with_ranks(load_here(progress)));
  HADAL_TRY(join_devices());
  HADAL_TRY(agree_with_ranks(record_all()));
  loaded_ = true;
  return {};
}

Status ModelRunner::load_here(const LoadProgress& progress) {
  for (Place& place : places_) {
    const Device& device = *place.device;
    HADAL_TRY(place.loader->load(checkpoint_->files(), progress));
    HADAL_TRY(place.inputs, device.allocate(layout_->input_bytes));
    HADAL_TRY(place.outputs, device.allocate(layout_->output_bytes));
    HADAL_TRY(place.scratch, device.allocate(scratch_bytes_));
    if (options_.eager || options_.lower_all || !device.has_program()) {
      HADAL_TRY(place.workspace, device.allocate(place.workspace_bytes));
    }
  }
  HADAL_TRY(banks_->load());
  for (size_t plane = 0; plane < step_planes_->count(); ++plane) {
    Place& place = places_[placer_->plane_place(plane)];
    HADAL_TRY(DeviceMemory memory, place.device->allocate(plane_bytes(plane)));
    place.plane_handles.push_back(memory.get());
    place.planes.push_back(std::move(memory));
  }
  return {};
}

Status ModelRunner::record_all() {
  if (options_.eager) return {};
  HADAL_TRY(record(main_[0]));
  for (auto& pass : draft_)
    if (pass[0].forward) HADAL_TRY(record(pass[0]));
  return {};
}

Status ModelRunner::record(Pass& pass) {
  // What an earlier pass of the step leaves in the outputs: the main one, and of blocks the first.
  if (is_draft(pass)) pass.tape.outputs = main_[0].tape.outputs;
  const Pass& block = draft_[static_cast<size_t>(DraftPass::kBlock)][0];
  if (block.forward && &pass != &block && block.tape.recorded() && is_draft(pass))
    pass.tape.outputs = block.tape.outputs;
  SegmentSink sink(*placer_, places_.size(), layout_->limits.dims(), static_cast<bool>(comm_),
                   options_.choices != nullptr, pass.tape);
  forward(pass, sink, nullptr);
  Status sealed = pass.tape.seal(places_, *layout_, scratch_bytes_);
  if (!sealed) pass.tape.clear();  // the next step tries again
  return sealed;
}

Status ModelRunner::copy_blocks(std::span<const BlockCopy> copies) const {
  if (leads()) HADAL_TRY(checked(send_copies(*options_.ranks, copies)));
  return checked(copy_blocks_here(copies));
}

Status ModelRunner::copy_blocks_here(std::span<const BlockCopy> copies) const {
  for (size_t plane = 0; plane < step_planes_->count(); ++plane)
    for (const BlockCopy& copy : copies) {
      if (copy.group != step_planes_->group(plane)) continue;
      const uint64_t bytes = placer_->block_bytes(plane);
      const DeviceMemory& memory = plane_memory(plane);
      HADAL_TRY(places_[placer_->plane_place(plane)].device->copy(
          memory, static_cast<uint64_t>(copy.to) * bytes, memory,
          static_cast<uint64_t>(copy.from) * bytes, bytes));
    }
  return {};
}

uint64_t ModelRunner::unit_bytes(uint64_t groups) const {
  const ModelSpec& spec = model_->spec();
  uint64_t bytes = 0;
  for (size_t plane = 0; plane < step_planes_->count(); ++plane) {
    const size_t g = step_planes_->group(plane);
    const PlaneGroup& group = spec.groups[g];
    if (groups >> g & 1)
      bytes += static_cast<uint64_t>(spec.reuse_unit / (group.block_slots * group.ratio)) *
               placer_->block_bytes(plane);
  }
  return bytes;
}

Status ModelRunner::each_part(const UnitBlocks& blocks, uint64_t groups,
                              const PagePart& body) const {
  const ModelSpec& spec = model_->spec();
  uint64_t at = 0;
  for (size_t plane = 0; plane < step_planes_->count(); ++plane) {
    const size_t g = step_planes_->group(plane);
    if ((groups >> g & 1) == 0) continue;
    const PlaneGroup& group = spec.groups[g];
    const auto count = static_cast<size_t>(spec.reuse_unit / (group.block_slots * group.ratio));
    const uint64_t bytes = placer_->block_bytes(plane);
    for (size_t i = 0; i < count; ++i, at += bytes)
      if (!blocks[g].empty())
        HADAL_TRY(body(plane, static_cast<uint64_t>(blocks[g][i]) * bytes, at, bytes));
  }
  return {};
}

Status ModelRunner::read_unit(const UnitBlocks& blocks, uint64_t groups,
                              std::span<std::byte> bytes) const {
  const Status queued =
      each_part(blocks, groups, [&](size_t plane, uint64_t offset, uint64_t at, uint64_t size) {
        return places_[placer_->plane_place(plane)].device->copy_out(bytes.subspan(at, size),
                                                                     plane_memory(plane), offset);
      });
  HADAL_TRY(sync());  // even if one was refused: those before it are on their way
  return queued;
}

Status ModelRunner::write_unit(const UnitBlocks& blocks, uint64_t groups,
                               std::span<const std::byte> bytes) const {
  return each_part(blocks, groups, [&](size_t plane, uint64_t offset, uint64_t at, uint64_t size) {
    return places_[placer_->plane_place(plane)].device->copy_in(plane_memory(plane), offset,
                                                                bytes.subspan(at, size));
  });
}

const Digest& ModelRunner::identity() {
  if (identity_) return *identity_;
  const ModelSpec& spec = model_->spec();
  Sha256 sha;
  sha.add("hadal").add(HADAL_VERSION).add(model_digest(*checkpoint_));
  sha.add(options_.place).add(uint64_t{options_.fallback});
  sha.add(static_cast<uint64_t>(spec.shard.ranks));
  for (const Place& place : places_) {
    const hadal_device_info& info = place.device->info();
    sha.add(place.name).add(place.device->chip_name());
    sha.add(info.kernels).add(uint64_t{info.kernels_version});
  }
  sha.add(uint64_t{options_.device.exact}).add(static_cast<uint64_t>(options_.weights));
  sha.add(static_cast<uint64_t>(options_.tail_rows.value_or(-1))).add(uint64_t{options_.draft});
  sha.add(static_cast<uint64_t>(spec.reuse_unit));
  for (const auto& [name, value] : options_.device.chip_options) sha.add(name).add(value);
  for (size_t p = 0; p < spec.planes.size(); ++p) {
    const Plane& plane = spec.planes[p];
    const PlaneGroup& group = spec.groups[plane.group];
    for (const int64_t number : {static_cast<int64_t>(plane.role), plane.layers, plane.width,
                                 plane.heads, group.ratio, group.block_slots, group.keep})
      sha.add(static_cast<uint64_t>(number));
    sha.add(static_cast<uint64_t>(plane_dtype(plane.role, options_.kv_cache_dtype)));
  }
  for (size_t plane = 0; plane < step_planes_->count(); ++plane)
    sha.add(placer_->block_bytes(plane));
  return identity_.emplace(sha.finish());
}

hadal_step ModelRunner::make_step(const Place& place,
                                  const std::array<int64_t, HADAL_DIM_COUNT>& rows) {
  hadal_step step{};
  step.size = sizeof step;
  step.plane_count = static_cast<uint32_t>(place.plane_handles.size());
  std::copy(rows.begin(), rows.end(), step.rows);
  step.scratch = place.scratch.get();
  step.inputs = place.inputs.get();
  step.outputs = place.outputs.get();
  step.workspace = place.workspace.get();
  step.planes = place.plane_handles.data();
  // A lock-free atomic has the layout of its value; a chip reads it as one.
  static_assert(sizeof stop_ == sizeof(int32_t) && std::atomic<int32_t>::is_always_lock_free);
  step.stop = reinterpret_cast<const volatile int32_t*>(&stop_);
  return step;
}

Status ModelRunner::run(StepInputs& inputs, SampleForm sample) {
  return run(main_[(sample.mask ? 1U : 0U) | (sample.top ? 2U : 0U)], inputs, true);
}

Status ModelRunner::run(Pass& pass, StepInputs& inputs, bool stoppable) {
  input_bytes_copied_ = 0;
  // A chip need not look at the flag before its work is done.
  if (stoppable && stop_.load(std::memory_order_relaxed) != 0)
    return Error{ErrorCode::kInterrupted, "stopped before the step began"};
  const bool alone = step_sink_ || options_.eager;  // operators one by one are not filled up
  if (!alone)
    inputs.fill_up(filled_rows(inputs.rows[HADAL_DIM_T]), filled_rows(inputs.rows[HADAL_DIM_U]));
  const std::vector<StepInputs::Range> changed = inputs.changed();
  if (leads()) {
    const std::vector<Pass*> passes = all_passes();
    const auto number = std::find(passes.begin(), passes.end(), &pass) - passes.begin();
    HADAL_TRY(checked(send_step(*options_.ranks, static_cast<int32_t>(number), inputs, changed)));
  }
  return checked(run_changed(pass, inputs, changed, stoppable));
}

Status ModelRunner::run_changed(Pass& pass, StepInputs& inputs,
                                std::span<const StepInputs::Range> changed, bool stoppable) {
  for (const auto& [offset, bytes] : changed) {
    for (const Place& place : places_)
      HADAL_TRY(place.device->copy_in(place.inputs, offset, bytes));
    input_bytes_copied_ += bytes.size();
  }
  inputs.copied();
  if (step_sink_) {
    HADAL_TRY(step_sink_->begin(inputs, make_step(places_[0], inputs.rows)));
    forward(pass, *step_sink_, nullptr);
    return step_sink_->status();
  }
  return run_on_places(pass, inputs.rows, inputs.data(), stoppable);
}

Status ModelRunner::run_on_places(Pass& pass, const std::array<int64_t, HADAL_DIM_COUNT>& rows,
                                  const std::byte* host_inputs, bool stoppable) {
  std::vector<hadal_step> steps;
  for (const Place& place : places_) {
    hadal_step& step = steps.emplace_back(make_step(place, rows));
    step.host_inputs = host_inputs;
    // Ranks stop together, between steps.
    if (!stoppable || options_.ranks) step.stop = nullptr;
  }
  if (options_.eager) {
    EagerSink sink(device(), steps[0], step_planes_->count());
    forward(pass, sink, nullptr);
    return sink.status();
  }
  if (!pass.tape.recorded()) HADAL_TRY(record(pass));
  for (size_t i = 0; i < places_.size(); ++i)
    for (const int dim : {HADAL_DIM_T, HADAL_DIM_U})
      steps[i].rows[dim] =
          places_[i].device->filled_rows(steps[i].rows[dim], layout_->limits.tokens);
  return pass.tape.run(places_, steps, rows, options_.ranks, options_.choices, transferred_);
}

}  // namespace hadal
