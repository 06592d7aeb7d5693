#include "engine/automatic_place.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <vector>

#include "engine/roofline.h"

namespace hadal {
namespace {

/// Of a device's free memory, what is left alone: allocations are rounded up, and others use it
/// too.
constexpr double kUsable = 0.95;

constexpr const char* kAll = "all: cpu";

/// Parts of the model by layer, and what is in no layer: embedding, head and drafts.
template <typename Number>
struct Parts {
  explicit Parts(size_t layers) : attention(layers), experts(layers) {}
  std::vector<Number> attention, experts;
  Number ends{};

  Number& of(const Region& region) {
    if (region.layer < 0) return ends;
    auto& layers = region.part == Region::Part::kExperts ? experts : attention;
    return layers[static_cast<size_t>(region.layer)];
  }
};

/// What a token reads of each part, and the caches of the layers.
class ReadBytes final : public Sink {
 public:
  explicit ReadBytes(const ModelRunner& runner)
      : parts(static_cast<size_t>(runner.spec().num_hidden_layers)),
        caches(parts.attention.size()),
        together(parts.attention.size() + 1),
        runner_(runner),
        first_(runner.step_planes().count(), kNone) {}
  void enter(const Region& region) override { region_ = region; }
  void op(const hadal_op& op, std::span<const Tensor> tensors) override {
    for (const Tensor& t : tensors)
      if (t.space == HADAL_SPACE_PLANE) note_cache(t.index);
    StepCost cost;
    CostSink(runner_.device(), runner_.layout(), {1, 1, 1, 1, 1},
             static_cast<double>(runner_.context()) / 2, cost)
        .op(op, tensors);
    parts.of(region_) += cost.bytes;
  }

  Parts<double> parts;
  std::vector<uint64_t> caches;  ///< bytes of those that each layer is the first to touch
  uint64_t end_caches = 0;       ///< of what is in no layer
  /// Whether a cache is touched on both sides of the border before a layer.
  std::vector<bool> together;

 private:
  static constexpr int64_t kNone = -1;
  void note_cache(size_t plane) {
    if (region_.layer < 0) {
      if (first_[plane] == kNone) end_caches += runner_.plane_bytes(plane);
      return;
    }
    int64_t& first = first_[plane];
    if (first == kNone) {
      first = region_.layer;
      caches[static_cast<size_t>(first)] += runner_.plane_bytes(plane);
    }
    for (int64_t border = first + 1; border <= region_.layer; ++border)
      together[static_cast<size_t>(border)] = true;
  }

  const ModelRunner& runner_;
  std::vector<int64_t> first_;  // layer that touches each cache
  Region region_;
};

Parts<uint64_t> weights_of(const ModelRunner& runner) {
  Parts<uint64_t> parts(static_cast<size_t>(runner.spec().num_hidden_layers));
  const WeightLoader& loader = *runner.places()[0].loader;
  for (const auto& [number, region] : runner.placer().regions())
    parts.of(region) += loader.bytes_of(number);
  return parts;
}

template <typename Number>
Number sum(const std::vector<Number>& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), Number{0});
}

template <typename Number>
Number sum_from(const std::vector<Number>& numbers, int64_t first) {
  return std::accumulate(numbers.begin() + first, numbers.end(), Number{0});
}

/// The shortest of some runs of `body`, in seconds.
template <typename Body>
Result<double> seconds_of(const Body& body) {
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    HADAL_TRY(body());
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    if (i == 0 || took.count() < best) best = took.count();
  }
  return best;
}

/// Bytes a second that the device's memory gives: as it says itself, else as copies within it do.
Result<double> bandwidth(const Device& device) {
  if (device.has_profile()) {
    HADAL_TRY(const Device::Peaks peaks, device.measure());
    return peaks.read_bytes_per_second;
  }
  return measure_copies(device);
}

/// Seconds until a row of the model is in the host's memory and back.
Result<double> round_trip(const ModelRunner& runner) {
  const Device& device = runner.device();
  std::vector<std::byte> row(static_cast<size_t>(runner.spec().hidden_size) * sizeof(float));
  HADAL_TRY(const DeviceMemory memory, device.allocate(row.size()));
  return seconds_of([&]() -> Status {
    HADAL_TRY(device.copy_out(row, memory, 0));
    HADAL_TRY(device.sync());
    HADAL_TRY(device.copy_in(memory, 0, row));
    return device.sync();
  });
}

/// What the placements are weighed by.
struct Machine {
  double device = 0, cpu = 0;  ///< bytes a second
  double round_trip = 0;       ///< seconds
};

Result<Machine> measure(const ModelRunner& runner) {
  Machine machine;
  HADAL_TRY(machine.device, bandwidth(runner.device()));
  HADAL_TRY(const std::unique_ptr<Device> cpu,
            Device::open({.chip = "cpu", .threads = runner.options().device.threads}));
  HADAL_TRY(machine.cpu, bandwidth(*cpu));
  HADAL_TRY(machine.round_trip, round_trip(runner));
  if (machine.device > 0 && machine.cpu > 0) return machine;
  return failed("a bandwidth of 0 was measured");
}

/// A placement that fits, and the seconds in which a token's bytes are read.
struct Candidate {
  std::string rules;
  double seconds = 0;
};

/// All attention stays, with the experts of the first layers.
std::optional<Candidate> experts_leave(const Parts<uint64_t>& weights, const Parts<double>& reads,
                                       const Machine& machine, uint64_t fixed, uint64_t room) {
  uint64_t used = fixed + weights.ends + sum(weights.attention);
  if (sum(weights.experts) == 0 || used > room) return std::nullopt;
  const auto layers = static_cast<int64_t>(weights.experts.size());
  int64_t kept = 0, leave = 0;
  while (kept < layers && used + weights.experts[static_cast<size_t>(kept)] <= room)
    used += weights.experts[static_cast<size_t>(kept++)];
  for (int64_t i = kept; i < layers; ++i) leave += weights.experts[static_cast<size_t>(i)] > 0;
  const double away = sum_from(reads.experts, kept);
  const double here = reads.ends + sum(reads.attention) + sum(reads.experts) - away;
  return Candidate{
      kept == 0 ? "experts: cpu" : "experts of layers " + std::to_string(kept) + "-: cpu",
      here / machine.device + away / machine.cpu + static_cast<double>(leave) * machine.round_trip};
}

/// The first layers stay, with their caches; their experts leave if there are any. None if not even
/// one can.
std::optional<Candidate> layers_leave(const Parts<uint64_t>& weights, const ReadBytes& read,
                                      const Machine& machine, const MemoryPlan& plan,
                                      uint64_t room) {
  const Parts<double>& reads = read.parts;
  const auto layers = static_cast<int64_t>(weights.attention.size());
  const bool experts = sum(weights.experts) > 0;
  uint64_t used = plan.scratch + plan.step + plan.workspace + weights.ends + read.end_caches;
  int64_t kept = 0;
  for (int64_t i = 0; i < layers; ++i) {
    used += weights.attention[static_cast<size_t>(i)] + read.caches[static_cast<size_t>(i)];
    if (used > room) break;
    // Layers that share a cache stay together.
    if (!read.together[static_cast<size_t>(i + 1)]) kept = i + 1;
  }
  if (kept == 0) return std::nullopt;
  const double all = reads.ends + sum(reads.attention) + sum(reads.experts);
  const double here = sum(reads.attention) - sum_from(reads.attention, kept);
  const auto trips = static_cast<double>(experts ? kept + 1 : 1);
  std::string rules = "head: cpu";
  if (kept < layers) rules = "layers " + std::to_string(kept) + "-: cpu; " + rules;
  if (experts) rules += "; experts: cpu";
  return Candidate{std::move(rules),
                   here / machine.device + (all - here) / machine.cpu + trips * machine.round_trip};
}

}  // namespace

AutomaticPlace automatic_place(const ModelRunner& together) {
  if (together.device().info().host_memory != 0) return AutomaticPlace();
  const MemoryPlan plan = together.memory_plans()[0];  // that of the device
  const auto room = static_cast<uint64_t>(static_cast<double>(plan.available) * kUsable);
  if (plan.needed() <= room) return AutomaticPlace();
  const Parts<uint64_t> weights = weights_of(together);
  ReadBytes reads(together);
  together.dry_run(reads);
  const Result<Machine> measured = measure(together);
  const Machine machine = measured ? *measured : Machine{.device = 1, .cpu = 1};
  std::vector<Candidate> candidates;
  const uint64_t fixed = plan.scratch + plan.step + plan.workspace + plan.cache;
  if (auto candidate = experts_leave(weights, reads.parts, machine, fixed, room))
    candidates.push_back(*std::move(candidate));
  if (auto candidate = layers_leave(weights, reads, machine, plan, room))
    candidates.push_back(*std::move(candidate));
  const double all = reads.parts.ends + sum(reads.parts.attention) + sum(reads.parts.experts);
  candidates.push_back({kAll, all / machine.cpu});
  if (!measured)
    return AutomaticPlace{candidates[0].rules, candidates[0].rules == kAll,
                          "--place auto is \"" + candidates[0].rules +
                              "\": the first way in which it fits, since nothing could be "
                              "measured: " +
                              measured.error().message};
  // Measurements differ from run to run: a later way must be clearly faster.
  constexpr double kClearly = 0.9;
  const Candidate* best = &candidates[0];
  for (const Candidate& candidate : candidates)
    if (candidate.seconds < kClearly * best->seconds) best = &candidate;
  char text[256];
  std::snprintf(text, sizeof text,
                ": of what fits it reads a token's bytes soonest, in %.3g ms (%s reads %.3g GB/s, "
                "the cpu %.3g; a copy between them and back takes %.3g ms)",
                best->seconds * 1e3, together.places()[0].name.c_str(), machine.device * 1e-9,
                machine.cpu * 1e-9, machine.round_trip * 1e3);
  return AutomaticPlace{best->rules, best->rules == kAll,
                        "--place auto is \"" + best->rules + "\"" + text};
}

}  // namespace hadal
