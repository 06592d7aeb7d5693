// A device of the cpu chip: its threads, its kernel table, and the memory that each worker works
// in.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "dispatch.h"
#include "hadal/chip.h"
#include "weights.h"

namespace hadal::cpu {

/// What a worker owns. `quants` holds activations that every worker quantises for itself when a
/// step has few rows.
struct Worker {
  int index = 0;
  uint8_t* temp = nullptr;
  uint8_t* quants = nullptr;
  int32_t quantised = -1;  ///< group of activations in `quants`
};

struct Device {
  Device(std::unique_ptr<ThreadPool> threads, const KernelTable& table)
      : pool(std::move(threads)),
        kernels(table),
        workers(static_cast<size_t>(pool->size())),
        memory(workers.size()) {}

  /// Gives every worker at least so many bytes; false if there is no memory left. The caller holds
  /// pool->lock().
  bool reserve(uint64_t temp_bytes, uint64_t quant_bytes);

  const std::unique_ptr<ThreadPool> pool;
  const KernelTable& kernels;
  std::vector<Worker> workers;
  std::vector<Mapping> memory;
  uint64_t temp_bytes = 0, quant_bytes = 0;
};

struct Queue {
  Device* device;
};

inline Device* device_of(hadal_device* d) { return reinterpret_cast<Device*>(d); }
inline Queue* queue_of(hadal_queue* q) { return reinterpret_cast<Queue*>(q); }

hadal_status device_info(const Device& device, hadal_device_info* out);
hadal_status measure(Device& device, double* read_bytes_per_second, double* int8_ops_per_second,
                     double* fp32_flops_per_second, hadal_error* error);

/// Shapes and dtypes that this chip takes; fills the workspace that op_run needs.
hadal_status query_op(const hadal_op& op, const hadal_tensor* tensors, const int64_t* limits,
                      uint64_t* workspace_bytes, hadal_error* error);

}  // namespace hadal::cpu
