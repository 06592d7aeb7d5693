// WeightLoader: puts a model's weights on a device.
//
// Finds once for each weight in which form the device holds it (held_form), keeps the answer, and
// gives the operands that type; the memory estimate and the load both go by it. Owns what the
// device holds. Where a model is spread over several devices, each has a loader of its own, which
// knows the weights by their numbers (Tensor::index) and holds those that its device works with.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <set>
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

  /// The same with the form of each weight given.
  static Result<WeightLoader> plan_in_forms(const Device& device, std::deque<Weight>& weights,
                                            std::span<const HeldForm> forms);
  /// The same for one of several devices: the operands stay as they are (operand() gives this
  /// device's), and a weight that the device takes in no form is an error in keep().
  static WeightLoader plan_one_of_several(const Device& device, std::deque<Weight>& weights,
                                          WeightMode mode);
  /// Numbers the operands of a model's weights, for loaders of several devices; no device holds
  /// them any more.
  static void number(std::deque<Weight>& weights);
  /// A numbered operand as this device holds it.
  [[nodiscard]] Tensor operand(const Tensor& numbered) const;
  /// The form of a weight, by its number; null: it is not held here.
  [[nodiscard]] const HeldForm* form_of(uint32_t number) const;
  /// Only these weights are held from now on.
  Status keep(const std::set<uint32_t>& numbers);

  /// Bytes that the weights take, once loaded: what the device makes of them, or the mapped source
  /// where it reads in place; and those of the latter, which need not be in memory.
  [[nodiscard]] uint64_t bytes() const;
  [[nodiscard]] uint64_t mapped_bytes() const;
  /// Bytes that one weight takes, by its number.
  [[nodiscard]] uint64_t bytes_of(uint32_t number) const;
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
    std::optional<Error> refused = {};  ///< of one of several devices
  };
  [[nodiscard]] static uint64_t bytes_of(const Entry& e);
  WeightLoader(const Device& device, std::vector<Entry> entries, bool one_of_several)
      : device_(&device), entries_(std::move(entries)), one_of_several_(one_of_several) {}
  const Device* device_;
  std::vector<Entry> entries_;
  bool one_of_several_;
  std::vector<Tensor> operands_;  ///< of one of several devices, by number
};

}  // namespace hadal
