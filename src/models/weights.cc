#include "models/weights.h"

#include <algorithm>

namespace hadal {
namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

/// "3 missing: a, b, c" with at most eight names.
void append_list(std::string& text, const char* what, const std::vector<std::string>& names) {
  if (names.empty()) return;
  constexpr size_t kShown = 8;
  if (!text.empty()) text += "; ";
  text += std::to_string(names.size()) + " " + what + ": ";
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > kShown) text += ", … and " + std::to_string(names.size() - kShown) + " more";
}

bool matches(std::string_view pattern, std::string_view name) {
  if (!pattern.empty() && pattern.back() == '*')
    return name.starts_with(pattern.substr(0, pattern.size() - 1));
  return name == pattern;
}

bool is_float(DType dtype) {
  switch (dtype) {
    case HADAL_I8:
    case HADAL_I16:
    case HADAL_I32:
    case HADAL_I64:
    case HADAL_U8:
    case HADAL_U16:
    case HADAL_U32:
    case HADAL_U64:
    case HADAL_BOOL:
    case HADAL_F8_E8M0:
      return false;
    default:
      return true;
  }
}

}  // namespace

const TensorInfo* WeightBinder::take(const std::string& name, const std::vector<int64_t>& shape,
                                     bool optional) {
  const TensorInfo* info = checkpoint_.find(name);
  if (!info) {
    if (!optional) missing_.push_back(name);
    return nullptr;
  }
  used_.insert(name);
  if (info->shape != shape) {
    misshapen_.push_back(name + " is " + shape_text(info->shape) + ", expected " +
                         shape_text(shape));
    return nullptr;
  }
  if (!is_float(info->dtype)) {
    misshapen_.push_back(name + " is of type " + std::string(dtype_name(info->dtype)) +
                         ", expected numbers with a fraction");
    return nullptr;
  }
  return info;
}

Weight* WeightBinder::matrix(const std::string& name, int64_t rows, int64_t cols, uint32_t uses) {
  const TensorInfo* info = take(name, {rows, cols}, false);
  if (!info) return nullptr;
  Weight& w = slots_.emplace_back();
  w.source.name = name;
  w.source.dtype = info->dtype;
  w.source.uses = uses;
  w.source.rows = rows;
  w.source.cols = cols;
  w.source.pieces.push_back({info->data, rows, {}});
  if (info->dtype == HADAL_F8_E4M3) {
    constexpr int64_t kBlock = 128;
    const std::string scale_name = name + "_scale_inv";
    const TensorInfo* scale =
        take(scale_name, {(rows + kBlock - 1) / kBlock, (cols + kBlock - 1) / kBlock}, false);
    if (!scale) return nullptr;
    w.source.scale_dtype = scale->dtype;
    w.source.scale_block_rows = w.source.scale_block_cols = kBlock;
    w.source.pieces[0].scales = scale->data;
  }
  w.tensor = make_tensor(info->dtype, HADAL_SPACE_WEIGHT, HADAL_DIM_CONST, {rows, cols});
  return &w;
}

Weight* WeightBinder::vector(const std::string& name, int64_t n) {
  const TensorInfo* info = take(name, {n}, false);
  if (!info) return nullptr;
  Weight& w = slots_.emplace_back();
  w.source.name = name;
  w.source.dtype = info->dtype;
  w.source.uses = HADAL_USE_VECTOR;
  w.source.rows = 1;
  w.source.cols = n;
  w.source.pieces.push_back({info->data, 1, {}});
  w.tensor = make_tensor(HADAL_F32, HADAL_SPACE_WEIGHT, HADAL_DIM_CONST, {n});
  return &w;
}

Weight* WeightBinder::optional_vector(const std::string& name, int64_t n) {
  return has(name) ? vector(name, n) : nullptr;
}

Weight* WeightBinder::table(std::string name, std::vector<float> values) {
  Weight& w = slots_.emplace_back();
  w.table = std::move(values);
  const auto n = static_cast<int64_t>(w.table.size());
  w.source.name = std::move(name);
  w.source.uses = HADAL_USE_VECTOR;
  w.source.rows = 1;
  w.source.cols = n;
  w.source.pieces.push_back({std::as_bytes(std::span(w.table)), 1, {}});
  w.tensor = make_tensor(HADAL_F32, HADAL_SPACE_WEIGHT, HADAL_DIM_CONST, {n});
  return &w;
}

Status WeightBinder::finish() const {
  std::vector<std::string> surplus;
  for (const TensorInfo& t : checkpoint_.tensors()) {
    if (used_.contains(t.name)) continue;
    if (std::any_of(unused_.begin(), unused_.end(),
                    [&](const std::string& p) { return matches(p, t.name); }))
      continue;
    surplus.push_back(t.name);
  }
  std::string text;
  append_list(text, "missing", missing_);
  append_list(text, "of a wrong shape or type", misshapen_);
  append_list(text, "unknown to this architecture", surplus);
  if (text.empty()) return {};
  return failed(checkpoint_.path().string() + ": tensors do not match the configuration: " + text);
}

}  // namespace hadal
