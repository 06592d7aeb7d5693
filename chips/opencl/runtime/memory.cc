#include "runtime/memory.h"

#include <algorithm>
#include <new>

#include "contract/report.h"
#include "hadal/chip_parts.h"

namespace hadal::opencl {
namespace {

using contract::guarded;
using contract::report;

hadal_status mem_alloc(hadal_device* handle, uint64_t bytes, hadal_memory** out,
                       hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    Device& device = *device_of(handle);
    if (bytes > device.largest_allocation)
      return report(error, HADAL_OUT_OF_MEMORY,
                    "one memory of " + device.name + " has at most " +
                        std::to_string(device.largest_allocation) + " bytes, " +
                        std::to_string(bytes) +
                        " are asked for; fewer tokens a step (scratch) or a smaller context "
                        "(planes) need less");
    if (bytes > device.memory_total - std::min(device.memory_total, device.allocated))
      return report(error, HADAL_OUT_OF_MEMORY,
                    device.name + " has no " + std::to_string(bytes) + " bytes left, but " +
                        std::to_string(device.memory_total - device.allocated) + " of " +
                        std::to_string(device.memory_total) +
                        "; place some layers on another device");
    auto memory = std::make_unique<Memory>();
    cl_int status = CL_SUCCESS;
    memory->device = &device;
    memory->bytes = std::max<uint64_t>(bytes, 64);
    memory->buffer = device.cl.clCreateBuffer(device.context, CL_MEM_READ_WRITE, memory->bytes,
                                              nullptr, &status);
    if (status != CL_SUCCESS)
      return report(
          error, HADAL_OUT_OF_MEMORY,
          failure(("an allocation of " + std::to_string(bytes) + " bytes").c_str(), status));
    device.allocated += memory->bytes;
    *out = reinterpret_cast<hadal_memory*>(memory.release());
    return HADAL_OK;
  });
}

// Imported memory is read when something is copied from it, and never by a kernel.
hadal_status mem_import(hadal_device* handle, const void* data, uint64_t bytes, hadal_memory** out,
                        hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    *out = reinterpret_cast<hadal_memory*>(
        new Memory{device_of(handle), nullptr, static_cast<const std::byte*>(data), bytes});
    return HADAL_OK;
  });
}

// OpenCL keeps a buffer until the work that was queued before is done.
void mem_free(hadal_memory* handle) {
  if (!handle) return;
  const std::unique_ptr<Memory> memory(memory_of(handle));
  if (!memory->buffer) return;
  memory->device->cl.clReleaseMemObject(memory->buffer);
  memory->device->allocated -= memory->bytes;
}

void* mem_host(hadal_memory*) { return nullptr; }

hadal_status check_range(const char* what, hadal_memory* handle, uint64_t offset, uint64_t bytes,
                         bool written, hadal_error* error) {
  const Memory& m = *memory_of(handle);
  if (written && !m.buffer)
    return report(error, HADAL_INVALID, std::string(what) + ": imported memory can only be read");
  return hadal_check_range(what, m.bytes, offset, bytes, error);
}

/// Runs `body`, a command of OpenCL, unless what stands before it in the queue went wrong.
template <typename Body>
hadal_status enqueue(const char* what, hadal_queue* queue, uint64_t bytes, hadal_error* error,
                     Body body) {
  return guarded(error, [&] {
    if (bytes == 0 || !queue_of(queue)->settle()) return HADAL_OK;
    const cl_int status = body(queue_of(queue)->device.cl, queue_of(queue)->queue);
    return status == CL_SUCCESS ? HADAL_OK
                                : report(error, status_of(status), failure(what, status));
  });
}

hadal_status copy_in(hadal_queue* queue, hadal_memory* to, uint64_t offset, const void* from,
                     uint64_t bytes, hadal_error* error) {
  if (const hadal_status s = check_range("copy_in", to, offset, bytes, true, error); s != HADAL_OK)
    return s;
  return enqueue("copy_in", queue, bytes, error, [&](const Functions& cl, cl_command_queue q) {
    return cl.clEnqueueWriteBuffer(q, memory_of(to)->buffer, CL_TRUE, offset, bytes, from, 0,
                                   nullptr, nullptr);
  });
}

hadal_status copy_out(hadal_queue* queue, void* to, hadal_memory* from, uint64_t offset,
                      uint64_t bytes, hadal_error* error) {
  if (const hadal_status s = check_range("copy_out", from, offset, bytes, false, error);
      s != HADAL_OK)
    return s;
  const Memory& m = *memory_of(from);
  return enqueue("copy_out", queue, bytes, error, [&](const Functions& cl, cl_command_queue q) {
    if (!m.buffer) {
      __builtin_memcpy(to, m.imported + offset, bytes);
      return cl_int{CL_SUCCESS};
    }
    return cl.clEnqueueReadBuffer(q, m.buffer, CL_TRUE, offset, bytes, to, 0, nullptr, nullptr);
  });
}

hadal_status copy(hadal_queue* queue, hadal_memory* to, uint64_t to_offset, hadal_memory* from,
                  uint64_t from_offset, uint64_t bytes, hadal_error* error) {
  if (const hadal_status s = check_range("copy", to, to_offset, bytes, true, error); s != HADAL_OK)
    return s;
  if (const hadal_status s = check_range("copy", from, from_offset, bytes, false, error);
      s != HADAL_OK)
    return s;
  const Memory& m = *memory_of(from);
  return guarded(error, [&] {
    if (!m.buffer) return copy_in(queue, to, to_offset, m.imported + from_offset, bytes, error);
    const bool overlaps = m.buffer == memory_of(to)->buffer && from_offset < to_offset + bytes &&
                          to_offset < from_offset + bytes;
    if (overlaps) {  // OpenCL refuses what the contract allows
      std::vector<std::byte> between(bytes);
      if (const hadal_status s = copy_out(queue, between.data(), from, from_offset, bytes, error);
          s != HADAL_OK)
        return s;
      return copy_in(queue, to, to_offset, between.data(), bytes, error);
    }
    return enqueue("copy", queue, bytes, error, [&](const Functions& cl, cl_command_queue q) {
      return cl.clEnqueueCopyBuffer(q, m.buffer, memory_of(to)->buffer, from_offset, to_offset,
                                    bytes, 0, nullptr, nullptr);
    });
  });
}

hadal_status fill(hadal_queue* queue, hadal_memory* to, uint64_t offset, uint64_t bytes,
                  uint8_t value, hadal_error* error) {
  if (const hadal_status s = check_range("fill", to, offset, bytes, true, error); s != HADAL_OK)
    return s;
  return enqueue("fill", queue, bytes, error, [&](const Functions& cl, cl_command_queue q) {
    return cl.clEnqueueFillBuffer(q, memory_of(to)->buffer, &value, 1, offset, bytes, 0, nullptr,
                                  nullptr);
  });
}

}  // namespace

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

}  // namespace hadal::opencl
