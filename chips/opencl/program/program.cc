#include "program/program.h"

#include <algorithm>
#include <array>
#include <map>

#include "contract/operators.h"
#include "contract/report.h"

namespace hadal::opencl {
namespace {

using contract::report;

/// After so many launches the stop flag is looked at with the device idle.
constexpr size_t kLaunchesOfARun = 32;

/// Even alone it goes through the kernel of several operators: there rows share what is read of the
/// weights, and kOpExperts has no other.
bool is_better_fused(uint32_t op) {
  return op == kOpExperts || op == HADAL_OP_GATED_MATMUL || op == HADAL_OP_GROUPED_MATMUL;
}

/// "kv_write: plane". Outside of the workspace kOpExperts has x alone, the first of moe_experts
/// too.
std::string name_of(const ProgramOp& op, uint32_t operand) {
  const uint32_t id = op.op.id == kOpExperts ? op.origin : op.op.id;
  return std::string(contract::op_name(id)) + ": " + contract::operand_name(id, operand);
}

bool is_moved(const hadal_tensor* t) { return t && t->space != HADAL_SPACE_WEIGHT; }

}  // namespace

Program::~Program() {
  parts_.clear();
  if (took_workspace_) device_.let_go_of_workspace();
  if (!plan_buffer_) return;
  device_.cl.clReleaseMemObject(plan_buffer_);
  device_.allocated -= plan_.size() * sizeof(int64_t);
}

uint64_t Program::bytes() const { return plan_.size() * sizeof(int64_t) + tape_.workspace_bytes; }

hadal_status Program::prepare(Device& device, const hadal_tape& tape, std::unique_ptr<Program>* out,
                              hadal_error* error) {
  std::unique_ptr<Program> made(new Program(device));
  if (const hadal_status s = ProgramTape::make(tape, &made->tape_, error); s != HADAL_OK) return s;
  if (const hadal_status s = made->check_places(error); s != HADAL_OK) return s;
  for (const Group& group : fuse(made->tape_)) made->add(group);
  if (const hadal_status s = made->upload(error); s != HADAL_OK) return s;
  if (const hadal_status s = made->build(error); s != HADAL_OK) return s;
  if (device.tell) made->tell();
  *out = std::move(made);
  return HADAL_OK;
}

// With the rows at their limits every operand lies in the memories that the tape asks for.
hadal_status Program::check_places(hadal_error* error) {
  const std::map<uint32_t, uint64_t> sizes = {{HADAL_SPACE_SCRATCH, tape_.scratch_bytes},
                                              {HADAL_SPACE_INPUT, tape_.input_bytes},
                                              {HADAL_SPACE_OUTPUT, tape_.output_bytes}};
  for (const ProgramOp& op : tape_.ops) {
    for (const Access& access : accesses_of(tape_, op.op)) {
      const auto size = sizes.find(access.space);
      if (size != sizes.end() && access.end > size->second)
        return report(error, HADAL_INVALID,
                      name_of(op, access.operand) + " does not lie inside the tape's memory");
    }
    for (uint32_t i = 0; i < operand_count_of(op.op.id); ++i) {
      const hadal_tensor* t = tape_.tensor(op.op, i);
      if (t && t->space == HADAL_SPACE_PLANE) needed_planes_.emplace(t->index, name_of(op, i));
    }
  }
  return HADAL_OK;
}

void Program::add(const Group& group) {
  const ProgramOp& first = tape_.ops[group.strands[0].ops[0]];
  const bool alone = !group.fused() && !(is_better_fused(first.op.id) && group.items());
  if (alone) return add_alone(first);
  Part part(device_);
  part.fused = std::make_unique<FusedLaunch>(encode(tape_, group, plan_));
  parts_.push_back(std::move(part));
}

void Program::add_alone(const ProgramOp& op) {
  Part part(device_);
  part.alone = find_operator(op.op.id);
  part.call.op = &op.op;
  part.call.told_as = op.origin;
  part.operands.resize(operand_count_of(op.op.id));
  for (uint32_t i = 0; i < operand_count_of(op.op.id); ++i) {
    const hadal_tensor* t = tape_.tensor(op.op, i);
    if (!t) continue;
    part.call.operands[i] = operand_of(*t);
    if (is_moved(t)) part.operands[i] = t;
  }
  parts_.push_back(std::move(part));
}

hadal_status Program::upload(hadal_error* error) {
  const uint64_t plan_bytes = plan_.size() * sizeof(int64_t);
  cl_int status = CL_SUCCESS;
  if (tape_.workspace_bytes > 0) {
    status = device_.take_workspace(tape_.workspace_bytes);
    took_workspace_ = status == CL_SUCCESS;
  }
  if (status == CL_SUCCESS && plan_bytes > 0) {
    cl_mem made =
        device_.cl.clCreateBuffer(device_.context, CL_MEM_READ_WRITE, plan_bytes, nullptr, &status);
    if (status == CL_SUCCESS) {
      plan_buffer_ = made;
      device_.allocated += plan_bytes;
    }
  }
  if (status != CL_SUCCESS)
    return report(
        error, HADAL_OUT_OF_MEMORY,
        failure(("a program's memory of " + std::to_string(bytes()) + " bytes").c_str(), status));
  if (plan_buffer_)
    status = device_.cl.clEnqueueWriteBuffer(device_.uploads, plan_buffer_, CL_TRUE, 0, plan_bytes,
                                             plan_.data(), 0, nullptr, nullptr);
  return status == CL_SUCCESS
             ? HADAL_OK
             : report(error, status_of(status), failure("copying a program's plan", status));
}

// Runs without a queue, for a step of one row and one of the most: kernels are built and found.
hadal_status Program::build(hadal_error* error) {
  for (const bool one : {true, false}) {
    std::array<int64_t, HADAL_DIM_COUNT> rows{};
    for (size_t d = 0; d < rows.size(); ++d)
      rows[d] = one ? std::min<int64_t>(1, tape_.limits[d]) : tape_.limits[d];
    for (Part& part : parts_) {
      part.call.queue = nullptr;
      part.call.memo = &part.memo;
      part.call.error = error;
      part.memo.begin();
      for (size_t i = 0; i < part.operands.size(); ++i)
        if (const hadal_tensor* t = part.operands[i])
          part.call.operands[i].extents[0] = t->extents[0] * rows[t->row_dim];
      const hadal_status s = part.fused ? run_fused(part, rows.data()) : part.alone->run(part.call);
      if (s != HADAL_OK) return s;
    }
  }
  return HADAL_OK;
}

hadal_status Program::check_step(const hadal_step& step, hadal_error* error) {
  for (int dim = HADAL_DIM_T; dim < HADAL_DIM_COUNT; ++dim)
    if (step.rows[dim] < 0 || step.rows[dim] > tape_.limits[dim])
      return report(error, HADAL_INVALID,
                    "the step brings " + std::to_string(step.rows[dim]) +
                        " rows, the tape's limit is " + std::to_string(tape_.limits[dim]));
  const auto take = [&](uint32_t space, hadal_memory* handle, uint64_t bytes, const char* name) {
    const Memory* memory = memory_of(handle);
    spaces_[space] = memory ? memory->buffer : nullptr;
    if (bytes == 0 || (spaces_[space] && memory->bytes >= bytes)) return std::string();
    return std::string("the step brings no ") + name + " of " + std::to_string(bytes) +
           " bytes, as the tape says";
  };
  std::string why = take(HADAL_SPACE_SCRATCH, step.scratch, tape_.scratch_bytes, "scratch");
  if (why.empty()) why = take(HADAL_SPACE_INPUT, step.inputs, tape_.input_bytes, "inputs");
  if (why.empty()) why = take(HADAL_SPACE_OUTPUT, step.outputs, tape_.output_bytes, "outputs");
  planes_.assign(tape_.plane_count, nullptr);
  for (uint32_t i = 0; i < std::min(tape_.plane_count, step.plane_count); ++i)
    planes_[i] = memory_of(step.planes[i]);
  for (const auto& [index, who] : needed_planes_)
    if (why.empty() && (!planes_[index] || !planes_[index]->buffer))
      why = who + " lies in a plane that the step does not bring";
  return why.empty() ? HADAL_OK : report(error, HADAL_INVALID, why);
}

hadal_status Program::run(Queue& queue, const hadal_step& step, hadal_error* error) {
  if (const hadal_status s = check_step(step, error); s != HADAL_OK) return s;
  device_.counts[1].stepped();
  if (took_workspace_) workspace_ = device_.workspace_for(queue);
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (step.stop && i % kLaunchesOfARun == 0) {
      if (i > 0) queue.settle();
      if (__atomic_load_n(step.stop, __ATOMIC_RELAXED) != 0) {
        queue.fail(HADAL_STOPPED, "stopped");
        return queue.sync(error);
      }
    }
    if (const hadal_status s = run_part(parts_[i], queue, step, error); s != HADAL_OK) return s;
  }
  device_.cl.clFlush(queue.queue);
  return HADAL_OK;
}

hadal_status Program::run_part(Part& part, Queue& queue, const hadal_step& step,
                               hadal_error* error) {
  part.memo.begin();
  part.call.memo = &part.memo;
  part.call.queue = &queue;
  part.call.error = error;
  if (part.fused) return run_fused(part, step.rows);
  part.call.workspace = workspace_;
  for (size_t i = 0; i < part.operands.size(); ++i) {
    const hadal_tensor* t = part.operands[i];
    if (!t) continue;
    Operand& o = part.call.operands[i];
    if (t->space == HADAL_SPACE_PLANE) {
      o.memory = planes_[t->index]->buffer;
      o.extents[0] = blocks_in(*t, *planes_[t->index]);
    } else {
      o.memory = t->space == kSpaceWorkspace ? workspace_ : spaces_[t->space];
      o.extents[0] = t->extents[0] * step.rows[t->row_dim];
    }
  }
  return part.alone->run(part.call);
}

hadal_status Program::run_fused(Part& part, const int64_t* rows) {
  const FusedLaunch& f = *part.fused;
  Launch launch(part.call, "fused", f.items ? "items" : "rows", f.variant(f.one_row(rows)));
  for (size_t i = 0; i < kMostMemories && part.call.queue; ++i) {
    cl_mem memory = part.call.no_memory();
    if (i < f.memories.size()) {
      const auto& [space, which] = f.memories[i];
      if (space == HADAL_SPACE_WEIGHT)
        memory = weight_of(reinterpret_cast<const hadal_weight*>(which)).parts.front().buffer;
      else if (space == HADAL_SPACE_PLANE)
        memory = planes_[which]->buffer;
      else
        memory = space == kSpaceWorkspace ? workspace_ : spaces_[space];
    }
    launch.memory(memory);
  }
  cl_int blocks[4] = {};
  for (size_t i = 0; i < f.planes.size() && part.call.queue; ++i) {
    const hadal_tensor& plane = tape_.tensors[f.planes[i]];
    blocks[i] = static_cast<cl_int>(blocks_in(plane, *planes_[plane.index]));
  }
  cl_int counts[4];
  for (int d = HADAL_DIM_T; d < HADAL_DIM_COUNT; ++d) counts[d - 1] = static_cast<cl_int>(rows[d]);
  return launch.four(blocks)
      .four(counts)
      .memory(plan_buffer_)
      .number(f.plan_at)
      .number(static_cast<int64_t>(f.strands.size()))
      .run_groups(f.columns, f.tiles(rows));
}

// One line a launch, each kind once with how often it stands.
void Program::tell() const {
  std::map<std::string, int> kinds;
  for (const Part& part : parts_)
    ++kinds[part.fused
                ? std::string(part.fused->items ? "items" : "rows") + " (" + part.fused->name + ")"
                : std::string(contract::op_name(part.call.op->id))];
  std::string text = "a program of " + std::to_string(tape_.ops.size()) + " operators in " +
                     std::to_string(parts_.size()) + " parts: ";
  bool first = true;
  for (const auto& [kind, count] : kinds) {
    text += (first ? "" : "; ") + std::to_string(count) + " x " + kind;
    first = false;
  }
  device_.tell(text);
}

// ---- the table

namespace {

Program* program_of(hadal_program* p) { return reinterpret_cast<Program*>(p); }

hadal_status prepare(hadal_device* device, const hadal_tape* tape, hadal_program** out,
                     hadal_error* error) {
  *out = nullptr;
  return contract::guarded(error, [&] {
    std::unique_ptr<Program> made;
    const hadal_status s =
        Program::prepare(*device_of(device), contract::read_sized(tape), &made, error);
    *out = reinterpret_cast<hadal_program*>(made.release());
    return s;
  });
}

hadal_status run(hadal_program* program, hadal_queue* queue, const hadal_step* step,
                 hadal_error* error) {
  return contract::guarded(error, [&] {
    return program_of(program)->run(*queue_of(queue), contract::read_sized(step), error);
  });
}

void destroy(hadal_program* program) { delete program_of(program); }

uint64_t bytes(hadal_program* program) { return program_of(program)->bytes(); }

}  // namespace

const hadal_program_table kProgramTable = {
    sizeof(hadal_program_table), 0, prepare, run, destroy, bytes};

}  // namespace hadal::opencl
