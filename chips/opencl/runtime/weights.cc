#include "runtime/weights.h"

#include <algorithm>
#include <utility>

#include "base/dtype.h"
#include "contract/report.h"

namespace hadal::opencl {
namespace {

using contract::report;

constexpr uint32_t kUses[] = {HADAL_USE_MATMUL, HADAL_USE_GATHER, HADAL_USE_VECTOR};
constexpr uint32_t kNumbers[] = {HADAL_F16, HADAL_BF16, HADAL_F32};

bool taken(uint32_t use, uint32_t dtype) {
  if (use == HADAL_USE_VECTOR) return dtype == HADAL_F32;
  if (use == HADAL_USE_GATHER && (dtype == HADAL_I32 || dtype == HADAL_I64)) return true;
  return is_block(dtype) ||
         std::find(std::begin(kNumbers), std::end(kNumbers), dtype) != std::end(kNumbers);
}

/// Rows of all pieces, side by side.
hadal_status pack(const hadal_weight_desc& desc, const hadal_piece* pieces, uint32_t count,
                  int64_t row, std::vector<std::byte>* to, hadal_error* error) {
  int64_t rows = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const hadal_piece& piece = pieces[i];
    const Memory& m = *memory_of(piece.memory);
    const auto invalid = [&](const char* why) {
      return report(
          error, HADAL_INVALID,
          "weight: piece " + std::to_string(i) + " of " + std::to_string(count) + " " + why);
    };
    if (!m.imported) return invalid("does not lie in imported memory");
    if (piece.rows < 0 || piece.row_stride < 0) return invalid("has negative rows or strides");
    if (piece.rows == 0) continue;
    const auto stride = static_cast<uint64_t>(piece.row_stride);
    const auto last = static_cast<uint64_t>(piece.rows - 1);
    const auto size = static_cast<uint64_t>(row);
    if (piece.offset > m.bytes || size > m.bytes - piece.offset ||
        (last > 0 && stride > (m.bytes - piece.offset - size) / last))
      return invalid("lies outside its memory");
    for (uint64_t r = 0; r <= last; ++r) {
      const std::byte* from = m.imported + piece.offset + r * stride;
      to->insert(to->end(), from, from + row);
    }
    rows += piece.rows;
  }
  if (rows == desc.batch * desc.rows) return HADAL_OK;
  return report(error, HADAL_INVALID,
                "weight: the pieces have " + std::to_string(rows) + " rows, " +
                    std::to_string(desc.batch * desc.rows) + " are described");
}

}  // namespace

std::string check_dtype(uint32_t use, uint32_t dtype) {
  if (taken(use, dtype)) return {};
  return (use == HADAL_USE_VECTOR ? "vectors are taken as F32"
          : use == HADAL_USE_GATHER
              ? "tables are taken as F16, BF16, F32, I32, I64 or common blocks"
              : "matrices are taken as F16, BF16, F32 or common blocks") +
         std::string(", not ") + std::string(dtype_name(static_cast<DType>(dtype)));
}

hadal_status weight_bytes(const Device& device, const hadal_weight_desc& desc, uint64_t* bytes,
                          hadal_error* error) {
  *bytes = 0;
  if ((desc.uses & (HADAL_USE_MATMUL | HADAL_USE_GATHER | HADAL_USE_VECTOR)) == 0)
    return report(error, HADAL_INVALID, "weight: it has no use");
  for (const uint32_t use : kUses) {
    if ((desc.uses & use) == 0) continue;
    if (const std::string why = check_dtype(use, desc.dtype); !why.empty())
      return report(error, HADAL_UNSUPPORTED, "weight: " + why);
  }
  if (desc.scale_dtype != HADAL_DTYPE_NONE)
    return report(error, HADAL_UNSUPPORTED, "weight: none with scales is taken");
  if (desc.batch < 1 || desc.rows < 1 || desc.cols < 1)
    return report(error, HADAL_INVALID, "weight: batch, rows and cols must be at least 1");
  const auto row = row_bytes(static_cast<DType>(desc.dtype), desc.cols);
  int64_t rows = 0, all = 0;
  if (!row || __builtin_mul_overflow(desc.batch, desc.rows, &rows) ||
      __builtin_mul_overflow(rows, *row, &all))
    return report(error, HADAL_INVALID, "weight: its shape is no shape of its type");
  if (static_cast<uint64_t>(all) > device.largest_allocation)
    return report(error, HADAL_UNSUPPORTED,
                  "weight: " + std::to_string(all) + " bytes are more than the " +
                      std::to_string(device.largest_allocation) +
                      " of the device's largest allocation");
  *bytes = static_cast<uint64_t>(all);
  return HADAL_OK;
}

hadal_status create_weight(Device& device, const hadal_weight_desc& desc, const hadal_piece* pieces,
                           uint32_t count, hadal_weight** out, hadal_error* error) {
  uint64_t bytes = 0;
  if (const hadal_status s = weight_bytes(device, desc, &bytes, error); s != HADAL_OK) return s;
  std::vector<std::byte> rows;
  rows.reserve(bytes);
  if (const hadal_status s = pack(
          desc, pieces, count, *row_bytes(static_cast<DType>(desc.dtype), desc.cols), &rows, error);
      s != HADAL_OK)
    return s;
  auto w = std::make_unique<Weight>();
  cl_int status = CL_SUCCESS;
  w->desc = desc;
  w->device = &device;
  w->bytes = bytes;
  w->buffer = device.cl.clCreateBuffer(device.context, CL_MEM_READ_ONLY, bytes, nullptr, &status);
  if (status != CL_SUCCESS)
    return report(error, HADAL_OUT_OF_MEMORY, failure("room for a weight", status));
  device.allocated += bytes;
  *out = reinterpret_cast<hadal_weight*>(w.release());
  status = device.cl.clEnqueueWriteBuffer(device.uploads, weight_of(*out).buffer, CL_TRUE, 0, bytes,
                                          rows.data(), 0, nullptr, nullptr);
  if (status == CL_SUCCESS) return HADAL_OK;
  weight_destroy(std::exchange(*out, nullptr));
  return report(error, HADAL_DEVICE_FAILED, failure("the upload of a weight", status));
}

void weight_destroy(hadal_weight* handle) {
  if (!handle) return;
  const std::unique_ptr<Weight> w(reinterpret_cast<Weight*>(handle));
  w->device->cl.clReleaseMemObject(w->buffer);
  w->device->allocated -= w->bytes;
}

void weight_forms(uint32_t use, hadal_weight_form* forms, uint32_t* count) {
  const uint32_t room = std::exchange(*count, 0u);
  for (const uint32_t dtype : kNumbers) {
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
