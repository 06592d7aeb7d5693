// WeightLoader: puts a model's weights on a device.
//
// Finds once for each weight in which form the device holds it (held_form), keeps the answer, and
// gives the operands that type; the memory estimate and the load both go by it. Owns what the
// device holds.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "weights/binder.h"
#include "weights/convert.h"

namespace hadal {

/// done and total are bytes of weights.
using LoadProgress = std::function<void(uint64_t done, uint64_t total)>;

class WeightLoader {
 public:
  /// Loads nothing yet. An error if the device takes a weight in no form. `weights` and `device`
  /// must outlive the loader.
  static Result<WeightLoader> plan(const Device& device, std::deque<Weight>& weights,
                                   WeightMode mode);

  /// Bytes that the weights take, once loaded: what the device makes of them, or the mapped source
  /// where it reads in place; and those of the latter, which need not be in memory.
  [[nodiscard]] uint64_t bytes() const;
  [[nodiscard]] uint64_t mapped_bytes() const;
  /// What the chip does not take as it is stored, a line a form: how many matrices, from how many
  /// bytes to how many, and after load() how far the numbers lie from the stored ones.
  [[nodiscard]] std::vector<std::string> conversions() const;
  /// Hands the weights to the device and fills the operands' handles. `files`: the mappings that
  /// hold the sources; pages of those that the device does not read in place are given back.
  Status load(std::span<const MappedFile> files, const LoadProgress& progress = {});

 private:
  struct Entry {
    Weight* weight = nullptr;
    HeldForm form;
    LoadedWeight loaded;
  };
  WeightLoader(const Device& device, std::vector<Entry> entries)
      : device_(&device), entries_(std::move(entries)) {}
  const Device* device_;
  std::vector<Entry> entries_;
};

}  // namespace hadal
