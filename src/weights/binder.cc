#include "weights/binder.h"

#include <algorithm>
#include <array>

#include "base/quant.h"
#include "checkpoint/printable.h"

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
  if (!text.empty()) text += "; ";
  text += std::to_string(names.size()) + " " + what + ": " + listed(names);
}

bool matches(std::string_view pattern, std::string_view name) {
  if (!pattern.empty() && pattern.back() == '*')
    return name.starts_with(pattern.substr(0, pattern.size() - 1));
  return name == pattern;
}

bool is_float(DType dtype) {
  constexpr std::array kOthers = {HADAL_I8,  HADAL_I16, HADAL_I32, HADAL_I64,  HADAL_U8,
                                  HADAL_U16, HADAL_U32, HADAL_U64, HADAL_BOOL, HADAL_F8_E8M0};
  return std::find(kOthers.begin(), kOthers.end(), dtype) == kOthers.end();
}

Tensor operand(DType dtype, std::initializer_list<int64_t> extents) {
  return make_tensor(dtype, HADAL_SPACE_WEIGHT, HADAL_DIM_CONST, extents);
}

}  // namespace

WeightBinder::WeightBinder(const Checkpoint& checkpoint, std::deque<Weight>& slots)
    : checkpoint_(checkpoint), slots_(slots) {
  const auto quantization = checkpoint.config().object("quantization_config");
  if (!quantization || !quantization->has("weight_block_size")) return;
  constexpr int64_t kLargest = 1 << 24;
  const auto block = quantization->integers("weight_block_size");
  const auto fits = [&](size_t i) { return (*block)[i] >= 1 && (*block)[i] <= kLargest; };
  if (block && block->size() == 2 && fits(0) && fits(1)) {
    block_rows_ = (*block)[0];
    block_cols_ = (*block)[1];
  } else {
    block_size_wrong_ =
        quantization->origin() + ": \"weight_block_size\": expected two whole numbers from 1 to " +
        std::to_string(kLargest) + ", found " + quantization->value_text("weight_block_size", 60);
  }
}

const TensorInfo* WeightBinder::take(const std::string& name, const std::vector<int64_t>& shape,
                                     Holds holds) {
  const TensorInfo* info = checkpoint_.find(name);
  if (!info) {
    missing_.push_back(name);
    return nullptr;
  }
  used_.insert(name);
  if (info->shape != shape) {
    misshapen_.push_back(name + " is " + shape_text(info->shape) + ", expected " +
                         shape_text(shape));
    return nullptr;
  }
  const bool fits = holds == Holds::kWhole || is_float(info->dtype) ||
                    (holds == Holds::kScales && info->dtype == HADAL_F8_E8M0);
  if (!fits) {
    misshapen_.push_back(name + " is of type " + std::string(dtype_name(info->dtype)) +
                         ", expected numbers with a fraction");
    return nullptr;
  }
  return info;
}

Weight& WeightBinder::slot(const std::string& name, int64_t batch, int64_t rows, int64_t cols,
                           uint32_t uses, const TensorInfo* whole) {
  Weight& w = slots_.emplace_back();
  w.source.name = name;
  w.source.uses = uses;
  w.source.batch = batch;
  w.source.rows = rows;
  w.source.cols = cols;
  if (!whole) return w;
  w.source.dtype = whole->dtype;
  w.source.pieces.push_back({whole->data, batch * rows, {}});
  return w;
}

std::string WeightBinder::scale_name(const std::string& name) const {
  if (has(name + "_scale_inv")) return name + "_scale_inv";
  constexpr std::string_view kWeight = "weight";
  if (!name.ends_with(kWeight)) return "";
  const std::string scale = name.substr(0, name.size() - kWeight.size()) + "scale";
  return has(scale) ? scale : "";
}

const TensorInfo* WeightBinder::take_scales(const std::string& name, int64_t rows, int64_t cols,
                                            int64_t block_rows, int64_t block_cols) {
  const std::string found = scale_name(name);
  return take(found.empty() ? name + "_scale_inv" : found,
              {(rows + block_rows - 1) / block_rows, (cols + block_cols - 1) / block_cols},
              Holds::kScales);
}

bool WeightBinder::add_matrix(Weight& w, const std::string& name, int64_t rows, int64_t cols) {
  const TensorInfo* info = checkpoint_.find(name);
  // Two 4-bit numbers a byte, the even column in the low half; one scale for 32.
  const bool packed =
      info && (info->dtype == HADAL_I8 || info->dtype == HADAL_U8) && !scale_name(name).empty();
  info = take(name, {rows, packed ? cols / 2 : cols}, packed ? Holds::kWhole : Holds::kNumbers);
  if (!info) return false;
  WeightSource& s = w.source;
  const DType dtype = packed ? HADAL_F4_E2M1 : info->dtype;
  if (!s.pieces.empty() && dtype != s.dtype) {
    misshapen_.push_back(name + " is of type " + std::string(dtype_name(dtype)) +
                         ", those before it of type " + std::string(dtype_name(s.dtype)));
    return false;
  }
  s.dtype = dtype;
  WeightSource::Piece piece{info->data, rows, {}};
  if (dtype == HADAL_F8_E4M3 || packed) {
    s.scale_block_rows = packed ? 1 : block_rows_;
    s.scale_block_cols = packed ? 32 : block_cols_;
    const TensorInfo* scale = take_scales(name, rows, cols, s.scale_block_rows, s.scale_block_cols);
    if (!scale) return false;
    if (s.scale_dtype != HADAL_DTYPE_NONE && s.scale_dtype != scale->dtype) {
      misshapen_.push_back(scale->name + " is of another type than the scales before it");
      return false;
    }
    s.scale_dtype = scale->dtype;
    piece.scales = scale->data;
  }
  s.pieces.push_back(piece);
  return true;
}

Weight* WeightBinder::matrix(const std::string& name, int64_t rows, int64_t cols, uint32_t uses) {
  Weight& w = slot(name, 1, rows, cols, uses);
  if (!add_matrix(w, name, rows, cols)) return nullptr;
  w.tensor = operand(w.source.dtype, {rows, cols});
  return &w;
}

Weight* WeightBinder::matrices(const std::string& name, int64_t count, int64_t rows, int64_t cols) {
  const TensorInfo* info = take(name, {count, rows, cols});
  if (!info) return nullptr;
  Weight& w = slot(name, count, rows, cols, HADAL_USE_MATMUL, info);
  w.tensor = operand(info->dtype, {count, rows, cols});
  return &w;
}

Weight* WeightBinder::experts(const std::string& prefix, const std::string& name, int64_t count,
                              int64_t rows, int64_t cols, double active) {
  if (has(prefix + name)) {
    Weight* w = matrices(prefix + name, count, rows, cols);
    if (w) w->active = active;
    return w;
  }
  Weight& w = slot(prefix + name, count, rows, cols, HADAL_USE_MATMUL);
  w.active = active;
  for (int64_t e = 0; e < count; ++e)
    if (!add_matrix(w, prefix + std::to_string(e) + "." + name, rows, cols)) return nullptr;
  w.tensor = operand(w.source.dtype, {count, rows, cols});
  return &w;
}

Weight* WeightBinder::head_rows(const std::string& name, int64_t heads, int64_t run, int64_t first,
                                int64_t rows, int64_t cols, bool turned) {
  Weight whole;
  if (!add_matrix(whole, name, heads * run, cols)) return nullptr;
  const WeightSource& from = whole.source;
  const int64_t stride = row_bytes(from.dtype, cols).value_or(0);
  Weight& w = slot(name, heads, turned ? cols : rows, turned ? rows : cols, HADAL_USE_MATMUL);
  WeightSource& to = w.source;
  to.dtype = from.dtype;
  to.transposed = turned;
  to.scale_dtype = from.scale_dtype;
  to.scale_block_rows = from.scale_block_rows;
  to.scale_block_cols = from.scale_block_cols;
  for (int64_t h = 0; h < heads; ++h) {
    const int64_t at = h * run + first;
    WeightSource::Piece piece{from.pieces[0].data.subspan(static_cast<size_t>(at * stride),
                                                          static_cast<size_t>(rows * stride)),
                              rows,
                              {}};
    if (from.scale_dtype != HADAL_DTYPE_NONE) {
      const int64_t blocks = (cols + from.scale_block_cols - 1) / from.scale_block_cols;
      const int64_t scale_stride = row_bytes(from.scale_dtype, blocks).value_or(0);
      piece.scales = from.pieces[0].scales.subspan(
          static_cast<size_t>(at / from.scale_block_rows * scale_stride));
      piece.scale_row = at % from.scale_block_rows;
    }
    to.pieces.push_back(piece);
  }
  w.tensor = operand(to.dtype, {heads, to.rows, to.cols});
  return &w;
}

Weight* WeightBinder::indices(const std::string& name, int64_t rows, int64_t cols) {
  const TensorInfo* info = take(name, {rows, cols}, Holds::kWhole);
  if (!info) return nullptr;
  Weight& w = slot(name, 1, rows, cols, HADAL_USE_GATHER, info);
  w.tensor = operand(info->dtype, {rows, cols});
  return &w;
}

Weight* WeightBinder::vector(const std::string& name, int64_t n) {
  return vector(name, std::vector<int64_t>{n});
}

Weight* WeightBinder::vector(const std::string& name, const std::vector<int64_t>& shape) {
  const TensorInfo* info = take(name, shape);
  if (!info) return nullptr;
  const int64_t n = info->elements();
  Weight& w = slot(name, 1, 1, n, HADAL_USE_VECTOR, info);
  w.tensor = operand(HADAL_F32, {n});
  return &w;
}

Weight* WeightBinder::optional_vector(const std::string& name, int64_t n) {
  return has(name) ? vector(name, n) : nullptr;
}

Weight* WeightBinder::table(const std::string& name, std::vector<float> values) {
  const auto n = static_cast<int64_t>(values.size());
  Weight& w = slot(name, 1, 1, n, HADAL_USE_VECTOR);
  w.table = std::move(values);
  w.source.pieces.push_back({std::as_bytes(std::span(w.table)), 1, {}});
  w.tensor = operand(HADAL_F32, {n});
  return &w;
}

FileTable WeightBinder::file_table(const std::string& name, int64_t rows, int64_t cols) {
  const int64_t scales_of_row = (cols + FileTable::kScaled - 1) / FileTable::kScaled;
  const TensorInfo* info = checkpoint_.find(name);
  // A GGUF holds each row's numbers and scales in one run of bytes.
  const bool joined = info && info->dtype == HADAL_I8;
  info = take(name, {rows, joined ? cols + scales_of_row : cols},
              joined ? Holds::kWhole : Holds::kNumbers);
  if (!info) return {};
  if (joined) return FileTable::of_joined_rows(rows, cols, info->data);
  if (info->dtype != HADAL_F8_E4M3) return {rows, cols, info->dtype, info->data};
  const TensorInfo* scale = take_scales(name, rows, cols, 1, FileTable::kScaled);
  if (!scale) return {};
  return {rows, cols, info->dtype, info->data, scale->dtype, scale->data};
}

void WeightBinder::known_unused_layers(const std::string& prefix, int64_t first, int64_t count) {
  for (int64_t i = first; i < first + count; ++i) known_unused(prefix + std::to_string(i) + ".*");
}

Status WeightBinder::finish(std::vector<std::string>& unused) const {
  unused.clear();
  if (!block_size_wrong_.empty()) return failed(block_size_wrong_);
  std::vector<std::string> surplus;
  for (const TensorInfo& t : checkpoint_.tensors()) {
    if (used_.contains(t.name)) continue;
    const bool known = std::any_of(unused_.begin(), unused_.end(),
                                   [&](const std::string& p) { return matches(p, t.name); });
    if (known)
      unused.push_back(t.name);
    else
      surplus.push_back(printable(t.name));
  }
  std::string text;
  append_list(text, "missing", missing_);
  append_list(text, "of a wrong shape or type", misshapen_);
  append_list(text, "unknown to this architecture", surplus);
  if (text.empty()) return {};
  return failed(checkpoint_.path().string() + ": tensors do not match the configuration: " + text);
}

}  // namespace hadal
