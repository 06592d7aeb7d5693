#include "runtime/plan.h"

#include <algorithm>
#include <utility>

#include "contract/check.h"
#include "contract/operators.h"
#include "contract/report.h"
#include "runtime/fetch_ahead.h"
#include "runtime/planner.h"

namespace hadal::cpu {
namespace {

using contract::report;

bool writes_inputs(const hadal_tape& tape, const hadal_op& op) {
  for (uint32_t i = 0; i < contract::operand_count(op.id); ++i)
    if (contract::writes(contract::operand_role(op.id, i)) && op.operands[i] >= 0 &&
        op.operands[i] < static_cast<int32_t>(tape.tensor_count) &&
        tape.tensors[op.operands[i]].space == HADAL_SPACE_INPUT)
      return true;
  return false;
}

}  // namespace

bool Query::rounds(uint32_t operand) const {
  const hadal_tensor& w = tensors[operand];
  if (w.weight) return weight_of(w.weight)->quantises();
  hadal_weight_desc desc{};
  desc.dtype = w.dtype;
  desc.cols = w.extents[w.rank - 1];
  if (w.dtype == HADAL_F4_E2M1) {  // as checkpoints have it; the handle will tell
    desc.scale_dtype = HADAL_F8_E8M0;
    desc.scale_block_rows = 1;
    desc.scale_block_cols = kBlock;
  }
  const auto layout = layout_of(desc, exact);
  return layout && is_int(*layout);
}

std::string Indices::outside(uint32_t operand, int64_t i, int64_t value, int64_t low,
                             int64_t end) const {
  if (value >= low && value < end) return {};
  return std::string(contract::op_name(op.id)) + ": " + contract::operand_name(op.id, operand) +
         " [" + std::to_string(i) + "] is " + std::to_string(value) + ", outside [" +
         std::to_string(low) + ", " + std::to_string(end) + ")";
}

std::string Indices::in_range(uint32_t operand, int64_t low, int64_t end) const {
  const host_chip::View v = view(operand);
  for (int64_t i = 0; i < v.extents[0]; ++i)
    HADAL_RETURN_IF_TEXT(outside(operand, i, *v.row<int32_t>(i), low, end));
  return {};
}

hadal_status query_op(const Device& device, const Query& query, Needs* needs, hadal_error* error) {
  *needs = {};
  const hadal_op& op = query.op;
  if (const hadal_status s = contract::check_operands(op, query.tensors, error); s != HADAL_OK)
    return s;
  const auto refuse = [&](hadal_status status, const std::string& why) {
    return report(error, status, contract::describe(op, query.tensors) + ": " + why);
  };
  const Operator* row = device.find(op.id);
  if (!row) return refuse(HADAL_UNSUPPORTED, "this chip does not have the operator");
  for (uint32_t i = 0; i < contract::operand_count(op.id); ++i)
    if (query[i].space == HADAL_SPACE_WEIGHT && query[i].weight)
      if (const std::string why =
              contract::check_handle(weight_of(query[i].weight)->desc, op, i, query[i]);
          !why.empty())
        return refuse(HADAL_INVALID, why);
  if (row->query) *needs = row->query(query);
  return HADAL_OK;
}

hadal_status Plan::make(Device& device, const hadal_tape& tape, uint32_t first, uint32_t count,
                        bool eager, std::unique_ptr<Plan>* out, hadal_error* error) {
  if (first > tape.op_count || count > tape.op_count - first)
    return report(error, HADAL_INVALID,
                  "operators " + std::to_string(first) + " + " + std::to_string(count) +
                      " of a tape of " + std::to_string(tape.op_count));
  std::unique_ptr<Plan> plan(new Plan(device));
  plan->eager_ = eager;
  plan->tensors_.assign(tape.tensors, tape.tensors + tape.tensor_count);
  plan->ops_.assign(tape.ops + first, tape.ops + first + count);
  plan->tape_ = tape;
  plan->tape_.tensors = plan->tensors_.data();
  plan->tape_.ops = plan->ops_.data();
  plan->tape_.op_count = count;
  plan->tape_.limits[HADAL_DIM_CONST] = 1;
  for (const hadal_op& op : plan->ops_)
    plan->writes_inputs_ = plan->writes_inputs_ || writes_inputs(plan->tape_, op);
  Planner planner(*plan, plan->tape_);
  for (uint32_t i = 0; i < count; ++i)
    if (const hadal_status s = planner.add(i, error); s != HADAL_OK) return s;
  if (!eager && !plan->workspace_.allocate(plan->workspace_bytes_))
    return report(
        error, HADAL_OUT_OF_MEMORY,
        "no " + std::to_string(plan->workspace_bytes_) + " bytes of memory left for the program");
  plan->counters_ = std::make_unique<std::atomic<int32_t>[]>(
      (plan->stages_.size() + 1) * counters_of_stage(device.pool->size()));
  *out = std::move(plan);
  return HADAL_OK;
}

hadal_status Plan::check_step(const hadal_step& step, hadal_error* error) const {
  for (int dim = HADAL_DIM_T; dim < HADAL_DIM_COUNT; ++dim)
    if (step.rows[dim] < 0 || step.rows[dim] > tape_.limits[dim])
      return report(error, HADAL_INVALID,
                    "the step brings " + std::to_string(step.rows[dim]) + " rows of kind " +
                        std::to_string(dim) + ", the tape's limit is " +
                        std::to_string(tape_.limits[dim]));
  if (step.plane_count < tape_.plane_count)
    return report(error, HADAL_INVALID, "the step brings fewer planes than the tape uses");
  for (const hadal_op& op : ops_)
    if (const hadal_status s = check_memories(op, step, error); s != HADAL_OK) return s;
  if (eager_ && workspace_bytes_ > 0) {
    const host_chip::Memory* m = step.workspace ? host_chip::memory(step.workspace) : nullptr;
    if (!m || m->bytes < workspace_bytes_)
      return report(
          error, HADAL_INVALID,
          "the operators need a workspace of " + std::to_string(workspace_bytes_) + " bytes");
  }
  for (const uint32_t i : checks_)
    if (const std::string text = check_indices(ops_[i], step); !text.empty())
      return report(error, HADAL_INVALID, text);
  return HADAL_OK;
}

hadal_status Plan::check_memories(const hadal_op& op, const hadal_step& step,
                                  hadal_error* error) const {
  for (uint32_t i = 0; i < contract::operand_count(op.id); ++i) {
    if (op.operands[i] < 0) continue;
    const hadal_tensor& t = tensors_[static_cast<size_t>(op.operands[i])];
    if (t.space == HADAL_SPACE_WEIGHT || t.space == HADAL_SPACE_NONE) continue;
    if (!host_chip::lies_inside(host_chip::view(tape_, op.operands[i], step), t, step))
      return report(error, HADAL_INVALID,
                    std::string(contract::op_name(op.id)) + ": " +
                        contract::operand_name(op.id, i) +
                        " does not lie inside the step's memory");
  }
  return HADAL_OK;
}

std::string Plan::check_indices(const hadal_op& op, const hadal_step& step) const {
  const Operator* row = device_.find(op.id);
  return row->indices ? row->indices({tape_, op, step}) : std::string();
}

void Plan::work(Run& run, Worker& worker, std::atomic<int32_t>* invalid) {
  const int mode = run.few ? 0 : 1;
  FetchAhead ahead(device_, tape_, run.step, worker.index == 0 && device_.from_disk);
  for (size_t i = 0; i < stages_.size(); ++i) {
    const Stage& s = stages_[i];
    const Call call{run, ops_[s.op], s, i, worker};
    if ((run.few && !s.few) || (s.wanted && !s.wanted(call))) continue;
    if (s.barrier[mode] &&
        device_.pool->barrier(worker.index, worker.index == 0 && host_chip::stop_asked(run.step))) {
      if (worker.index == 0) invalid[1].store(1, std::memory_order_relaxed);
      return;
    }
    // All workers read the same indices and find the same.
    if (s.validate && !check_indices(call.op, run.step).empty()) {
      invalid[0].store(static_cast<int32_t>(s.op) + 1, std::memory_order_relaxed);
      return;
    }
    ahead.begin(s.op);
    s.run(call);
  }
}

hadal_status Plan::run(const hadal_step& step, hadal_error* error) {
  if (host_chip::stop_asked(step))
    return report(error, HADAL_STOPPED, "stopped before the step began");
  const std::lock_guard guard(device_.pool->lock());
  if (const hadal_status s = check_step(step, error); s != HADAL_OK) return s;
  if (!device_.reserve(temp_bytes_, own_bytes_))
    return report(error, HADAL_OUT_OF_MEMORY, "no memory left for the workers");
  const int workers = device_.pool->size();
  for (size_t i = 0; i < stages_.size(); ++i)
    for (int w = 0; w < workers; ++w)
      counters_[i * counters_of_stage(workers) + static_cast<size_t>(w)].store(
          0, std::memory_order_relaxed);
  for (Worker& w : device_.workers) w.own_value = -1;
  uint8_t* workspace =
      eager_ ? (step.workspace ? reinterpret_cast<uint8_t*>(host_chip::memory(step.workspace)->data)
                               : nullptr)
             : workspace_.data();
  Run run{tape_, step, device_.kernels, workspace, counters_.get(), workers, true};
  for (int dim = HADAL_DIM_T; dim < HADAL_DIM_COUNT; ++dim)
    run.few = run.few && step.rows[dim] <= kFewRows;
  std::atomic<int32_t> invalid[2] = {0, 0};  // op + 1 of bad indices; stopped
  auto body = [&](int worker) { work(run, device_.workers[static_cast<size_t>(worker)], invalid); };
  const int64_t faults = faults_from_disk();
  device_.pool->run(body);
  device_.from_disk = faults_from_disk() > faults;
  if (invalid[1].load() != 0) return report(error, HADAL_STOPPED, "stopped");
  if (const int32_t bad = invalid[0].load(); bad != 0)
    return report(error, HADAL_INVALID, check_indices(ops_[static_cast<size_t>(bad - 1)], step));
  return HADAL_OK;
}

}  // namespace hadal::cpu
