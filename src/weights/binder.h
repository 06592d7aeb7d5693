// Weights: slots that a family declares and binds to the tensors of a checkpoint, and that a loader
// (loader.h) puts on a device.
//
// Binding touches no data: it compares names and shapes and reports ONE error that lists everything
// missing, surplus and misshapen. Derived tables (rope frequencies) are slots whose values the
// family computes.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "ops/ops.h"
#include "ops/shard.h"
#include "weights/file_table.h"
#include "weights/source.h"

namespace hadal {

/// One weight of a model: where it comes from, and the operand that forward functions pass to Ops.
struct Weight {
  WeightSource source;
  Tensor tensor{};           ///< space WEIGHT; its handle is filled when the device holds it
  std::vector<float> table;  ///< values of a derived table; the source's only piece lies here
  double active = 1;         ///< the part of it that one token uses: k of E experts
  /// Rows of a head, of which the file has pairs (2i, 2i + 1) where the official checkpoint has
  /// (i, i + half); 0: they are in the official order.
  int64_t paired_rows = 0;
  bool divided = false;  ///< a part of the file's matrix; other ranks have the others
  const AdapterBank* adapters = nullptr;  ///< AdapterBanks attaches them

  operator const Tensor&() const { return tensor; }       // NOLINT: a weight is an operand
  operator Matrix() const { return {tensor, adapters}; }  // NOLINT
};

/// An operand that may be absent.
inline std::optional<Tensor> optional(const Weight* w) {
  return w ? std::optional<Tensor>(w->tensor) : std::nullopt;
}

/// Collects a model's slots while it binds, and what is wrong with them. Where a Share is taken,
/// the tensor has `of` and the slot gets its part of them: rows and matrices anywhere, columns in
/// whole blocks of the tensor's type and of its block scales.
class WeightBinder {
 public:
  /// Slots go to `slots` (a deque: their addresses last).
  WeightBinder(const Checkpoint& checkpoint, std::deque<Weight>& slots, const Shard& shard = {});

  [[nodiscard]] const Shard& shard() const { return shard_; }
  /// This rank's part of the width between two products: rows of the matrices before, columns of
  /// `after`, cut at whole blocks of it.
  Share width(const std::string& after, int64_t width);
  /// A matrix [rows, cols]. uses: HADAL_USE_MATMUL and/or HADAL_USE_GATHER. Block scales
  /// ("…weight_scale_inv") are found here.
  Weight* matrix(const std::string& name, const Share& rows, const Share& cols,
                 uint32_t uses = HADAL_USE_MATMUL);
  /// Matrices [count, rows, cols] of one tensor, such as those of heads in GGUF.
  Weight* matrices(const std::string& name, const Share& count, int64_t rows, int64_t cols);
  /// Experts [count, rows, cols], of which a token uses `active`: one tensor `prefix`E.`name` each
  /// (the official form), or one for all, `prefix``name` (GGUF). prefix:
  /// "model.layers.3.mlp.experts.", name: "gate_proj.weight".
  Weight* experts(const std::string& prefix, const std::string& name, const Share& count,
                  int64_t rows, int64_t cols, double active = 1);
  /// A part of each head of a matrix [heads * run, cols], in which every head has `run` rows: its
  /// rows [first, first + rows) as [heads, rows, cols], or turned [heads, cols, rows]. Of kv_b_proj
  /// with 128 + 128 rows a head, `first` 0 gives w_uk and `first` 128 w_uv.
  Weight* head_rows(const std::string& name, const Share& heads, int64_t run, int64_t first,
                    int64_t rows, int64_t cols, bool turned);
  /// A vector [n], read as fp32.
  Weight* vector(const std::string& name, const Share& n);
  /// A vector that is added to a sum of all ranks: the first one's; nullptr on the others.
  Weight* summand(const std::string& name, int64_t n);
  /// Whole numbers [rows, cols], read a row at a time.
  Weight* indices(const std::string& name, int64_t rows, int64_t cols);
  /// A table of this shape as one vector.
  Weight* vector(const std::string& name, const std::vector<int64_t>& shape);
  /// As summand, but absent is no error: nullptr.
  Weight* optional_summand(const std::string& name, int64_t n);
  /// A table [rows, cols] that the host reads; FP8 with one scale for 32 numbers of a row, in a
  /// tensor of their own, or as bytes behind the row's numbers: I8 [rows, cols + cols / 32].
  FileTable file_table(const std::string& name, int64_t rows, int64_t cols);
  /// A table that is computed, not stored.
  Weight* table(const std::string& name, std::vector<float> values);

  /// The checkpoint is a GGUF.
  [[nodiscard]] bool of_gguf() const { return checkpoint_.format() == CheckpointFormat::kGguf; }
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
  /// The name of the block scales that belong to a matrix: "X.weight_scale_inv" or "X.scale"; ""
  /// without.
  [[nodiscard]] std::string scale_name(const std::string& name) const;
  /// Bytes that are two 4-bit numbers each.
  [[nodiscard]] bool is_packed(const std::string& name) const;
  /// A tensor that other ranks use.
  void known_elsewhere(const std::string& name);
  /// The block scales of a matrix [rows, cols]: one for block_rows × block_cols numbers.
  const TensorInfo* take_scales(const std::string& name, int64_t rows, int64_t cols,
                                int64_t block_rows, int64_t block_cols);
  /// Adds the tensor [rows, cols] to the pieces of `w`, its block scales too; false if it is not
  /// there or not of the type of the pieces before it.
  bool add_matrix(Weight& w, const std::string& name, const Share& rows, const Share& cols);
  /// Cuts the piece, a whole tensor, to its part.
  bool cut(const WeightSource& source, const std::string& name, const Share& rows,
           const Share& cols, WeightSource::Piece& piece);
  /// Columns of a row of the tensor that cannot be cut apart; 1 if it is not there.
  [[nodiscard]] int64_t column_block(const std::string& name) const;
  /// A new slot; whole: the tensor that is all of its source.
  Weight& slot(const std::string& name, int64_t batch, int64_t rows, int64_t cols, uint32_t uses,
               const TensorInfo* whole = nullptr);

  /// The part of a tensor's bytes that rows of so many numbers take.
  std::span<const std::byte> rows_of(const TensorInfo& info, const Share& rows, int64_t numbers);

  const Checkpoint& checkpoint_;
  std::deque<Weight>& slots_;
  Shard shard_;
  std::set<std::string, std::less<>> used_;
  std::vector<std::string> unused_, missing_, misshapen_, undivided_;
  int64_t block_rows_ = 128, block_cols_ = 128;  ///< of the checkpoint's block scales
  std::string block_size_wrong_;                 ///< what is wrong with the configuration's
};

}  // namespace hadal
