#include "engine/model_runner.h"

#include <algorithm>
#include <map>

#include "base/cpu_info.h"
#include "base/disk.h"
#include "checkpoint/digest.h"
#include "engine/not_finite.h"
#include "engine/request.h"
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

Error declined_operators(const std::string& chip,
                         const std::map<std::string, std::string>& declined) {
  std::map<std::string, std::pair<int, std::string>> groups;
  for (const auto& [what, why] : declined) {
    auto& [count, reason] = groups[what.substr(0, what.find('('))];
    if (count++ == 0) reason = what + ": " + why;
  }
  std::string text = "chip " + chip + " declines operators that this model needs";
  const char* separator = ": ";
  for (const auto& [op, group] : groups) {
    text += separator + op + " (" + std::to_string(group.first) + "), the first: " + group.second;
    separator = "; ";
  }
  return failed(std::move(text));
}

Result<std::unique_ptr<ModelRunner>> ModelRunner::open(const Checkpoint& checkpoint,
                                                       const RunnerOptions& options) {
  std::unique_ptr<ModelRunner> r(new ModelRunner);
  r->checkpoint_ = &checkpoint;
  r->options_ = options;
  HADAL_TRY(r->model_, make_model(checkpoint.config(),
                                  {.draft = options.draft, .tail_rows = options.tail_rows}));
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
  HADAL_TRY(r->device_, Device::open(options.device));

  const ModelSpec& spec = r->model_->spec();
  r->context_ = options.context > 0 ? options.context : spec.max_position_embeddings;
  if (r->context_ > spec.max_position_embeddings)
    return context_error("a context of " + std::to_string(r->context_) +
                             " tokens is more than the model's limit of " +
                             std::to_string(spec.max_position_embeddings),
                         spec.max_position_embeddings);
  StepLimits limits;
  limits.tokens = std::max<int64_t>(1, options.max_tokens);
  limits.sequences = std::max<int64_t>(1, options.max_sequences);
  limits.logit_rows = std::max<int64_t>(1, options.max_logit_rows);
  limits.vocab = spec.vocab_size;
  limits.top = std::min(kMaxTopLogprobs, spec.vocab_size);
  limits.hidden = spec.draft.hidden;
  limits.blocks = spec.draft.is_dspark();
  limits.logit_rows = std::max(limits.logit_rows, spec.draft.block);
  // A draft's rows whose logits are wanted leave their states where rows of tokens have them.
  if (limits.hidden > 0) limits.tokens = std::max(limits.tokens, limits.logit_rows);
  limits.entries =
      (std::min(r->context_, spec.vocab_size) + limit("logit_bias").most + kMostBadWords) *
      limits.sequences;
  limits.tail = spec.tail_halo > 0;
  limits.extra = spec.extra_width;
  limits.adapters = options.more_adapters || !options.adapters.empty();
  r->set_drafts();
  // What a draft writes behind the last token has a place at the end of the context, too.
  const int64_t positions = r->context_ + spec.draft.reach();
  r->blocks_ = blocks_of_groups(spec, positions, limits.sequences,
                                limits.tokens + spec.draft.reach(), options.cache_tokens);
  for (const PlaneGroup& group : spec.groups) {
    const int64_t block_tokens = group.block_slots * group.ratio;
    limits.max_blocks.push_back((positions + block_tokens - 1) / block_tokens);
  }
  limits.alignment = r->device_->alignment();
  r->layout_ = std::make_unique<StepLayout>(limits);
  for (const Plane& plane : spec.planes) {
    hadal_plane_desc desc{};
    desc.size = sizeof desc;
    desc.role = static_cast<uint32_t>(plane.role);
    desc.dtype = plane_dtype(plane.role, options.kv_cache_dtype);
    desc.heads = static_cast<uint32_t>(plane.heads);
    desc.slots = spec.groups[plane.group].block_slots;
    desc.width = plane.width;
    HADAL_TRY(const uint64_t bytes, r->device_->plane_block_bytes(desc));
    r->block_bytes_.push_back(bytes);
  }
  r->step_planes_ =
      std::make_unique<StepPlanes>(spec, options.kv_cache_dtype, r->blocks_, r->block_bytes_);

  HADAL_TRY(WeightLoader weights,
            WeightLoader::plan(*r->device_, r->model_->weights(), options.weights));
  r->loader_ = std::make_unique<WeightLoader>(std::move(weights));

  HADAL_TRY(Adapters adapters, r->plan_adapters(options.adapters));
  r->scratch_bytes_ = adapters.cost.scratch_bytes;
  r->workspace_bytes_ = adapters.cost.workspace_bytes;
  r->use_adapters(options.adapters, std::move(adapters));
  return r;
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

void ModelRunner::forward(const Pass& pass, Sink& sink, uint64_t* scratch_bytes,
                          std::set<const AdapterBank*>* adapters) const {
  const auto limits = layout_->limits.dims();
  // Handles are left out, so that the answer is the same before and after the load.
  const auto takes = [&](const hadal_op& op, std::span<const Tensor> tensors) {
    std::array<Tensor, HADAL_MAX_OPERANDS> unbound{};
    std::copy(tensors.begin(), tensors.end(), unbound.begin());
    for (Tensor& t : unbound) t.weight = nullptr;
    const bool taken = device_->query(op, unbound, limits.data()).supported;
    if (op.id == HADAL_OP_SAMPLE && !taken) host_samples_ = true;
    return taken;
  };
  Ops ops(sink, *layout_, takes, pass.sample);
  ((*model_).*pass.forward)(ops, *step_planes_);
  if (adapters) adapters->insert(ops.adapters_used().begin(), ops.adapters_used().end());
  if (scratch_bytes) *scratch_bytes = std::max(*scratch_bytes, ops.scratch_bytes());
}

void ModelRunner::each_pass(const std::function<void(const Pass&)>& body) const {
  body(main_.back());  // the form of sampling that does most
  for (const auto& pass : draft_)
    if (pass[1].forward) body(pass[1]);
}

StepCost ModelRunner::step_cost(std::array<int64_t, HADAL_DIM_COUNT> rows, double context) const {
  StepCost cost;
  CostSink sink(*device_, *layout_, rows, context, cost);
  each_pass([&](const Pass& pass) { forward(pass, sink, &cost.scratch_bytes); });
  return cost;
}

uint64_t ModelRunner::plane_layer_bytes(size_t plane, int64_t blocks) const {
  return static_cast<uint64_t>(blocks) * block_bytes_[plane];
}

MemoryPlan ModelRunner::memory_plan() const {
  MemoryPlan m;
  m.weights = loader_->bytes();
  m.mapped = loader_->mapped_bytes();
  m.adapters = banks_->bytes();
  const ModelSpec& spec = model_->spec();
  for (size_t p = 0; p < spec.planes.size(); ++p) {
    const PlaneGroup& group = spec.groups[spec.planes[p].group];
    const auto layers = static_cast<uint64_t>(spec.planes[p].layers);
    const uint64_t bytes = layers * plane_layer_bytes(p, blocks_[spec.planes[p].group]);
    m.cache += bytes;
    if (group.keep > 0)
      m.cache_kept += bytes;
    else
      m.cache_per_token +=
          layers * plane_layer_bytes(p, 1) / static_cast<uint64_t>(group.block_slots * group.ratio);
  }
  m.scratch = scratch_bytes_;
  m.step = 2 * layout_->input_bytes + layout_->output_bytes;
  m.workspace = workspace_bytes_;
  m.available = device_->info().host_memory ? available_memory() : device_->info().memory_free;
  return m;
}

Status ModelRunner::check_memory() const {
  const MemoryPlan m = memory_plan();
  if (m.fits()) return {};
  const uint64_t made = m.weights - m.mapped;
  std::string text = checkpoint_->path().string() + " needs " + gib(m.needed()) + " of memory (";
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
  if (made > 0 && m.available > rest)
    text += "; a file quantised to at most " + gib(m.available - rest) + " of weights would fit";
  return memory_error(text);
}

std::optional<FromDisk> ModelRunner::from_disk(double context) const {
  constexpr double kSeconds = 0.2;
  const MemoryPlan m = memory_plan();
  if (m.missing() == 0) return std::nullopt;
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
  if (options_.check_memory) {
    HADAL_TRY(check_memory());
  }
  HADAL_TRY(loader_->load(checkpoint_->files(), progress));
  HADAL_TRY(banks_->load());
  HADAL_TRY(inputs_, device_->allocate(layout_->input_bytes));
  HADAL_TRY(outputs_, device_->allocate(layout_->output_bytes));
  HADAL_TRY(scratch_, device_->allocate(scratch_bytes_));
  const ModelSpec& spec = model_->spec();
  for (size_t p = 0; p < spec.planes.size(); ++p)
    for (int64_t layer = 0; layer < spec.planes[p].layers; ++layer) {
      HADAL_TRY(DeviceMemory memory,
                device_->allocate(plane_layer_bytes(p, blocks_[spec.planes[p].group])));
      plane_handles_.push_back(memory.get());
      planes_.push_back(std::move(memory));
    }
  if (options_.eager || !device_->has_program()) {
    HADAL_TRY(workspace_, device_->allocate(workspace_bytes_));
  }
  return record_all();
}

Status ModelRunner::record_all() {
  if (options_.eager) return {};
  HADAL_TRY(record(main_[0]));
  for (auto& pass : draft_)
    if (pass[0].forward) HADAL_TRY(record(pass[0]));
  return {};
}

Status ModelRunner::record(Pass& pass) {
  TapeSink sink(pass.tape);
  forward(pass, sink, nullptr);
  pass.tape.seal(*layout_, scratch_bytes_, step_planes_->count());
  if (!device_->has_program()) return {};
  auto program = device_->prepare(pass.tape.head);
  if (!program) {
    pass.tape = {};  // the next step tries again
    return std::move(program).error();
  }
  pass.program = *std::move(program);
  return {};
}

Status ModelRunner::copy_blocks(std::span<const BlockCopy> copies) const {
  const ModelSpec& spec = model_->spec();
  size_t memory = 0;
  for (size_t p = 0; p < spec.planes.size(); ++p)
    for (int64_t layer = 0; layer < spec.planes[p].layers; ++layer, ++memory)
      for (const BlockCopy& copy : copies) {
        if (copy.group != spec.planes[p].group) continue;
        const uint64_t bytes = block_bytes_[p];
        HADAL_TRY(device_->copy(planes_[memory], static_cast<uint64_t>(copy.to) * bytes,
                                planes_[memory], static_cast<uint64_t>(copy.from) * bytes, bytes));
      }
  return {};
}

uint64_t ModelRunner::unit_bytes(uint64_t groups) const {
  const ModelSpec& spec = model_->spec();
  uint64_t bytes = 0;
  for (size_t p = 0; p < spec.planes.size(); ++p) {
    const PlaneGroup& group = spec.groups[spec.planes[p].group];
    if (groups >> spec.planes[p].group & 1)
      bytes += static_cast<uint64_t>(spec.planes[p].layers * spec.reuse_unit /
                                     (group.block_slots * group.ratio)) *
               block_bytes_[p];
  }
  return bytes;
}

Status ModelRunner::each_part(const UnitBlocks& blocks, uint64_t groups,
                              const PagePart& body) const {
  const ModelSpec& spec = model_->spec();
  uint64_t at = 0;
  size_t memory = 0;
  for (size_t p = 0; p < spec.planes.size(); ++p)
    for (int64_t layer = 0; layer < spec.planes[p].layers; ++layer, ++memory) {
      const size_t g = spec.planes[p].group;
      if ((groups >> g & 1) == 0) continue;
      const PlaneGroup& group = spec.groups[g];
      const auto count = static_cast<size_t>(spec.reuse_unit / (group.block_slots * group.ratio));
      for (size_t i = 0; i < count; ++i, at += block_bytes_[p])
        if (!blocks[g].empty())
          HADAL_TRY(body(planes_[memory], static_cast<uint64_t>(blocks[g][i]) * block_bytes_[p], at,
                         block_bytes_[p]));
    }
  return {};
}

Status ModelRunner::read_unit(const UnitBlocks& blocks, uint64_t groups,
                              std::span<std::byte> bytes) const {
  const Status queued = each_part(
      blocks, groups, [&](const DeviceMemory& plane, uint64_t offset, uint64_t at, uint64_t size) {
        return device_->copy_out(bytes.subspan(at, size), plane, offset);
      });
  HADAL_TRY(device_->sync());  // even if one was refused: those before it are on their way
  return queued;
}

Status ModelRunner::write_unit(const UnitBlocks& blocks, uint64_t groups,
                               std::span<const std::byte> bytes) const {
  return each_part(blocks, groups,
                   [&](const DeviceMemory& plane, uint64_t offset, uint64_t at, uint64_t size) {
                     return device_->copy_in(plane, offset, bytes.subspan(at, size));
                   });
}

const Digest& ModelRunner::identity() {
  if (identity_) return *identity_;
  const ModelSpec& spec = model_->spec();
  const hadal_device_info& info = device_->info();
  Sha256 sha;
  sha.add("hadal").add(HADAL_VERSION).add(model_digest(*checkpoint_));
  sha.add(device_->chip_name()).add(info.kernels).add(uint64_t{info.kernels_version});
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
    sha.add(block_bytes_[p]);
  }
  return identity_.emplace(sha.finish());
}

hadal_step ModelRunner::make_step(const std::array<int64_t, HADAL_DIM_COUNT>& rows) {
  hadal_step step{};
  step.size = sizeof step;
  step.plane_count = static_cast<uint32_t>(plane_handles_.size());
  std::copy(rows.begin(), rows.end(), step.rows);
  step.scratch = scratch_.get();
  step.inputs = inputs_.get();
  step.outputs = outputs_.get();
  step.workspace = workspace_.get();
  step.planes = plane_handles_.data();
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
  for (const auto& [offset, bytes] : inputs.changed()) {
    HADAL_TRY(device_->copy_in(inputs_, offset, bytes));
    input_bytes_copied_ += bytes.size();
  }
  inputs.copied();
  hadal_step step = make_step(inputs.rows);
  step.host_inputs = inputs.data();
  if (!stoppable) step.stop = nullptr;
  if (options_.eager) {
    EagerSink sink(*device_, step, step_planes_->count());
    forward(pass, sink, nullptr);
    return sink.status();
  }
  if (pass.tape.ops.empty()) HADAL_TRY(record(pass));
  if (pass.program) return device_->run_program(pass.program, step);
  return device_->run_ops(pass.tape.head, 0, pass.tape.head.op_count, step);
}

Error ModelRunner::explain_not_finite(const StepInputs& inputs) {
  const std::string what = "the model's numbers are not finite any more";
  const auto explained = [&]() -> Result<std::string> {
    if (!workspace_) {
      HADAL_TRY(workspace_, device_->allocate(workspace_bytes_));
    }
    const hadal_step step = make_step(inputs.rows);
    NotFiniteSink sink(*device_, step, step_planes_->count(), scratch_, outputs_,
                       model_->weights());
    const Pass& pass = main_[inputs.masked ? 1 : 0];
    forward(pass, sink, nullptr);
    HADAL_TRY(sink.status());
    return sink.found();
  }();
  Error error = failed(what);
  if (explained && !explained->empty()) error.message += ": they first come out of " + *explained;
  if (options_.kv_cache_dtype == HADAL_F16) {
    error.message += "; f16, the type of the cache, ends at 65504, bf16 holds larger numbers";
    error.setting = Setting::kCacheBf16;
  } else {
    error.message += "; the weights may hold such numbers themselves (inspect --deep)";
  }
  return error;
}

}  // namespace hadal
