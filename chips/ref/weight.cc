// Weight handles: views of host memory, decoded to fp32 a row at a time.
#include <algorithm>
#include <cstring>
#include <new>

#include "base/dtype.h"
#include "base/floats.h"
#include "base/quant.h"
#include "contract/report.h"
#include "ref.h"

namespace hadal::ref {
namespace {

using contract::report;

bool is_scale_dtype(uint32_t dtype) {
  return dtype == HADAL_F32 || dtype == HADAL_F16 || dtype == HADAL_BF16 || dtype == HADAL_F8_E8M0;
}

int64_t blocks_of(int64_t values, int64_t block) { return (values + block - 1) / block; }

// What `rows` strided rows of `row_bytes` take from their first byte to their last; false if that
// overflows.
bool span_bytes(int64_t rows, int64_t stride, int64_t row_bytes, uint64_t* bytes) {
  *bytes = 0;
  if (rows == 0) return true;
  int64_t span = 0;
  if (stride < 0 || __builtin_mul_overflow(rows - 1, stride, &span) ||
      __builtin_add_overflow(span, row_bytes, &span))
    return false;
  *bytes = static_cast<uint64_t>(span);
  return true;
}

hadal_status check_desc(const hadal_weight_desc& desc, hadal_error* error) {
  const auto dtype = static_cast<DType>(desc.dtype);
  if (!dtype_info(dtype) || dtype == HADAL_BOOL)
    return report(error, HADAL_UNSUPPORTED,
                  "weight: dtype " + std::string(dtype_name(dtype)) + " holds no numbers");
  if (desc.batch < 1 || desc.rows < 0 || desc.cols < 0)
    return report(error, HADAL_INVALID,
                  "weight: extents [" + std::to_string(desc.batch) + ", " +
                      std::to_string(desc.rows) + ", " + std::to_string(desc.cols) +
                      "] are not possible");
  int64_t all_rows = 0;
  int64_t bytes = 0;
  const auto row = row_bytes(dtype, desc.cols);
  if (!row)
    return report(error, HADAL_INVALID,
                  "weight: " + std::to_string(desc.cols) + " columns are no whole blocks of " +
                      std::string(dtype_name(dtype)));
  if (__builtin_mul_overflow(desc.batch, desc.rows, &all_rows) ||
      __builtin_mul_overflow(all_rows, *row, &bytes))
    return report(error, HADAL_INVALID, "weight: its size overflows");
  if (desc.scale_dtype != HADAL_DTYPE_NONE) {
    if (!is_scale_dtype(desc.scale_dtype))
      return report(error, HADAL_UNSUPPORTED,
                    "weight: block scales of dtype " +
                        std::string(dtype_name(static_cast<DType>(desc.scale_dtype))));
    if (desc.scale_block_rows < 1 || desc.scale_block_cols < 1)
      return report(error, HADAL_INVALID,
                    "weight: blocks of scales need at least one row and one column");
  }
  return HADAL_OK;
}

int64_t scale_row_bytes(const hadal_weight_desc& desc) {
  return blocks_of(desc.cols, desc.scale_block_cols) *
         dtype_info(static_cast<DType>(desc.scale_dtype))->block_bytes;
}

// Checks one piece against the memories that it points into.
hadal_status check_piece(const hadal_weight_desc& desc, const hadal_piece& piece, uint32_t index,
                         hadal_error* error) {
  const auto refuse = [&](const std::string& why) {
    return report(error, HADAL_INVALID, "weight: piece " + std::to_string(index) + ": " + why);
  };
  const auto lies_in = [](hadal_memory* handle, uint64_t offset, uint64_t bytes) {
    const host_chip::Memory* m = host_chip::memory(handle);
    return offset <= m->bytes && bytes <= m->bytes - offset;
  };
  if (!piece.memory || piece.rows < 0) return refuse("has no memory, or a negative number of rows");
  uint64_t bytes = 0;
  if (!span_bytes(piece.rows, piece.row_stride,
                  *row_bytes(static_cast<DType>(desc.dtype), desc.cols), &bytes) ||
      !lies_in(piece.memory, piece.offset, bytes))
    return refuse(std::to_string(piece.rows) + " rows do not lie inside its memory");
  if ((desc.scale_dtype != HADAL_DTYPE_NONE) != (piece.scale_memory != nullptr))
    return refuse(piece.scale_memory ? "has scales, the weight has none" : "has no scales");
  if (piece.scale_memory) {
    const int64_t scale_rows = blocks_of(piece.rows, desc.scale_block_rows);
    if (!span_bytes(scale_rows, piece.scale_row_stride, scale_row_bytes(desc), &bytes) ||
        !lies_in(piece.scale_memory, piece.scale_offset, bytes))
      return refuse(std::to_string(scale_rows) + " rows of scales do not lie inside their memory");
  }
  return HADAL_OK;
}

// Rows at `data`, or a packed copy of them that the handle owns.
const std::byte* keep(Weight& w, const std::byte* data, int64_t rows, int64_t row_bytes,
                      int64_t* stride) {
  if (w.desc.keeps_source) return data;
  auto copy =
      std::make_unique<std::byte[]>(static_cast<size_t>(std::max<int64_t>(rows * row_bytes, 1)));
  for (int64_t r = 0; r < rows; ++r)
    std::memcpy(copy.get() + r * row_bytes, data + r * *stride, static_cast<size_t>(row_bytes));
  *stride = row_bytes;
  w.copies.push_back(std::move(copy));
  return w.copies.back().get();
}

}  // namespace

void Weight::decode_row(int64_t row, float* out) const {
  const auto above = [](int64_t r, const Piece& p) { return r < p.first_row + p.rows; };
  const Piece& piece = *std::upper_bound(pieces.begin(), pieces.end(), row, above);
  const int64_t r = row - piece.first_row;
  decode_to_f32(static_cast<DType>(desc.dtype), piece.data + r * piece.row_stride, desc.cols, out);
  if (!piece.scales) return;
  const std::byte* scales = piece.scales + r / desc.scale_block_rows * piece.scale_row_stride;
  for (int64_t first = 0, block = 0; first < desc.cols; first += desc.scale_block_cols, ++block) {
    float scale = 0;
    if (desc.scale_dtype == HADAL_F8_E8M0)
      scale = e8m0_to_f32(static_cast<uint8_t>(scales[block]));
    else
      scale = load(scales, static_cast<DType>(desc.scale_dtype), block);
    const int64_t end = std::min(first + desc.scale_block_cols, desc.cols);
    for (int64_t c = first; c < end; ++c) out[c] *= scale;
  }
}

hadal_status weight_bytes(hadal_device*, const hadal_weight_desc* desc, uint64_t* bytes,
                          hadal_error* error) {
  *bytes = 0;
  const hadal_status status = check_desc(*desc, error);
  if (status != HADAL_OK || desc->keeps_source) return status;
  const int64_t rows = desc->batch * desc->rows;
  *bytes = static_cast<uint64_t>(rows * *row_bytes(static_cast<DType>(desc->dtype), desc->cols));
  if (desc->scale_dtype != HADAL_DTYPE_NONE)
    *bytes +=
        static_cast<uint64_t>(blocks_of(rows, desc->scale_block_rows) * scale_row_bytes(*desc));
  return HADAL_OK;
}

hadal_status weight_create(hadal_device*, const hadal_weight_desc* desc, const hadal_piece* pieces,
                           uint32_t piece_count, hadal_weight** out, hadal_error* error) try {
  *out = nullptr;
  if (const hadal_status status = check_desc(*desc, error); status != HADAL_OK) return status;
  auto w = std::make_unique<Weight>();
  w->desc.size = sizeof w->desc;
  contract::copy_sized(&w->desc, *desc);
  const int64_t row = *row_bytes(static_cast<DType>(desc->dtype), desc->cols);
  int64_t rows = 0;
  for (uint32_t i = 0; i < piece_count; ++i) {
    const hadal_piece& from = pieces[i];
    if (const hadal_status status = check_piece(*desc, from, i, error); status != HADAL_OK)
      return status;
    if (from.rows == 0) continue;
    Piece piece;
    piece.first_row = rows;
    piece.rows = from.rows;
    piece.row_stride = from.row_stride;
    piece.data = keep(*w, host_chip::memory(from.memory)->data + from.offset, from.rows, row,
                      &piece.row_stride);
    if (from.scale_memory) {
      piece.scale_row_stride = from.scale_row_stride;
      piece.scales = keep(*w, host_chip::memory(from.scale_memory)->data + from.scale_offset,
                          blocks_of(from.rows, desc->scale_block_rows), scale_row_bytes(*desc),
                          &piece.scale_row_stride);
    }
    rows += from.rows;
    w->pieces.push_back(piece);
  }
  if (rows != desc->batch * desc->rows)
    return report(error, HADAL_INVALID,
                  "weight: the pieces hold " + std::to_string(rows) + " rows, " +
                      std::to_string(desc->batch * desc->rows) + " are expected");
  *out = reinterpret_cast<hadal_weight*>(w.release());
  return HADAL_OK;
} catch (const std::bad_alloc&) {
  return report(error, HADAL_OUT_OF_MEMORY, "weight: no memory left for a copy");
}

void weight_destroy(hadal_weight* w) { delete reinterpret_cast<Weight*>(w); }

}  // namespace hadal::ref
