// What a kernel table of `ref` rounds beside results: the classes of numerics (docs/numerics.md,
// "Classes of numerics"). Owns the list of tables and the rounding of activations and weights;
// sums stay in double everywhere.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hadal/chip.h"

namespace hadal::ref {

struct Weight;

/// A class of numerics; block8: with the number of activations that share a scale.
struct Rounding {
  hadal_numerics numerics = HADAL_NUMERICS_EXACT;
  int64_t block = 0;

  bool operator==(const Rounding&) const = default;
};

struct KernelTable {
  const char* name;
  Rounding rounding;
};

/// The tables of this chip. The first is the definition of the contract and the default, the others
/// are oracles for chips that round.
constexpr KernelTable kKernelTables[] = {
    {"ref", {HADAL_NUMERICS_EXACT, 0}},         {"int8", {HADAL_NUMERICS_BLOCK8, 32}},
    {"int8-256", {HADAL_NUMERICS_BLOCK8, 256}}, {"half", {HADAL_NUMERICS_HALF, 0}},
    {"fp8", {HADAL_NUMERICS_FP8, 0}},           {"row8", {HADAL_NUMERICS_ROW8, 0}},
};

/// How a product with weights of this kind rounds in a table: exactly, where block8 meets weights
/// that do not multiply as integers. Of `desc` the type, the scales and the columns are looked at.
Rounding product_rounding(Rounding table, const hadal_weight_desc& desc);

/// How attention rounds in a table: exactly or by halves.
Rounding attention_rounding(Rounding table);

/// A number of q, k or v, or a probability relative to the largest, as attention takes it.
double round_attention(float value, Rounding attention);

/// A row of activations as a product takes it.
void round_activations(std::span<const float> x, Rounding product, double* to);

/// Weight rows as a product takes them, one at a time. Cheap for rows in ascending order: the
/// scales of a block of rows are found when its first row is read.
class RowReader {
 public:
  RowReader(const Weight& w, Rounding product);
  /// Row `row` of all matrices, numbered through. Valid until the next call.
  const double* read(int64_t row);

 private:
  void find_scales(int64_t matrix, int64_t row_block);
  void round_fp8(int64_t row);

  const Weight& w_;
  Rounding product_;
  std::vector<float> f32_;
  std::vector<double> f64_;
  std::vector<float> scales_;  ///< fp8: of the blocks of 128 columns in the block of rows below
  int64_t matrix_ = -1;
  int64_t row_block_ = -1;
};

}  // namespace hadal::ref
