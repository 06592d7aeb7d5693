// Weights: slots that a family declares and binds to the tensors of a checkpoint, and that the
// engine hands to a device.
//
// Binding touches no data: it compares names and shapes and reports ONE error that lists everything
// missing, surplus and misshapen. Derived tables (rope frequencies) are slots whose values the
// family computes.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
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
  double active = 1;         ///< the part of it that one token uses: k of E experts

  operator const Tensor&() const { return tensor; }  // NOLINT: a weight is used as an operand
};

/// An operand that may be absent.
inline std::optional<Tensor> optional(const Weight* w) {
  return w ? std::optional<Tensor>(w->tensor) : std::nullopt;
}

/// A table that stays in the checkpoint's file and is read by the host, a row at a time: too large
/// for any memory, and a step touches few rows of it.
class FileTable {
 public:
  [[nodiscard]] int64_t rows() const { return rows_; }
  [[nodiscard]] int64_t cols() const { return cols_; }
  [[nodiscard]] size_t bytes() const { return data_.size() + scales_.size(); }
  /// Asks for the row's pages; returns at once.
  void fetch_ahead(int64_t row) const;
  /// to[0 … cols): the row's numbers. `row` must be in [0, rows).
  void read(int64_t row, float* to) const;

 private:
  friend class WeightBinder;
  [[nodiscard]] std::span<const std::byte> row_of(std::span<const std::byte> data,
                                                  int64_t row) const;
  DType dtype_ = HADAL_F32, scale_dtype_ = HADAL_DTYPE_NONE;
  int64_t rows_ = 0, cols_ = 0;
  int64_t scaled_ = 0;  ///< numbers that one scale serves
  std::span<const std::byte> data_, scales_;
};

/// Collects a model's slots while it binds, and what is wrong with them.
class WeightBinder {
 public:
  /// Slots go to `slots` (a deque: their addresses last).
  WeightBinder(const Checkpoint& checkpoint, std::deque<Weight>& slots);

  /// A matrix [rows, cols]. uses: HADAL_USE_MATMUL and/or HADAL_USE_GATHER. Block scales
  /// ("…weight_scale_inv") are found here.
  Weight* matrix(const std::string& name, int64_t rows, int64_t cols,
                 uint32_t uses = HADAL_USE_MATMUL);
  /// Matrices [count, rows, cols], of which a token uses `active`: one tensor `prefix`E.`name` each
  /// (the official form), or one for all, `prefix``name` (GGUF). prefix:
  /// "model.layers.3.mlp.experts.", name: "gate_proj.weight".
  Weight* experts(const std::string& prefix, const std::string& name, int64_t count, int64_t rows,
                  int64_t cols, double active = 1);
  /// Rows [first, first + rows) of each of `heads` runs of `run` rows of a matrix [heads * run,
  /// cols]: [heads, rows, cols], or turned [heads, cols, rows].
  Weight* head_rows(const std::string& name, int64_t heads, int64_t run, int64_t first,
                    int64_t rows, int64_t cols, bool turned);
  /// A vector [n], read as fp32.
  Weight* vector(const std::string& name, int64_t n);
  /// Whole numbers [rows, cols], read a row at a time.
  Weight* indices(const std::string& name, int64_t rows, int64_t cols);
  /// A table of this shape as one vector.
  Weight* vector(const std::string& name, const std::vector<int64_t>& shape);
  /// As vector, but absent is no error: nullptr.
  Weight* optional_vector(const std::string& name, int64_t n);
  /// A table [rows, cols] that the host reads; FP8 with one scale for 32 numbers of a row.
  FileTable file_table(const std::string& name, int64_t rows, int64_t cols);
  /// A table that is computed, not stored.
  Weight* table(const std::string& name, std::vector<float> values);

  [[nodiscard]] bool has(const std::string& name) const {
    return checkpoint_.find(name) != nullptr;
  }
  /// Names that may be there and are not used: exact names, or prefixes that end in '*'.
  void known_unused(std::string pattern) { unused_.push_back(std::move(pattern)); }
  /// The same for all of layers [first, first + count), such as those of multi-token prediction.
  /// prefix: "model.layers."
  void known_unused_layers(const std::string& prefix, int64_t first, int64_t count);

  /// The one error, or success: `unused` then names the tensors that are there and known to be
  /// unused. Surplus is what is neither used nor known.
  Status finish(std::vector<std::string>& unused) const;

 private:
  /// What a tensor must hold: numbers with a fraction, powers of two as well, or whatever there is.
  enum class Holds { kNumbers, kScales, kWhole };
  /// The tensor if it is there, of this shape, and holds what it must; else that is noted.
  const TensorInfo* take(const std::string& name, const std::vector<int64_t>& shape,
                         Holds holds = Holds::kNumbers);
  /// The block scales that belong to a matrix: "X.weight_scale_inv" or "X.scale"; "" without.
  [[nodiscard]] std::string scale_name(const std::string& name) const;
  /// Adds the tensor [rows, cols] to the pieces of `w`, its block scales too; false if it is not
  /// there or not of the type of the pieces before it.
  bool add_matrix(Weight& w, const std::string& name, int64_t rows, int64_t cols);
  Weight& slot(const std::string& name, int64_t batch, int64_t rows, int64_t cols, uint32_t uses);

  const Checkpoint& checkpoint_;
  std::deque<Weight>& slots_;
  std::set<std::string, std::less<>> used_;
  std::vector<std::string> unused_, missing_, misshapen_;
  int64_t block_rows_ = 128, block_cols_ = 128;  ///< of the checkpoint's block scales
  std::string block_size_wrong_;                 ///< what is wrong with the configuration's
};

}  // namespace hadal
