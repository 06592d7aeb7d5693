#include "common/host_chip.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "base/dtype.h"
#include "contract/report.h"
#include "hadal/chip_parts.h"

namespace hadal::host_chip {
namespace {

hadal_status check_range(const char* what, hadal_memory* handle, uint64_t offset, uint64_t bytes,
                         hadal_error* error) {
  return hadal_check_range(what, memory(handle)->bytes, offset, bytes, error);
}

hadal_status mem_alloc(hadal_device*, uint64_t bytes, hadal_memory** out, hadal_error* error) {
  *out = nullptr;
  auto* m = new (std::nothrow) Memory;
  void* data = MAP_FAILED;
  const uint64_t size = std::max<uint64_t>(bytes, 64);
  if (m)
    data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    delete m;
    return contract::report(error, HADAL_OUT_OF_MEMORY,
                            "no " + std::to_string(bytes) + " bytes of memory left");
  }
  prefer_huge_pages(data, size);
  *m = {static_cast<std::byte*>(data), size, true};
  *out = reinterpret_cast<hadal_memory*>(m);
  return HADAL_OK;
}

hadal_status mem_import(hadal_device*, const void* data, uint64_t bytes, hadal_memory** out,
                        hadal_error* error) {
  auto* m = new (std::nothrow) Memory;
  if (!m) return contract::report(error, HADAL_OUT_OF_MEMORY, "no memory left for a handle");
  *m = {static_cast<std::byte*>(const_cast<void*>(data)), bytes, false};
  *out = reinterpret_cast<hadal_memory*>(m);
  return HADAL_OK;
}

void mem_free(hadal_memory* handle) {
  Memory* m = memory(handle);
  if (!m) return;
  if (m->owned) ::munmap(m->data, m->bytes);
  delete m;
}

void* mem_host(hadal_memory* handle) { return memory(handle)->data; }

hadal_status copy_in(hadal_queue*, hadal_memory* to, uint64_t offset, const void* from,
                     uint64_t bytes, hadal_error* error) {
  HADAL_OR_RETURN(check_range("copy_in", to, offset, bytes, error));
  if (bytes != 0) std::memcpy(memory(to)->data + offset, from, bytes);
  return HADAL_OK;
}

hadal_status copy_out(hadal_queue*, void* to, hadal_memory* from, uint64_t offset, uint64_t bytes,
                      hadal_error* error) {
  HADAL_OR_RETURN(check_range("copy_out", from, offset, bytes, error));
  if (bytes != 0) std::memcpy(to, memory(from)->data + offset, bytes);
  return HADAL_OK;
}

hadal_status copy(hadal_queue*, hadal_memory* to, uint64_t to_offset, hadal_memory* from,
                  uint64_t from_offset, uint64_t bytes, hadal_error* error) {
  HADAL_OR_RETURN(check_range("copy", to, to_offset, bytes, error));
  HADAL_OR_RETURN(check_range("copy", from, from_offset, bytes, error));
  if (bytes != 0)
    std::memmove(memory(to)->data + to_offset, memory(from)->data + from_offset, bytes);
  return HADAL_OK;
}

hadal_status fill(hadal_queue*, hadal_memory* to, uint64_t offset, uint64_t bytes, uint8_t value,
                  hadal_error* error) {
  HADAL_OR_RETURN(check_range("fill", to, offset, bytes, error));
  if (bytes != 0) std::memset(memory(to)->data + offset, value, bytes);
  return HADAL_OK;
}

}  // namespace

void prefer_huge_pages(void* data, uint64_t bytes) {
  if (bytes >= (uint64_t{1} << 20)) ::madvise(data, bytes, MADV_HUGEPAGE);
}

void fill_memory_functions(hadal_chip& chip) {
  chip.mem_alloc = mem_alloc;
  chip.mem_import = mem_import;
  chip.mem_free = mem_free;
  chip.mem_host = mem_host;
  chip.copy_in = copy_in;
  chip.copy_out = copy_out;
  chip.copy = copy;
  chip.fill = fill;
}

hadal_memory* memory_of(const hadal_tensor& t, const hadal_step& step) {
  switch (t.space) {
    case HADAL_SPACE_SCRATCH:
      return step.scratch;
    case HADAL_SPACE_INPUT:
      return step.inputs;
    case HADAL_SPACE_OUTPUT:
      return step.outputs;
    case HADAL_SPACE_PLANE:
      return t.index < step.plane_count ? step.planes[t.index] : nullptr;
    default:
      return nullptr;
  }
}

View view(const hadal_tape& tape, int32_t index, const hadal_step& step) {
  View v;
  if (index < 0) return v;
  const hadal_tensor& t = tape.tensors[index];
  if (t.space == HADAL_SPACE_NONE) return v;
  v.dtype = static_cast<hadal_dtype>(t.dtype);
  v.rank = t.rank;
  for (int i = 0; i < HADAL_MAX_RANK; ++i) {
    v.extents[i] = t.extents[i];
    v.strides[i] = t.strides[i];
  }
  v.extents[0] = t.extents[0] * step.rows[t.row_dim];
  v.weight = t.weight;
  hadal_memory* base = memory_of(t, step);
  if (base) v.data = memory(base)->data + t.offset;
  // A plane's memory may hold fewer blocks than its limit.
  if (base && t.space == HADAL_SPACE_PLANE && t.strides[0] > 0)
    v.extents[0] =
        std::min(t.extents[0], static_cast<int64_t>((memory(base)->bytes - t.offset) /
                                                    static_cast<uint64_t>(t.strides[0])));
  return v;
}

bool lies_inside(const View& v, const hadal_tensor& t, const hadal_step& step) {
  hadal_memory* base = memory_of(t, step);
  int64_t last = dtype_info(v.dtype)->block_bytes;
  for (uint32_t d = 0; d < v.rank; ++d) {
    if (v.extents[d] == 0) return true;
    int64_t span = 0;
    if (__builtin_mul_overflow(v.extents[d] - 1, v.strides[d], &span) ||
        __builtin_add_overflow(last, span, &last))
      return false;
  }
  if (!base) return false;
  const Memory* m = memory(base);
  return t.offset <= m->bytes && static_cast<uint64_t>(last) <= m->bytes - t.offset;
}

}  // namespace hadal::host_chip
