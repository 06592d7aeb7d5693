// The table of the chip `ref`: one device, one synchronous queue, operators run one after the
// other.
#include <unistd.h>

#include <array>
#include <cstring>
#include <exception>
#include <limits>
#include <new>
#include <utility>

#include "base/builtin_chips.h"
#include "base/cpu_info.h"
#include "base/dtype.h"
#include "contract/check.h"
#include "contract/operators.h"
#include "contract/report.h"
#include "ref.h"

struct hadal_device {
  bool int8 = false;  ///< the kernel table "int8"
};
struct hadal_queue {
  hadal_device* device = nullptr;
};

namespace hadal::ref {
namespace {

using contract::report;

using Operator = hadal_status (*)(const Call&);

constexpr std::pair<uint32_t, Operator> kOperators[] = {
    {HADAL_OP_EMBED, embed},
    {HADAL_OP_MATMUL, matmul},
    {HADAL_OP_NORM, norm},
    {HADAL_OP_ROPE, rope},
    {HADAL_OP_SWIGLU, swiglu},
    {HADAL_OP_GATED_MATMUL, gated_matmul},
    {HADAL_OP_ADD, add},
    {HADAL_OP_KV_WRITE, kv_write},
    {HADAL_OP_GQA_ATTENTION, gqa_attention},
    {HADAL_OP_GATHER_ROWS, gather_rows},
    {HADAL_OP_COPY_BLOCKS, copy_blocks},
    {HADAL_OP_CONVERT, convert},
    {HADAL_OP_SAMPLE, sample},
    {HADAL_OP_ROUTER, router},
    {HADAL_OP_MOE_SORT, moe_sort},
    {HADAL_OP_GROUPED_MATMUL, grouped_matmul},
    {HADAL_OP_MOE_COMBINE, moe_combine},
    {HADAL_OP_LATENT_ATTENTION, latent_attention},
    {HADAL_OP_INDEX_TOPK, index_topk},
    {HADAL_OP_COMPRESS, compress},
    {HADAL_OP_HC_PRE, hc_pre},
    {HADAL_OP_HC_POST, hc_post},
    {HADAL_OP_INDEX_BLOCKS, index_blocks},
    {HADAL_OP_ENGRAM_GATE, engram_gate},
};

Operator find_operator(uint32_t id) {
  for (const auto& [known, run] : kOperators)
    if (known == id) return run;
  return nullptr;
}

int32_t device_count(hadal_chip*) { return 1; }

hadal_status device_open(hadal_chip*, int32_t index, const hadal_device_options* options,
                         hadal_device** out, hadal_error* error) {
  *out = nullptr;
  if (index != 0)
    return report(error, HADAL_INVALID,
                  "ref has one device, number 0, not number " + std::to_string(index));
  std::string kernels = "ref";
  if (options && options->size > offsetof(hadal_device_options, kernels) && options->kernels)
    kernels = options->kernels;
  if (kernels != "ref" && kernels != "int8")
    return report(error, HADAL_UNSUPPORTED,
                  "ref has the kernel tables \"ref\" and \"int8\", not \"" + kernels + "\"");
  *out = new (std::nothrow) hadal_device{.int8 = kernels == "int8"};
  return *out ? HADAL_OK : report(error, HADAL_OUT_OF_MEMORY, "no memory left for a device");
}

void device_close(hadal_device* device) { delete device; }

template <size_t N>
void put(char (&to)[N], const char* from) {
  std::strncpy(to, from, N - 1);
}

hadal_status device_info(hadal_device* device, hadal_device_info* out) {
  hadal_device_info info{};
  info.threads = 1;
  put(info.name, "reference (plain loops, one thread)");
  put(info.kernels, device->int8 ? "int8" : "ref");
  put(info.all_kernels, "ref int8");
  info.memory_total = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                      static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  info.memory_free = available_memory();
  info.host_memory = 1;
  info.row_invariant = 1;
  info.alignment = 4;
  contract::copy_sized(out, info);
  return HADAL_OK;
}

hadal_status queue_create(hadal_device* device, hadal_queue** out, hadal_error* error) {
  *out = new (std::nothrow) hadal_queue{device};
  return *out ? HADAL_OK : report(error, HADAL_OUT_OF_MEMORY, "no memory left for a queue");
}

void queue_destroy(hadal_queue* queue) { delete queue; }

hadal_status queue_sync(hadal_queue*, hadal_error*) { return HADAL_OK; }

hadal_status op_query(hadal_device*, const hadal_op* op, const hadal_tensor* tensors,
                      const int64_t*, uint64_t* workspace_bytes, hadal_error* error) try {
  *workspace_bytes = 0;
  if (!find_operator(op->id))
    return report(error, HADAL_UNSUPPORTED,
                  contract::operand_count(op->id) == 0
                      ? "ref does not know operator " + std::to_string(op->id)
                      : std::string("ref runs only the parts of ") + contract::op_name(op->id));
  return contract::check_operands(*op, tensors, error);
} catch (const std::exception& e) {
  return report(error, HADAL_OUT_OF_MEMORY, e.what());
}

// The bytes that a view spans must lie in the memory that it is relative to.
bool lies_inside(const host_chip::View& v, const hadal_tensor& t, const hadal_step& step) {
  hadal_memory* base = host_chip::memory_of(t, step);
  int64_t last = dtype_info(v.dtype)->block_bytes;
  for (uint32_t d = 0; d < v.rank; ++d) {
    if (v.extents[d] == 0) return true;
    int64_t span = 0;
    if (__builtin_mul_overflow(v.extents[d] - 1, v.strides[d], &span) ||
        __builtin_add_overflow(last, span, &last))
      return false;
  }
  if (!base) return false;
  const host_chip::Memory* m = host_chip::memory(base);
  return t.offset <= m->bytes && static_cast<uint64_t>(last) <= m->bytes - t.offset;
}

hadal_status run_one(const hadal_device& device, const hadal_tape& tape, const hadal_op& op,
                     const hadal_step& step, hadal_error* error) {
  std::array<hadal_tensor, HADAL_MAX_OPERANDS> tensors{};
  Call call{.op = &op, .int8 = device.int8, .operands = {}, .error = error};
  const Operator run = find_operator(op.id);
  if (!run)
    return report(error, HADAL_UNSUPPORTED, "ref does not know operator " + std::to_string(op.id));
  if (const hadal_status status = contract::gather_operands(tape, op, tensors.data(), error);
      status != HADAL_OK)
    return status;
  if (const hadal_status status = contract::check_operands(op, tensors.data(), error);
      status != HADAL_OK)
    return status;
  for (uint32_t i = 0; i < contract::operand_count(op.id); ++i) {
    const hadal_tensor& t = tensors[i];
    if (t.space == HADAL_SPACE_NONE) continue;
    const std::string name = contract::operand_name(op.id, i);
    if (t.space == HADAL_SPACE_WEIGHT) {
      if (const std::string why = contract::check_handle(weight(t.weight).desc, op, i, t);
          !why.empty())
        return call.invalid(why);
    } else if (t.space == HADAL_SPACE_PLANE && t.index >= step.plane_count) {
      return call.invalid(name + " is in a plane that the step does not bring");
    }
    call.operands[i] = host_chip::view(tape, op.operands[i], step);
    if (t.space != HADAL_SPACE_WEIGHT && !lies_inside(call.operands[i], t, step))
      return call.invalid(name + " does not lie inside the step's memory");
  }
  return run(call);
}

hadal_status op_run(hadal_queue* queue, const hadal_tape* tape, uint32_t first, uint32_t count,
                    const hadal_step* step, hadal_error* error) try {
  if (first > tape->op_count || count > tape->op_count - first)
    return report(error, HADAL_INVALID,
                  "operators " + std::to_string(first) + " + " + std::to_string(count) +
                      " of a tape of " + std::to_string(tape->op_count));
  for (int dim = HADAL_DIM_T; dim < HADAL_DIM_COUNT; ++dim)
    if (step->rows[dim] < 0 || step->rows[dim] > tape->limits[dim])
      return report(error, HADAL_INVALID,
                    "the step brings " + std::to_string(step->rows[dim]) +
                        " rows, the tape's limit is " + std::to_string(tape->limits[dim]));
  for (uint32_t i = first; i < first + count; ++i) {
    if (host_chip::stop_asked(*step)) return report(error, HADAL_STOPPED, "stopped");
    if (const hadal_status status = run_one(*queue->device, *tape, tape->ops[i], *step, error);
        status != HADAL_OK)
      return status;
  }
  return HADAL_OK;
} catch (const std::bad_alloc&) {
  return report(error, HADAL_OUT_OF_MEMORY, "no memory left while an operator ran");
} catch (const std::exception& e) {
  return report(error, HADAL_DEVICE_FAILED, e.what());
}

void close(hadal_chip*) {}

}  // namespace

hadal_status Call::invalid(const std::string& text) const {
  return report(error, HADAL_INVALID, std::string(contract::op_name(op->id)) + ": " + text);
}

hadal_status Call::outside(size_t operand, int64_t index, int64_t value, int64_t end) const {
  return invalid(std::string(contract::operand_name(op->id, static_cast<uint32_t>(operand))) + "[" +
                 std::to_string(index) + "] = " + std::to_string(value) + " is outside [0, " +
                 std::to_string(end) + ")");
}

std::vector<float> read_vector(const host_chip::View& v) {
  std::vector<float> values;
  if (!v.present()) return values;
  values.resize(static_cast<size_t>(v.extents[0]));
  if (!values.empty()) weight(v.weight).decode_row(0, values.data());
  return values;
}

}  // namespace hadal::ref

extern "C" hadal_status hadal_ref_chip_query(const hadal_host*, uint32_t abi, hadal_chip* out) {
  using namespace hadal;
  if (abi >> 16 != HADAL_ABI_MAJOR) return HADAL_UNSUPPORTED;
  hadal_chip chip{};
  chip.abi = abi < HADAL_ABI ? abi : HADAL_ABI;
  chip.close = ref::close;
  ref::put(chip.name, "ref");
  chip.device_count = ref::device_count;
  chip.device_open = ref::device_open;
  chip.device_close = ref::device_close;
  chip.device_info = ref::device_info;
  host_chip::fill_memory_functions(chip);
  chip.queue_create = ref::queue_create;
  chip.queue_destroy = ref::queue_destroy;
  chip.queue_sync = ref::queue_sync;
  chip.weight_bytes = ref::weight_bytes;
  chip.weight_create = ref::weight_create;
  chip.weight_destroy = ref::weight_destroy;
  chip.op_query = ref::op_query;
  chip.op_run = ref::op_run;
  contract::copy_sized(out, chip);
  return HADAL_OK;
}
