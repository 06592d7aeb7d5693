#include "engine/automatic_place.h"

#include <numeric>
#include <vector>

namespace hadal {
namespace {

/// Of a device's free memory, what is left alone: allocations are rounded up, and others use it
/// too.
constexpr double kUsable = 0.95;

/// Bytes of the model's parts on the device.
struct Parts {
  std::vector<uint64_t> layers, experts;  ///< weights, by layer
  uint64_t ends = 0;                      ///< embedding, head and drafts
};

Parts parts_of(const ModelRunner& runner) {
  const auto count = static_cast<size_t>(runner.spec().num_hidden_layers);
  Parts parts{.layers = std::vector<uint64_t>(count), .experts = std::vector<uint64_t>(count)};
  const WeightLoader& loader = *runner.places()[0].loader;
  for (const auto& [number, region] : runner.placer().regions()) {
    const uint64_t bytes = loader.bytes_of(number);
    if (region.layer < 0)
      parts.ends += bytes;
    else
      (region.part == Region::Part::kExperts ? parts.experts
                                             : parts.layers)[static_cast<size_t>(region.layer)] +=
          bytes;
  }
  return parts;
}

uint64_t sum(const std::vector<uint64_t>& bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), uint64_t{0});
}

}  // namespace

std::string automatic_place(const ModelRunner& together) {
  const MemoryPlan plan = together.memory_plan();
  if (together.device().info().host_memory != 0) return "";
  const auto room = static_cast<uint64_t>(static_cast<double>(plan.available) * kUsable);
  if (plan.needed() <= room) return "";
  const Parts parts = parts_of(together);
  const auto layers = static_cast<int64_t>(parts.layers.size());
  const uint64_t working = plan.scratch + plan.step + plan.workspace;
  uint64_t used = working + plan.cache + parts.ends + sum(parts.layers);
  if (sum(parts.experts) > 0 && used <= room) {
    int64_t kept = 0;  // layers whose experts stay
    while (kept < layers && used + parts.experts[static_cast<size_t>(kept)] <= room)
      used += parts.experts[static_cast<size_t>(kept++)];
    return kept == 0 ? "experts: cpu" : "experts of layers " + std::to_string(kept) + "-: cpu";
  }
  const uint64_t cache = plan.cache / static_cast<uint64_t>(layers);
  int64_t kept = 0;
  used = working + parts.ends;
  while (kept < layers && used + parts.layers[static_cast<size_t>(kept)] + cache <= room)
    used += parts.layers[static_cast<size_t>(kept++)] + cache;
  // Experts stay where their layer is, if there are any: those of the layers that are kept leave.
  const std::string experts = sum(parts.experts) > 0 ? "; experts: cpu" : "";
  if (kept == 0) return "all: cpu";
  return "layers " + std::to_string(kept) + "-: cpu; head: cpu" + experts;
}

}  // namespace hadal
