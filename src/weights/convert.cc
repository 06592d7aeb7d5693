#include "weights/convert.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <new>

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

/// The description of the same weight in another form.
hadal_weight_desc described(const WeightSource& source, const WeightForm& form) {
  hadal_weight_desc desc = describe(source);
  desc.dtype = form.dtype;
  desc.keeps_source = 0;
  desc.scale_dtype = form.scale_dtype;
  desc.scale_block_rows = form.block_rows;
  desc.scale_block_cols = form.scaled() && form.block_cols == 0 ? source.cols : form.block_cols;
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

/// A source encoded anew: elements and scales of all matrices, one after the other.
struct Encoded {
  std::vector<std::byte> elements, scales;
  EncodingError error;
};

/// Decodes rows [from, from + count) of all matrices together, wherever the pieces end.
bool decode_rows(const WeightSource& source, int64_t from, int64_t count, float* out) {
  int64_t first = 0;
  for (const WeightSource::Piece& piece : source.pieces) {
    for (; count > 0 && from < first + piece.rows; ++from, --count, out += source.cols)
      if (!decode_row(source, piece, from - first, out)) return false;
    first += piece.rows;
  }
  return count == 0;
}

Error holds_no_numbers(const WeightSource& source) {
  return failed(source.name + ": its dtype " + std::string(dtype_name(source.dtype)) +
                " holds no numbers");
}

/// Encodes by runs of whole blocks of rows, each a task of its own.
Result<Encoded> encode(const WeightSource& source, const WeightForm& form, ThreadPool& pool) {
  const int64_t block = std::max<int64_t>(1, form.block_rows);
  const int64_t run = std::max<int64_t>(1, 16 / block) * block;  // whole blocks of rows
  const int64_t runs = ceil_div(source.rows, run), across = form.scale_cols(source.cols);
  const int64_t scale_rows = form.scaled() ? ceil_div(source.rows, form.block_rows) : 0;
  const auto stride = static_cast<size_t>(row_bytes(form.dtype, source.cols).value_or(0));
  const int64_t scale_stride = form.scaled() ? row_bytes(form.scale_dtype, across).value_or(0) : 0;
  Encoded out;
  std::vector<float> turned_values;
  const auto no_memory = [&] {
    return memory_error(source.name + ": no memory to convert it to " + form.text());
  };
  try {
    out.elements.resize(static_cast<size_t>(source.batch * source.rows) * stride);
    out.scales.resize(static_cast<size_t>(source.batch * scale_rows * scale_stride));
    if (source.transposed) {
      HADAL_TRY(turned_values, decode_weight(source));
    }
  } catch (const std::bad_alloc&) {
    return no_memory();
  }
  std::vector<EncodingError> errors(static_cast<size_t>(source.batch * runs));
  std::atomic<bool> good{true}, fits{true};
  pool.for_each(source.batch * runs, [&](int64_t task) {
    const int64_t matrix = task / runs, from = task % runs * run,
                  count = std::min(run, source.rows - from);
    const int64_t row = matrix * source.rows + from;
    std::vector<float> decoded;
    const float* values = nullptr;
    if (source.transposed) {
      values = turned_values.data() + row * source.cols;
    } else {
      try {
        decoded.resize(static_cast<size_t>(count * source.cols));
        if (!decode_rows(source, row, count, decoded.data())) good = false;
      } catch (const std::bad_alloc&) {  // nothing may leave a worker
        fits = false;
        return;
      }
      values = decoded.data();
    }
    std::byte* scales = out.scales.data();
    if (form.scaled()) scales += (matrix * scale_rows + from / form.block_rows) * scale_stride;
    errors[static_cast<size_t>(task)] =
        encode_rows(form, values, count, source.cols,
                    out.elements.data() + static_cast<size_t>(row) * stride, scales);
  });
  if (!fits) return no_memory();
  if (!good) return holds_no_numbers(source);
  for (const EncodingError& error : errors) out.error += error;
  if (form.scaled() && !std::isfinite(out.error.error))
    return failed(source.name + ": holds numbers that are not finite, which " + form.text() +
                  " cannot hold");
  return out;
}

Result<LoadedWeight> load_encoded(const Device& device, const WeightSource& source,
                                  const WeightForm& form, ThreadPool& pool) {
  LoadedWeight loaded;
  HADAL_TRY(const Encoded encoded, encode(source, form, pool));
  HADAL_TRY(const DeviceMemory elements, device.import(encoded.elements));
  DeviceMemory scales;
  if (form.scaled()) {
    HADAL_TRY(scales, device.import(encoded.scales));
  }
  const int64_t scale_stride =
      form.scaled() ? row_bytes(form.scale_dtype, form.scale_cols(source.cols)).value_or(0) : 0;
  const int64_t scale_rows = form.scaled() ? ceil_div(source.rows, form.block_rows) : 0;
  std::vector<hadal_piece> pieces;  // a matrix each: its scales begin anew
  for (int64_t b = 0; b < source.batch; ++b) {
    hadal_piece piece{};
    piece.memory = elements.get();
    piece.rows = source.rows;
    piece.row_stride = row_bytes(form.dtype, source.cols).value_or(0);
    piece.offset = static_cast<uint64_t>(b * source.rows * piece.row_stride);
    if (form.scaled()) {
      piece.scale_memory = scales.get();
      piece.scale_offset = static_cast<uint64_t>(b * scale_rows * scale_stride);
      piece.scale_row_stride = scale_stride;
    }
    pieces.push_back(piece);
  }
  HADAL_TRY(loaded.weight, device.create_weight(described(source, form), pieces));
  loaded.error = encoded.error;
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
    piece.row_stride = source.stride_of(from);
    loaded.sources.push_back(std::move(memory));
    if (source.scale_dtype != HADAL_DTYPE_NONE) {
      HADAL_TRY(DeviceMemory scales, device.import(from.scales));
      piece.scale_memory = scales.get();
      piece.scale_row_stride = source.scale_stride_of(from);
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
  if (!row_bytes(source.dtype, cols) ||
      !decode_to_f32(source.dtype, piece.data.data() + row * source.stride_of(piece), cols, out))
    return false;
  if (source.scale_dtype == HADAL_DTYPE_NONE) return true;
  const int64_t blocks = ceil_div(cols, source.scale_block_cols);
  std::vector<float> scales(static_cast<size_t>(blocks));
  // Each matrix of a batch has its own rows of blocks.
  const int64_t block_row = (row / rows) * ceil_div(rows, source.scale_block_rows) +
                            (piece.scale_row + row % rows) / source.scale_block_rows;
  if (!row_bytes(source.scale_dtype, blocks) ||
      !decode_to_f32(source.scale_dtype,
                     piece.scales.data() + block_row * source.scale_stride_of(piece), blocks,
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
      if (!decode_row(source, piece, row, out)) return holds_no_numbers(source);
  return source.transposed ? turned(values, source) : values;
}

namespace {

/// The forms that the chip takes for every use of the source, the one that it likes best first.
std::vector<WeightForm> common_forms(const Device& device, const WeightSource& source) {
  std::vector<WeightForm> forms;
  const bool exact = device.asked_exact();
  for (const hadal_weight_form& f : device.weight_forms(source.uses & ~(source.uses - 1)))
    if (!exact || f.numerics == HADAL_NUMERICS_EXACT || f.numerics == HADAL_NUMERICS_UNSAID)
      forms.push_back(weight_form(f));
  std::erase_if(forms, [&](const WeightForm& form) {
    return !can_encode(form) || !device.weight_bytes(described(source, form));
  });
  return forms;
}

/// Why a chip can have the source in no form.
Error no_form(const Device& device, const WeightSource& source) {
  std::string offered;
  for (const hadal_weight_form& f : device.weight_forms(source.uses & ~(source.uses - 1)))
    offered += (offered.empty() ? "" : ", ") + weight_form(f).text();
  return failed("chip " + std::string(device.chip_name()) + ": takes " + source.name +
                " neither as it is stored (" + std::string(dtype_name(source.dtype)) +
                ") nor in a form that can be made; it offers " + offered +
                "; F32, F16, BF16, and I8 and F8_E4M3 with scales can be made");
}

}  // namespace

Result<HeldForm> held_form(const Device& device, const WeightSource& source, WeightMode mode) {
  const bool vector = (source.uses & HADAL_USE_VECTOR) != 0;
  const bool native = mode == WeightMode::kNative && (!vector || source.dtype == HADAL_F32);
  const WeightForm stored = {source.dtype, source.scale_dtype, source.scale_block_rows,
                             source.scale_block_cols};
  if (native && !source.rebuilt())
    if (const auto bytes = device.weight_bytes(describe(source)))
      return HeldForm{.form = stored, .as_stored = true, .bytes = *bytes};
  const auto made = [&](const WeightForm& form) -> Result<HeldForm> {
    HADAL_TRY(const uint64_t bytes, device.weight_bytes(described(source, form)));
    return HeldForm{.form = form, .as_stored = false, .bytes = bytes};
  };
  // What is put together anew keeps a type that holds its numbers exactly.
  if (native && source.rebuilt() && (source.dtype == HADAL_BF16 || source.dtype == HADAL_F16))
    if (auto form = made({.dtype = source.dtype})) return form;
  if (mode == WeightMode::kF32 || vector) return made({});
  const std::vector<WeightForm> forms = common_forms(device, source);
  if (forms.empty()) return no_form(device, source);
  const auto size = [&](const WeightForm& form) {
    return form.bytes(source.batch, source.rows, source.cols);
  };
  for (const WeightForm& form : forms)
    if (size(form) <= source.bytes()) return made(form);
  return made(*std::min_element(
      forms.begin(), forms.end(),
      [&](const WeightForm& a, const WeightForm& b) { return size(a) < size(b); }));
}

Result<HeldForm> held_in(const Device& device, const WeightSource& source, const HeldForm& like) {
  HeldForm form = like;
  HADAL_TRY(form.bytes,
            device.weight_bytes(like.as_stored ? describe(source) : described(source, like.form)));
  return form;
}

Result<LoadedWeight> load_weight(const Device& device, const WeightSource& source,
                                 const HeldForm& form, ThreadPool* pool) {
  return form.as_stored ? load_as_stored(device, source)
                        : load_encoded(device, source, form.form, *pool);
}

}  // namespace hadal
