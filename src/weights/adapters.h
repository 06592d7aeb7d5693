// AdapterBanks: low-rank adapters on a device, beside the matrices of a model that they adapt.
//
// An adapter has a number, its place in the list; a place may be empty, so that a number stays what
// it is while others come and go. Of each matrix that any of them adapts there is one bank, a pair
// of weights [adapters, rank, in] and [adapters, out, rank]: lower ranks are padded with zeros, and
// an adapter that leaves the matrix alone is all zeros, which are held once. Factors are multiplied
// into B.
// Refuses by name what a model does not multiply as a matrix of its own: kv_b_proj, which is
// absorbed, routed experts, embeddings and the head.
#pragma once

#include <deque>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "checkpoint/adapter_file.h"
#include "weights/binder.h"
#include "weights/loader.h"

namespace hadal {

class AdapterBanks {
 public:
  /// Finds the matrices of `weights` that the adapters adapt, and the forms in which the device
  /// holds their banks; loads nothing yet. model_type says how modules are called. An empty place
  /// of the list is null. `weights` and `device` must outlive the banks.
  static Result<std::unique_ptr<AdapterBanks>> plan(
      const Device& device, std::deque<Weight>& weights, std::string_view model_type,
      std::vector<std::shared_ptr<const AdapterFile>> adapters);
  AdapterBanks(const AdapterBanks&) = delete;
  AdapterBanks& operator=(const AdapterBanks&) = delete;

  [[nodiscard]] bool empty() const { return banks_.empty(); }
  /// Bytes that the banks take beside the weights.
  [[nodiscard]] uint64_t bytes() const { return loader_ ? loader_->bytes() : 0; }
  /// Of a bank, in the order of the matrices' names, where A and B come from.
  [[nodiscard]] std::pair<const WeightSource*, const WeightSource*> sources(size_t bank) const {
    return {&banks_[bank].a->source, &banks_[bank].b->source};
  }
  /// Hands the banks to the device.
  Status load();

  /// From now on the matrices have these adapters; or none.
  void attach() const;
  void detach() const;
  /// The first matrix whose bank is not among `used`; "" if all are.
  [[nodiscard]] std::string first_unused(const std::set<const AdapterBank*>& used) const;

 private:
  /// Of one adapter, what it adds to the matrix; null: nothing.
  using Parts = std::vector<const AdapterModule*>;
  struct Bank {
    Weight* matrix = nullptr;
    Weight *a = nullptr, *b = nullptr;
    AdapterBank operands;
  };
  AdapterBanks() = default;
  Status add_bank(Weight& matrix, const Parts& parts);
  /// Bytes that live as long as the banks.
  std::span<std::byte> keep(std::vector<std::byte> bytes);
  std::span<const std::byte> zeros(uint64_t bytes);
  Weight& bank_weight(const std::string& name, int64_t rows, int64_t cols, size_t count);

  std::vector<std::shared_ptr<const AdapterFile>> adapters_;
  std::deque<std::vector<std::byte>> kept_;
  std::span<const std::byte> zeros_;
  std::deque<Weight> weights_;
  std::deque<Bank> banks_;
  std::unique_ptr<WeightLoader> loader_;
};

}  // namespace hadal
