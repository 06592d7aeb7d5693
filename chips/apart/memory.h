// The device and its memories. A memory is no host memory to anybody outside: mem_host gives NULL.
// Inside it is a host_chip::Memory, so that operators of chips/ref can be compiled in.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "chip.h"
#include "common/host_chip.h"

namespace hadal::apart {

class Queue;
struct Comm;

struct Device {
  Kind kind = Kind::kHalf;
  std::vector<Queue*> queues;
  uint64_t memory = 0;                  ///< bytes that it has
  std::atomic<uint64_t> used{0};        ///< of them
  int64_t runs_left = -1;               ///< until it fails; -1: it does not
  std::optional<int64_t> stays_away;    ///< and cannot be opened again by this number
  int64_t runs_until_broken = -1;       ///< until queued work is told to be wrong; -1: never
  std::vector<uint32_t> row_buckets;    ///< as in hadal_device_info
  std::shared_ptr<Comm> comm;           ///< the last that was made
  std::atomic<bool> has_failed{false};  ///< it has failed: nothing works on it any more

  /// Lets `dead` go behind the work that is queued on any queue now.
  void release(std::shared_ptr<void> dead) noexcept;
};

struct Memory : host_chip::Memory {
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory();

  Device* device = nullptr;
  std::shared_ptr<Memory> self;  ///< what mem_free hands over: freeing needs no memory
};

inline Memory* memory_of(hadal_memory* m) { return static_cast<Memory*>(host_chip::memory(m)); }
inline Device* device_of(hadal_device* device) { return reinterpret_cast<Device*>(device); }

uint64_t memory_total();

/// `copy` of the table, whichever device of the process the memories are of.
hadal_status copy_in_device(hadal_queue* queue, hadal_memory* to, uint64_t to_offset,
                            hadal_memory* from, uint64_t from_offset, uint64_t bytes,
                            hadal_error* error);

/// mem_alloc … fill of the table.
void fill_memory_functions(hadal_chip& chip);

}  // namespace hadal::apart
