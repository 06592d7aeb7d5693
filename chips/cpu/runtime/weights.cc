#include "runtime/weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "base/quant.h"
#include "common/host_chip.h"
#include "contract/report.h"

namespace hadal::cpu {
namespace {

using contract::report;
using host_chip::Memory;

std::string describe(const hadal_weight_desc& d) {
  return "weight " + std::string(dtype_name(static_cast<DType>(d.dtype))) + " [" +
         (d.batch > 1 ? std::to_string(d.batch) + ", " : "") + std::to_string(d.rows) + ", " +
         std::to_string(d.cols) + "]";
}

bool scaled(const hadal_weight_desc& d) { return d.scale_dtype != HADAL_DTYPE_NONE; }

hadal_status check(const hadal_weight_desc& d, hadal_error* error) {
  const auto refuse = [&](hadal_status status, const std::string& why) {
    return report(error, status, describe(d) + ": " + why);
  };
  const DType dtype = static_cast<DType>(d.dtype);
  const DTypeInfo* info = dtype_info(dtype);
  if (!info)
    return refuse(HADAL_UNSUPPORTED,
                  "element type " + std::to_string(d.dtype) + " is unknown to this chip");
  if (dtype == HADAL_BOOL)
    return refuse(HADAL_UNSUPPORTED, "BOOL holds no numbers; convert it first");
  if (d.batch < 1 || d.rows < 1 || d.cols < 1)
    return refuse(HADAL_INVALID, "every extent must be at least 1");
  constexpr int64_t kMost = int64_t{1} << 40;
  if (d.batch > kMost || d.rows > kMost || d.cols > kMost || d.batch > kMost / d.rows ||
      d.batch * d.rows > kMost / d.cols)
    return refuse(HADAL_INVALID, "more than 2^40 values");
  if (d.cols % info->block_values != 0)
    return refuse(HADAL_INVALID, "columns are no multiple of the type's block of " +
                                     std::to_string(info->block_values));
  if ((d.uses & ~(HADAL_USE_MATMUL | HADAL_USE_GATHER | HADAL_USE_VECTOR)) != 0 || d.uses == 0)
    return refuse(HADAL_INVALID, "unknown or missing uses");
  if ((d.uses & HADAL_USE_VECTOR) != 0 && (d.batch != 1 || d.rows != 1))
    return refuse(HADAL_INVALID, "a vector has one row");
  if (scaled(d)) {
    if (!is_plain(static_cast<DType>(d.scale_dtype)) || d.scale_dtype == HADAL_BOOL)
      return refuse(
          HADAL_UNSUPPORTED,
          "block scales of type " + std::string(dtype_name(static_cast<DType>(d.scale_dtype))));
    if (d.scale_block_rows < 1 || d.scale_block_cols < 1)
      return refuse(HADAL_INVALID, "scale blocks must be at least 1 x 1");
    if (d.scale_block_cols % info->block_values != 0)
      return refuse(HADAL_UNSUPPORTED,
                    "a scale block must hold a whole number of the type's blocks");
  }
  return HADAL_OK;
}

uint64_t native_bytes(const hadal_weight_desc& d) {
  const uint64_t rows = static_cast<uint64_t>(d.batch * d.rows);
  uint64_t bytes = rows * static_cast<uint64_t>(*row_bytes(static_cast<DType>(d.dtype), d.cols));
  if (scaled(d)) {
    const int64_t across = (d.cols + d.scale_block_cols - 1) / d.scale_block_cols;
    bytes += rows * static_cast<uint64_t>(*row_bytes(static_cast<DType>(d.scale_dtype),
                                                     across));  // at most: one row of scales a row
  }
  return bytes;
}

bool inside(hadal_memory* handle, uint64_t offset, int64_t rows, int64_t stride, int64_t bytes) {
  const Memory* m = host_chip::memory(handle);
  if (!m || stride < 0) return false;
  uint64_t span = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(rows - 1), static_cast<uint64_t>(stride), &span))
    return false;
  if (__builtin_add_overflow(span, static_cast<uint64_t>(bytes), &span)) return false;
  return offset <= m->bytes && span <= m->bytes - offset;
}

// Where the rows lie in the source.
hadal_status find_rows(const hadal_weight_desc& d, const hadal_piece* pieces, uint32_t count,
                       std::vector<NativeRows>* out, hadal_error* error) {
  const int64_t bytes = *row_bytes(static_cast<DType>(d.dtype), d.cols);
  int64_t first = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const hadal_piece& p = pieces[i];
    const std::string name = describe(d) + ": piece " + std::to_string(i);
    if (p.rows < 1) return report(error, HADAL_INVALID, name + " has no rows");
    if (!inside(p.memory, p.offset, p.rows, p.row_stride, bytes))
      return report(error, HADAL_INVALID, name + " lies outside its memory");
    NativeRows rows{
        host_chip::memory(p.memory)->data + p.offset, first, p.rows, p.row_stride, nullptr, 0};
    if (scaled(d)) {
      const int64_t across = (d.cols + d.scale_block_cols - 1) / d.scale_block_cols;
      const int64_t down = (p.rows + d.scale_block_rows - 1) / d.scale_block_rows;
      if (!inside(p.scale_memory, p.scale_offset, down, p.scale_row_stride,
                  *row_bytes(static_cast<DType>(d.scale_dtype), across)))
        return report(error, HADAL_INVALID, name + ": its scales lie outside their memory");
      rows.scales = host_chip::memory(p.scale_memory)->data + p.scale_offset;
      rows.scale_stride = p.scale_row_stride;
    }
    out->push_back(rows);
    first += p.rows;
  }
  if (first != d.batch * d.rows)
    return report(error, HADAL_INVALID,
                  describe(d) + ": the pieces hold " + std::to_string(first) + " rows, not " +
                      std::to_string(d.batch * d.rows));
  return HADAL_OK;
}

const NativeRows& part_of(const std::vector<NativeRows>& native, int64_t row) {
  auto it = std::upper_bound(native.begin(), native.end(), row,
                             [](int64_t r, const NativeRows& n) { return r < n.first; });
  return *(it - 1);
}

// Copies the rows (and one row of scales for each) side by side.
void copy_native(Weight& w, const std::vector<NativeRows>& source) {
  const hadal_weight_desc& d = w.desc;
  const int64_t bytes = *row_bytes(w.dtype, d.cols), total = d.batch * d.rows;
  int64_t across_bytes = 0;
  if (scaled(d))
    across_bytes = *row_bytes(static_cast<DType>(d.scale_dtype),
                              (d.cols + d.scale_block_cols - 1) / d.scale_block_cols);
  auto* to = reinterpret_cast<std::byte*>(w.native_copy.data());
  std::byte* scales = to + total * bytes;
  for (const NativeRows& part : source)
    for (int64_t r = 0; r < part.rows; ++r) {
      std::memcpy(to + (part.first + r) * bytes, part.data + r * part.stride,
                  static_cast<size_t>(bytes));
      if (across_bytes)
        std::memcpy(scales + (part.first + r) * across_bytes,
                    part.scales + r / d.scale_block_rows * part.scale_stride,
                    static_cast<size_t>(across_bytes));
    }
  w.native = {{to, 0, total, bytes, across_bytes ? scales : nullptr, across_bytes}};
}

}  // namespace

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Mapping::~Mapping() {
  if (data_) ::munmap(data_, bytes_);
}

bool Mapping::allocate(uint64_t bytes) {
  if (bytes == 0) return true;
  // Kernels read whole vectors and prefetch past the end of what they need: one vector of slack.
  void* p = ::mmap(nullptr, bytes + 64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return false;
  host_chip::prefer_huge_pages(p, bytes + 64);
  data_ = static_cast<uint8_t*>(p);
  bytes_ = bytes + 64;
  return true;
}

void Weight::find_panel(int64_t first, int64_t count, NativePanel* panel) const {
  const NativeRows* part = &part_of(native, first);
  // A copy has a row of scales for each row; in the source one serves scale_block_rows of them.
  const int64_t rows_of_scales = native_copy.data() ? 1 : desc.scale_block_rows;
  for (int64_t r = 0; r < kPanel; ++r) {
    const int64_t row = first + std::min(r, count - 1);
    if (row >= part->first + part->rows) part = &part_of(native, row);
    const int64_t local = row - part->first;
    panel->rows[r] = reinterpret_cast<const uint8_t*>(part->data + local * part->stride);
    if (part->scales)
      panel->scales[r] = reinterpret_cast<const uint8_t*>(part->scales + local / rows_of_scales *
                                                                             part->scale_stride);
  }
}

void Weight::decode(int64_t row, int64_t from, int64_t count, float* out) const {
  const DTypeInfo* info = dtype_info(dtype);
  NativePanel panel{};
  find_panel(row, 1, &panel);
  decode_to_f32(dtype,
                reinterpret_cast<const std::byte*>(panel.rows[0]) +
                    from / info->block_values * info->block_bytes,
                count, out);
  const auto* scales = reinterpret_cast<const std::byte*>(panel.scales[0]);
  if (!scales) return;
  const DType scale_dtype = static_cast<DType>(desc.scale_dtype);
  const int64_t width = desc.scale_block_cols;
  for (int64_t i = 0; i < count;) {
    const int64_t block = (from + i) / width, end = std::min(count, (block + 1) * width - from);
    float scale = 0.0f;
    decode_to_f32(scale_dtype, scales + block * dtype_info(scale_dtype)->block_bytes, 1, &scale);
    for (; i < end; ++i) out[i] *= scale;
  }
}

std::optional<Layout> layout_of(const hadal_weight_desc& d, bool exact) {
  std::optional<Layout> layout;
  switch (d.dtype) {
    case HADAL_F32:
      layout = kF32;
      break;
    case HADAL_F16:
      layout = kF16;
      break;
    case HADAL_BF16:
      layout = kBF16;
      break;
    case HADAL_F8_E4M3:
      layout = kE4M3;
      break;
    case HADAL_F8_E5M2:
      layout = kE5M2;
      break;
    case HADAL_Q4_0:
      layout = kQ4_0;
      break;
    case HADAL_Q4_1:
      layout = kQ4_1;
      break;
    case HADAL_Q5_0:
      layout = kQ5_0;
      break;
    case HADAL_Q5_1:
      layout = kQ5_1;
      break;
    case HADAL_Q8_0:
      layout = kQ8_0;
      break;
    case HADAL_Q4_K:
      layout = kQ4_K;
      break;
    case HADAL_Q5_K:
      layout = kQ5_K;
      break;
    case HADAL_Q6_K:
      layout = kQ6_K;
      break;
    case HADAL_Q3_K:
      layout = kQ3_K;
      break;
    case HADAL_Q2_K:
      layout = kQ2_K;
      break;
    case HADAL_IQ4_NL:
      layout = kIQ4_NL;
      break;
    case HADAL_IQ4_XS:
      layout = kIQ4_XS;
      break;
    case HADAL_MXFP4:
      layout = kMXFP4;
      break;
    case HADAL_NVFP4:
      layout = kNVFP4;
      break;
    case HADAL_F4_E2M1:
      layout = kF4_E2M1;
      break;
    default:
      return std::nullopt;
  }
  if (*layout == kF4_E2M1) {
    if (d.scale_dtype != HADAL_F8_E8M0 || d.scale_block_rows != 1 || d.scale_block_cols != kBlock ||
        d.cols % kBlock != 0)
      return std::nullopt;
  } else if (scaled(d) && is_int(*layout)) {
    return std::nullopt;
  }
  // Lanes along K must not depend on whether scales are multiplied before or on the way.
  if (!is_int(*layout) && scaled(d) && d.scale_block_cols % kPanel != 0) return std::nullopt;
  if (exact && is_int(*layout)) return std::nullopt;
  return layout;
}

hadal_status weight_bytes(const hadal_weight_desc& d, uint64_t* bytes, hadal_error* error) {
  *bytes = 0;
  if (const hadal_status s = check(d, error); s != HADAL_OK) return s;
  if ((d.uses & ~uint32_t{HADAL_USE_VECTOR}) != 0 && d.keeps_source == 0) *bytes += native_bytes(d);
  if ((d.uses & HADAL_USE_VECTOR) != 0) *bytes += static_cast<uint64_t>(d.cols) * sizeof(float);
  return HADAL_OK;
}

hadal_status weight_create(const hadal_weight_desc& desc, bool exact, const hadal_piece* pieces,
                           uint32_t count, Weight** out, hadal_error* error) {
  *out = nullptr;
  if (const hadal_status s = check(desc, error); s != HADAL_OK) return s;
  auto w = std::make_unique<Weight>();
  w->desc = desc;
  w->dtype = static_cast<DType>(desc.dtype);
  if ((desc.uses & HADAL_USE_MATMUL) != 0) w->layout = layout_of(desc, exact);
  std::vector<NativeRows> source;
  if (const hadal_status s = find_rows(desc, pieces, count, &source, error); s != HADAL_OK)
    return s;
  const auto no_memory = [&](uint64_t bytes) {
    return report(error, HADAL_OUT_OF_MEMORY,
                  describe(desc) + ": no " + std::to_string(bytes) + " bytes of memory left");
  };

  if ((desc.uses & HADAL_USE_VECTOR) != 0) {
    const uint64_t bytes = static_cast<uint64_t>(desc.cols) * sizeof(float);
    if (!w->vector.allocate(bytes)) return no_memory(bytes);
    w->native = source;
    w->decode(0, 0, desc.cols, reinterpret_cast<float*>(w->vector.data()));
    w->native.clear();
  }
  if ((desc.uses & ~uint32_t{HADAL_USE_VECTOR}) != 0) {
    if (desc.keeps_source != 0) {
      w->native = std::move(source);
    } else {
      if (!w->native_copy.allocate(native_bytes(desc))) return no_memory(native_bytes(desc));
      copy_native(*w, source);
    }
  }
  *out = w.release();
  return HADAL_OK;
}

}  // namespace hadal::cpu
