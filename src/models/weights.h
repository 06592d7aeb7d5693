// Weights: slots that a family declares and binds to the tensors of a checkpoint, and that the
// engine hands to a device.
//
// Binding touches no data: it compares names and shapes and reports ONE error that lists everything
// missing, surplus and misshapen. Derived tables (rope frequencies) are slots whose values the
// family computes.
#pragma once

#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "device/convert.h"
#include "ops/tensor.h"

namespace hadal {

/// One weight of a model: where it comes from, and the operand that forward functions pass to Ops.
struct Weight {
  WeightSource source;
  Tensor tensor{};           ///< space WEIGHT; its handle is filled when the device holds it
  std::vector<float> table;  ///< values of a derived table; the source's only piece lies here

  operator const Tensor&() const { return tensor; }  // NOLINT: a weight is used as an operand
};

/// Collects a model's slots while it binds, and what is wrong with them.
class WeightBinder {
 public:
  /// Slots go to `slots` (a deque: their addresses last).
  WeightBinder(const Checkpoint& checkpoint, std::deque<Weight>& slots)
      : checkpoint_(checkpoint), slots_(slots) {}

  /// A matrix [rows, cols]. uses: HADAL_USE_MATMUL and/or HADAL_USE_GATHER. Block scales
  /// ("…weight_scale_inv") are found here.
  Weight* matrix(const std::string& name, int64_t rows, int64_t cols,
                 uint32_t uses = HADAL_USE_MATMUL);
  /// A vector [n], read as fp32.
  Weight* vector(const std::string& name, int64_t n);
  /// As vector, but absent is no error: nullptr.
  Weight* optional_vector(const std::string& name, int64_t n);
  /// A table that is computed, not stored.
  Weight* table(std::string name, std::vector<float> values);

  [[nodiscard]] bool has(const std::string& name) const {
    return checkpoint_.find(name) != nullptr;
  }
  /// Names that may be there and are not used: exact names, or prefixes that end in '*'.
  void known_unused(std::string pattern) { unused_.push_back(std::move(pattern)); }

  /// The one error, or success. Surplus is what is neither used nor known to be unused.
  Status finish() const;

 private:
  const TensorInfo* take(const std::string& name, const std::vector<int64_t>& shape, bool optional);

  const Checkpoint& checkpoint_;
  std::deque<Weight>& slots_;
  std::set<std::string, std::less<>> used_;
  std::vector<std::string> unused_, missing_, misshapen_;
};

}  // namespace hadal
