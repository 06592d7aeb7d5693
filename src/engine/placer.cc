#include "engine/placer.h"

#include <algorithm>

#include "contract/operators.h"

namespace hadal {

/// Tells the placer of every operator of a dry run.
class SettlingSink final : public Sink {
 public:
  explicit SettlingSink(Placer& placer) : placer_(placer) {}
  void enter(const Region& region) override { placer_.enter(region); }
  void op(const hadal_op& op, std::span<const Tensor> tensors) override {
    placer_.note(op, tensors);
  }

 private:
  Placer& placer_;
};

Status Placer::settle(const std::function<void(Sink&)>& dry_run) {
  SettlingSink sink(*this);
  do {  // a cache moves at most once, to the fallback
    moved_ = false;
    weights_.assign(places_.size(), {});
    fallbacks_.clear();
    dry_run(sink);
    HADAL_TRY(status_);
  } while (moved_);
  std::vector<uint32_t> next(places_.size(), 0);
  for (size_t& place : plane_place_) {
    if (place == kNowhere) place = 0;  // nothing touches it
    plane_number_.push_back(next[place]++);
  }
  return {};
}

void Placer::move_caches(std::span<const Tensor> tensors) {
  for (const Tensor& t : tensors) {
    if (t.space != HADAL_SPACE_PLANE || plane_fell_[t.index]) continue;
    plane_place_[t.index] = *fallback_;
    plane_fell_[t.index] = true;
    moved_ = true;
  }
}

bool Placer::gather_caches(std::span<const Tensor> tensors, size_t by_rule) {
  bool together = true, fell = false;
  std::optional<size_t> first;
  for (const Tensor& t : tensors) {
    if (t.space != HADAL_SPACE_PLANE) continue;
    size_t& place = plane_place_[t.index];
    if (place == kNowhere) place = by_rule;
    if (!first) first = place;
    together = together && place == *first;
    fell = fell || plane_fell_[t.index];
  }
  if (!together && fell) move_caches(tensors);
  return together || fell;
}

void Placer::note(const hadal_op& op, std::span<const Tensor> tensors) {
  if (!status_) return;
  has_experts_ = has_experts_ || region_.part == Region::Part::kExperts;
  const size_t by_rule = placement_.of(region_);
  if (!gather_caches(tensors, by_rule)) {
    std::set<std::string> names;
    for (const Tensor& t : tensors)
      if (t.space == HADAL_SPACE_PLANE) names.insert(places_[plane_place_[t.index]].name);
    status_ =
        usage_error(std::string(contract::op_name(op.id)) + " of layer " +
                    std::to_string(region_.layer) + " reads caches on " + *names.begin() + " and " +
                    *names.rbegin() + ": layers that share a cache must be on one device");
    return;
  }
  const size_t home = wanted(tensors), place = of(op, tensors);
  if (place != home) move_caches(tensors);
  if (place != by_rule) {
    const OpSupport support = ask(by_rule, op, tensors);
    Fallback& fallback = fallbacks_[contract::op_name(op.id)];
    if (fallback.count++ == 0)
      fallback.reason = support.supported ? "the cache that it touches is there" : support.reason;
  }
  for (const Tensor& t : tensors) {
    if (t.space != HADAL_SPACE_WEIGHT) continue;
    weights_[place].insert(t.index);
    regions_.emplace(t.index, region_);
  }
}

size_t Placer::wanted(std::span<const Tensor> tensors) const {
  for (const Tensor& t : tensors)
    if (t.space == HADAL_SPACE_PLANE && plane_place_[t.index] != kNowhere)
      return plane_place_[t.index];
  return placement_.of(region_);
}

OpSupport Placer::ask(size_t place, const hadal_op& op, std::span<const Tensor> tensors) const {
  return places_[place].device->query(op, operands(place, tensors, false), limits_.data());
}

size_t Placer::of(const hadal_op& op, std::span<const Tensor> tensors) const {
  if (places_.size() == 1) return 0;
  const size_t home = wanted(tensors);
  if (op.id == HADAL_OP_ALL_REDUCE) return home;  // the host's
  if (!fallback_ || home == *fallback_ || ask(home, op, tensors).supported) return home;
  return ask(*fallback_, op, tensors).supported ? *fallback_ : home;
}

bool Placer::takes(const hadal_op& op, std::span<const Tensor> tensors) const {
  return ask(wanted(tensors), op, tensors).supported;
}

std::array<Tensor, HADAL_MAX_OPERANDS> Placer::operands(size_t place,
                                                        std::span<const Tensor> tensors,
                                                        bool handles) const {
  std::array<Tensor, HADAL_MAX_OPERANDS> held{};
  std::copy(tensors.begin(), tensors.end(), held.begin());
  const bool several = places_.size() > 1;
  for (size_t i = 0; i < tensors.size(); ++i) {
    Tensor& t = held[i];
    if (t.space == HADAL_SPACE_WEIGHT) {
      if (several) t = places_[place].loader->operand(t);
      t.index = 0;  // the number is the host's own
    }
    if (!handles) t.weight = nullptr;
    if (!several || t.space != HADAL_SPACE_PLANE) continue;
    t.strides[0] = static_cast<int64_t>(block_bytes_[place][t.index]);
    if (!plane_number_.empty()) t.index = plane_number_[t.index];
  }
  return held;
}

void PlacedSink::op(const hadal_op& op, std::span<const Tensor> tensors) {
  if (op.id == HADAL_OP_ALL_REDUCE) return;  // the host's
  const size_t place = placer_.of(op, tensors);
  const auto operands = placer_.operands(place, tensors, true);
  sinks_[place]->op(op, std::span(operands).first(tensors.size()));
}

}  // namespace hadal
