// The part of ModelRunner that knows devices and memory: what is opened, what lies where, what it
// costs there.
#include <algorithm>

#include "base/cpu_info.h"
#include "engine/model_runner.h"

namespace hadal {
namespace {

double mib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

/// Asks each operator's place for its class.
class AskingSink final : public Sink {
 public:
  AskingSink(Placer& placer, const std::vector<Place>& places,
             const std::array<int64_t, HADAL_DIM_COUNT>& limits)
      : placer_(placer), places_(places), limits_(limits) {}
  void enter(const Region& region) override { placer_.enter(region); }
  void op(const hadal_op& op, std::span<const Tensor> tensors) override {
    if (op.id == HADAL_OP_SAMPLE) return;
    const size_t place = placer_.of(op, tensors);
    const auto operands = placer_.operands(place, tensors, false);
    const auto used = std::span(operands).first(tensors.size());
    Numerics numerics = places_[place].device->query(op, used, limits_.data()).numerics;
    // A chip of contract 1.0 does not say: activations that meet quantised weights are rounded.
    const auto quantised = [](const Tensor& t) {
      return t.space == HADAL_SPACE_WEIGHT && t.dtype != HADAL_F32 && t.dtype != HADAL_F16 &&
             t.dtype != HADAL_BF16;
    };
    if (numerics.numerics == HADAL_NUMERICS_UNSAID)
      numerics = {std::any_of(used.begin(), used.end(), quantised) ? HADAL_NUMERICS_BLOCK8
                                                                   : HADAL_NUMERICS_EXACT,
                  32};
    classes.push_back(numerics);
  }
  std::vector<Numerics> classes;

 private:
  Placer& placer_;
  const std::vector<Place>& places_;
  std::array<int64_t, HADAL_DIM_COUNT> limits_;
};

/// Counts the operators that run at some of the places.
class CountingSink final : public Sink {
 public:
  CountingSink(Placer& placer, const std::map<size_t, std::string>& places)
      : placer_(placer), places_(places) {}
  void enter(const Region& region) override { placer_.enter(region); }
  void op(const hadal_op& op, std::span<const Tensor> tensors) override {
    if (places_.contains(placer_.of(op, tensors))) ++count;
  }
  int64_t count = 0;

 private:
  Placer& placer_;
  const std::map<size_t, std::string>& places_;
};

/// The options of a device other than the user's first: what names a kernel table or is the chip's
/// own is the first chip's.
DeviceOptions options_of(const DeviceName& name, const DeviceOptions& first) {
  DeviceOptions options = first;
  options.chip = name.chip;
  options.index = name.index;
  if (name.chip == first.chip) return options;
  options.kernels.clear();
  options.chip_options.clear();
  return options;
}

}  // namespace

Result<std::vector<Place>> ModelRunner::open_places(const std::vector<DeviceName>& names) const {
  if (names.size() > Holders::kMostPlaces)
    return usage_error("--place names " + std::to_string(names.size()) + " devices, at most " +
                       std::to_string(Holders::kMostPlaces) + " can be used");
  if (names.size() > 1 && options_.eager)
    return usage_error("a model on several devices cannot be run operator by operator");
  std::vector<Place> places;
  for (const DeviceName& name : names) {
    Place& place = places.emplace_back();
    place.name = name.text();
    HADAL_TRY(place.device, Device::open(options_of(name, options_.device)));
  }
  return places;
}

Status ModelRunner::prepare() {
  HADAL_TRY(place_model());
  HADAL_TRY(Adapters adapters, plan_adapters(options_.adapters));
  scratch_bytes_ = adapters.scratch_bytes;
  for (size_t i = 0; i < places_.size(); ++i)
    places_[i].workspace_bytes = adapters.costs[i].workspace_bytes;
  use_adapters(options_.adapters, std::move(adapters));
  return {};
}

bool ModelRunner::lost() const {
  return !loaded_ || ranks_over_ ||
         std::any_of(places_.begin(), places_.end(),
                     [](const Place& place) { return place.device->lost(); });
}

Status ModelRunner::reopen(const std::function<void(std::string_view line)>& log) {
  if (!can_reopen())
    return failed("a device of a model in parts failed, and the other parts with it: start again");
  loaded_ = false;
  for (Pass& pass : main_) pass.tape.clear();
  for (auto& forms : draft_)
    for (Pass& pass : forms) pass.tape.clear();
  if (banks_) banks_->detach();
  banks_.reset();
  for (Place& place : places_) place.release();
  for (size_t i = 0; i < placement_->devices().size(); ++i) {
    const DeviceName name = placement_->devices()[i];
    const auto opened = open_places({name});
    if (opened) continue;
    if (!options_.fallback || name.chip == "cpu") return opened.error();
    placement_->replace(i, {.chip = "cpu", .index = 0, .instance = static_cast<int32_t>(i) + 2});
    replaced_[i] = name.text() + " cannot be opened again (" + opened.error().message + ")";
  }
  HADAL_TRY(std::vector<Place> places, open_places(placement_->devices()));
  placer_.reset();
  identity_.reset();
  places_ = std::move(places);
  for (const Place& place : places_)
    if (place.device->alignment() > layout_->limits.alignment)
      return failed(place.name + " asks for another alignment than before");
  HADAL_TRY(prepare());
  HADAL_TRY(load());
  count_replaced();
  bool told = false;
  for (auto& [place, why] : replaced_)
    if (!why.empty()) {
      log(std::exchange(why, {}) + ": the model is loaded again, and the cpu takes its part");
      told = true;
    }
  if (!told) log("the device is open again, the model is loaded");
  return {};
}

void ModelRunner::count_replaced() {
  CountingSink sink(*placer_, replaced_);
  dry_run(sink);
  replaced_operators_ = sink.count;
}

Result<Placer::BlockBytes> ModelRunner::block_bytes(std::map<size_t, Error>& refused) const {
  const ModelSpec& spec = model_->spec();
  Placer::BlockBytes bytes(places_.size());
  for (size_t i = 0; i < places_.size(); ++i)
    for (const Plane& plane : spec.planes) {
      hadal_plane_desc desc{};
      desc.size = sizeof desc;
      desc.role = static_cast<uint32_t>(plane.role);
      desc.dtype = plane_dtype(plane.role, options_.kv_cache_dtype);
      desc.heads = static_cast<uint32_t>(plane.heads);
      desc.slots = spec.groups[plane.group].block_slots;
      desc.width = plane.width;
      const Result<uint64_t> block = places_[i].device->plane_block_bytes(desc);
      if (!block && places_.size() == 1) return block.error();
      if (!block) refused.emplace(i, block.error());
      bytes[i].insert(bytes[i].end(), static_cast<size_t>(plane.layers), block ? *block : 0);
    }
  return bytes;
}

Status ModelRunner::place_model() {
  std::map<size_t, Error> refused;  // a place that takes no such cache: an error if one is there
  HADAL_TRY(Placer::BlockBytes bytes, block_bytes(refused));
  std::vector<uint64_t> of_planes;  // on the first device: others have the placer's
  size_t memory = 0;
  for (const Plane& plane : model_->spec().planes) {
    of_planes.push_back(bytes[0][memory]);
    memory += static_cast<size_t>(plane.layers);
  }
  step_planes_ =
      std::make_unique<StepPlanes>(model_->spec(), options_.kv_cache_dtype, blocks_, of_planes);
  std::deque<Weight>& weights = model_->weights();
  WeightLoader::number(weights);
  if (places_.size() == 1) {
    HADAL_TRY(WeightLoader loader,
              options_.forms.empty()
                  ? WeightLoader::plan(device(), weights, options_.weights)
                  : WeightLoader::plan_in_forms(device(), weights, options_.forms));
    places_[0].loader = std::make_unique<WeightLoader>(std::move(loader));
  } else {
    for (Place& place : places_)
      place.loader = std::make_unique<WeightLoader>(
          WeightLoader::plan_one_of_several(*place.device, weights, options_.weights));
  }
  placer_ = std::make_unique<Placer>(*placement_, places_, fallback_, layout_->limits.dims(),
                                     std::move(bytes));
  HADAL_TRY(placer_->settle([&](Sink& sink) { dry_run(sink); }));
  if (fallback_ && placer_->fallbacks().empty() && placement_->drop_last_unless_named()) {
    fallback_.reset();  // nothing is declined: the model is on the devices that were asked for
    placer_.reset();
    places_.pop_back();
    return place_model();
  }
  if (const std::string rule = placement_->experts_rule(); !rule.empty() && !placer_->has_experts())
    return usage_error("--place: '" + rule + "': the model has no experts");
  for (size_t plane = 0; plane < step_planes_->count(); ++plane)
    if (placer_->block_bytes(plane) == 0) return refused.at(placer_->plane_place(plane));
  for (size_t i = 0; places_.size() > 1 && i < places_.size(); ++i)
    HADAL_TRY(places_[i].loader->keep(placer_->weights(i)));
  return {};
}

const DeviceMemory& ModelRunner::plane_memory(size_t plane) const {
  return places_[placer_->plane_place(plane)].planes[placer_->plane_number(plane)];
}

size_t ModelRunner::place_of_output(const Tensor& part) const {
  if (places_.size() == 1) return 0;
  // Every pass that writes a part writes it where the others do: not every form of sampling has all
  // parts, and drafts are where the head is.
  std::optional<size_t> place;
  const auto look = [&](const Pass& pass) {
    const auto found = pass.tape.outputs.within(part.offset, part.offset + sizeof(int32_t));
    if (!place && !found.empty()) place = static_cast<size_t>(std::countr_zero(found[0].places));
  };
  for (const Pass& pass : main_) look(pass);
  for (const auto& forms : draft_)
    for (const Pass& pass : forms) look(pass);
  return place.value_or(0);
}

std::vector<StepCost> ModelRunner::costs(std::array<int64_t, HADAL_DIM_COUNT> rows, double context,
                                         uint64_t* scratch_bytes,
                                         std::set<const AdapterBank*>* adapters) const {
  std::vector<StepCost> costs(places_.size());
  std::deque<CostSink> sinks;
  std::vector<Sink*> of_places;
  for (size_t i = 0; i < places_.size(); ++i)
    of_places.push_back(&sinks.emplace_back(*places_[i].device, *layout_, rows, context, costs[i]));
  PlacedSink sink(*placer_, of_places);
  each_pass([&](const Pass& pass) { forward(pass, sink, scratch_bytes, adapters); });
  return costs;
}

std::vector<Numerics> ModelRunner::classes() const {
  AskingSink sink(*placer_, places_, layout_->limits.dims());
  forward(main_[0], sink, nullptr);
  return std::move(sink.classes);
}

std::vector<HeldForm> ModelRunner::held_forms() const {
  std::vector<HeldForm> forms;
  for (const Weight& weight : model_->weights()) {
    const auto here = std::find_if(places_.begin(), places_.end(), [&](const Place& place) {
      return place.loader->form_of(weight.tensor.index) != nullptr;
    });
    // What nothing uses is held as it is stored, which ref takes.
    forms.push_back(here == places_.end() ? HeldForm{.as_stored = true}
                                          : *here->loader->form_of(weight.tensor.index));
  }
  return forms;
}

StepCost ModelRunner::step_cost(std::array<int64_t, HADAL_DIM_COUNT> rows, double context) const {
  StepCost sum;
  for (StepCost& cost : costs(rows, context, &sum.scratch_bytes, nullptr)) sum += cost;
  return sum;
}

uint64_t ModelRunner::plane_bytes(size_t plane) const {
  return placer_->block_bytes(plane) * static_cast<uint64_t>(blocks_[step_planes_->group(plane)]);
}

Status ModelRunner::check_allocations() const {
  const auto check = [](const Place& place, const char* what, uint64_t bytes,
                        const char* remedy) -> Status {
    const uint64_t limit = place.device->info().largest_allocation;
    if (limit == 0 || bytes <= limit) return {};
    char text[240];
    std::snprintf(text, sizeof text,
                  "%s takes %.1f MiB, the largest allocation of %s is %.1f MiB; %s", what,
                  mib(bytes), place.name.c_str(), mib(limit), remedy);
    return memory_error(text);
  };
  for (size_t plane = 0; plane < step_planes_->count(); ++plane)
    HADAL_TRY(check(places_[placer_->plane_place(plane)], "the cache of a layer",
                    plane_bytes(plane),
                    "a smaller context (--ctx), fewer sequences or --cache-tokens make it fit"));
  constexpr const char* kSmaller =
      "a smaller context (--ctx) or fewer sequences may make it fit, --chip cpu has no such limit";
  for (const Place& place : places_) {
    HADAL_TRY(check(place, "the working memory of a step", scratch_bytes_, kSmaller));
    HADAL_TRY(check(place, "the input of a step", layout_->input_bytes, kSmaller));
    HADAL_TRY(check(place, "the output of a step", layout_->output_bytes, kSmaller));
    HADAL_TRY(check(place, "the workspace of an operator", place.workspace_bytes, kSmaller));
  }
  return {};
}

bool ModelRunner::step_is_too_large() const {
  return std::any_of(places_.begin(), places_.end(), [&](const Place& place) {
    const uint64_t limit = place.device->info().largest_allocation;
    return limit > 0 && std::max(scratch_bytes_, place.workspace_bytes) > limit;
  });
}

MemoryPlan ModelRunner::memory_plan_of(size_t i) const {
  const Place& place = places_[i];
  MemoryPlan m;
  if (places_.size() > 1) m.where = place.name;
  m.weights = place.loader->bytes();
  m.mapped = place.loader->mapped_bytes();
  if (i == 0) m.adapters = banks_->bytes();
  const ModelSpec& spec = model_->spec();
  for (size_t plane = 0; plane < step_planes_->count(); ++plane) {
    if (placer_->plane_place(plane) != i) continue;
    const PlaneGroup& group = spec.groups[step_planes_->group(plane)];
    m.cache += plane_bytes(plane);
    if (group.keep > 0)
      m.cache_kept += plane_bytes(plane);
    else
      m.cache_per_token +=
          placer_->block_bytes(plane) / static_cast<uint64_t>(group.block_slots * group.ratio);
  }
  m.scratch = scratch_bytes_;
  m.step = 2 * layout_->input_bytes + layout_->output_bytes;
  m.workspace = place.workspace_bytes;
  const hadal_device_info& info = place.device->info();
  m.available = info.host_memory ? available_memory() : info.memory_free;
  return m;
}

/// Which memory it is: the host's, or a device's own, of which there may be several instances.
std::string ModelRunner::memory_name(size_t i) const {
  if (places_[i].device->info().host_memory != 0) return "the host";
  const DeviceName& name = placement_->devices()[i];
  return DeviceName{.chip = name.chip, .index = name.index}.text();
}

/// How many ranks of this process hold as much as this one in that memory.
int64_t ModelRunner::ranks_in_memory(size_t i) const {
  const int64_t ranks = options_.rank_threads;
  const int32_t first = options_.device.index;
  const bool one_device =
      device_of_rank(first, ranks - 1, ranks, places_[i].device->device_count()) == first;
  return places_[i].device->info().host_memory != 0 || one_device ? ranks : 1;
}

std::vector<MemoryPlan> ModelRunner::memory_plans() const {
  std::vector<MemoryPlan> plans;
  std::map<std::string, size_t> known;
  for (size_t i = 0; i < places_.size(); ++i) {
    MemoryPlan plan = memory_plan_of(i);
    const uint64_t available = plan.available;
    const MemoryPlan one = plan;
    for (int64_t rank = 1; rank < ranks_in_memory(i); ++rank) plan += one;
    plan.where = one.where;
    plan.available = available;
    const auto [at, is_new] = known.emplace(memory_name(i), plans.size());
    if (is_new) {
      plans.push_back(std::move(plan));
    } else {
      MemoryPlan& of_memory = plans[at->second];
      of_memory += plan;
      of_memory.available -= available;
    }
  }
  return plans;
}

MemoryPlan ModelRunner::memory_plan() const {
  const std::vector<MemoryPlan> plans = memory_plans();
  MemoryPlan sum = plans[0];
  for (size_t i = 1; i < plans.size(); ++i) sum += plans[i];
  return sum;
}

MemoryPlan& MemoryPlan::operator+=(const MemoryPlan& other) {
  if (!other.where.empty()) where += (where.empty() ? "" : " and ") + other.where;
  weights += other.weights;
  adapters += other.adapters;
  cache += other.cache;
  scratch += other.scratch;
  step += other.step;
  workspace += other.workspace;
  mapped += other.mapped;
  available += other.available;
  cache_per_token += other.cache_per_token;
  cache_kept += other.cache_kept;
  return *this;
}

std::vector<std::string> ModelRunner::notes() const {
  std::vector<std::string> lines = conversions();
  if (!step_reason_.empty()) lines.push_back(step_reason_);
  const std::vector<std::string> placed = placement_text();
  lines.insert(lines.end(), placed.begin(), placed.end());
  return lines;
}

std::vector<std::string> ModelRunner::conversions() const {
  std::vector<std::string> lines;
  if (options_.weights != WeightMode::kNative) return lines;
  for (const Place& place : places_)
    for (const std::string& line : place.loader->conversions())
      lines.push_back(places_.size() > 1 ? place.name + ": " + line : line);
  return lines;
}

bool ModelRunner::row_invariant() const {
  return std::all_of(places_.begin(), places_.end(),
                     [](const Place& p) { return p.device->info().row_invariant != 0; });
}

bool ModelRunner::copies_at_once() const {
  return std::all_of(places_.begin(), places_.end(),
                     [](const Place& p) { return p.device->copies_at_once(); });
}

int64_t ModelRunner::filled_rows(int64_t rows) const {
  int64_t most = rows;
  for (const Place& place : places_)
    most = std::max(most, place.device->filled_rows(rows, layout_->limits.tokens));
  return most;
}

Status ModelRunner::sync() const {
  Status first;
  for (const Place& place : places_)  // even behind an error: those before are on their way
    if (Status status = place.device->sync(); first) first = std::move(status);
  return checked(std::move(first));
}

int64_t ModelRunner::fallback_operators() const {
  if (!placer_) return 0;  // a device is lost
  int64_t count = replaced_operators_;
  for (const auto& [name, fallback] : placer_->fallbacks()) count += fallback.count;
  return count;
}

std::vector<std::string> ModelRunner::placement_text() const {
  std::vector<std::string> lines;
  if (options_.ranks && !loaded_)
    lines.push_back("this is the part of rank 0 of " + std::to_string(options_.ranks->ranks()) +
                    "; the others are about as large");
  if (options_.ranks && loaded_)
    lines.push_back(std::string("sums over the ranks are made by ") +
                    (comm_ ? "the devices" : "the host") +
                    (no_comm_.empty() ? "" : ", since " + no_comm_));
  if (!place_reason_.empty()) lines.push_back(place_reason_);
  if (places_.size() == 1) return lines;
  for (size_t i = 0; i < places_.size(); ++i) {
    const MemoryPlan m = memory_plan_of(i);
    size_t caches = 0;
    for (size_t plane = 0; plane < step_planes_->count(); ++plane)
      caches += placer_->plane_place(plane) == i ? 1U : 0U;
    char text[160];
    std::snprintf(text, sizeof text, ": %zu weights, %.1f MiB; %zu caches, %.1f MiB",
                  placer_->weights(i).size(), mib(m.weights), caches, mib(m.cache));
    lines.push_back(places_[i].name + text);
  }
  for (const auto& [name, fallback] : placer_->fallbacks())
    lines.push_back(std::to_string(fallback.count) + " of " + name +
                    " fall back to the cpu, since " + fallback.reason);
  if (const size_t segments = main_[0].tape.segments.size(); segments > 1)
    lines.push_back("a step is cut into " + std::to_string(segments) + " segments");
  return lines;
}

}  // namespace hadal
