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
#include "hadal/chip_parts.h"
#include "ref.h"

struct hadal_device {
  hadal::ref::KernelTable table = hadal::ref::kKernelTables[0];
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
    {HADAL_OP_LORA_ADD, lora_add},
};

Operator find_operator(uint32_t id) {
  for (const auto& [known, run] : kOperators)
    if (known == id) return run;
  return nullptr;
}

int32_t device_count(hadal_chip*) { return 1; }

std::string table_names() {
  std::string names;
  for (const KernelTable& table : kKernelTables) {
    if (!names.empty()) names += ' ';
    names += table.name;
  }
  return names;
}

hadal_status device_open(hadal_chip*, int32_t index, const hadal_device_options* from,
                         hadal_device** out, hadal_error* error) try {
  *out = nullptr;
  const auto options = contract::read_sized(from);
  if (index != 0)
    return report(error, HADAL_INVALID,
                  "ref has one device, number 0, not number " + std::to_string(index));
  if (options.option_count != 0)
    return report(error, HADAL_INVALID,
                  "ref has no option \"" + std::string(options.option_names[0]) +
                      "\", nor any other; leave --chip-option out");
  const std::string name = options.kernels ? options.kernels : kKernelTables[0].name;
  for (const KernelTable& table : kKernelTables) {
    if (name != table.name) continue;
    if (options.numerics == HADAL_NUMERICS_EXACT && table.rounding.numerics != HADAL_NUMERICS_EXACT)
      return report(error, HADAL_INVALID,
                    "exact numerics are asked for, ref's kernel table \"" + name +
                        "\" rounds; leave one of both out");
    *out = new hadal_device{table};
    return HADAL_OK;
  }
  return report(error, HADAL_UNSUPPORTED,
                "ref has no kernel table \"" + name + "\", but these: " + table_names());
} catch (const std::bad_alloc&) {
  return report(error, HADAL_OUT_OF_MEMORY, "no memory left for a device");
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
  put(info.kernels, device->table.name);
  put(info.all_kernels, table_names().c_str());
  info.memory_total = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                      static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  info.memory_free = available_memory();
  info.host_memory = 1;
  info.row_invariant = 1;
  info.alignment = 4;
  info.kernels_version = 1;
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

// A weight that is not bound yet is taken to have its type's usual scales.
hadal_weight_desc product_desc(const hadal_tensor& w) {
  if (w.weight) return weight(w.weight).desc;
  hadal_weight_desc desc{};
  desc.dtype = w.dtype;
  desc.cols = w.extents[w.rank - 1];
  if (desc.dtype == HADAL_F4_E2M1) {
    desc.scale_dtype = HADAL_F8_E8M0;
    desc.scale_block_rows = 1;
    desc.scale_block_cols = 32;
  }
  return desc;
}

Rounding operator_rounding(Rounding table, const hadal_op& op, const hadal_tensor* tensors) {
  switch (op.id) {
    case HADAL_OP_MATMUL:
      return product_rounding(table, product_desc(tensors[HADAL_MATMUL_W]));
    case HADAL_OP_GROUPED_MATMUL:
      return product_rounding(table, product_desc(tensors[HADAL_GROUPED_MATMUL_W]));
    case HADAL_OP_GATED_MATMUL: {
      const Rounding gate = product_rounding(table, product_desc(tensors[HADAL_GATED_MATMUL_GATE]));
      return gate == Rounding{}
                 ? product_rounding(table, product_desc(tensors[HADAL_GATED_MATMUL_UP]))
                 : gate;
    }
    case HADAL_OP_GQA_ATTENTION:
    case HADAL_OP_LATENT_ATTENTION:
      return attention_rounding(table);
    default:
      return {};
  }
}

hadal_status op_support(hadal_device* device, const hadal_op* op, const hadal_tensor* tensors,
                        const int64_t* limits, hadal_op_answer* out, hadal_error* error) {
  hadal_op_answer answer{};
  const hadal_status status = op_query(device, op, tensors, limits, &answer.workspace_bytes, error);
  if (status != HADAL_OK) return status;
  const Rounding rounding = operator_rounding(device->table.rounding, *op, tensors);
  answer.numerics = rounding.numerics;
  answer.block = static_cast<uint32_t>(rounding.block);
  contract::copy_sized(out, answer);
  return HADAL_OK;
}

// Every form is taken as it is stored; one is listed since a list must not be empty.
hadal_status weight_forms(hadal_device* device, uint32_t use, hadal_weight_form* forms,
                          uint32_t* count, hadal_error*) {
  hadal_weight_form form{};
  form.dtype = HADAL_F32;
  form.scale_dtype = HADAL_DTYPE_NONE;
  hadal_weight_desc desc{};
  desc.dtype = form.dtype;
  form.numerics = use == HADAL_USE_MATMUL ? product_rounding(device->table.rounding, desc).numerics
                                          : HADAL_NUMERICS_EXACT;
  if (*count > 0) contract::copy_sized(forms, form);
  *count = 1;
  return HADAL_OK;
}

hadal_status run_one(const hadal_device& device, const hadal_tape& tape, const hadal_op& op,
                     const hadal_step& step, hadal_error* error) {
  std::array<hadal_tensor, HADAL_MAX_OPERANDS> tensors{};
  Call call{.op = &op, .rounding = device.table.rounding, .operands = {}, .error = error};
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
    if (t.space != HADAL_SPACE_WEIGHT && !host_chip::lies_inside(call.operands[i], t, step))
      return call.invalid(name + " does not lie inside the step's memory");
  }
  return run(call);
}

hadal_status op_run(hadal_queue* queue, const hadal_tape* tape, uint32_t first, uint32_t count,
                    const hadal_step* step, hadal_error* error) try {
  HADAL_OR_RETURN(hadal_check_step(tape, first, count, step, error));
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

extern "C" hadal_status hadal_ref_chip_query(const hadal_host* host, uint32_t abi,
                                             hadal_chip* out) {
  using namespace hadal;
  if (abi >> 16 != HADAL_ABI_MAJOR)
    return contract::report(contract::read_sized(host).query_error, HADAL_UNSUPPORTED,
                            "ref is built for another major version of the chip contract");
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
  chip.op_support = ref::op_support;
  chip.weight_forms = ref::weight_forms;
  contract::copy_sized(out, chip);
  return HADAL_OK;
}
