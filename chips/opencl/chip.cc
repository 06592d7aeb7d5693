// The table of the chip `opencl`: the border that no exception crosses.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>

#include "contract/operators.h"
#include "contract/report.h"
#include "hadal/chip_parts.h"
#include "ops/operators.h"
#include "program/program.h"
#include "runtime/events.h"
#include "runtime/memory.h"
#include "runtime/profile.h"

namespace hadal::opencl {
namespace {

using contract::guarded;
using contract::report;

constexpr const char* kTable = "portable";
constexpr uint64_t kAlignment = 64;
/// After so many operators the stop flag is looked at with the device idle.
constexpr uint32_t kOperatorsOfARun = 32;

/// What hadal_chip.context is.
struct Chip {
  hadal_host host{};
  const Functions* cl = nullptr;
  std::string why;  ///< there is no cl
  std::vector<cl_device_id> devices;
};

const Chip& chip_of(const hadal_chip* chip) { return *static_cast<const Chip*>(chip->context); }

void close(hadal_chip* chip) {
  delete static_cast<Chip*>(chip->context);
  chip->context = nullptr;
}

int32_t device_count(hadal_chip* chip) {
  return static_cast<int32_t>(chip_of(chip).devices.size());
}

hadal_status device_open(hadal_chip* handle, int32_t index, const hadal_device_options* given,
                         hadal_device** out, hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    const Chip& chip = chip_of(handle);
    const hadal_device_options options = contract::read_sized(given);
    if (!chip.cl) return report(error, HADAL_UNSUPPORTED, "opencl: " + chip.why);
    if (index < 0 || index >= device_count(handle))
      return report(error, HADAL_INVALID,
                    "opencl has " + std::to_string(chip.devices.size()) +
                        " devices, counted from 0, not a number " + std::to_string(index) +
                        "; `clinfo` lists them");
    if (options.threads < 0 || options.threads > 1024)
      return report(error, HADAL_INVALID, "threads must be between 0 (automatic) and 1024");
    if (options.kernels && std::string(options.kernels) != kTable)
      return report(error, HADAL_UNSUPPORTED,
                    std::string("opencl has the kernel table \"") + kTable + "\", not \"" +
                        options.kernels + "\"");
    std::string why;
    Options own;
    for (uint32_t i = 0; i < options.option_count && why.empty(); ++i)
      why = own.set(options.option_names[i], options.option_values[i]);
    if (!why.empty()) return report(error, HADAL_INVALID, why);
    std::unique_ptr<Device> device =
        Device::open(*chip.cl, chip.devices[static_cast<size_t>(index)], own, &why);
    if (!device) return report(error, HADAL_DEVICE_FAILED, "opencl: " + why);
    if (own.stats && chip.host.log)
      device->tell = [host = chip.host](const std::string& text) {
        host.log(host.context, HADAL_LOG_WARNING, ("opencl: " + text).c_str());
      };
    *out = reinterpret_cast<hadal_device*>(device.release());
    return HADAL_OK;
  });
}

void device_close(hadal_device* handle) {
  const std::unique_ptr<Device> device(device_of(handle));
  if (!device || !device->tell) return;
  constexpr const char* kHow[] = {"op_run: ", "programs: "};
  for (size_t i = 0; i < 2; ++i)
    if (const std::string text = device->counts[i].text(); !text.empty())
      device->tell(kHow[i] + text);
}

template <size_t N>
void put(char (&to)[N], const std::string& from) {
  std::memcpy(to, from.c_str(), std::min(from.size(), N - 1));
}

hadal_status device_info(hadal_device* handle, hadal_device_info* out) {
  return guarded(nullptr, [&] {
    const Device& device = *device_of(handle);
    hadal_device_info info{};
    info.threads = device.units;
    put(info.name, device.name);
    put(info.kernels, kTable);
    put(info.all_kernels, kTable);
    put(info.instruction_sets, device.version);
    info.memory_total = device.memory_total;
    info.memory_free = device.memory_free();
    info.row_invariant = 1;
    info.alignment = kAlignment;
    info.kernels_version = 1;
    info.largest_allocation = device.largest_allocation;
    contract::copy_sized(out, info);
    return HADAL_OK;
  });
}

hadal_status queue_create(hadal_device* device, hadal_queue** out, hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    std::string why;
    std::unique_ptr<Queue> queue = Queue::create(*device_of(device), &why);
    if (!queue) return report(error, HADAL_DEVICE_FAILED, "opencl: " + why);
    *out = reinterpret_cast<hadal_queue*>(queue.release());
    return HADAL_OK;
  });
}

void queue_destroy(hadal_queue* queue) { delete queue_of(queue); }

hadal_status queue_sync(hadal_queue* queue, hadal_error* error) {
  return guarded(error, [&] { return queue_of(queue)->sync(error); });
}

hadal_status bytes_of_weight(hadal_device* device, const hadal_weight_desc* desc, uint64_t* bytes,
                             hadal_error* error) {
  return guarded(error, [&] {
    return weight_bytes(*device_of(device), contract::read_sized(desc), bytes, error);
  });
}

hadal_status weight_create(hadal_device* device, const hadal_weight_desc* desc,
                           const hadal_piece* pieces, uint32_t count, hadal_weight** out,
                           hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    return create_weight(*device_of(device), contract::read_sized(desc), pieces, count, out, error);
  });
}

hadal_status forms_of_weight(hadal_device*, uint32_t use, hadal_weight_form* forms, uint32_t* count,
                             hadal_error* error) {
  if (use != HADAL_USE_MATMUL && use != HADAL_USE_GATHER && use != HADAL_USE_VECTOR)
    return report(error, HADAL_INVALID, "weight_forms: a use is one bit");
  weight_forms(use, forms, count);
  return HADAL_OK;
}

hadal_status op_query(hadal_device*, const hadal_op* op, const hadal_tensor* tensors,
                      const int64_t* limits, uint64_t* workspace_bytes, hadal_error* error) {
  *workspace_bytes = 0;
  return guarded(error, [&] {
    if (const hadal_status s = check_support(*op, tensors, error); s != HADAL_OK) return s;
    const Operator& known = *find_operator(op->id);
    if (known.workspace) *workspace_bytes = known.workspace(*op, tensors, limits);
    return HADAL_OK;
  });
}

hadal_status op_support(hadal_device* device, const hadal_op* op, const hadal_tensor* tensors,
                        const int64_t* limits, hadal_op_answer* out, hadal_error* error) {
  hadal_op_answer answer{};
  const hadal_status s = op_query(device, op, tensors, limits, &answer.workspace_bytes, error);
  if (s != HADAL_OK) return s;
  answer.numerics = HADAL_NUMERICS_EXACT;
  contract::copy_sized(out, answer);
  return HADAL_OK;
}

hadal_status op_run(hadal_queue* handle, const hadal_tape* given_tape, uint32_t first,
                    uint32_t count, const hadal_step* given_step, hadal_error* error) {
  return guarded(error, [&] {
    const hadal_tape tape = contract::read_sized(given_tape);
    const hadal_step step = contract::read_sized(given_step);
    Queue& queue = *queue_of(handle);
    HADAL_OR_RETURN(hadal_check_step(&tape, first, count, &step, error));
    queue.device.counts[0].stepped();
    for (uint32_t i = 0; i < count; ++i) {
      if (step.stop && i % kOperatorsOfARun == 0) {
        if (i > 0) queue.settle();
        if (__atomic_load_n(step.stop, __ATOMIC_RELAXED) != 0) {
          queue.fail(HADAL_STOPPED, "stopped");
          return queue.sync(error);
        }
      }
      if (const hadal_status s = run_operator(queue, tape, tape.ops[first + i], step, error);
          s != HADAL_OK)
        return s;
    }
    queue.device.cl.clFlush(queue.queue);
    return HADAL_OK;
  });
}

void fill_table(hadal_chip& chip) {
  chip.close = close;
  chip.device_count = device_count;
  chip.device_open = device_open;
  chip.device_close = device_close;
  chip.device_info = device_info;
  fill_memory_functions(chip);
  chip.queue_create = queue_create;
  chip.queue_destroy = queue_destroy;
  chip.queue_sync = queue_sync;
  chip.weight_bytes = bytes_of_weight;
  chip.weight_create = weight_create;
  chip.weight_destroy = weight_destroy;
  chip.op_query = op_query;
  chip.op_run = op_run;
  chip.program = &kProgramTable;
  chip.profile = &kProfileTable;
  chip.events = &kEventsTable;
  chip.op_support = op_support;
  chip.weight_forms = forms_of_weight;
}

}  // namespace
}  // namespace hadal::opencl

extern "C" __attribute__((visibility("default"))) hadal_status
hadal_chip_query(const hadal_host* host, uint32_t abi, hadal_chip* out) {
  using namespace hadal;
  const hadal_host known = contract::read_sized(host);
  return contract::guarded(known.query_error, [&] {
    if (abi >> 16 != HADAL_ABI_MAJOR)
      return contract::report(known.query_error, HADAL_UNSUPPORTED,
                              "opencl was built for contract " + std::to_string(HADAL_ABI_MAJOR) +
                                  ", the host speaks " + std::to_string(abi >> 16));
    auto context = std::make_unique<opencl::Chip>();
    context->host = known;
    context->cl = opencl::find_functions(&context->why);
    if (context->cl) context->devices = opencl::find_devices(*context->cl);
    if (!context->cl && known.log)
      known.log(known.context, HADAL_LOG_INFO, ("opencl: " + context->why).c_str());
    hadal_chip chip{};
    chip.abi = std::min(abi, HADAL_ABI);
    opencl::put(chip.name, "opencl");
    opencl::fill_table(chip);
    chip.context = context.release();
    contract::copy_sized(out, chip);
    return HADAL_OK;
  });
}
