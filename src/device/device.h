// Devices: the host side of the chip contract. RAII over chip.h; every failure of a chip becomes an
// Error with its text.
//
// Owns the chip's table, one open device and one queue. Refuses chips of another ABI and devices
// that lack a mandatory function. Called by ops/ (sinks), engine/ (weights, steps) and the programs
// (`chips`).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "contract/operators.h"
#include "hadal/chip.h"

namespace hadal {

/// Error from a chip's status and text; `what` says what was asked of it.
Error chip_error(std::string_view chip, std::string_view what, hadal_status status,
                 const hadal_error& error);

struct DeviceOptions {
  std::string chip =
      "cpu";          ///< a built-in chip ("ref", "cpu") or the path of a plug-in (contains a '/')
  int32_t index = 0;  ///< which of the chip's devices
  int32_t threads = 0;  ///< 0: the chip chooses
  std::string kernels;  ///< a kernel table by name; "": the best
  bool exact = false;   ///< the exact form of every operator that has one
  std::vector<std::pair<std::string, std::string>>
      chip_options;  ///< names and values, the chip's own
  /// Where plug-ins are looked for that are given by name (plugins.h); none: by path alone.
  std::vector<std::filesystem::path> plugin_folders = {};
  /// Told what the chip logs from WARNING on, a line each; may be called by the chip's threads.
  std::function<void(std::string_view line)> log = {};
};

/// Names of the chips that are compiled in.
std::span<const std::string_view> builtin_chips();

class Device;

/// What a device gives out by a handle and takes back. Move-only; must not outlive its device.
template <typename Handle, void (*Free)(const hadal_chip&, Handle*)>
class DeviceHandle {
 public:
  DeviceHandle() = default;
  DeviceHandle(DeviceHandle&& other) noexcept { *this = std::move(other); }
  DeviceHandle& operator=(DeviceHandle&& other) noexcept {
    if (this != &other) {
      reset();
      device_ = std::exchange(other.device_, nullptr);
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  ~DeviceHandle() { reset(); }
  void reset();
  [[nodiscard]] Handle* get() const { return handle_; }
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  friend class Device;
  const Device* device_ = nullptr;
  Handle* handle_ = nullptr;
};

namespace handles {
inline void free(const hadal_chip& chip, hadal_memory* memory) { chip.mem_free(memory); }
inline void free(const hadal_chip& chip, hadal_weight* weight) { chip.weight_destroy(weight); }
inline void free(const hadal_chip& chip, hadal_program* program) { chip.program->destroy(program); }
inline void free(const hadal_chip& chip, hadal_event* event) { chip.events->destroy(event); }
inline void free(const hadal_chip& chip, hadal_comm* comm) { chip.comm->destroy(comm); }
}  // namespace handles

using DeviceMemory = DeviceHandle<hadal_memory, handles::free>;
/// A weight as the chip holds it.
using DeviceWeight = DeviceHandle<hadal_weight, handles::free>;
/// A prepared tape of a chip that has the program table.
using DeviceProgram = DeviceHandle<hadal_program, handles::free>;
/// A point of a queue for which another one waits, of a chip that has the table of events.
using DeviceEvent = DeviceHandle<hadal_event, handles::free>;
/// A device's way to those of the other ranks, of a chip that has the table comm.
using DeviceComm = DeviceHandle<hadal_comm, handles::free>;

/// Host memory for copies. Must not outlive its device.
using HostBuffer = std::unique_ptr<std::byte[], std::function<void(std::byte*)>>;

/// The class of numerics in which a chip computes an operator.
struct Numerics {
  hadal_numerics numerics = HADAL_NUMERICS_UNSAID;
  uint32_t block = 0;  ///< block8: values that share a scale
  [[nodiscard]] std::string name() const { return contract::numerics_name(numerics, block); }
};
/// The verdict of a chip on one operator.
struct OpSupport {
  bool supported = false;
  uint64_t workspace_bytes = 0;
  Numerics numerics;
  std::string reason;  ///< of a no
};

class Device {
 public:
  static Result<std::unique_ptr<Device>> open(const DeviceOptions& options);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  [[nodiscard]] const hadal_device_info& info() const { return info_; }
  [[nodiscard]] std::string_view chip_name() const { return chip_.name; }
  /// How many devices the chip has; this one is number DeviceOptions::index.
  [[nodiscard]] int32_t device_count() const { return chip_.device_count(&chip_); }
  /// The contract that the chip and we speak: major << 16 | minor.
  [[nodiscard]] uint32_t contract() const { return chip_.abi; }
  /// Threads of the host that may work for this device: the user's number, else all.
  [[nodiscard]] int host_threads() const;
  /// The device failed: nothing on it can be used any more.
  [[nodiscard]] bool lost() const { return lost_; }
  /// The user asked for exact numerics.
  [[nodiscard]] bool asked_exact() const { return options_.exact; }
  /// With how many rows of tokens a step of so many is run: the next count that the device asks for
  /// (hadal_device_info.row_buckets), at most `limit`.
  [[nodiscard]] int64_t filled_rows(int64_t rows, int64_t limit) const;
  /// copy_in has read its source when it returns: said from contract 1.1 on.
  [[nodiscard]] bool copies_at_once() const { return (chip_.abi & 0xffff) >= 1; }

  Result<DeviceMemory> allocate(uint64_t bytes) const;
  /// Host memory that the chip may read in place; it must outlive the result.
  Result<DeviceMemory> import(std::span<const std::byte> data) const;
  Status copy_in(const DeviceMemory& to, uint64_t offset, std::span<const std::byte> from) const;
  /// `to` is written when sync() returns, not before.
  Status copy_out(std::span<std::byte> to, const DeviceMemory& from, uint64_t offset) const;
  Status copy(const DeviceMemory& to, uint64_t to_offset, const DeviceMemory& from,
              uint64_t from_offset, uint64_t bytes) const;
  Status sync() const;

  /// Bytes beside the source, or an error with kFailed when the chip does not take the format.
  Result<uint64_t> weight_bytes(const hadal_weight_desc& desc) const;
  /// The forms that the chip takes for a use (one HADAL_USE_… bit), the one that it likes best
  /// first. A chip of 1.0 does not say: F32.
  [[nodiscard]] std::vector<hadal_weight_form> weight_forms(uint32_t use) const;
  /// The upload may go on after the call; pieces with keeps_source = 0 may die when it returns.
  Result<DeviceWeight> create_weight(const hadal_weight_desc& desc,
                                     std::span<const hadal_piece> pieces) const;

  /// Bytes of a block of a plane.
  Result<uint64_t> plane_block_bytes(const hadal_plane_desc& desc) const;
  /// Offsets in memories are multiples of it: the larger of 64 and what the device asks.
  [[nodiscard]] uint64_t alignment() const;

  OpSupport query(const hadal_op& op, std::span<const hadal_tensor> tensors,
                  const int64_t* limits) const;
  Status run_ops(const hadal_tape& tape, uint32_t first, uint32_t count,
                 const hadal_step& step) const;

  [[nodiscard]] bool has_program() const { return chip_.program != nullptr; }
  /// The tape must outlive the program.
  Result<DeviceProgram> prepare(const hadal_tape& tape) const;
  /// An Error with kInterrupted if the stop flag was seen.
  Status run_program(const DeviceProgram& program, const hadal_step& step) const;

  [[nodiscard]] bool has_events() const { return chip_.events != nullptr; }
  Result<DeviceEvent> make_event() const;
  /// What is queued behind this waits for what `other` has queued by now; the host does not.
  Status wait_for(const Device& other, const DeviceEvent& event) const;
  /// copy_from_peer can be called.
  [[nodiscard]] bool is_peer(const Device& other) const;
  /// Queued here, from a memory of a peer.
  Status copy_from_peer(const DeviceMemory& to, uint64_t to_offset, const DeviceMemory& from,
                        uint64_t from_offset, uint64_t bytes) const;

  /// From which copies are fastest: pinned, where the chip gives such memory.
  [[nodiscard]] HostBuffer host_buffer(uint64_t bytes) const;

  [[nodiscard]] bool has_comm() const { return chip_.comm != nullptr; }
  /// Rank 0 makes an id, and all join by it: returns when every rank has come.
  Result<hadal_comm_id> make_comm_id() const;
  Result<DeviceComm> join(const hadal_comm_id& id, int64_t rank, int64_t ranks) const;

  struct Peaks {
    double read_bytes_per_second = 0, int8_ops_per_second = 0, fp32_flops_per_second = 0;
  };
  [[nodiscard]] bool has_profile() const { return chip_.profile != nullptr; }
  Result<Peaks> measure() const;

 private:
  template <typename Handle, void (*Free)(const hadal_chip&, Handle*)>
  friend class DeviceHandle;
  Device() = default;
  [[nodiscard]] Status check(hadal_status status, const hadal_error& error,
                             std::string_view what) const;
  [[nodiscard]] Status check_handle(const void* handle, std::string_view what) const;
  /// What a call of the chip that gives a handle gave.
  template <typename Wrapper, typename Call>
  Result<Wrapper> given(std::string_view what, const Call& call) const;

  mutable bool lost_ = false;
  hadal_chip_query_fn query_ = nullptr;
  DeviceOptions options_;
  hadal_error query_error_{};
  hadal_host host_{};
  mutable hadal_chip chip_{};
  hadal_device* device_ = nullptr;
  hadal_queue* queue_ = nullptr;
  hadal_device_info info_{};
};

template <typename Handle, void (*Free)(const hadal_chip&, Handle*)>
void DeviceHandle<Handle, Free>::reset() {
  if (handle_) Free(device_->chip_, handle_);
  handle_ = nullptr;
}

}  // namespace hadal
