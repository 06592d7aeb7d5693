// A device: its context, its memory, its kernels, its queues.
//
// Queues are in order. What a kernel finds wrong in its indices it writes into the fault of the
// queue, and what was launched behind it does nothing; the host reads it before each copy and at
// queue_sync, so that copies behind a fault are dropped too. One thread at a time calls a device.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/chip.h"
#include "runtime/cl.h"
#include "runtime/options.h"

namespace hadal::opencl {

/// What failed in OpenCL, as text.
std::string failure(const char* what, cl_int status);
/// Whether memory was short, which may show only when a buffer is first used, or the device failed.
hadal_status status_of(cl_int status);

/// The devices of all platforms that have a compiler.
std::vector<cl_device_id> find_devices(const Functions& cl);

/// How often each kernel was launched, for the option `stats`.
class LaunchCounts {
 public:
  void launched(const char* kernel) { ++counts_[kernel]; }
  void stepped() { ++steps_; }
  /// Launches a step, and of which kernels; empty if there was no step.
  [[nodiscard]] std::string text() const;

 private:
  std::map<std::string_view, uint64_t> counts_;
  uint64_t steps_ = 0;
};

class Queue;

class Device {
 public:
  /// Null, and why, if the device cannot be used.
  static std::unique_ptr<Device> open(const Functions& cl, cl_device_id id, const Options& options,
                                      std::string* why);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /// The memory in which the operators of programs work, one for all: at least `bytes` from here
  /// on, until all that took it let go of it.
  cl_int take_workspace(uint64_t bytes);
  void let_go_of_workspace();
  /// For a program that runs on `queue`: what another queue does there is done before.
  cl_mem workspace_for(Queue& queue);
  void forget(const Queue& queue) {
    if (workspace_user_ == &queue) workspace_user_ = nullptr;
  }

  /// Compiles the file with the options `variant` at its first kernel. Null, and why.
  cl_kernel kernel(const std::string& file, const std::string& name, const std::string& variant,
                   std::string* why);

  /// One that nobody else sets the arguments of; the caller releases it.
  cl_kernel make_kernel(const std::string& file, const std::string& name,
                        const std::string& variant, std::string* why);

  const Functions& cl;
  LaunchCounts counts[2];  ///< by op_run, and by programs
  /// Tells the user; null unless the option `stats` is set.
  std::function<void(const std::string&)> tell;
  cl_device_id id = nullptr;
  cl_context context = nullptr;
  cl_command_queue uploads = nullptr;  ///< of weights that are made without a queue
  std::string name, version;
  std::string build_options = "-cl-std=CL1.2";  ///< of programs, unless their own name a language
  uint64_t memory_total = 0, largest_allocation = 0, local_memory = 0;
  uint64_t part_bytes = 0;  ///< of one buffer of a weight at most, if a row allows it
  uint64_t allocated = 0;
  [[nodiscard]] uint64_t memory_free() const {
    return memory_total - std::min(memory_total, allocated);
  }
  int32_t units = 1;

 private:
  explicit Device(const Functions& functions) : cl(functions) {}
  cl_program program(const std::string& file, const std::string& variant, std::string* why);

  cl_mem workspace_ = nullptr;
  uint64_t workspace_bytes_ = 0;
  int workspace_takers_ = 0;
  const Queue* workspace_user_ = nullptr;  ///< the queue of the last program
  std::map<std::string, cl_program> programs_;
  std::map<std::string, cl_kernel> kernels_;
};

struct Memory {
  Device* device = nullptr;
  cl_mem buffer = nullptr;              ///< null: imported
  const std::byte* imported = nullptr;  ///< host memory that is only copied from
  uint64_t bytes = 0;
};

class Queue {
 public:
  static std::unique_ptr<Queue> create(Device& device, std::string* why);
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  /// The number of a launch, by which a fault names its operator; 0: the kernel says which.
  cl_int next_launch(uint32_t op) {
    launches_.push_back(op);
    return static_cast<cl_int>(launches_.size());
  }
  /// Waits, and reads the fault. False if something went wrong since the last sync.
  bool settle();
  /// Waits; tells what went wrong since the last sync and forgets it.
  hadal_status sync(hadal_error* error);
  void fail(hadal_status status, const std::string& text);

  Device& device;
  cl_command_queue queue = nullptr;
  cl_mem fault = nullptr;

 private:
  explicit Queue(Device& of) : device(of) {}
  void clear_fault();

  std::vector<uint32_t> launches_;  ///< their operators, since the last settle()
  hadal_status status_ = HADAL_OK;
  std::string text_;
};

inline Device* device_of(hadal_device* d) { return reinterpret_cast<Device*>(d); }
inline Queue* queue_of(hadal_queue* q) { return reinterpret_cast<Queue*>(q); }
inline Memory* memory_of(hadal_memory* m) { return reinterpret_cast<Memory*>(m); }

}  // namespace hadal::opencl
