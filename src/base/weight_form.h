// Forms of weights that can be made: numbers in a smaller type, with block scales where the type
// needs them. For the host, which gives a chip what it takes, and for the conformance kit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/dtype.h"
#include "hadal/chip.h"

namespace hadal {

/// An element type and its block scales: value = element * scale of its block. What a chip lists as
/// hadal_weight_form, without the class of numerics.
struct WeightForm {
  DType dtype = HADAL_F32;
  DType scale_dtype = HADAL_DTYPE_NONE;    ///< NONE: no scales
  int64_t block_rows = 0, block_cols = 0;  ///< of a block; 0 columns: the whole row

  [[nodiscard]] bool scaled() const { return scale_dtype != HADAL_DTYPE_NONE; }
  /// Blocks of scales along a row of `cols` values; 0 without scales.
  [[nodiscard]] int64_t scale_cols(int64_t cols) const;
  /// Bytes of `batch` matrices [rows, cols], scales included.
  [[nodiscard]] uint64_t bytes(int64_t batch, int64_t rows, int64_t cols) const;
  /// "I8 with F32 scales by 1 x 576", "BF16".
  [[nodiscard]] std::string text() const;
};

WeightForm weight_form(const hadal_weight_form& form);

/// Can encode_rows make it? F32, F16, BF16; I8 and F8_E4M3 with scales in F32, F16, BF16 or
/// F8_E8M0.
bool can_encode(const WeightForm& form);

/// How far what was encoded lies from the values: sums of squares.
struct EncodingError {
  double error = 0, values = 0;
  EncodingError& operator+=(const EncodingError& other) {
    error += other.error;
    values += other.values;
    return *this;
  }
};

/// Encodes `rows` rows of `cols` values, which begin a block of rows: elements side by side to
/// `out`, a row of scales a block of rows to `scales`. I8: scale = max|x| / 127 of the block,
/// F8_E4M3: max|x| / 448, rounded to the scales' type (F8_E8M0: up); elements to the nearest, even
/// ones of two.
EncodingError encode_rows(const WeightForm& form, const float* values, int64_t rows, int64_t cols,
                          std::byte* out, std::byte* scales);

}  // namespace hadal
