// The table of both stand-ins: the border that no exception crosses. Arguments are checked and
// copied here, on the caller's thread; the worker of the queue does the rest.
#include "chip.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <string>
#include <utility>

#include "base/cpu_info.h"
#include "contract/report.h"
#include "events.h"
#include "hadal/chip_parts.h"
#include "memory.h"
#include "operators.h"
#include "planes.h"
#include "queue.h"
#include "weights.h"

namespace hadal::apart {
namespace {

using contract::guarded;
using contract::report;

/// What hadal_chip.context is.
struct Chip {
  Kind kind;
  hadal_host host{};
};

const Chip& chip_of(const hadal_chip* chip) { return *static_cast<const Chip*>(chip->context); }

void close(hadal_chip* chip) {
  delete static_cast<Chip*>(chip->context);
  chip->context = nullptr;
}

int32_t device_count(hadal_chip*) { return 1; }

hadal_status check_options(const std::string& name, const char* kernels, int32_t index,
                           const hadal_device_options& options, hadal_error* error) {
  if (index != 0)
    return report(error, HADAL_INVALID,
                  name + " has one device, number 0, not number " + std::to_string(index));
  if (options.threads < 0 || options.threads > 1024)
    return report(error, HADAL_INVALID, "threads must be between 0 (automatic) and 1024");
  if (options.kernels && std::string(options.kernels) != kernels)
    return report(
        error, HADAL_UNSUPPORTED,
        name + " has the kernel table \"" + kernels + "\", not \"" + options.kernels + "\"");
  return HADAL_OK;
}

/// Devices that failed with the option stays-away, by its number: they do not come back in this
/// process.
class Gone {
 public:
  static bool has(int64_t number) {
    const std::lock_guard lock(mutex_);
    return numbers_.contains(number);
  }
  static void add(int64_t number) {
    const std::lock_guard lock(mutex_);
    numbers_.insert(number);
  }

 private:
  static inline std::mutex mutex_;
  static inline std::set<int64_t> numbers_;
};

/// One device of the process has done wrong by the option break-at-run: the others go on.
std::atomic<bool>& broken() {
  static std::atomic<bool> is_broken{false};
  return is_broken;
}

/// "8+32": 8 and 32.
std::vector<uint32_t> numbers(const char* text) {
  std::vector<uint32_t> found;
  for (char* end = nullptr;; text = end + 1) {
    found.push_back(static_cast<uint32_t>(std::strtoul(text, &end, 10)));
    if (*end != '+' || found.size() == std::size(hadal_device_info{}.row_buckets)) return found;
  }
}

/// What a test asks of the device: less memory, a failure, and that it stays away after that.
hadal_status take_options(Device& device, const std::string& name,
                          const hadal_device_options& options, hadal_error* error) {
  device.memory = memory_total();
  for (uint32_t i = 0; i < options.option_count; ++i) {
    const std::string option = options.option_names[i];
    const int64_t value = std::atoll(options.option_values[i]);
    if (option == "memory-mib") {
      device.memory = static_cast<uint64_t>(value) << 20;
    } else if (option == "fail-at-run") {
      device.runs_left = value;
    } else if (option == "row-buckets") {
      device.row_buckets = numbers(options.option_values[i]);
    } else if (option == "break-at-run") {
      device.runs_until_broken = value;
    } else if (option == "stays-away") {
      if (Gone::has(value)) return report(error, HADAL_DEVICE_FAILED, name + " does not answer");
      device.stays_away = value;
    } else {
      return report(error, HADAL_INVALID,
                    name +
                        " has the options memory-mib, row-buckets, fail-at-run, stays-away and "
                        "break-at-run, not \"" +
                        option + "\"");
    }
  }
  return HADAL_OK;
}

hadal_status device_open(hadal_chip* chip, int32_t index, const hadal_device_options* options,
                         hadal_device** out, hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    const auto& [kind, host] = chip_of(chip);
    const std::string name = chip_name(kind);
    if (const hadal_status s =
            check_options(name, kernels_name(kind), index, contract::read_sized(options), error);
        s != HADAL_OK)
      return s;
    auto device = std::make_unique<Device>();
    device->kind = kind;
    if (const hadal_status s = take_options(*device, name, contract::read_sized(options), error);
        s != HADAL_OK)
      return s;
    if (host.log)
      host.log(host.context, HADAL_LOG_INFO,
               (name + ": device 0 opened, with memory of its own and a worker a queue").c_str());
    *out = reinterpret_cast<hadal_device*>(device.release());
    return HADAL_OK;
  });
}

void device_close(hadal_device* device) { delete device_of(device); }

template <size_t N>
void put(char (&to)[N], const std::string& from) {
  std::memcpy(to, from.c_str(), std::min(from.size(), N - 1));
}

hadal_status device_info(hadal_device* device, hadal_device_info* out) {
  return guarded(nullptr, [&] {
    const Kind kind = device_of(device)->kind;
    hadal_device_info info{};
    info.threads = 1;
    put(info.name, std::string(chip_name(kind)) + " (stand-in for an accelerator)");
    put(info.kernels, kernels_name(kind));
    put(info.all_kernels, kernels_name(kind));
    const Device& own = *device_of(device);
    info.memory_total = own.memory;
    info.memory_free = std::min(available_memory(), own.memory - own.used);
    info.row_invariant = kind == Kind::kHalf ? 1 : 0;
    info.alignment = kAlignment;
    info.kernels_version = 1;
    info.largest_allocation = info.memory_total;
    std::copy(own.row_buckets.begin(), own.row_buckets.end(), info.row_buckets);
    contract::copy_sized(out, info);
    return HADAL_OK;
  });
}

hadal_status queue_create(hadal_device* device, hadal_queue** out, hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    auto queue = std::make_unique<Queue>(*device_of(device));
    device_of(device)->queues.push_back(queue.get());
    *out = reinterpret_cast<hadal_queue*>(queue.release());
    return HADAL_OK;
  });
}

void queue_destroy(hadal_queue* handle) {
  if (!handle) return;
  const std::unique_ptr<Queue> queue(queue_of(handle));
  std::erase(queue->device().queues, queue.get());
}

hadal_status queue_sync(hadal_queue* queue, hadal_error* error) {
  return guarded(error, [&] { return queue_of(queue)->sync(error); });
}

hadal_status bytes_of_weight(hadal_device* device, const hadal_weight_desc* desc, uint64_t* bytes,
                             hadal_error* error) {
  return guarded(error, [&] {
    return weight_bytes(device_of(device)->kind, contract::read_sized(desc), bytes, error);
  });
}

hadal_status weight_create(hadal_device* device, const hadal_weight_desc* desc,
                           const hadal_piece* pieces, uint32_t count, hadal_weight** out,
                           hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    return create_weight(*device_of(device), nullptr, contract::read_sized(desc), pieces, count,
                         out, error);
  });
}

hadal_status weight_create_on(hadal_queue* queue, const hadal_weight_desc* desc,
                              const hadal_piece* pieces, uint32_t count, hadal_weight** out,
                              hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    return create_weight(queue_of(queue)->device(), queue_of(queue), contract::read_sized(desc),
                         pieces, count, out, error);
  });
}

hadal_status forms_of_weight(hadal_device* device, uint32_t use, hadal_weight_form* forms,
                             uint32_t* count, hadal_error* error) {
  if (use != HADAL_USE_MATMUL && use != HADAL_USE_GATHER && use != HADAL_USE_VECTOR)
    return report(error, HADAL_INVALID, "weight_forms: a use is one bit");
  weight_forms(device_of(device)->kind, use, forms, count);
  return HADAL_OK;
}

hadal_status plane_bytes(hadal_device* device, const hadal_plane_desc* given, uint64_t* bytes,
                         hadal_error* error) {
  return guarded(error, [&] {
    const hadal_plane_desc desc = contract::read_sized(given);
    *bytes = block_bytes(desc.dtype, desc.slots, desc.width);
    if (*bytes != 0) return HADAL_OK;
    return report(error, HADAL_UNSUPPORTED,
                  std::string(chip_name(device_of(device)->kind)) +
                      " keeps planes in F32, F16 or BF16, with a slot and a number at least");
  });
}

hadal_status op_support(hadal_device* device, const hadal_op* op, const hadal_tensor* tensors,
                        const int64_t*, hadal_op_answer* out, hadal_error* error) {
  return guarded(error, [&] {
    const Kind kind = device_of(device)->kind;
    if (const hadal_status s = check_support(kind, *op, tensors, error); s != HADAL_OK) return s;
    hadal_op_answer answer{};
    answer.numerics = numerics_of(kind, op->id);
    contract::copy_sized(out, answer);
    return HADAL_OK;
  });
}

hadal_status op_query(hadal_device* device, const hadal_op* op, const hadal_tensor* tensors,
                      const int64_t*, uint64_t* workspace_bytes, hadal_error* error) {
  *workspace_bytes = 0;
  return guarded(error,
                 [&] { return check_support(device_of(device)->kind, *op, tensors, error); });
}

/// A device that asked for certain counts of rows gets them, but for operators one by one.
hadal_status check_filled(const Device& device, const hadal_tape& tape, const hadal_step& step,
                          bool of_a_model, hadal_error* error) {
  const int64_t rows = step.rows[HADAL_DIM_T], most = tape.limits[HADAL_DIM_T];
  const std::vector<uint32_t>& buckets = device.row_buckets;
  const auto bucket = std::find_if(buckets.begin(), buckets.end(),
                                   [rows](uint32_t count) { return count >= rows; });
  if (!of_a_model || rows == 0 || bucket == buckets.end() ||
      rows == std::min<int64_t>(*bucket, most))
    return HADAL_OK;
  return report(error, HADAL_INVALID,
                "op_run: a step of " + std::to_string(rows) + " rows was not filled up to " +
                    std::to_string(*bucket));
}

hadal_status op_run(hadal_queue* queue, const hadal_tape* given_tape, uint32_t first,
                    uint32_t count, const hadal_step* given_step, hadal_error* error) {
  return guarded(error, [&] {
    const hadal_tape tape = contract::read_sized(given_tape);
    const hadal_step step = contract::read_sized(given_step);
    HADAL_OR_RETURN(hadal_check_step(&tape, first, count, &step, error));
    Device& device = queue_of(queue)->device();
    const bool of_a_model = count > 1;  // the host's self-test runs operators one by one
    if (device.runs_left == 0 && of_a_model) {
      device.has_failed = true;
      if (device.comm) leave(*device.comm);
      if (device.stays_away) Gone::add(*device.stays_away);
    }
    if (device.has_failed) return report(error, HADAL_DEVICE_FAILED, kFellOff);
    if (device.runs_left > 0 && of_a_model) --device.runs_left;
    if (const hadal_status s = check_filled(device, tape, step, of_a_model, error); s != HADAL_OK)
      return s;
    std::vector<Launch> launches(count);
    for (uint32_t i = 0; i < count; ++i)
      if (const hadal_status s =
              prepare(device, tape, tape.ops[first + i], step, &launches[i], error);
          s != HADAL_OK)
        return s;
    const bool filled = !device.row_buckets.empty();
    if (of_a_model && device.runs_until_broken >= 0 && device.runs_until_broken-- == 0 &&
        !broken().exchange(true))
      queue_of(queue)->push([](hadal_error* why) {
        return report(why, HADAL_INVALID, "broken on purpose (--chip-option break-at-run)");
      });
    queue_of(queue)->push(
        [launches = std::move(launches), filled, stop = step.stop](hadal_error* why) {
          for (const Launch& launch : launches) {
            if (stop && __atomic_load_n(stop, __ATOMIC_RELAXED) != 0)
              return report(why, HADAL_STOPPED, "stopped");
            if (const hadal_status s = run(launch, filled, why); s != HADAL_OK) return s;
          }
          return HADAL_OK;
        });
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
  chip.op_support = op_support;
  chip.weight_forms = forms_of_weight;
  chip.weight_create_on = weight_create_on;
  chip.plane_bytes = plane_bytes;
  chip.events = &kEvents;
  chip.comm = &kComm;
}

}  // namespace

hadal_status query(Kind kind, const hadal_host* host, uint32_t abi, hadal_chip* out) {
  const hadal_host known = contract::read_sized(host);
  return guarded(known.query_error, [&] {
    if (abi >> 16 != HADAL_ABI_MAJOR)
      return report(known.query_error, HADAL_UNSUPPORTED,
                    std::string(chip_name(kind)) + " was built for contract " +
                        std::to_string(HADAL_ABI_MAJOR) + "." + std::to_string(HADAL_ABI_MINOR) +
                        ", the host speaks " + std::to_string(abi >> 16) + "." +
                        std::to_string(abi & 0xffff));
    hadal_chip chip{};
    chip.abi = std::min(abi, HADAL_ABI);
    put(chip.name, chip_name(kind));
    fill_table(chip);
    chip.context = new Chip{kind, known};
    contract::copy_sized(out, chip);
    return HADAL_OK;
  });
}

}  // namespace hadal::apart
