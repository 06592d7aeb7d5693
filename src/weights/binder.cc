#include "weights/binder.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/quant.h"
#include "checkpoint/printable.h"

namespace hadal {
namespace {

constexpr int64_t kPackedBlock = 32;  ///< numbers of a row that share a scale of 4-bit numbers

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

WeightBinder::WeightBinder(const Checkpoint& checkpoint, std::deque<Weight>& slots,
                           const Shard& shard)
    : checkpoint_(checkpoint), slots_(slots), shard_(shard) {
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

// Two 4-bit numbers a byte, the even column in the low half; one scale for 32.
bool WeightBinder::is_packed(const std::string& name) const {
  const TensorInfo* info = checkpoint_.find(name);
  return info && (info->dtype == HADAL_I8 || info->dtype == HADAL_U8) && !scale_name(name).empty();
}

int64_t WeightBinder::column_block(const std::string& name) const {
  if (is_packed(name)) return kPackedBlock;
  const TensorInfo* info = checkpoint_.find(name);
  const DTypeInfo* type = info ? dtype_info(info->dtype) : nullptr;
  if (!type) return 1;
  return type->dtype == HADAL_F8_E4M3 ? std::lcm(block_rows_, block_cols_) : type->block_values;
}

Share WeightBinder::width(const std::string& after, int64_t width) {
  const int64_t block = column_block(after);
  if (shard_.ranks > 1 && (width + block - 1) / block < shard_.ranks) {
    undivided_.push_back(after + ": its " + std::to_string(width) + " columns are " +
                         std::to_string((width + block - 1) / block) + " blocks");
    return width;
  }
  return Share::of_rank(width, shard_, block);
}

bool WeightBinder::cut(const WeightSource& s, const std::string& name, const Share& rows,
                       const Share& cols, WeightSource::Piece& piece) {
  const bool scaled = s.scale_dtype != HADAL_DTYPE_NONE;
  const int64_t block =
      std::lcm(int64_t{dtype_info(s.dtype)->block_values}, scaled ? s.scale_block_cols : 1);
  if (cols.first % block != 0 || (cols.end() != cols.of && cols.end() % block != 0)) {
    undivided_.push_back(name + ": columns " + std::to_string(cols.first) + " to " +
                         std::to_string(cols.end()) + " are no whole blocks of " +
                         std::to_string(block));
    return false;
  }
  const auto part = [](std::span<const std::byte> bytes, int64_t stride, int64_t from,
                       int64_t count, int64_t at, int64_t width) {
    return bytes.subspan(static_cast<size_t>(from * stride + at),
                         static_cast<size_t>((count - 1) * stride + width));
  };
  const auto bytes_of = [](DType dtype, int64_t values) {
    return row_bytes(dtype, values).value_or(0);
  };
  const int64_t stride = bytes_of(s.dtype, cols.of);
  piece.data = part(piece.data, stride, rows.first, rows.count, bytes_of(s.dtype, cols.first),
                    bytes_of(s.dtype, cols.count));
  piece.rows = rows.count;
  if (!cols.whole()) piece.row_stride = stride;
  if (!scaled) return true;
  const auto blocks = [&](int64_t from, int64_t to, int64_t size) {
    return Share(from / size, (to + size - 1) / size - from / size, 0);
  };
  const Share down = blocks(rows.first, rows.end(), s.scale_block_rows),
              across = blocks(cols.first, cols.end(), s.scale_block_cols);
  const int64_t scale_stride =
      bytes_of(s.scale_dtype, (cols.of + s.scale_block_cols - 1) / s.scale_block_cols);
  piece.scales = part(piece.scales, scale_stride, down.first, down.count,
                      bytes_of(s.scale_dtype, across.first), bytes_of(s.scale_dtype, across.count));
  piece.scale_row = rows.first % s.scale_block_rows;
  if (!cols.whole()) piece.scale_stride = scale_stride;
  return true;
}

bool WeightBinder::add_matrix(Weight& w, const std::string& name, const Share& rows,
                              const Share& cols) {
  const bool packed = is_packed(name);
  const TensorInfo* info = take(name, {rows.of, packed ? cols.of / 2 : cols.of},
                                packed ? Holds::kWhole : Holds::kNumbers);
  if (!info) return false;
  WeightSource& s = w.source;
  const DType dtype = packed ? HADAL_F4_E2M1 : info->dtype;
  if (!s.pieces.empty() && dtype != s.dtype) {
    misshapen_.push_back(name + " is of type " + std::string(dtype_name(dtype)) +
                         ", those before it of type " + std::string(dtype_name(s.dtype)));
    return false;
  }
  s.dtype = dtype;
  WeightSource::Piece piece{info->data, rows.of, {}};
  if (dtype == HADAL_F8_E4M3 || packed) {
    s.scale_block_rows = packed ? 1 : block_rows_;
    s.scale_block_cols = packed ? kPackedBlock : block_cols_;
    const TensorInfo* scale =
        take_scales(name, rows.of, cols.of, s.scale_block_rows, s.scale_block_cols);
    if (!scale) return false;
    if (s.scale_dtype != HADAL_DTYPE_NONE && s.scale_dtype != scale->dtype) {
      misshapen_.push_back(scale->name + " is of another type than the scales before it");
      return false;
    }
    s.scale_dtype = scale->dtype;
    piece.scales = scale->data;
  }
  if (!rows.whole() || !cols.whole()) {
    w.divided = true;
    if (!cut(s, name, rows, cols, piece)) return false;
  }
  s.pieces.push_back(piece);
  return true;
}

Weight* WeightBinder::matrix(const std::string& name, const Share& rows, const Share& cols,
                             uint32_t uses) {
  Weight& w = slot(name, 1, rows.count, cols.count, uses);
  if (!add_matrix(w, name, rows, cols)) return nullptr;
  w.tensor = operand(w.source.dtype, {rows.count, cols.count});
  return &w;
}

std::span<const std::byte> WeightBinder::rows_of(const TensorInfo& info, const Share& rows,
                                                 int64_t numbers) {
  if (rows.whole()) return info.data;
  const std::optional<int64_t> before = row_bytes(info.dtype, rows.first * numbers),
                               own = row_bytes(info.dtype, rows.count * numbers);
  if (before && own)
    return info.data.subspan(static_cast<size_t>(*before), static_cast<size_t>(*own));
  undivided_.push_back(info.name + ": a part of it is no whole blocks of its type");
  return info.data;
}

Weight* WeightBinder::matrices(const std::string& name, const Share& count, int64_t rows,
                               int64_t cols) {
  const TensorInfo* info = take(name, {count.of, rows, cols});
  if (!info) return nullptr;
  Weight& w = slot(name, count.count, rows, cols, HADAL_USE_MATMUL, info);
  w.source.pieces[0].data = rows_of(*info, count.times(rows), cols);
  w.divided = !count.whole();
  w.tensor = operand(info->dtype, {count.count, rows, cols});
  return &w;
}

Weight* WeightBinder::experts(const std::string& prefix, const std::string& name,
                              const Share& count, int64_t rows, int64_t cols, double active) {
  if (has(prefix + name)) {
    Weight* w = matrices(prefix + name, count, rows, cols);
    if (w) w->active = active;
    return w;
  }
  Weight& w = slot(prefix + name, count.count, rows, cols, HADAL_USE_MATMUL);
  w.active = active;
  w.divided = !count.whole();
  for (int64_t e = count.first; e < count.end(); ++e)
    if (!add_matrix(w, prefix + std::to_string(e) + "." + name, rows, cols)) return nullptr;
  // Those of other ranks are known, whatever they are.
  for (int64_t e = 0; e < count.of; ++e)
    if (e < count.first || e >= count.end())
      known_elsewhere(prefix + std::to_string(e) + "." + name);
  w.tensor = operand(w.source.dtype, {count.count, rows, cols});
  return &w;
}

void WeightBinder::known_elsewhere(const std::string& name) {
  used_.insert(name);
  if (const std::string scale = scale_name(name); !scale.empty()) used_.insert(scale);
}

Weight* WeightBinder::head_rows(const std::string& name, const Share& heads, int64_t run,
                                int64_t first, int64_t rows, int64_t cols, bool turned) {
  Weight whole;
  if (!add_matrix(whole, name, heads.of * run, cols)) return nullptr;
  const WeightSource& from = whole.source;
  const int64_t stride = row_bytes(from.dtype, cols).value_or(0);
  Weight& w = slot(name, heads.count, turned ? cols : rows, turned ? rows : cols, HADAL_USE_MATMUL);
  w.divided = !heads.whole();
  WeightSource& to = w.source;
  to.dtype = from.dtype;
  to.transposed = turned;
  to.scale_dtype = from.scale_dtype;
  to.scale_block_rows = from.scale_block_rows;
  to.scale_block_cols = from.scale_block_cols;
  for (int64_t h = heads.first; h < heads.end(); ++h) {
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
  w.tensor = operand(to.dtype, {heads.count, to.rows, to.cols});
  return &w;
}

Weight* WeightBinder::indices(const std::string& name, int64_t rows, int64_t cols) {
  const TensorInfo* info = take(name, {rows, cols}, Holds::kWhole);
  if (!info) return nullptr;
  Weight& w = slot(name, 1, rows, cols, HADAL_USE_GATHER, info);
  w.tensor = operand(info->dtype, {rows, cols});
  return &w;
}

Weight* WeightBinder::vector(const std::string& name, const Share& n) {
  const TensorInfo* info = take(name, {n.of});
  if (!info) return nullptr;
  Weight& w = slot(name, 1, 1, n.count, HADAL_USE_VECTOR, info);
  w.source.pieces[0].data = rows_of(*info, n, 1);
  w.divided = !n.whole();
  w.tensor = operand(HADAL_F32, {n.count});
  return &w;
}

Weight* WeightBinder::summand(const std::string& name, int64_t n) {
  Weight* w = shard_.rank == 0 ? vector(name, n) : nullptr;
  if (shard_.rank != 0 && !take(name, {n})) return nullptr;
  return w;
}

Weight* WeightBinder::vector(const std::string& name, const std::vector<int64_t>& shape) {
  const TensorInfo* info = take(name, shape);
  if (!info) return nullptr;
  const int64_t n = info->elements();
  Weight& w = slot(name, 1, 1, n, HADAL_USE_VECTOR, info);
  w.tensor = operand(HADAL_F32, {n});
  return &w;
}

Weight* WeightBinder::optional_summand(const std::string& name, int64_t n) {
  return has(name) ? summand(name, n) : nullptr;
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
  if (text.empty() && !undivided_.empty())
    return failed(checkpoint_.path().string() + ": cannot be divided over " +
                  std::to_string(shard_.ranks) + " ranks: " + listed(undivided_) +
                  "; fewer ranks, or a type with smaller blocks");
  if (text.empty()) return {};
  return failed(checkpoint_.path().string() + ": tensors do not match the configuration: " + text);
}

}  // namespace hadal
