#include "runtime/weights.h"

#include <climits>
#include <cstring>
#include <optional>
#include <utility>

#include "base/dtype.h"
#include "base/quant.h"
#include "contract/report.h"

namespace hadal::opencl {
namespace {

using contract::report;

constexpr uint32_t kUses[] = {HADAL_USE_MATMUL, HADAL_USE_GATHER, HADAL_USE_VECTOR};
constexpr uint32_t kNumbers[] = {HADAL_F32, HADAL_F16, HADAL_BF16, HADAL_I32,
                                 HADAL_I64};  // by type
constexpr uint32_t kForms[] = {HADAL_F16, HADAL_BF16, HADAL_F32};
/// What is packed before it is sent.
constexpr int64_t kStagedBytes = int64_t{16} << 20;

template <size_t N>
bool one_of(const uint32_t (&list)[N], uint32_t dtype) {
  return std::find(std::begin(list), std::end(list), dtype) != std::end(list);
}

bool is_own(uint32_t dtype) {
  return std::any_of(std::begin(kOwnBlocks), std::end(kOwnBlocks),
                     [&](const OwnBlock& b) { return b.dtype == dtype; });
}

bool taken(uint32_t use, uint32_t dtype) {
  if (use == HADAL_USE_VECTOR) return dtype == HADAL_F32;
  if (use == HADAL_USE_GATHER && (dtype == HADAL_I32 || dtype == HADAL_I64)) return true;
  return one_of(kForms, dtype) || one_of(kBlockTypes, dtype) || is_own(dtype);
}

bool scaled(const hadal_weight_desc& d) { return d.scale_dtype != HADAL_DTYPE_NONE; }

int64_t blocks_of(int64_t values, int64_t block) { return (values + block - 1) / block; }

/// How a weight lies on the device.
struct Layout {
  int32_t type = 0;
  int64_t stride = 0;
  const OwnBlock* block = nullptr;  ///< null: rows as they are in the file
};

/// The layout of a sound description; nothing, and why, if the chip has none.
std::optional<Layout> layout_of(const hadal_weight_desc& d, std::string* why) {
  if (!is_own(d.dtype)) {
    if (scaled(d)) {
      *why = "scales go with F8_E4M3, I8 and F4_E2M1 alone";
      return std::nullopt;
    }
    const auto number = static_cast<int32_t>(
        std::find(std::begin(kNumbers), std::end(kNumbers), d.dtype) - std::begin(kNumbers));
    return Layout{one_of(kNumbers, d.dtype) ? number : static_cast<int32_t>(d.dtype),
                  *row_bytes(static_cast<DType>(d.dtype), d.cols), nullptr};
  }
  if (d.dtype == HADAL_F4_E2M1 && d.scale_dtype != HADAL_F8_E8M0) {
    *why = "F4_E2M1 is taken with scales in F8_E8M0 alone";
    return std::nullopt;
  }
  for (const OwnBlock& b : kOwnBlocks)  // of one type the widest first
    if (b.dtype == d.dtype && (!scaled(d) || d.scale_block_cols % b.values == 0 ||
                               (d.scale_block_cols >= d.cols && d.dtype != HADAL_F4_E2M1)))
      return Layout{b.type, blocks_of(d.cols, b.values) * b.bytes, &b};
  *why = "scales for blocks of " + std::to_string(d.scale_block_cols) +
         " columns are not taken, but for whole multiples of 32 (I8: 128) and whole rows";
  return std::nullopt;
}

bool is_scale(uint32_t dtype) {
  return dtype == HADAL_F32 || dtype == HADAL_F16 || dtype == HADAL_BF16 || dtype == HADAL_F8_E8M0;
}

/// The rows of all pieces, one after another.
class Source {
 public:
  Source(const hadal_weight_desc& desc, const Layout& layout, const hadal_piece* pieces,
         uint32_t count)
      : desc_(desc),
        layout_(layout),
        pieces_(pieces),
        count_(count),
        row_(static_cast<uint64_t>(*row_bytes(static_cast<DType>(desc.dtype), desc.cols))) {}

  /// Why they are not the rows of the description; empty if they are.
  [[nodiscard]] std::string check() const;
  /// Packs the next row, which is there.
  void pack(std::byte* to);

 private:
  [[nodiscard]] std::string check(const hadal_piece& piece) const;
  void pack_blocks(const std::byte* row, const std::byte* scales, std::byte* to) const;
  [[nodiscard]] uint64_t scale_bytes() const {
    return static_cast<uint64_t>(*row_bytes(static_cast<DType>(desc_.scale_dtype),
                                            blocks_of(desc_.cols, desc_.scale_block_cols)));
  }

  const hadal_weight_desc& desc_;
  const Layout& layout_;
  const hadal_piece* pieces_;
  uint32_t count_, piece_ = 0;
  int64_t next_ = 0;  ///< row of the piece
  uint64_t row_;      ///< bytes of a row in the file
};

/// Do `rows` rows of `bytes`, `stride` apart, lie in an imported memory?
bool lies_in(hadal_memory* handle, uint64_t offset, int64_t rows, int64_t stride, uint64_t bytes) {
  const Memory* m = memory_of(handle);
  if (!m || !m->imported || stride < 0 || offset > m->bytes || bytes > m->bytes - offset)
    return false;
  const auto last = static_cast<uint64_t>(rows - 1);
  return last == 0 || static_cast<uint64_t>(stride) <= (m->bytes - offset - bytes) / last;
}

std::string Source::check(const hadal_piece& piece) const {
  if (piece.rows < 0) return "has negative rows";
  if (piece.rows == 0) return {};
  if (!lies_in(piece.memory, piece.offset, piece.rows, piece.row_stride, row_))
    return "does not lie inside imported memory";
  if (scaled(desc_) && !lies_in(piece.scale_memory, piece.scale_offset,
                                blocks_of(piece.rows, desc_.scale_block_rows),
                                piece.scale_row_stride, scale_bytes()))
    return "has scales that do not lie inside imported memory";
  return {};
}

std::string Source::check() const {
  int64_t rows = 0;
  for (uint32_t i = 0; i < count_; ++i) {
    if (const std::string why = check(pieces_[i]); !why.empty())
      return "weight: piece " + std::to_string(i) + " of " + std::to_string(count_) + " " + why;
    rows += pieces_[i].rows;
  }
  const int64_t described = desc_.batch * desc_.rows;
  return rows == described ? ""
                           : "weight: the pieces have " + std::to_string(rows) + " rows, " +
                                 std::to_string(described) + " are described";
}

void Source::pack(std::byte* to) {
  while (next_ == pieces_[piece_].rows) {
    ++piece_;
    next_ = 0;
  }
  const hadal_piece& p = pieces_[piece_];
  const std::byte* row = memory_of(p.memory)->imported + p.offset + next_ * p.row_stride;
  const std::byte* scales = nullptr;
  if (scaled(desc_))
    scales = memory_of(p.scale_memory)->imported + p.scale_offset +
             next_ / desc_.scale_block_rows * p.scale_row_stride;
  ++next_;
  if (layout_.block)
    pack_blocks(row, scales, to);
  else
    std::memcpy(to, row, row_);
}

void Source::pack_blocks(const std::byte* row, const std::byte* scales, std::byte* to) const {
  const OwnBlock& b = *layout_.block;
  const auto scale_type = static_cast<DType>(desc_.scale_dtype);
  const int64_t whole = (b.bytes - b.scale_bytes);  // bytes of the numbers of a block
  for (int64_t from = 0; from < desc_.cols; from += b.values, to += b.bytes) {
    const auto at = static_cast<uint64_t>(from / b.values * whole);
    const std::byte* scale = scales;
    if (scale) scale += from / desc_.scale_block_cols * dtype_info(scale_type)->block_bytes;
    if (b.scale_bytes == 1) {
      *to = *scale;
    } else {
      float value = 1.0f;
      if (scale) decode_to_f32(scale_type, scale, 1, &value);
      std::memcpy(to, &value, sizeof value);
    }
    const uint64_t bytes = std::min(static_cast<uint64_t>(whole), row_ - at);
    std::memcpy(to + b.scale_bytes, row + at, bytes);
    std::memset(to + b.scale_bytes + bytes, 0, static_cast<uint64_t>(whole) - bytes);
  }
}

/// The shape, and the layout; HADAL_OK, or what is wrong.
hadal_status check_desc(const Device& device, const hadal_weight_desc& d, Layout* layout,
                        hadal_error* error) {
  const auto refuse = [&](hadal_status status, const std::string& why) {
    return report(error, status, "weight: " + why);
  };
  if ((d.uses & (HADAL_USE_MATMUL | HADAL_USE_GATHER | HADAL_USE_VECTOR)) == 0)
    return refuse(HADAL_INVALID, "it has no use");
  for (const uint32_t use : kUses) {
    if ((d.uses & use) == 0) continue;
    if (const std::string why = check_dtype(use, d.dtype); !why.empty())
      return refuse(HADAL_UNSUPPORTED, why);
  }
  if (d.batch < 1 || d.rows < 1 || d.cols < 1)
    return refuse(HADAL_INVALID, "batch, rows and cols must be at least 1");
  if (scaled(d) && !is_scale(d.scale_dtype))
    return refuse(HADAL_UNSUPPORTED, "scales are taken as F32, F16, BF16 or F8_E8M0");
  if (scaled(d) && (d.scale_block_rows < 1 || d.scale_block_cols < 1))
    return refuse(HADAL_INVALID, "blocks of scales need at least one row and one column");
  int64_t rows = 0, all = 0;
  if (!row_bytes(static_cast<DType>(d.dtype), d.cols) || d.cols > INT_MAX ||
      __builtin_mul_overflow(d.batch, d.rows, &rows) || rows > INT_MAX)
    return refuse(HADAL_INVALID, "its shape is no shape of its type");
  std::string why;
  const std::optional<Layout> found = layout_of(d, &why);
  if (!found) return refuse(HADAL_UNSUPPORTED, why);
  if (__builtin_mul_overflow(rows, found->stride, &all))
    return refuse(HADAL_INVALID, "its size overflows");
  if (static_cast<uint64_t>(found->stride) > device.largest_allocation)
    return refuse(HADAL_UNSUPPORTED,
                  "a row has " + std::to_string(found->stride) + " bytes, one allocation of " +
                      device.name + " at most " + std::to_string(device.largest_allocation) +
                      ", and rows are not split: place this layer on another device");
  *layout = *found;
  return HADAL_OK;
}

/// Makes the buffer of rows [first, end) and sends them; why it cannot, or nothing.
hadal_status add_part(Weight& w, Source& source, int64_t first, int64_t end, hadal_error* error) {
  const Functions& cl = w.device->cl;
  cl_int status = CL_SUCCESS;
  const auto bytes = static_cast<size_t>((end - first) * w.stride);
  cl_mem buffer = cl.clCreateBuffer(w.device->context, CL_MEM_READ_ONLY, bytes, nullptr, &status);
  if (status != CL_SUCCESS)
    return report(
        error, HADAL_OUT_OF_MEMORY,
        failure(("room for " + std::to_string(bytes) + " bytes of a weight").c_str(), status));
  w.parts.push_back({buffer, first});
  w.device->allocated += bytes;
  w.bytes += bytes;
  const int64_t run = std::clamp<int64_t>(kStagedBytes / w.stride, 1, end - first);
  std::vector<std::byte> staged(static_cast<size_t>(run * w.stride));
  for (int64_t at = first; at < end; at += run) {
    const int64_t count = std::min(run, end - at);
    for (int64_t r = 0; r < count; ++r) source.pack(staged.data() + r * w.stride);
    status = cl.clEnqueueWriteBuffer(
        w.device->uploads, buffer, CL_TRUE, static_cast<size_t>((at - first) * w.stride),
        static_cast<size_t>(count * w.stride), staged.data(), 0, nullptr, nullptr);
    if (status != CL_SUCCESS)
      return report(error, status_of(status), failure("the upload of a weight", status));
  }
  return HADAL_OK;
}

}  // namespace

std::string check_dtype(uint32_t use, uint32_t dtype) {
  if (taken(use, dtype)) return {};
  constexpr const char* kTypes = "F16, BF16, F32, F8_E4M3, F4_E2M1, I8 or common blocks";
  return (use == HADAL_USE_VECTOR   ? "vectors are taken as F32"
          : use == HADAL_USE_GATHER ? std::string("tables are taken as I32, I64, ") + kTypes
                                    : std::string("matrices are taken as ") + kTypes) +
         ", not " + std::string(dtype_name(static_cast<DType>(dtype)));
}

Weight::~Weight() {
  if (!device) return;
  for (const Part& part : parts) device->cl.clReleaseMemObject(part.buffer);
  device->allocated -= bytes;
}

hadal_status weight_bytes(const Device& device, const hadal_weight_desc& desc, uint64_t* bytes,
                          hadal_error* error) {
  *bytes = 0;
  Layout layout;
  if (const hadal_status s = check_desc(device, desc, &layout, error); s != HADAL_OK) return s;
  *bytes = static_cast<uint64_t>(desc.batch * desc.rows * layout.stride);
  return HADAL_OK;
}

hadal_status create_weight(Device& device, const hadal_weight_desc& desc, const hadal_piece* pieces,
                           uint32_t count, hadal_weight** out, hadal_error* error) {
  Layout layout;
  if (const hadal_status s = check_desc(device, desc, &layout, error); s != HADAL_OK) return s;
  Source source(desc, layout, pieces, count);
  if (const std::string why = source.check(); !why.empty())
    return report(error, HADAL_INVALID, why);
  auto w = std::make_unique<Weight>();
  w->desc = desc;
  w->device = &device;
  w->type = layout.type;
  w->stride = layout.stride;
  const auto all = static_cast<uint64_t>(w->rows() * w->stride);
  if (all > device.memory_free())
    return report(error, HADAL_OUT_OF_MEMORY,
                  device.name + " has no " + std::to_string(all) +
                      " bytes left for a weight, but " +
                      std::to_string(device.memory_total - device.allocated) + " of " +
                      std::to_string(device.memory_total));
  // Whole matrices where one fits: an expert then is in one launch.
  int64_t run = std::max<int64_t>(1, static_cast<int64_t>(device.part_bytes) / w->stride);
  if (run > desc.rows) run = run / desc.rows * desc.rows;
  for (int64_t first = 0; first < w->rows(); first += run) {
    const int64_t end = std::min(first + run, w->rows());
    if (const hadal_status s = add_part(*w, source, first, end, error); s != HADAL_OK) return s;
  }
  *out = reinterpret_cast<hadal_weight*>(w.release());
  return HADAL_OK;
}

void weight_destroy(hadal_weight* handle) { delete reinterpret_cast<Weight*>(handle); }

void weight_forms(uint32_t use, hadal_weight_form* forms, uint32_t* count) {
  const uint32_t room = std::exchange(*count, 0u);
  for (const uint32_t dtype : kForms) {
    if (!taken(use, dtype)) continue;
    hadal_weight_form form{};
    form.dtype = dtype;
    form.scale_dtype = HADAL_DTYPE_NONE;
    form.numerics = HADAL_NUMERICS_EXACT;
    if (*count < room) contract::copy_sized(forms + *count, form);
    ++*count;
  }
}

}  // namespace hadal::opencl
