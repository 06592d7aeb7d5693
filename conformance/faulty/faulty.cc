#include "faulty.h"

#include <cstdlib>
#include <cstring>
#include <map>

#include "base/builtin_chips.h"
#include "contract/check.h"

namespace hadal::faulty {
namespace {

// The one state of this test plug-in: the good chip's table, and what it does wrong.
hadal_chip good;
hadal_program_table program_table;
Fault fault = kNoFault;
std::map<hadal_device*, int32_t> device_threads;
std::map<hadal_queue*, int32_t> queue_threads;
std::map<const hadal_weight*, std::vector<float>> vectors;
bool stopped = false;
std::map<hadal_program*, hadal_step> first_steps;

hadal_status device_open(hadal_chip*, int32_t index, const hadal_device_options* options,
                         hadal_device** out, hadal_error* error) {
  hadal_device_options changed{sizeof(hadal_device_options), 0, nullptr};
  if (options) changed = *options;
  if (fault == kAnyKernels) changed.kernels = nullptr;
  const hadal_status status = good.device_open(&good, index, &changed, out, error);
  if (status == HADAL_OK) device_threads[*out] = changed.threads;
  return status;
}

hadal_status device_info(hadal_device* device, hadal_device_info* out) {
  const hadal_status status = good.device_info(device, out);
  if (fault == kOddAlignment && out->size > offsetof(hadal_device_info, alignment))
    out->alignment = 3;
  return status;
}

hadal_status queue_create(hadal_device* device, hadal_queue** out, hadal_error* error) {
  const hadal_status status = good.queue_create(device, out, error);
  if (status == HADAL_OK) queue_threads[*out] = device_threads[device];
  return status;
}

hadal_status mem_alloc(hadal_device* device, uint64_t bytes, hadal_memory** out,
                       hadal_error* error) {
  return good.mem_alloc(device, bytes, out, fault == kSilentWithoutMemory ? nullptr : error);
}

hadal_status copy_out(hadal_queue* queue, void* to, hadal_memory* from, uint64_t offset,
                      uint64_t bytes, hadal_error* error) {
  if (fault == kCopiesTooLittle && bytes % 2 == 1) --bytes;
  return good.copy_out(queue, to, from, offset, bytes, error);
}

hadal_status weight_create(hadal_device* device, const hadal_weight_desc* desc,
                           const hadal_piece* pieces, uint32_t count, hadal_weight** out,
                           hadal_error* error) {
  std::vector<hadal_piece> changed(pieces, pieces + count);
  hadal_weight_desc other = *desc;
  if (fault == kSwapsPieces && count > 1) std::swap(changed[0], changed[1]);
  if ((fault == kIgnoresScales || fault == kIgnoresExpertScales) &&
      desc->scale_dtype != HADAL_DTYPE_NONE) {
    other.scale_dtype = HADAL_DTYPE_NONE;
    for (hadal_piece& piece : changed) piece.scale_memory = nullptr;
  }
  const hadal_status status = good.weight_create(device, &other, changed.data(), count, out, error);
  if (status == HADAL_OK && desc->uses == HADAL_USE_VECTOR) {
    std::vector<float>& values = vectors[*out];
    values.resize(static_cast<size_t>(desc->cols));
    std::memcpy(values.data(), host_chip::memory(pieces[0].memory)->data + pieces[0].offset,
                values.size() * sizeof(float));
  }
  return status;
}

void weight_destroy(hadal_weight* w) {
  if (fault != kLeaksWeights) good.weight_destroy(w);
}

hadal_status op_query(hadal_device* device, const hadal_op* op, const hadal_tensor* tensors,
                      const int64_t* limits, uint64_t* workspace_bytes, hadal_error* error) {
  *workspace_bytes = 0;
  if (is_fused(op->id)) return contract::check_operands(*op, tensors, error);
  const hadal_status status = good.op_query(device, op, tensors, limits, workspace_bytes, error);
  if (fault == kReadsWorkspace) *workspace_bytes += 64;
  // Other candidates need more than the good chip asks for.
  if (fault == kIgnoresCandidates || fault == kPagesAsCandidates) *workspace_bytes += 1 << 16;
  return status;
}

hadal_status run_one(hadal_queue* queue, const hadal_tape& tape, uint32_t index,
                     const hadal_step& step, hadal_error* error) {
  hadal_step copy = step;
  Call call{.fault = fault,
            .threads = queue_threads[queue],
            .tape = &tape,
            .step = &copy,
            .op = tape.ops[index],
            .patches = {},
            .saved = {}};
  if (is_fused(call.op.id)) return run_fused(call, queue, good.op_run, error);
  before(call);
  hadal_tape one = tape;
  one.ops = &call.op;
  one.op_count = 1;
  const hadal_status status = good.op_run(queue, &one, 0, 1, &copy, error);
  if (status == HADAL_OK) good.queue_sync(queue, nullptr);
  after(call);
  return status;
}

hadal_status op_run(hadal_queue* queue, const hadal_tape* tape, uint32_t first, uint32_t count,
                    const hadal_step* step, hadal_error* error) {
  if (fault == kStaysStopped && step->stop && *step->stop) stopped = true;
  if (stopped) return HADAL_STOPPED;
  for (uint32_t i = first; i < first + count; ++i)
    if (const hadal_status status = run_one(queue, *tape, i, *step, error); status != HADAL_OK)
      return status;
  return HADAL_OK;
}

// ---- a program that loops over op_run, for the faults of programs

struct Program {
  const hadal_tape* tape;
};

hadal_status prepare(hadal_device*, const hadal_tape* tape, hadal_program** out, hadal_error*) {
  *out = reinterpret_cast<hadal_program*>(new Program{tape});
  return HADAL_OK;
}

hadal_status run(hadal_program* program, hadal_queue* queue, const hadal_step* step,
                 hadal_error* error) {
  const hadal_tape& tape = *reinterpret_cast<Program*>(program)->tape;
  // A program has no workspace of the host: it brings its own.
  hadal_step copy = *step;
  hadal_memory* workspace = nullptr;
  if (const hadal_status status =
          good.mem_alloc(device_threads.begin()->first, uint64_t{1} << 24, &workspace, error);
      status != HADAL_OK)
    return status;
  copy.workspace = workspace;
  const hadal_step& remembered = first_steps.try_emplace(program, copy).first->second;
  if (fault == kProgramKeepsRows) std::memcpy(copy.rows, remembered.rows, sizeof copy.rows);
  hadal_status status = op_run(queue, &tape, 0, tape.op_count, &copy, error);
  if (fault == kProgramDiffers && copy.rows[HADAL_DIM_R] > 0)
    *reinterpret_cast<uint32_t*>(host_chip::memory(step->outputs)->data) ^= 1;
  good.mem_free(workspace);
  return status;
}

void destroy(hadal_program* program) {
  first_steps.erase(program);
  delete reinterpret_cast<Program*>(program);
}

void close(hadal_chip*) {}

}  // namespace

const std::vector<float>& vector_of(const hadal_weight* w) { return vectors.at(w); }

}  // namespace hadal::faulty

extern "C" __attribute__((visibility("default"))) hadal_status
hadal_chip_query(const hadal_host* host, uint32_t abi, hadal_chip* out) {
  using namespace hadal;
  using namespace hadal::faulty;
  const char* chosen = std::getenv("HADAL_FAULT");
  fault = static_cast<Fault>(chosen ? std::atoi(chosen) : 0);
  good.size = sizeof good;
  if (const hadal_status status =
          HADAL_FAULTY_BASE(host, fault == kTakesAnyVersion ? HADAL_ABI : abi, &good);
      status != HADAL_OK)
    return status;
  hadal_chip chip = good;
  std::strncpy(chip.name, "faulty", sizeof chip.name - 1);
  chip.close = faulty::close;
  chip.device_open = faulty::device_open;
  chip.device_info = faulty::device_info;
  chip.queue_create = faulty::queue_create;
  chip.mem_alloc = faulty::mem_alloc;
  chip.copy_out = faulty::copy_out;
  chip.weight_create = faulty::weight_create;
  chip.weight_destroy = faulty::weight_destroy;
  chip.op_query = faulty::op_query;
  chip.op_run = faulty::op_run;
  program_table = {sizeof program_table, 0, prepare, run, destroy};
  chip.program = &program_table;
  const uint32_t size = out->size;
  std::memcpy(out, &chip, fault == kWritesWholeTable || size > sizeof chip ? sizeof chip : size);
  out->size = size;
  return HADAL_OK;
}
