#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "contract/report.h"
#include "hadal/chip_parts.h"
#include "queue.h"

namespace hadal::apart {
namespace {

using contract::report;

/// New memory holds no zeros up to here, as it would not on a device; the rest costs nothing until
/// it is touched.
constexpr uint64_t kPoisoned = uint64_t{1} << 20;

hadal_memory* handle_of(std::shared_ptr<Memory> m) {
  Memory* raw = m.get();
  raw->self = std::move(m);
  return reinterpret_cast<hadal_memory*>(static_cast<host_chip::Memory*>(raw));
}

hadal_status no_memory(hadal_error* error, uint64_t bytes) {
  return report(error, HADAL_OUT_OF_MEMORY,
                "no " + std::to_string(bytes) + " bytes of memory left on the device");
}

hadal_status mem_alloc(hadal_device* device, uint64_t bytes, hadal_memory** out,
                       hadal_error* error) try {
  *out = nullptr;
  const uint64_t size = std::max(bytes, kAlignment);
  Device& from = *device_of(device);
  if (size > from.memory || from.used.load() > from.memory - size) return no_memory(error, bytes);
  auto m = std::make_shared<Memory>();
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return no_memory(error, bytes);
  m->data = static_cast<std::byte*>(data);
  m->bytes = size;
  m->owned = true;
  from.used += size;
  m->device = device_of(device);
  std::memset(data, 0xff, std::min(size, kPoisoned));
  *out = handle_of(std::move(m));
  return HADAL_OK;
} catch (const std::bad_alloc&) {
  return no_memory(error, bytes);
}

hadal_status mem_import(hadal_device* device, const void* data, uint64_t bytes, hadal_memory** out,
                        hadal_error* error) try {
  *out = nullptr;
  auto m = std::make_shared<Memory>();
  m->data = static_cast<std::byte*>(const_cast<void*>(data));
  m->bytes = bytes;
  m->device = device_of(device);
  *out = handle_of(std::move(m));
  return HADAL_OK;
} catch (const std::bad_alloc&) {
  return no_memory(error, sizeof(Memory));
}

void mem_free(hadal_memory* handle) {
  if (!handle) return;
  Memory* m = memory_of(handle);
  // The bytes of an import are valid until now, not until the worker comes by.
  if (!m->owned)
    for (Queue* queue : m->device->queues) queue->wait();
  m->device->release(std::move(m->self));
}

void* mem_host(hadal_memory*) { return nullptr; }

hadal_status check_range(const char* what, hadal_memory* handle, uint64_t offset, uint64_t bytes,
                         bool written, hadal_error* error) {
  const Memory& m = *memory_of(handle);
  if (written && !m.owned)
    return report(error, HADAL_INVALID, std::string(what) + ": imported memory can only be read");
  return hadal_check_range(what, m.bytes, offset, bytes, error);
}

/// Queues `work`, which cannot fail.
template <typename Body>
hadal_status enqueue(hadal_queue* queue, hadal_error* error, Body work) try {
  queue_of(queue)->push([body = std::move(work)](hadal_error*) {
    body();
    return HADAL_OK;
  });
  return HADAL_OK;
} catch (const std::bad_alloc&) {
  return report(error, HADAL_OUT_OF_MEMORY, "no memory left for a command");
}

hadal_status copy_in(hadal_queue* queue, hadal_memory* to, uint64_t offset, const void* from,
                     uint64_t bytes, hadal_error* error) try {
  if (const hadal_status s = check_range("copy_in", to, offset, bytes, true, error); s != HADAL_OK)
    return s;
  if (bytes == 0) return HADAL_OK;
  const auto* source = static_cast<const std::byte*>(from);
  return enqueue(queue, error,
                 [target = memory_of(to)->data + offset,
                  staged = std::vector<std::byte>(source, source + bytes)] {
                   std::memcpy(target, staged.data(), staged.size());
                 });
} catch (const std::bad_alloc&) {
  return report(error, HADAL_OUT_OF_MEMORY,
                "copy_in: no memory left to stage " + std::to_string(bytes) + " bytes");
}

hadal_status copy_out(hadal_queue* queue, void* to, hadal_memory* from, uint64_t offset,
                      uint64_t bytes, hadal_error* error) {
  if (const hadal_status s = check_range("copy_out", from, offset, bytes, false, error);
      s != HADAL_OK)
    return s;
  if (bytes == 0) return HADAL_OK;
  return enqueue(queue, error, [to, source = memory_of(from)->data + offset, bytes] {
    std::memcpy(to, source, bytes);
  });
}

hadal_status fill(hadal_queue* queue, hadal_memory* to, uint64_t offset, uint64_t bytes,
                  uint8_t value, hadal_error* error) {
  if (const hadal_status s = check_range("fill", to, offset, bytes, true, error); s != HADAL_OK)
    return s;
  if (bytes == 0) return HADAL_OK;
  return enqueue(queue, error, [target = memory_of(to)->data + offset, bytes, value] {
    std::memset(target, value, bytes);
  });
}

}  // namespace

hadal_status copy_in_device(hadal_queue* queue, hadal_memory* to, uint64_t to_offset,
                            hadal_memory* from, uint64_t from_offset, uint64_t bytes,
                            hadal_error* error) {
  hadal_status s = check_range("copy", to, to_offset, bytes, true, error);
  if (s == HADAL_OK) s = check_range("copy", from, from_offset, bytes, false, error);
  if (s != HADAL_OK || bytes == 0) return s;
  return enqueue(
      queue, error,
      [target = memory_of(to)->data + to_offset, source = memory_of(from)->data + from_offset,
       bytes] { std::memmove(target, source, bytes); });
}

Memory::~Memory() {
  if (!owned) return;
  ::munmap(data, bytes);
  device->used -= bytes;
}

// Every queue holds a share: the last one to come by lets go.
void Device::release(std::shared_ptr<void> dead) noexcept {
  for (Queue* queue : queues) {
    try {
      queue->release(dead);
    } catch (...) {
      queue->wait();
    }
  }
}

uint64_t memory_total() {
  return static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

void fill_memory_functions(hadal_chip& chip) {
  chip.mem_alloc = mem_alloc;
  chip.mem_import = mem_import;
  chip.mem_free = mem_free;
  chip.mem_host = mem_host;
  chip.copy_in = copy_in;
  chip.copy_out = copy_out;
  chip.copy = copy_in_device;
  chip.fill = fill;
}

}  // namespace hadal::apart
