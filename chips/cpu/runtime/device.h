// A device of the cpu chip: its threads, its kernel table, and the memory that each worker works
// in.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "hadal/chip.h"
#include "kernels/dispatch.h"
#include "runtime/weights.h"

namespace hadal::cpu {

struct Operator;

/// What a worker owns. `own` holds a derived value that every worker makes for itself when a step
/// has few rows.
struct Worker {
  int index = 0;
  uint8_t* temp = nullptr;
  uint8_t* own = nullptr;
  int32_t own_value = -1;  ///< which derived value is in `own`
};

struct Device {
  Device(std::shared_ptr<ThreadPool> threads, const KernelTable& table,
         std::span<const Operator* const> rows)
      : pool(std::move(threads)),
        kernels(table),
        operators(rows),
        workers(static_cast<size_t>(pool->size())),
        memory(workers.size()) {}

  /// Gives every worker at least so many bytes; false if there is no memory left. The caller holds
  /// pool->lock().
  bool reserve(uint64_t temp_bytes, uint64_t own_bytes);

  /// The row of an operator; null if this chip does not have it.
  [[nodiscard]] const Operator* find(uint32_t id) const {
    return id < operators.size() ? operators[id] : nullptr;
  }

  const std::shared_ptr<ThreadPool> pool;  ///< of all devices with as many threads
  const KernelTable& kernels;
  const std::span<const Operator* const> operators;  ///< by id
  bool exact = false;                                ///< activations are never rounded
  std::vector<Worker> workers;
  std::vector<Mapping> memory;
  uint64_t temp_bytes = 0, own_bytes = 0;
  bool from_disk = true;  ///< weights may have to be read: the last step had to, or is the first
};

struct Queue {
  Device* device;
};

inline Device* device_of(hadal_device* d) { return reinterpret_cast<Device*>(d); }
inline Queue* queue_of(hadal_queue* q) { return reinterpret_cast<Queue*>(q); }

hadal_status device_info(const Device& device, hadal_device_info* out);
hadal_status measure(Device& device, double* read_bytes_per_second, double* int8_ops_per_second,
                     double* fp32_flops_per_second, hadal_error* error);

}  // namespace hadal::cpu
