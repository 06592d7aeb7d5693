// Forms of weights: what a chip lists, and a case's weight written in one of them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/floats.h"
#include "kit.h"

namespace hadal::conformance {
namespace {

constexpr uint32_t kMostForms = 32;

float largest_of(uint32_t dtype) { return dtype == HADAL_I8 ? 127.0f : 448.0f; }

/// The e4m3 number nearest to `value`, ties to even; beyond 448 it is 448.
uint8_t to_e4m3(float value) {
  uint8_t best = 0;
  float distance = std::numeric_limits<float>::infinity();
  const float size = std::fabs(value);
  for (uint8_t code = 0; code <= 0x7e; ++code) {
    const float d = std::fabs(e4m3_to_f32(code) - size);
    if (d < distance || (d == distance && code % 2 == 0)) {
      best = code;
      distance = d;
    }
  }
  return static_cast<uint8_t>(best | (std::signbit(value) ? 0x80 : 0));
}

void put_number(std::byte* to, uint32_t dtype, float value) {
  if (dtype == HADAL_I8) {
    *to = static_cast<std::byte>(
        static_cast<int8_t>(std::clamp(std::nearbyint(value), -127.0f, 127.0f)));
  } else if (dtype == HADAL_F8_E4M3) {
    *to = static_cast<std::byte>(to_e4m3(value));
  } else {
    const Bytes bytes = encode({value}, dtype);
    std::memcpy(to, bytes.data(), bytes.size());
  }
}

/// Stores a scale, and returns what it became. A power of two is not below it.
float put_scale(std::byte* to, uint32_t dtype, float scale) {
  if (dtype == HADAL_F8_E8M0) {
    int exponent = 0;
    const float fraction = std::frexp(scale, &exponent);  // scale = fraction 2^exponent
    if (fraction == 0.5f || scale == 0) --exponent;
    exponent = std::clamp(exponent, -126, 127);
    *to = static_cast<std::byte>(exponent + 127);
    return std::ldexp(1.0f, exponent);
  }
  const Bytes bytes = encode({scale}, dtype);
  std::memcpy(to, bytes.data(), bytes.size());
  Operand one;
  one.dtype = dtype;
  one.data = bytes;
  return decode(one, 0);
}

bool is_number(uint32_t dtype) {
  return dtype == HADAL_F32 || dtype == HADAL_F16 || dtype == HADAL_BF16;
}

bool kit_makes(const hadal_weight_form& form) {
  if (form.scale_dtype == HADAL_DTYPE_NONE) return is_number(form.dtype);
  return (form.dtype == HADAL_I8 || form.dtype == HADAL_F8_E4M3) && form.block_rows >= 1 &&
         form.block_cols >= 0 && (is_number(form.scale_dtype) || form.scale_dtype == HADAL_F8_E8M0);
}

// Rows of `values` ([rows, cols]) as one piece of `w`.
WeightData::Source make_source(const WeightData& w, const float* values, int64_t rows) {
  const hadal_weight_desc& d = w.desc;
  const int64_t size = dtype_info(static_cast<DType>(d.dtype))->block_bytes;
  WeightData::Source source;
  source.rows = rows;
  source.row_stride = d.cols * size;
  source.bytes.resize(w.skew + static_cast<size_t>(rows * source.row_stride));
  std::byte* data = source.bytes.data() + w.skew;
  if (d.scale_dtype == HADAL_DTYPE_NONE) {
    for (int64_t i = 0; i < rows * d.cols; ++i) put_number(data + i * size, d.dtype, values[i]);
    return source;
  }
  const int64_t block_rows = d.scale_block_rows, block_cols = d.scale_block_cols;
  const int64_t across = (d.cols + block_cols - 1) / block_cols,
                down = (rows + block_rows - 1) / block_rows;
  const int64_t scale_size = dtype_info(static_cast<DType>(d.scale_dtype))->block_bytes;
  source.scale_row_stride = across * scale_size;
  source.scale_bytes.resize(w.skew + static_cast<size_t>(down * source.scale_row_stride));
  for (int64_t block = 0; block < down * across; ++block) {
    const int64_t first_row = block / across * block_rows, first_col = block % across * block_cols;
    const int64_t last_row = std::min(rows, first_row + block_rows),
                  last_col = std::min(d.cols, first_col + block_cols);
    float largest = 0;
    for (int64_t r = first_row; r < last_row; ++r)
      for (int64_t c = first_col; c < last_col; ++c)
        largest = std::max(largest, std::fabs(values[r * d.cols + c]));
    const float scale = put_scale(source.scale_bytes.data() + w.skew + block * scale_size,
                                  d.scale_dtype, largest / largest_of(d.dtype));
    for (int64_t r = first_row; r < last_row; ++r)
      for (int64_t c = first_col; c < last_col; ++c)
        put_number(data + (r * d.cols + c) * size, d.dtype,
                   scale == 0 ? 0.0f : values[r * d.cols + c] / scale);
  }
  return source;
}

/// No infinities and nothing large: the operator that reads a plane back may round to 16 bits.
void tame(Operand& o) {
  auto* values = reinterpret_cast<float*>(o.data.data());
  for (int64_t i = 0; i < o.count(); ++i)
    if (!(std::fabs(values[i]) <= 4096)) values[i] = static_cast<float>(i % 257 - 128) / 16;
}

}  // namespace

std::string form_text(const hadal_weight_form& form) {
  std::string text(dtype_name(static_cast<DType>(form.dtype)));
  if (form.scale_dtype == HADAL_DTYPE_NONE) return text;
  return text + " with " + std::string(dtype_name(static_cast<DType>(form.scale_dtype))) +
         " scales for " + std::to_string(form.block_rows) + " x " +
         (form.block_cols == 0 ? "all columns" : std::to_string(form.block_cols));
}

std::shared_ptr<const WeightData> in_form(const WeightData& from, const hadal_weight_form& form) {
  if (!kit_makes(form)) return nullptr;
  auto w = std::make_shared<WeightData>();
  w->desc = from.desc;
  w->desc.dtype = form.dtype;
  w->desc.scale_dtype = form.scale_dtype;
  const bool scaled = form.scale_dtype != HADAL_DTYPE_NONE;
  w->desc.scale_block_rows = scaled ? form.block_rows : 0;
  w->desc.scale_block_cols = !scaled ? 0 : form.block_cols == 0 ? from.desc.cols : form.block_cols;
  w->skew = from.skew;
  // A piece begins with a block of its own, and so does a matrix: blocks of several rows take a
  // piece a matrix.
  std::vector<int64_t> rows;
  if (scaled && form.block_rows > 1)
    rows.assign(static_cast<size_t>(from.desc.batch), from.desc.rows);
  else
    for (const WeightData::Source& source : from.sources) rows.push_back(source.rows);
  const float* values = from.values.data();
  for (const int64_t count : rows) {
    w->sources.push_back(make_source(*w, values, count));
    values += count * from.desc.cols;
  }
  decode_values(*w);
  return w;
}

Forms weight_forms(const Device& device, uint32_t use) {
  Forms forms;
  if (!device.chip->weight_forms) return forms;
  hadal_error error = fresh_error();
  forms.list.resize(kMostForms);
  for (hadal_weight_form& form : forms.list) form.size = sizeof form;
  uint32_t count = kMostForms;
  const hadal_status status =
      device.chip->weight_forms(device.device, use, forms.list.data(), &count, &error);
  if (status != HADAL_OK) {
    forms.list.clear();
    if (status != HADAL_UNSUPPORTED || error.text[0] == '\0')
      forms.violation = "weight_forms fails: " + std::string(error.text);
    return forms;
  }
  forms.list.resize(std::min(count, kMostForms));
  for (const hadal_weight_form& form : forms.list) {
    if (!dtype_info(static_cast<DType>(form.dtype)) && form.dtype < 0x10000)
      forms.violation = "weight_forms lists the element type " + std::to_string(form.dtype);
    else if (form.numerics >= HADAL_NUMERICS_COUNT)
      forms.violation = "weight_forms lists the class of numerics " + std::to_string(form.numerics);
    else if (form.scale_dtype != HADAL_DTYPE_NONE && (form.block_rows < 1 || form.block_cols < 0))
      forms.violation = "weight_forms lists scales for no rows, or for fewer than no columns";
  }
  return forms;
}

std::shared_ptr<const WeightData> adapt_weight(std::shared_ptr<const WeightData> weight,
                                               const Device& device, std::string& violation) {
  // Vectors and tables of whole numbers have one form.
  if (!device.chip->weight_forms || weight->values.empty() ||
      (weight->desc.uses & HADAL_USE_VECTOR) != 0)
    return weight;
  const auto taken = [&](const WeightData& w) {
    uint64_t bytes = 0;
    hadal_error error = fresh_error();
    return device.chip->weight_bytes(device.device, &w.desc, &bytes, &error) != HADAL_UNSUPPORTED;
  };
  if (taken(*weight)) return weight;
  const uint32_t use =
      (weight->desc.uses & HADAL_USE_MATMUL) != 0 ? HADAL_USE_MATMUL : HADAL_USE_GATHER;
  const Forms forms = weight_forms(device, use);
  if (!forms.violation.empty()) violation = forms.violation;
  for (const hadal_weight_form& form : forms.list) {
    const auto converted = in_form(*weight, form);
    if (!converted) continue;
    if (taken(*converted)) return converted;
    // With two uses at once a chip may like another form than for one.
    if (weight->desc.uses == use)
      violation = "weight_forms lists " + form_text(form) + ", which weight_bytes declines";
  }
  return weight;
}

std::string adapt(Case& c, const Device& device) {
  std::string violation;
  for (Operand& o : c.operands) {
    if (!o.weight) continue;
    o.weight = adapt_weight(o.weight, device, violation);
    o.dtype = o.weight->desc.dtype;
  }
  if (device.opaque_planes() && c.id == HADAL_OP_KV_WRITE) tame(c.operands[HADAL_KV_WRITE_X]);
  return violation;
}

}  // namespace hadal::conformance
