// Forms of weights: what a chip lists, and a case's weight written in one of them.
#include <algorithm>
#include <cmath>

#include "kit.h"

namespace hadal::conformance {
namespace {

constexpr uint32_t kMostForms = 32;

// Rows of `values` ([rows, cols]) as one piece of `w`.
WeightData::Source make_source(const WeightData& w, const float* values, int64_t rows) {
  const hadal_weight_desc& d = w.desc;
  const int64_t size = dtype_info(static_cast<DType>(d.dtype))->block_bytes;
  WeightData::Source source;
  source.rows = rows;
  source.row_stride = d.cols * size;
  source.bytes.resize(w.skew + static_cast<size_t>(rows * source.row_stride));
  std::byte* data = source.bytes.data() + w.skew;
  const WeightForm form{static_cast<DType>(d.dtype), static_cast<DType>(d.scale_dtype),
                        d.scale_block_rows, d.scale_block_cols};
  if (form.scaled()) {
    const int64_t down = (rows + form.block_rows - 1) / form.block_rows;
    source.scale_row_stride = row_bytes(form.scale_dtype, form.scale_cols(d.cols)).value_or(0);
    source.scale_bytes.resize(w.skew + static_cast<size_t>(down * source.scale_row_stride));
  }
  encode_rows(form, values, rows, d.cols, data,
              form.scaled() ? source.scale_bytes.data() + w.skew : nullptr);
  return source;
}

/// No infinities and nothing large: the operator that reads a plane back may round to 16 bits.
void tame(Operand& o) {
  auto* values = reinterpret_cast<float*>(o.data.data());
  for (int64_t i = 0; i < o.count(); ++i)
    if (!(std::fabs(values[i]) <= 4096)) values[i] = static_cast<float>(i % 257 - 128) / 16;
}

}  // namespace

std::shared_ptr<const WeightData> in_form(const WeightData& from, const hadal_weight_form& form) {
  if (!can_encode(weight_form(form))) return nullptr;
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
  if (!device.chip->weight_forms) {  // F32 is tried
    forms.list.push_back({.size = sizeof(hadal_weight_form), .dtype = HADAL_F32});
    return forms;
  }
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
  if (weight->values.empty() || (weight->desc.uses & HADAL_USE_VECTOR) != 0) return weight;
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
    if (device.chip->weight_forms && weight->desc.uses == use)
      violation =
          "weight_forms lists " + weight_form(form).text() + ", which weight_bytes declines";
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
