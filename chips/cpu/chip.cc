// The table of the chip `cpu`: the border that no exception crosses.
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "base/builtin_chips.h"
#include "base/cpu_info.h"
#include "common/host_chip.h"
#include "contract/report.h"
#include "ops/operators.h"
#include "runtime/plan.h"

namespace hadal::cpu {
namespace {

using contract::guarded;
using contract::report;

int32_t device_count(hadal_chip*) { return 1; }

hadal_status device_open(hadal_chip*, int32_t index, const hadal_device_options* given,
                         hadal_device** out, hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    if (index != 0)
      return report(error, HADAL_INVALID,
                    "cpu has one device, number 0, not number " + std::to_string(index));
    const hadal_device_options options = contract::read_sized(given);
    if (options.threads < 0 || options.threads > 1024)
      return report(error, HADAL_INVALID, "threads must be between 0 (automatic) and 1024");
    const std::string name = options.kernels ? options.kernels : "";
    const KernelTable* table = find_table(name);
    if (!table) {
      std::string all;
      for (const KernelTable* t : runnable_tables())
        all += (all.empty() ? "" : ", ") + std::string(t->name);
      return report(error, HADAL_UNSUPPORTED,
                    "this machine cannot run kernels \"" + name + "\"; it can run: " + all);
    }
    const int threads = options.threads > 0 ? options.threads : available_processors();
    auto pool = ThreadPool::shared(threads);
    if (!pool) return report(error, HADAL_OUT_OF_MEMORY, pool.error().message);
    if (options.option_count != 0)
      return report(error, HADAL_INVALID,
                    "cpu has no option \"" + std::string(options.option_names[0]) + "\"");
    auto device = std::make_unique<Device>(*std::move(pool), *table, operators());
    device->exact = options.numerics == HADAL_NUMERICS_EXACT;
    *out = reinterpret_cast<hadal_device*>(device.release());
    return HADAL_OK;
  });
}

void device_close(hadal_device* device) { delete device_of(device); }

hadal_status info_of(hadal_device* device, hadal_device_info* out) {
  return guarded(nullptr, [&] { return device_info(*device_of(device), out); });
}

hadal_status queue_create(hadal_device* device, hadal_queue** out, hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    *out = reinterpret_cast<hadal_queue*>(new Queue{device_of(device)});
    return HADAL_OK;
  });
}
void queue_destroy(hadal_queue* queue) { delete queue_of(queue); }
hadal_status queue_sync(hadal_queue*, hadal_error*) { return HADAL_OK; }

hadal_status bytes_of_weight(hadal_device*, const hadal_weight_desc* desc, uint64_t* bytes,
                             hadal_error* error) {
  return guarded(error, [&] { return weight_bytes(contract::read_sized(desc), bytes, error); });
}

hadal_status create_weight(hadal_device* device, const hadal_weight_desc* desc,
                           const hadal_piece* pieces, uint32_t count, hadal_weight** out,
                           hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    Weight* w = nullptr;
    const hadal_status status = weight_create(contract::read_sized(desc), device_of(device)->exact,
                                              pieces, count, &w, error);
    *out = reinterpret_cast<hadal_weight*>(w);
    return status;
  });
}
void weight_destroy(hadal_weight* w) { delete weight_of(w); }

hadal_status op_support(hadal_device* device, const hadal_op* op, const hadal_tensor* tensors,
                        const int64_t* limits, hadal_op_answer* out, hadal_error* error) {
  return guarded(error, [&] {
    const Device& d = *device_of(device);
    Needs needs;
    const hadal_status s = query_op(d, {*op, tensors, limits, d.exact}, &needs, error);
    hadal_op_answer answer{};
    answer.workspace_bytes = needs.workspace;
    answer.numerics = needs.block8 ? HADAL_NUMERICS_BLOCK8 : HADAL_NUMERICS_EXACT;
    answer.block = needs.block8 ? kBlock : 0;
    contract::copy_sized(out, answer);
    return s;
  });
}

hadal_status op_query(hadal_device* device, const hadal_op* op, const hadal_tensor* tensors,
                      const int64_t* limits, uint64_t* workspace_bytes, hadal_error* error) {
  hadal_op_answer answer{};
  answer.size = sizeof answer;
  const hadal_status s = op_support(device, op, tensors, limits, &answer, error);
  *workspace_bytes = answer.workspace_bytes;
  return s;
}

hadal_status op_run(hadal_queue* queue, const hadal_tape* tape, uint32_t first, uint32_t count,
                    const hadal_step* step, hadal_error* error) {
  return guarded(error, [&] {
    std::unique_ptr<Plan> plan;
    if (const hadal_status s =
            Plan::make(*queue_of(queue)->device, *tape, first, count, true, &plan, error);
        s != HADAL_OK)
      return s;
    return plan->run(*step, error);
  });
}

hadal_status prepare(hadal_device* device, const hadal_tape* tape, hadal_program** out,
                     hadal_error* error) {
  *out = nullptr;
  return guarded(error, [&] {
    std::unique_ptr<Plan> plan;
    const hadal_status s =
        Plan::make(*device_of(device), *tape, 0, tape->op_count, false, &plan, error);
    *out = reinterpret_cast<hadal_program*>(plan.release());
    return s;
  });
}
hadal_status run_program(hadal_program* program, hadal_queue*, const hadal_step* step,
                         hadal_error* error) {
  return guarded(error, [&] { return reinterpret_cast<Plan*>(program)->run(*step, error); });
}
void destroy_program(hadal_program* program) { delete reinterpret_cast<Plan*>(program); }

hadal_status measure_peaks(hadal_device* device, double* bytes, double* int8, double* fp32,
                           hadal_error* error) {
  return guarded(error, [&] { return measure(*device_of(device), bytes, int8, fp32, error); });
}

void close(hadal_chip*) {}

constexpr hadal_program_table kProgram = {sizeof(hadal_program_table), 0, prepare, run_program,
                                          destroy_program};
constexpr hadal_profile_table kProfile = {sizeof(hadal_profile_table), 0, measure_peaks};

}  // namespace
}  // namespace hadal::cpu

extern "C" hadal_status hadal_cpu_chip_query(const hadal_host* host, uint32_t abi,
                                             hadal_chip* out) {
  using namespace hadal::cpu;
  if (abi >> 16 != HADAL_ABI_MAJOR)
    return hadal::contract::report(hadal::contract::read_sized(host).query_error, HADAL_UNSUPPORTED,
                                   "cpu is built for another major version of the chip contract");
  hadal_chip chip{};
  chip.size = sizeof chip;
  chip.abi = std::min(abi, HADAL_ABI);
  chip.close = close;
  std::memcpy(chip.name, "cpu", 4);
  hadal::host_chip::fill_memory_functions(chip);
  chip.device_count = device_count;
  chip.device_open = device_open;
  chip.device_close = device_close;
  chip.device_info = info_of;
  chip.queue_create = queue_create;
  chip.queue_destroy = queue_destroy;
  chip.queue_sync = queue_sync;
  chip.weight_bytes = bytes_of_weight;
  chip.weight_create = create_weight;
  chip.weight_destroy = weight_destroy;
  chip.op_query = op_query;
  chip.op_run = op_run;
  chip.program = &kProgram;
  chip.profile = &kProfile;
  chip.op_support = op_support;
  hadal::contract::copy_sized(out, chip);
  return HADAL_OK;
}
