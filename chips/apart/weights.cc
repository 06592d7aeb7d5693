#include "weights.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "contract/report.h"
#include "memory.h"
#include "queue.h"

namespace hadal::apart {
namespace {

using contract::report;

/// Int32 sums of int8 products stay in range up to here.
constexpr int64_t kMostInt8Columns = int64_t{1} << 17;

struct Form {
  hadal_dtype dtype;
  bool listed;  ///< offered to convert to; else only taken as it is stored
};
constexpr Form kHalfMatmul[] = {{HADAL_BF16, true}, {HADAL_F16, true}};
constexpr Form kRow8Matmul[] = {{HADAL_I8, true}};
// A table of numbers, as of the experts of each token, must stay exact.
constexpr Form kHalfGather[] = {{HADAL_BF16, true},
                                {HADAL_F16, true},
                                {HADAL_F32, true},
                                {HADAL_I32, false},
                                {HADAL_I64, false}};
// I8: tied embeddings are one handle with two uses.
constexpr Form kRow8Gather[] = {{HADAL_BF16, true}, {HADAL_F16, true},  {HADAL_I8, true},
                                {HADAL_F32, true},  {HADAL_I32, false}, {HADAL_I64, false}};
constexpr Form kVector[] = {{HADAL_F32, true}};

std::span<const Form> forms_of(Kind kind, uint32_t use) {
  const bool half = kind == Kind::kHalf;
  if (use == HADAL_USE_MATMUL)
    return half ? std::span<const Form>(kHalfMatmul) : std::span<const Form>(kRow8Matmul);
  if (use == HADAL_USE_GATHER)
    return half ? std::span<const Form>(kHalfGather) : std::span<const Form>(kRow8Gather);
  return kVector;
}

std::string name_of(uint32_t dtype) {
  return std::string(dtype_name(static_cast<DType>(dtype))) +
         (dtype == HADAL_I8 ? " with an F32 scale a row" : "");
}

std::string what_is_taken(Kind kind, uint32_t use) {
  std::string text = std::string(chip_name(kind)) + " takes ";
  text += use == HADAL_USE_MATMUL ? "matmul" : use == HADAL_USE_GATHER ? "gather" : "vector";
  text += " weights as ";
  bool first = true;
  for (const Form& form : forms_of(kind, use)) {
    text += (first ? "" : ", ") + name_of(form.dtype);
    first = false;
  }
  return text;
}

bool scales_fit(const hadal_weight_desc& desc) {
  if (desc.dtype != HADAL_I8) return desc.scale_dtype == HADAL_DTYPE_NONE;
  return desc.scale_dtype == HADAL_F32 && desc.scale_block_rows == 1 &&
         desc.scale_block_cols >= desc.cols;
}

/// Rows of all pieces, then their scales, as the device keeps them.
void pack(const ref::Weight& from, std::byte* to) {
  const auto row =
      static_cast<size_t>(*row_bytes(static_cast<DType>(from.desc.dtype), from.desc.cols));
  for (const ref::Piece& piece : from.pieces)
    for (int64_t r = 0; r < piece.rows; ++r, to += row)
      std::memcpy(to, piece.data + r * piece.row_stride, row);
  for (const ref::Piece& piece : from.pieces)
    for (int64_t r = 0; piece.scales && r < piece.rows; ++r, to += sizeof(float))
      std::memcpy(to, piece.scales + r * piece.scale_row_stride, sizeof(float));
}

/// The one piece that pack() leaves.
ref::Piece packed_piece(const hadal_weight_desc& desc, const std::byte* data) {
  ref::Piece piece;
  piece.rows = desc.batch * desc.rows;
  piece.data = data;
  piece.row_stride = *row_bytes(static_cast<DType>(desc.dtype), desc.cols);
  if (desc.scale_dtype != HADAL_DTYPE_NONE) {
    piece.scales = data + piece.rows * piece.row_stride;
    piece.scale_row_stride = sizeof(float);
  }
  return piece;
}

}  // namespace

std::string check_dtype(Kind kind, uint32_t use, uint32_t dtype) {
  const auto forms = forms_of(kind, use);
  if (std::any_of(forms.begin(), forms.end(), [&](const Form& f) { return f.dtype == dtype; }))
    return {};
  return what_is_taken(kind, use) + ", not " + std::string(dtype_name(static_cast<DType>(dtype)));
}

hadal_status weight_bytes(Kind kind, const hadal_weight_desc& desc, uint64_t* bytes,
                          hadal_error* error) {
  *bytes = 0;
  constexpr uint32_t kUses[] = {HADAL_USE_MATMUL, HADAL_USE_GATHER, HADAL_USE_VECTOR};
  if ((desc.uses & (HADAL_USE_MATMUL | HADAL_USE_GATHER | HADAL_USE_VECTOR)) == 0)
    return report(error, HADAL_INVALID, "weight: it has no use");
  for (const uint32_t use : kUses) {
    if ((desc.uses & use) == 0) continue;
    std::string why = check_dtype(kind, use, desc.dtype);
    if (why.empty() && !scales_fit(desc))
      why = what_is_taken(kind, use) + ", not " +
            std::string(dtype_name(static_cast<DType>(desc.dtype))) + " with other scales";
    if (why.empty() && use == HADAL_USE_MATMUL && desc.dtype == HADAL_I8 &&
        desc.cols > kMostInt8Columns)
      why = std::string(chip_name(kind)) + " sums at most " + std::to_string(kMostInt8Columns) +
            " int8 products, not " + std::to_string(desc.cols);
    if (!why.empty()) return report(error, HADAL_UNSUPPORTED, "weight: " + why);
  }
  hadal_weight_desc copied = desc;
  copied.keeps_source = 0;
  return ref::weight_bytes(nullptr, &copied, bytes, error);
}

void weight_forms(Kind kind, uint32_t use, hadal_weight_form* forms, uint32_t* count) {
  const uint32_t room = std::exchange(*count, 0u);
  for (const Form& from : forms_of(kind, use)) {
    if (!from.listed) continue;
    hadal_weight_form form{};
    form.dtype = from.dtype;
    form.scale_dtype = HADAL_DTYPE_NONE;
    form.numerics = HADAL_NUMERICS_EXACT;
    if (use == HADAL_USE_MATMUL)
      form.numerics = kind == Kind::kHalf ? HADAL_NUMERICS_HALF : HADAL_NUMERICS_ROW8;
    if (from.dtype == HADAL_I8) {
      form.scale_dtype = HADAL_F32;
      form.block_rows = 1;
    }
    if (*count < room) contract::copy_sized(forms + *count, form);
    ++*count;
  }
}

hadal_status create_weight(Device& device, Queue* queue, const hadal_weight_desc& desc,
                           const hadal_piece* pieces, uint32_t piece_count, hadal_weight** out,
                           hadal_error* error) {
  uint64_t bytes = 0;
  if (const hadal_status s = weight_bytes(device.kind, desc, &bytes, error); s != HADAL_OK)
    return s;
  // Views of the pieces, which are checked there; they are packed below.
  hadal_weight_desc viewed = desc;
  viewed.keeps_source = 1;
  hadal_weight* made = nullptr;
  if (const hadal_status s =
          ref::weight_create(nullptr, &viewed, pieces, piece_count, &made, error);
      s != HADAL_OK)
    return s;
  const std::unique_ptr<hadal_weight, void (*)(hadal_weight*)> views(made, ref::weight_destroy);
  auto w = std::make_shared<Weight>();
  w->desc = ref::weight(made).desc;
  w->device = &device;
  w->copies.push_back(std::unique_ptr<std::byte[]>(new std::byte[std::max<uint64_t>(bytes, 1)]));
  std::byte* to = w->copies.back().get();
  w->pieces.push_back(packed_piece(w->desc, to));
  if (queue) {
    std::vector<std::byte> staged(bytes);
    pack(ref::weight(made), staged.data());
    std::memset(to, 0xff, bytes);  // NaN to whoever reads it before the queue came by
    queue->push([w, to, from = std::move(staged)](hadal_error*) {
      if (!from.empty()) std::memcpy(to, from.data(), from.size());
      return HADAL_OK;
    });
  } else {
    pack(ref::weight(made), to);
  }
  Weight* raw = w.get();
  raw->self = std::move(w);
  *out = reinterpret_cast<hadal_weight*>(static_cast<ref::Weight*>(raw));
  return HADAL_OK;
}

void weight_destroy(hadal_weight* w) {
  if (w) weight_of(w)->device->release(std::move(weight_of(w)->self));
}

}  // namespace hadal::apart
