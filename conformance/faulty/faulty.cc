#include "faulty.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <set>
#include <string>

#include "base/builtin_chips.h"
#include "contract/check.h"
#include "contract/report.h"
#include "late.h"

namespace hadal::faulty {
namespace {

// The one state of this test plug-in: the good chip's table, and what it does wrong.
hadal_chip good;
hadal_program_table program_table;
Fault fault = kNoFault;
std::map<hadal_device*, int32_t> device_threads;
std::map<hadal_queue*, int32_t> queue_threads;
std::set<hadal_device*> queued_devices;
std::set<hadal_queue*> second_queues;
std::map<const hadal_weight*, std::vector<float>> vectors;
bool stopped = false;
std::map<hadal_program*, hadal_step> first_steps;
std::set<const hadal_weight*> destroyed;
bool broken = false;
std::deque<hadal_step> program_steps;

/// Where the pieces of a weight lie, for kKeepsPieces.
struct LatePieces {
  hadal_device* device;
  hadal_weight_desc desc;
  std::vector<hadal_piece> pieces;
  std::vector<host_chip::Memory> memories;  // two a piece: numbers and scales
  std::vector<hadal_weight*> made;
};
std::map<const hadal_weight*, LatePieces> late_pieces;

hadal_status device_open(hadal_chip*, int32_t index, const hadal_device_options* options,
                         hadal_device** out, hadal_error* error) {
  auto changed = contract::read_sized(options);
  if (fault == kAnyKernels) changed.kernels = nullptr;
  if (fault == kTakesAnyOption) changed.option_count = 0;
  const hadal_status status = good.device_open(&good, index, &changed, out, error);
  if (status == HADAL_OK) device_threads[*out] = changed.threads;
  return status;
}

hadal_status device_info(hadal_device* device, hadal_device_info* out) {
  const hadal_status status = good.device_info(device, out);
  if (fault == kWritesRowsOfNobody && out->size >= sizeof(hadal_device_info)) {
    out->row_buckets[0] = 16;
    out->row_buckets[1] = 32;
  }
  if (fault == kOddAlignment && out->size > offsetof(hadal_device_info, alignment))
    out->alignment = 3;
  return status;
}

hadal_status queue_create(hadal_device* device, hadal_queue** out, hadal_error* error) {
  const hadal_status status = good.queue_create(device, out, error);
  if (status != HADAL_OK) return status;
  queue_threads[*out] = device_threads[device];
  if (!queued_devices.insert(device).second) second_queues.insert(*out);
  return status;
}

/// A second queue, whose work does not stand behind that of the first.
bool at_once(hadal_queue* queue) {
  return fault == kEventsDoNotWait && second_queues.contains(queue);
}

hadal_status event_create(hadal_device*, hadal_event** out, hadal_error*) {
  static int any;
  *out = reinterpret_cast<hadal_event*>(&any);
  return HADAL_OK;
}
void event_destroy(hadal_event*) {}
hadal_status event_use(hadal_event*, hadal_queue*, hadal_error*) { return HADAL_OK; }
/// Now, whatever stands before it.
hadal_status early_peer_copy(hadal_queue*, hadal_memory* to, uint64_t to_offset, hadal_memory* from,
                             uint64_t from_offset, uint64_t bytes, hadal_error*) {
  std::memcpy(host_chip::memory(to)->data + to_offset, host_chip::memory(from)->data + from_offset,
              bytes);
  return HADAL_OK;
}
hadal_events_table events_table = {sizeof(hadal_events_table),
                                   2,
                                   event_create,
                                   event_destroy,
                                   event_use,
                                   event_use,
                                   nullptr,
                                   nullptr,
                                   nullptr};

hadal_status mem_alloc(hadal_device* device, uint64_t bytes, hadal_memory** out,
                       hadal_error* error) {
  return good.mem_alloc(device, bytes, out, fault == kSilentWithoutMemory ? nullptr : error);
}

hadal_status copy_out(hadal_queue* queue, void* to, hadal_memory* from, uint64_t offset,
                      uint64_t bytes, hadal_error* error) {
  if (fault == kCopiesTooLittle && bytes % 2 == 1) --bytes;
  if (!late::is_used(fault) || at_once(queue))
    return good.copy_out(queue, to, from, offset, bytes, error);
  return late::push(
      [=](hadal_error* e) { return good.copy_out(queue, to, from, offset, bytes, e); },
      fault == kReadsTooLate);
}

hadal_status copy_in(hadal_queue* queue, hadal_memory* to, uint64_t offset, const void* from,
                     uint64_t bytes, hadal_error* error) {
  if (!late::is_used(fault)) return good.copy_in(queue, to, offset, from, bytes, error);
  const auto* first = static_cast<const std::byte*>(from);
  auto own = std::make_shared<std::vector<std::byte>>(first, first + bytes);
  return late::push([=](hadal_error* e) {
    return good.copy_in(queue, to, offset, fault == kKeepsSource ? from : own->data(), bytes, e);
  });
}

hadal_status copy(hadal_queue* queue, hadal_memory* to, uint64_t to_offset, hadal_memory* from,
                  uint64_t from_offset, uint64_t bytes, hadal_error* error) {
  if (!late::is_used(fault))
    return good.copy(queue, to, to_offset, from, from_offset, bytes, error);
  return late::push(
      [=](hadal_error* e) { return good.copy(queue, to, to_offset, from, from_offset, bytes, e); });
}

hadal_status fill(hadal_queue* queue, hadal_memory* m, uint64_t offset, uint64_t bytes,
                  uint8_t value, hadal_error* error) {
  if (!late::is_used(fault)) return good.fill(queue, m, offset, bytes, value, error);
  return late::push([=](hadal_error* e) { return good.fill(queue, m, offset, bytes, value, e); });
}

void mem_free(hadal_memory* m) {
  if (!late::is_used(fault)) return good.mem_free(m);
  // As if its place had been taken by others.
  if (fault == kFreesAtOnce && host_chip::memory(m)->owned)
    std::memset(host_chip::memory(m)->data, 0x7f, host_chip::memory(m)->bytes);
  late::push_always([m] { good.mem_free(m); });
}

hadal_status queue_sync(hadal_queue* queue, hadal_error* error) {
  if (!late::is_used(fault) || at_once(queue)) return good.queue_sync(queue, error);
  const hadal_status status = late::run_all(fault, error);
  if (status != HADAL_OK && fault == kStaysBroken) broken = true;
  if (status != HADAL_OK && fault != kSwallowsErrors) return status;
  return good.queue_sync(queue, error);
}

void queue_destroy(hadal_queue* queue) {
  late::run_all(fault, nullptr);
  good.queue_destroy(queue);
}

void keep_pieces(hadal_device* device, const hadal_weight_desc& desc, const hadal_piece* pieces,
                 uint32_t count, const hadal_weight* weight) {
  LatePieces& late = late_pieces[weight];
  late = {device, desc, {pieces, pieces + count}, {}, {}};
  for (const hadal_piece& piece : late.pieces) {
    late.memories.push_back(*host_chip::memory(piece.memory));
    late.memories.push_back(piece.scale_memory ? *host_chip::memory(piece.scale_memory)
                                               : host_chip::Memory());
  }
}

/// The weight as its pieces have it now.
hadal_weight* make_again(LatePieces& late, hadal_error* error) {
  for (size_t i = 0; i < late.pieces.size(); ++i) {
    late.pieces[i].memory = reinterpret_cast<hadal_memory*>(&late.memories[2 * i]);
    if (late.pieces[i].scale_memory)
      late.pieces[i].scale_memory = reinterpret_cast<hadal_memory*>(&late.memories[2 * i + 1]);
  }
  hadal_weight* weight = nullptr;
  good.weight_create(late.device, &late.desc, late.pieces.data(),
                     static_cast<uint32_t>(late.pieces.size()), &weight, error);
  if (weight) late.made.push_back(weight);
  return weight;
}

hadal_status weight_create(hadal_device* device, const hadal_weight_desc* desc,
                           const hadal_piece* pieces, uint32_t count, hadal_weight** out,
                           hadal_error* error) {
  std::vector<hadal_piece> changed(pieces, pieces + count);
  hadal_weight_desc other = *desc;
  if (fault == kListsRefusedForm && desc->dtype == HADAL_F16)
    return contract::report(error, HADAL_UNSUPPORTED, "no F16 after all");
  if (fault == kSwapsPieces && count > 1) std::swap(changed[0], changed[1]);
  if ((fault == kIgnoresScales || fault == kIgnoresExpertScales) &&
      desc->scale_dtype != HADAL_DTYPE_NONE) {
    other.scale_dtype = HADAL_DTYPE_NONE;
    for (hadal_piece& piece : changed) piece.scale_memory = nullptr;
  }
  const hadal_status status = good.weight_create(device, &other, changed.data(), count, out, error);
  if (status != HADAL_OK) return status;
  destroyed.erase(*out);  // an address that is used again
  if (fault == kKeepsPieces && !desc->keeps_source) keep_pieces(device, *desc, pieces, count, *out);
  if (desc->uses == HADAL_USE_VECTOR) {
    std::vector<float>& values = vectors[*out];
    values.resize(static_cast<size_t>(desc->cols));
    std::memcpy(values.data(), host_chip::memory(pieces[0].memory)->data + pieces[0].offset,
                values.size() * sizeof(float));
  }
  return status;
}

void weight_destroy(hadal_weight* w) {
  if (fault == kLeaksWeights) return;
  for (hadal_weight* made : late_pieces[w].made) good.weight_destroy(made);
  late_pieces.erase(w);
  if (!late::is_used(fault)) return good.weight_destroy(w);
  if (fault == kDestroysAtOnce) destroyed.insert(w);
  late::push_always([w] { good.weight_destroy(w); });
}

hadal_status weight_forms(hadal_device*, uint32_t, hadal_weight_form* forms, uint32_t* count,
                          hadal_error*) {
  hadal_weight_form form{};
  form.dtype = HADAL_F16;
  form.numerics = HADAL_NUMERICS_EXACT;
  if (*count > 0) contract::copy_sized(forms, form);
  *count = 1;
  return HADAL_OK;
}

hadal_status plane_bytes(hadal_device*, const hadal_plane_desc* desc, uint64_t* bytes,
                         hadal_error*) {
  const int64_t size = desc->dtype == HADAL_F32 ? 4 : 2;
  uint64_t dense = static_cast<uint64_t>(desc->slots * desc->width * size);
  if (fault == kSmallPlaneBlocks) dense /= 2;
  *bytes = (dense + 63) / 64 * 64 + (fault == kOddPlaneBlocks ? 32 : 0);
  return HADAL_OK;
}

hadal_status op_query(hadal_device* device, const hadal_op* op, const hadal_tensor* tensors,
                      const int64_t* limits, uint64_t* workspace_bytes, hadal_error* error) {
  *workspace_bytes = 0;
  if (fault == kPoorText && op->id == HADAL_OP_MOE_EXPERTS)
    return contract::report(error, HADAL_UNSUPPORTED, "not taken");
  if (is_fused(op->id)) return contract::check_operands(*op, tensors, error);
  const hadal_status status = good.op_query(device, op, tensors, limits, workspace_bytes, error);
  if (fault == kReadsWorkspace) *workspace_bytes += 64;
  // Other candidates need more than the good chip asks for.
  if (fault == kIgnoresCandidates || fault == kPagesAsCandidates) *workspace_bytes += 1 << 16;
  return status;
}

hadal_status op_support(hadal_device* device, const hadal_op* op, const hadal_tensor* tensors,
                        const int64_t* limits, hadal_op_answer* out, hadal_error* error) {
  hadal_op_answer answer{};
  answer.size = sizeof answer;
  if (!is_fused(op->id) && good.op_support)
    good.op_support(device, op, tensors, limits, &answer, nullptr);
  const hadal_status status =
      faulty::op_query(device, op, tensors, limits, &answer.workspace_bytes, error);
  if (status != HADAL_OK) return status;
  if (fault == kRoundsSaysExact || fault == kRoundsQuerySaysExact)
    answer.numerics = HADAL_NUMERICS_EXACT;
  if (fault == kRoundsSaysHalf) answer.numerics = HADAL_NUMERICS_HALF;
  if (fault == kAnswersUnknownClass) answer.numerics = 17;
  if (fault == kSupportAsksMore) answer.workspace_bytes += 64;
  if (fault == kAnswersBlock64) {
    answer.numerics = HADAL_NUMERICS_BLOCK8;
    answer.block = 64;
  }
  if (fault == kSupportDiffers)
    return contract::report(error, HADAL_UNSUPPORTED, "op_support takes nothing");
  contract::copy_sized(out, answer);
  return HADAL_OK;
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

/// The tape with what the fault makes of its tensors, in `tensors`; false: it needs a weight that
/// is gone.
bool change_tensors(hadal_tape& tape, std::vector<hadal_tensor>& tensors, hadal_error* error) {
  tensors.assign(tape.tensors, tape.tensors + tape.tensor_count);
  tape.tensors = tensors.data();
  for (hadal_tensor& t : tensors) {
    if (fault == kRoundsOffsets && (t.flags & HADAL_TENSOR_COLUMNS) != 0)
      t.offset = t.offset / 64 * 64;
    if (fault == kShortOffsets) t.offset &= (uint64_t{1} << 31) - 1;
    if (fault == kShortRowStrides) t.strides[0] &= (int64_t{1} << 30) - 1;
    if (fault == kDestroysAtOnce && destroyed.contains(t.weight)) return false;
    if (const auto late = late_pieces.find(t.weight); late != late_pieces.end())
      t.weight = make_again(late->second, error);
  }
  return true;
}

hadal_status run_now(hadal_queue* queue, hadal_tape tape, uint32_t first, uint32_t count,
                     const hadal_step& step, hadal_error* error) {
  std::vector<hadal_tensor> tensors;
  if (broken) return contract::report(error, HADAL_INVALID, "broken for ever");
  if (!change_tensors(tape, tensors, error)) return HADAL_OK;
  for (uint32_t i = first; i < first + count; ++i)
    if (const hadal_status status = run_one(queue, tape, i, step, error); status != HADAL_OK)
      return status;
  return HADAL_OK;
}

void end_badly() {
  while (fault == kHangs) ::pause();
  if (fault == kCrashes) std::raise(SIGSEGV);
  if (fault == kExits) std::_Exit(0);
}

hadal_status op_run(hadal_queue* queue, const hadal_tape* tape, uint32_t first, uint32_t count,
                    const hadal_step* step, hadal_error* error) {
  if (fault == kStaysStopped && step->stop && *step->stop) stopped = true;
  if (stopped) return HADAL_STOPPED;
  if (tape->ops[first].id == HADAL_OP_ADD) end_badly();
  if (!late::is_used(fault)) return run_now(queue, *tape, first, count, *step, error);
  auto call = std::make_shared<late::Call>(fault, *tape, *step);
  return late::push([=](hadal_error* e) {
    return run_now(queue, call->tape_now(), first, count, call->step_now(), e);
  });
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
  // A queue of ours that keeps the step keeps this one.
  hadal_step& own = program_steps.emplace_back(copy);
  hadal_status status = op_run(queue, &tape, 0, tape.op_count, &own, error);
  if (fault == kProgramDiffers && copy.rows[HADAL_DIM_R] > 0)
    *reinterpret_cast<uint32_t*>(host_chip::memory(step->outputs)->data) ^= 1;
  faulty::mem_free(workspace);
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
          HADAL_FAULTY_BASE(fault == kIgnoresQueryError ? nullptr : host,
                            fault == kTakesAnyVersion ? HADAL_ABI : abi, &good);
      status != HADAL_OK)
    return status;
  hadal_chip chip = good;
  std::strncpy(chip.name, "faulty", sizeof chip.name - 1);
  chip.close = faulty::close;
  chip.device_open = faulty::device_open;
  chip.device_info = faulty::device_info;
  chip.queue_create = faulty::queue_create;
  chip.mem_alloc = faulty::mem_alloc;
  chip.mem_free = faulty::mem_free;
  chip.copy_in = faulty::copy_in;
  chip.copy_out = faulty::copy_out;
  chip.copy = faulty::copy;
  chip.fill = faulty::fill;
  chip.queue_sync = faulty::queue_sync;
  chip.queue_destroy = faulty::queue_destroy;
  chip.weight_create = faulty::weight_create;
  chip.weight_destroy = faulty::weight_destroy;
  chip.op_query = faulty::op_query;
  chip.op_run = faulty::op_run;
  chip.op_support = faulty::op_support;
  // A form that is made late, on no queue of ours, would not be seen.
  chip.weight_create_on = nullptr;
  if (fault == kCopiesFromPeerTooEarly) events_table.peer_copy = early_peer_copy;
  if (fault == kEventsDoNotWait || fault == kCopiesFromPeerTooEarly) chip.events = &events_table;
  if (fault == kListsRefusedForm) chip.weight_forms = faulty::weight_forms;
  if (fault == kOddPlaneBlocks || fault == kSmallPlaneBlocks || fault == kCopiesHalfBlocks)
    chip.plane_bytes = faulty::plane_bytes;
  program_table = {sizeof program_table, 0, prepare, run, destroy, nullptr};
  chip.program = &program_table;
  const uint32_t size = out->size;
  std::memcpy(out, &chip, fault == kWritesWholeTable || size > sizeof chip ? sizeof chip : size);
  out->size = size;
  return HADAL_OK;
}
