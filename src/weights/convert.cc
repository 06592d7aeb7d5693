#include "weights/convert.h"

#include <new>

#include "base/floats.h"
#include "base/quant.h"

namespace hadal {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// The chip's description of a source.
hadal_weight_desc describe(const WeightSource& source) {
  hadal_weight_desc desc{};
  desc.size = sizeof desc;
  desc.dtype = source.dtype;
  desc.uses = source.uses;
  desc.keeps_source = 1;
  desc.batch = source.batch;
  desc.rows = source.rows;
  desc.cols = source.cols;
  desc.scale_dtype = source.scale_dtype;
  desc.scale_block_rows = source.scale_block_rows;
  desc.scale_block_cols = source.scale_block_cols;
  return desc;
}

/// The description of the same weight decoded to `dtype`.
hadal_weight_desc decoded(const WeightSource& source, DType dtype) {
  hadal_weight_desc desc = describe(source);
  desc.dtype = dtype;
  desc.keeps_source = 0;
  desc.scale_dtype = HADAL_DTYPE_NONE;
  desc.scale_block_rows = desc.scale_block_cols = 0;
  return desc;
}

/// Every matrix [cols, rows] becomes [rows, cols].
std::vector<float> turned(const std::vector<float>& values, const WeightSource& source) {
  std::vector<float> out(values.size());
  for (int64_t b = 0; b < source.batch; ++b) {
    const float* from = values.data() + b * source.rows * source.cols;
    float* to = out.data() + b * source.rows * source.cols;
    for (int64_t r = 0; r < source.rows; ++r)
      for (int64_t c = 0; c < source.cols; ++c) to[r * source.cols + c] = from[c * source.rows + r];
  }
  return out;
}

Result<LoadedWeight> load_decoded(const Device& device, const WeightSource& source, DType dtype) {
  LoadedWeight loaded;
  HADAL_TRY(const std::vector<float> values, decode_weight(source));
  std::vector<uint16_t> halves;
  if (dtype != HADAL_F32) {
    halves.reserve(values.size());
    for (const float v : values)
      halves.push_back(dtype == HADAL_F16 ? f32_to_f16(v) : f32_to_bf16(v));
  }
  const auto bytes =
      halves.empty() ? std::as_bytes(std::span(values)) : std::as_bytes(std::span(halves));
  HADAL_TRY(const DeviceMemory memory, device.import(bytes));
  hadal_piece piece{};
  piece.memory = memory.get();
  piece.rows = source.batch * source.rows;
  piece.row_stride = row_bytes(dtype, source.cols).value_or(0);
  HADAL_TRY(loaded.weight, device.create_weight(decoded(source, dtype), {&piece, 1}));
  return loaded;
}

Result<LoadedWeight> load_as_stored(const Device& device, const WeightSource& source) {
  LoadedWeight loaded;
  std::vector<hadal_piece> pieces;
  for (const WeightSource::Piece& from : source.pieces) {
    hadal_piece piece{};
    HADAL_TRY(DeviceMemory memory, device.import(from.data));
    piece.memory = memory.get();
    piece.rows = from.rows;
    piece.row_stride = row_bytes(source.dtype, source.cols).value_or(0);
    loaded.sources.push_back(std::move(memory));
    if (source.scale_dtype != HADAL_DTYPE_NONE) {
      HADAL_TRY(DeviceMemory scales, device.import(from.scales));
      piece.scale_memory = scales.get();
      piece.scale_row_stride =
          row_bytes(source.scale_dtype, ceil_div(source.cols, source.scale_block_cols)).value_or(0);
      loaded.sources.push_back(std::move(scales));
    }
    pieces.push_back(piece);
  }
  HADAL_TRY(loaded.weight, device.create_weight(describe(source), pieces));
  return loaded;
}

}  // namespace

bool decode_row(const WeightSource& source, const WeightSource::Piece& piece, int64_t row,
                float* out) {
  const int64_t rows = source.transposed ? source.cols : source.rows,
                cols = source.transposed ? source.rows : source.cols;
  const auto stride = row_bytes(source.dtype, cols);
  if (!stride || !decode_to_f32(source.dtype, piece.data.data() + row * *stride, cols, out))
    return false;
  if (source.scale_dtype == HADAL_DTYPE_NONE) return true;
  const int64_t blocks = ceil_div(cols, source.scale_block_cols);
  std::vector<float> scales(static_cast<size_t>(blocks));
  const auto scale_stride = row_bytes(source.scale_dtype, blocks);
  // Each matrix of a batch has its own rows of blocks.
  const int64_t block_row = (row / rows) * ceil_div(rows, source.scale_block_rows) +
                            (piece.scale_row + row % rows) / source.scale_block_rows;
  if (!scale_stride ||
      !decode_to_f32(source.scale_dtype, piece.scales.data() + block_row * *scale_stride, blocks,
                     scales.data()))
    return false;
  for (int64_t k = 0; k < cols; ++k)
    out[k] *= scales[static_cast<size_t>(k / source.scale_block_cols)];
  return true;
}

Result<std::vector<float>> decode_weight(const WeightSource& source) {
  std::vector<float> values;
  try {
    values.resize(static_cast<size_t>(source.batch * source.rows * source.cols));
  } catch (const std::bad_alloc&) {
    return memory_error(source.name + ": no memory to decode it to fp32");
  }
  const int64_t cols = source.transposed ? source.rows : source.cols;
  float* out = values.data();
  for (const WeightSource::Piece& piece : source.pieces)
    for (int64_t row = 0; row < piece.rows; ++row, out += cols)
      if (!decode_row(source, piece, row, out))
        return failed(source.name + ": its dtype " + std::string(dtype_name(source.dtype)) +
                      " holds no numbers");
  return source.transposed ? turned(values, source) : values;
}

Result<HeldForm> held_form(const Device& device, const WeightSource& source, WeightMode mode) {
  const bool vector = (source.uses & HADAL_USE_VECTOR) != 0;
  const bool native = mode == WeightMode::kNative && (!vector || source.dtype == HADAL_F32);
  if (native && !source.rebuilt())
    if (const auto bytes = device.weight_bytes(describe(source)))
      return HeldForm{.dtype = source.dtype, .as_stored = true, .bytes = *bytes};
  // What is put together anew keeps a type that holds its numbers exactly.
  if (native && source.rebuilt() && (source.dtype == HADAL_BF16 || source.dtype == HADAL_F16))
    if (const auto bytes = device.weight_bytes(decoded(source, source.dtype)))
      return HeldForm{.dtype = source.dtype, .as_stored = false, .bytes = *bytes};
  HADAL_TRY(const uint64_t bytes, device.weight_bytes(decoded(source, HADAL_F32)));
  return HeldForm{.dtype = HADAL_F32, .as_stored = false, .bytes = bytes};
}

Result<LoadedWeight> load_weight(const Device& device, const WeightSource& source,
                                 const HeldForm& form) {
  return form.as_stored ? load_as_stored(device, source) : load_decoded(device, source, form.dtype);
}

}  // namespace hadal
