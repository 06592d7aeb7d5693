#include "rounding.h"

#include <algorithm>
#include <cmath>

#include "base/floats.h"
#include "ref.h"

namespace hadal::ref {
namespace {

constexpr int64_t kIntegerBlock = 32;  ///< weights that share a scale where they are integers
constexpr int64_t kFp8Block = 128;     ///< columns, and rows of a weight, that share a scale
constexpr float kLargestE4m3 = 448.0f;

/// Formats that a chip may multiply as integers, block of 32 by block of 32.
bool multiplies_as_integers(const hadal_weight_desc& desc) {
  switch (desc.dtype) {
    case HADAL_Q4_0:
    case HADAL_Q4_1:
    case HADAL_Q5_0:
    case HADAL_Q5_1:
    case HADAL_Q8_0:
    case HADAL_Q2_K:
    case HADAL_Q3_K:
    case HADAL_Q4_K:
    case HADAL_Q5_K:
    case HADAL_Q6_K:
    case HADAL_IQ4_NL:
    case HADAL_IQ4_XS:
    case HADAL_MXFP4:
    case HADAL_NVFP4:
      return desc.scale_dtype == HADAL_DTYPE_NONE;
    case HADAL_F4_E2M1:
      return desc.scale_dtype == HADAL_F8_E8M0 && desc.scale_block_rows == 1 &&
             desc.scale_block_cols == kIntegerBlock && desc.cols % kIntegerBlock == 0;
    default:
      return false;
  }
}

float largest(std::span<const float> x) {
  float top = 0;
  for (const float v : x) top = std::max(top, std::abs(v));
  return top;
}

void widen(std::span<const float> x, double* to) {
  for (size_t i = 0; i < x.size(); ++i) to[i] = static_cast<double>(x[i]);
}

double to_half(float value) { return static_cast<double>(bf16_to_f32(f32_to_bf16(value))); }

void round_half(std::span<const float> x, double* to) {
  for (size_t i = 0; i < x.size(); ++i) to[i] = to_half(x[i]);
}

/// One block that shares a scale: d q with |q| <= 127.
void round_int8(std::span<const float> x, double* to) {
  const float top = largest(x);
  const float inverse = top > 0 ? 127.0f / top : 0.0f;
  const auto d = static_cast<double>(top / 127.0f);
  for (size_t i = 0; i < x.size(); ++i)
    to[i] = std::isfinite(inverse) ? d * static_cast<double>(std::nearbyint(x[i] * inverse)) : 0.0;
}

void round_e4m3(std::span<const float> x, float scale, double* to) {
  for (size_t i = 0; i < x.size(); ++i)
    to[i] = scale > 0 ? static_cast<double>(scale) *
                            static_cast<double>(e4m3_to_f32(f32_to_e4m3(x[i] / scale)))
                      : 0.0;
}

/// Calls visit(block, offset) for the blocks of `x`; the last may be partial.
template <typename Visit>
void for_blocks(std::span<const float> x, int64_t block, Visit visit) {
  const auto size = static_cast<size_t>(block);
  for (size_t from = 0; from < x.size(); from += size)
    visit(x.subspan(from, std::min(size, x.size() - from)), from);
}

}  // namespace

Rounding product_rounding(Rounding table, const hadal_weight_desc& desc) {
  if (table.numerics == HADAL_NUMERICS_BLOCK8 && !multiplies_as_integers(desc)) return {};
  return table;
}

Rounding attention_rounding(Rounding table) {
  switch (table.numerics) {
    case HADAL_NUMERICS_HALF:
    case HADAL_NUMERICS_FP8:
    case HADAL_NUMERICS_ROW8:
      return {HADAL_NUMERICS_HALF, 0};
    default:
      return {};
  }
}

double round_attention(float value, Rounding attention) {
  return attention.numerics == HADAL_NUMERICS_HALF ? to_half(value) : static_cast<double>(value);
}

void round_activations(std::span<const float> x, Rounding product, double* to) {
  switch (product.numerics) {
    case HADAL_NUMERICS_BLOCK8:
      for_blocks(x, product.block, [&](auto block, size_t at) { round_int8(block, to + at); });
      return;
    case HADAL_NUMERICS_HALF:
      return round_half(x, to);
    case HADAL_NUMERICS_FP8:
      for_blocks(x, kFp8Block, [&](auto block, size_t at) {
        round_e4m3(block, largest(block) / kLargestE4m3, to + at);
      });
      return;
    case HADAL_NUMERICS_ROW8:
      return round_int8(x, to);
    default:
      return widen(x, to);
  }
}

RowReader::RowReader(const Weight& w, Rounding product)
    : w_(w),
      product_(product),
      f32_(static_cast<size_t>(w.desc.cols)),
      f64_(static_cast<size_t>(w.desc.cols)) {}

const double* RowReader::read(int64_t row) {
  const uint32_t stored = w_.desc.dtype;
  if (product_.numerics == HADAL_NUMERICS_FP8 && stored != HADAL_F8_E4M3) {
    round_fp8(row);
    return f64_.data();
  }
  w_.decode_row(row, f32_.data());
  if (product_.numerics == HADAL_NUMERICS_HALF)
    round_half(f32_, f64_.data());
  else if (product_.numerics == HADAL_NUMERICS_ROW8 && stored != HADAL_I8)
    round_int8(f32_, f64_.data());
  else
    widen(f32_, f64_.data());
  return f64_.data();
}

void RowReader::round_fp8(int64_t row) {
  const int64_t matrix = row / w_.desc.rows;
  const int64_t row_block = row % w_.desc.rows / kFp8Block;
  if (matrix != matrix_ || row_block != row_block_) find_scales(matrix, row_block);
  w_.decode_row(row, f32_.data());
  for_blocks(f32_, kFp8Block, [&](auto block, size_t at) {
    round_e4m3(block, scales_[at / kFp8Block], f64_.data() + at);
  });
}

void RowReader::find_scales(int64_t matrix, int64_t row_block) {
  matrix_ = matrix;
  row_block_ = row_block;
  const int64_t first = row_block * kFp8Block;
  const int64_t end = std::min(first + kFp8Block, w_.desc.rows);
  scales_.assign((f32_.size() + kFp8Block - 1) / kFp8Block, 0.0f);
  for (int64_t r = first; r < end; ++r) {
    w_.decode_row(matrix * w_.desc.rows + r, f32_.data());
    for_blocks(f32_, kFp8Block, [&](auto block, size_t at) {
      float& top = scales_[at / kFp8Block];
      top = std::max(top, largest(block));
    });
  }
  for (float& scale : scales_) scale /= kLargestE4m3;
}

}  // namespace hadal::ref
