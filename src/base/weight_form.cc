#include "base/weight_form.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/floats.h"

namespace hadal {
namespace {

int64_t width_of(const WeightForm& form, int64_t cols) {
  return form.block_cols > 0 ? std::min(form.block_cols, cols) : cols;
}

/// Writes element i of a plain type; returns what it stands for.
float put(DType dtype, float value, std::byte* out, int64_t i) {
  const auto half = [&](uint16_t bits, float back) {
    std::memcpy(out + i * 2, &bits, sizeof bits);
    return back;
  };
  switch (dtype) {
    case HADAL_F16: {
      const uint16_t bits = f32_to_f16(value);
      return half(bits, f16_to_f32(bits));
    }
    case HADAL_BF16: {
      const uint16_t bits = f32_to_bf16(value);
      return half(bits, bf16_to_f32(bits));
    }
    case HADAL_I8: {
      const float whole =
          std::isfinite(value) ? std::nearbyint(std::clamp(value, -127.0f, 127.0f)) : 0;
      out[i] = static_cast<std::byte>(static_cast<int8_t>(whole));
      return whole;
    }
    case HADAL_F8_E8M0: {  // a scale: the power of two that is not below it
      int exponent = 0;
      const float fraction = std::frexp(value, &exponent);  // value = fraction 2^exponent
      exponent = std::clamp(exponent - (fraction == 0.5f ? 1 : 0), -126, 127);
      out[i] = static_cast<std::byte>(exponent + 127);
      return std::ldexp(1.0f, exponent);
    }
    case HADAL_F8_E4M3: {
      const uint8_t bits = f32_to_e4m3(value);
      out[i] = static_cast<std::byte>(bits);
      return e4m3_to_f32(bits);
    }
    default:
      std::memcpy(out + i * 4, &value, sizeof value);
      return value;
  }
}

}  // namespace

int64_t WeightForm::scale_cols(int64_t cols) const {
  return scaled() ? (cols + width_of(*this, cols) - 1) / width_of(*this, cols) : 0;
}

uint64_t WeightForm::bytes(int64_t batch, int64_t rows, int64_t cols) const {
  auto total = static_cast<uint64_t>(batch * rows) *
               static_cast<uint64_t>(row_bytes(dtype, cols).value_or(0));
  if (scaled())
    total += static_cast<uint64_t>(batch * ((rows + block_rows - 1) / block_rows)) *
             static_cast<uint64_t>(row_bytes(scale_dtype, scale_cols(cols)).value_or(0));
  return total;
}

std::string WeightForm::text() const {
  std::string text(dtype_name(dtype));
  if (!scaled()) return text;
  return text + " with " + std::string(dtype_name(scale_dtype)) + " scales by " +
         (block_cols == 0 ? "row"
                          : std::to_string(block_rows) + " x " + std::to_string(block_cols));
}

WeightForm weight_form(const hadal_weight_form& form) {
  return {static_cast<DType>(form.dtype), static_cast<DType>(form.scale_dtype), form.block_rows,
          form.block_cols};
}

bool can_encode(const WeightForm& form) {
  const auto is_float = [](DType dtype) {
    return dtype == HADAL_F32 || dtype == HADAL_F16 || dtype == HADAL_BF16;
  };
  if (!form.scaled()) return is_float(form.dtype);
  return (is_float(form.scale_dtype) || form.scale_dtype == HADAL_F8_E8M0) &&
         form.block_rows >= 1 && form.block_cols >= 0 &&
         (form.dtype == HADAL_I8 || form.dtype == HADAL_F8_E4M3);
}

EncodingError encode_rows(const WeightForm& form, const float* values, int64_t rows, int64_t cols,
                          std::byte* out, std::byte* scales) {
  EncodingError error;
  const auto add = [&](float value, float back) {
    const double off = static_cast<double>(value) - static_cast<double>(back);
    error.error += off * off;
    error.values += static_cast<double>(value) * static_cast<double>(value);
  };
  if (!form.scaled()) {
    for (int64_t i = 0; i < rows * cols; ++i) add(values[i], put(form.dtype, values[i], out, i));
    return error;
  }
  const int64_t width = width_of(form, cols), across = form.scale_cols(cols);
  const float largest = form.dtype == HADAL_I8 ? 127.0f : 448.0f;
  for (int64_t from = 0; from < rows; from += form.block_rows)
    for (int64_t b = 0; b < across; ++b) {
      const int64_t last = std::min(rows, from + form.block_rows),
                    end = std::min(cols, (b + 1) * width);
      float most = 0;
      for (int64_t r = from; r < last; ++r)
        for (int64_t c = b * width; c < end; ++c)
          most = std::max(most, std::fabs(values[r * cols + c]));
      const int64_t at = from / form.block_rows * across + b;
      float scale = put(form.scale_dtype, most / largest, scales, at);
      // A block that holds numbers too small for a scale becomes zeros.
      if (!(scale >= std::numeric_limits<float>::min()))
        scale = put(form.scale_dtype, 1, scales, at);
      for (int64_t r = from; r < last; ++r)
        for (int64_t c = b * width; c < end; ++c) {
          const float value = values[r * cols + c];
          add(value, put(form.dtype, value / scale, out, r * cols + c) * scale);
        }
    }
  return error;
}

}  // namespace hadal
