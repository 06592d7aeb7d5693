// Placer: decides for each operator of a model on which of its places it runs.
//
// The rules of a Placement say where parts should be; a place may decline an operator, which then
// goes to the fallback, if the user allows one, and is counted. An operator that touches a cache
// runs where that cache is, so an operator that goes to the fallback takes its cache and all others
// that touch it along: settle() runs the model dry until nothing moves any more.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "engine/place.h"
#include "engine/placement.h"
#include "ops/sink.h"

namespace hadal {

class Placer {
 public:
  /// Bytes of a block of each cache memory, if it is at a place.
  using BlockBytes = std::vector<std::vector<uint64_t>>;
  /// `places` must outlive the placer; fallback: the place that takes what others decline.
  Placer(Placement placement, const std::vector<Place>& places, std::optional<size_t> fallback,
         std::array<int64_t, HADAL_DIM_COUNT> limits, BlockBytes block_bytes)
      : placement_(std::move(placement)),
        places_(places),
        fallback_(fallback),
        limits_(limits),
        block_bytes_(std::move(block_bytes)),
        plane_place_(block_bytes_[0].size(), kNowhere),
        plane_fell_(block_bytes_[0].size(), false) {}

  /// Finds the place of every cache and of what is declined: `dry_run` gives all operators of the
  /// model to a sink. An error names what cannot be placed.
  Status settle(const std::function<void(Sink&)>& dry_run);

  /// What follows belongs to this part.
  void enter(const Region& region) { region_ = region; }
  /// Where an operator of the current part runs.
  [[nodiscard]] size_t of(const hadal_op& op, std::span<const Tensor> tensors) const;
  /// Whether an operator that need not be taken is, where it would run.
  [[nodiscard]] bool takes(const hadal_op& op, std::span<const Tensor> tensors) const;
  /// The operands as the device of a place knows them, without handles or with.
  [[nodiscard]] std::array<Tensor, HADAL_MAX_OPERANDS> operands(size_t place,
                                                                std::span<const Tensor> tensors,
                                                                bool handles) const;

  /// The place of each cache memory, and its number there.
  [[nodiscard]] size_t plane_place(size_t plane) const { return plane_place_[plane]; }
  [[nodiscard]] uint32_t plane_number(size_t plane) const { return plane_number_[plane]; }
  [[nodiscard]] uint64_t block_bytes(size_t plane) const {
    return block_bytes_[plane_place_[plane]][plane];
  }
  /// The numbers of the weights that a place works with.
  [[nodiscard]] const std::set<uint32_t>& weights(size_t place) const { return weights_[place]; }
  /// The part of the model in which a weight is first used.
  [[nodiscard]] const std::map<uint32_t, Region>& regions() const { return regions_; }
  /// Operators that their place declined, by name: how many, and the first reason.
  struct Fallback {
    int64_t count = 0;
    std::string reason;
  };
  [[nodiscard]] const std::map<std::string, Fallback>& fallbacks() const { return fallbacks_; }
  [[nodiscard]] bool has_experts() const { return has_experts_; }

 private:
  friend class SettlingSink;
  static constexpr size_t kNowhere = SIZE_MAX;
  void note(const hadal_op& op, std::span<const Tensor> tensors);
  /// All caches of an operator are at one place; if one of them fell back, the others follow it.
  bool gather_caches(std::span<const Tensor> tensors, size_t by_rule);
  /// The caches of an operator go to the fallback.
  void move_caches(std::span<const Tensor> tensors);
  [[nodiscard]] size_t wanted(std::span<const Tensor> tensors) const;
  [[nodiscard]] OpSupport ask(size_t place, const hadal_op& op,
                              std::span<const Tensor> tensors) const;

  Placement placement_;
  const std::vector<Place>& places_;
  std::optional<size_t> fallback_;
  std::array<int64_t, HADAL_DIM_COUNT> limits_;
  BlockBytes block_bytes_;
  Region region_;
  std::vector<size_t> plane_place_;
  std::vector<bool> plane_fell_;
  std::vector<uint32_t> plane_number_;
  std::vector<std::set<uint32_t>> weights_;
  std::map<uint32_t, Region> regions_;
  std::map<std::string, Fallback> fallbacks_;
  bool has_experts_ = false, moved_ = false;
  Status status_;
};

/// Gives each operator to the sink of its place, with the operands that its device knows.
class PlacedSink final : public Sink {
 public:
  PlacedSink(Placer& placer, std::vector<Sink*> sinks)
      : placer_(placer), sinks_(std::move(sinks)) {}
  void enter(const Region& region) override { placer_.enter(region); }
  void op(const hadal_op& op, std::span<const Tensor> tensors) override;

 private:
  Placer& placer_;
  std::vector<Sink*> sinks_;
};

}  // namespace hadal
