#include "engine/reference_run.h"

#include <algorithm>
#include <cmath>

#include "contract/operators.h"
#include "engine/working_memory.h"

namespace hadal {
namespace {

/// WEIGHT of a router, as the contract defines it, for experts that are given.
std::vector<float> expert_weights(const hadal_router_attr& attr, std::span<const float> logits,
                                  std::span<const int32_t> experts) {
  std::vector<double> score(logits.begin(), logits.end());
  const double largest = *std::max_element(score.begin(), score.end());
  double all = 0;
  for (double& s : score) {
    if (attr.score == HADAL_ROUTER_SOFTMAX) all += s = std::exp(s - largest);
    if (attr.score == HADAL_ROUTER_SIGMOID) s = 1 / (1 + std::exp(-s));
    if (attr.score == HADAL_ROUTER_SQRT_SOFTPLUS)
      s = std::sqrt(std::max(s, 0.0) + std::log1p(std::exp(-std::fabs(s))));
  }
  double sum = 1e-20;
  for (const int32_t e : experts) {
    double& s = score[static_cast<size_t>(e)];
    if (attr.score == HADAL_ROUTER_SOFTMAX) s /= all;
    sum += s;
  }
  std::vector<float> weights;
  for (const int32_t e : experts)
    weights.push_back(
        static_cast<float>(score[static_cast<size_t>(e)] / (attr.normalise != 0 ? sum : 1.0) *
                           static_cast<double>(attr.scale)));
  return weights;
}

}  // namespace

std::map<std::string, int64_t> ModelNumerics::counts() const {
  std::map<std::string, int64_t> counts;
  for (const Numerics& n : classes) ++counts[n.name()];
  return counts;
}

RunnerOptions reference_options(const RunnerOptions& options) {
  RunnerOptions reference = options;
  reference.device = {.chip = "ref", .plugin_folders = {}, .log = options.device.log};
  reference.place.clear();
  reference.fallback = false;
  reference.ranks = nullptr;
  reference.rank_threads = 1;
  reference.weights = WeightMode::kNative;
  reference.lower_all = true;
  return reference;
}

Result<ModelNumerics> ask_numerics(const Checkpoint& checkpoint, const RunnerOptions& options) {
  // Ranks compute what one device would, in the same classes.
  RunnerOptions asked = options;
  asked.ranks = nullptr;
  asked.rank_threads = 1;
  asked.lower_all = true;
  HADAL_TRY(const std::unique_ptr<ModelRunner> runner, ModelRunner::open(checkpoint, asked));
  ModelNumerics numerics;
  numerics.classes = runner->classes();
  numerics.forms = runner->held_forms();
  const StepCost cost = runner->step_cost({1, 1, 1, 1, 1}, 1);
  if (!cost.declined.empty())
    numerics.declined =
        declined_operators(std::string(runner->device().chip_name()), cost.declined).message;
  return numerics;
}

Result<contract::LogitRows> forced_logits(Engine& engine, const ForcedPrompt& prompt,
                                          const RunProgress& progress) {
  contract::LogitRows rows;
  Request request;
  request.prompt = prompt.ids;
  request.reuse_prefix = false;
  const auto count = static_cast<int64_t>(prompt.ids.size());
  if (prompt.alone > 0 && prompt.alone < count) request.chunks = {count - prompt.alone, 1};
  request.on_logits = [&rows](int64_t, std::span<const float> logits) {
    rows.emplace_back(logits.begin(), logits.end());
  };
  HADAL_TRY(engine.add(std::move(request)));
  while (!engine.idle()) {
    HADAL_TRY(const std::vector<TokenEvent> events, engine.step());
    for (const TokenEvent& event : events)
      if (event.error) return *event.error;
    if (progress) progress(static_cast<int64_t>(rows.size()));
  }
  return rows;
}

Status ReferenceRun::begin(const StepInputs&, const hadal_step& step) {
  step_ = step;
  next_ = 0;
  return {};
}

Result<const Device*> ReferenceRun::device_of(const Numerics& numerics) {
  const std::string table = contract::reference_table(numerics.numerics, numerics.block);
  std::unique_ptr<Device>& device = devices_[table];
  if (!device) {
    HADAL_TRY(device, Device::open({.chip = "ref", .kernels = table}));
  }
  return device.get();
}

Status ReferenceRun::write(const Tensor& t, int64_t row, std::span<const std::byte> bytes) const {
  const Place& place = runner_.places()[0];
  HADAL_TRY(place.device->copy_in(memory_of(place, t),
                                  t.offset + static_cast<uint64_t>(row * t.strides[0]), bytes));
  return place.device->sync();
}

/// Gives a row the weights of experts that were chosen otherwise.
Status ReferenceRun::follow_router(const hadal_op& op, std::span<const Tensor> tensors, int64_t row,
                                   std::span<const int32_t> experts) {
  const Tensor& logits = tensors[HADAL_ROUTER_LOGITS];
  std::vector<float> numbers(static_cast<size_t>(logits.extents[1]));
  const Place& place = runner_.places()[0];
  HADAL_TRY(place.device->copy_out(std::as_writable_bytes(std::span(numbers)),
                                   memory_of(place, logits),
                                   logits.offset + static_cast<uint64_t>(row * logits.strides[0])));
  HADAL_TRY(place.device->sync());
  for (const int32_t e : experts)
    if (e < 0 || e >= logits.extents[1])
      return failed("the chip chose expert " + std::to_string(e) + " of " +
                    std::to_string(logits.extents[1]));
  const std::vector<float> weights = expert_weights(op.attr.router, numbers, experts);
  return write(tensors[HADAL_ROUTER_WEIGHT], row, std::as_bytes(std::span(weights)));
}

/// Behind an operator that chooses.
Status ReferenceRun::choose(const hadal_op& op, std::span<const Tensor> tensors, uint32_t operand) {
  const Tensor& list = tensors[operand];
  HADAL_TRY(ChosenRows chosen,
            read_choice(runner_.places()[0], op.id, list, step_.rows[list.row_dim]));
  const size_t call = choices_.size();
  const ChosenRows& own = choices_.emplace_back(std::move(chosen));
  if (!followed_) return {};
  if (call >= followed_->size() || (*followed_)[call].numbers.size() != own.numbers.size())
    return failed("the reference chooses where the chip does not");
  for (size_t at = 0; at < own.numbers.size(); at += own.width) {
    const std::span mine = std::span(own.numbers).subspan(at, own.width);
    const std::span other = std::span((*followed_)[call].numbers).subspan(at, own.width);
    if (std::equal(mine.begin(), mine.end(), other.begin())) continue;
    const auto row = static_cast<int64_t>(at / own.width);
    HADAL_TRY(write(list, row, std::as_bytes(other)));
    if (op.id == HADAL_OP_ROUTER) HADAL_TRY(follow_router(op, tensors, row, other));
  }
  return {};
}

Status ReferenceRun::run(const hadal_op& op, std::span<const Tensor> tensors) {
  const Device* device = &runner_.device();
  if (op.id != HADAL_OP_SAMPLE && !classes_.empty()) {
    if (next_ >= classes_.size())
      return failed("the reference has more operators than the chip answered classes for");
    HADAL_TRY(device, device_of(classes_[next_++]));
  }
  EagerSink sink(*device, step_, runner_.step_planes().count());
  sink.op(op, tensors);
  HADAL_TRY(sink.status());
  HADAL_TRY(device->sync());  // one queue does not wait for another
  const std::optional<uint32_t> chosen = chosen_operand(op.id);
  return chosen ? choose(op, tensors, *chosen) : Status();
}

void ReferenceRun::op(const hadal_op& op, std::span<const Tensor> tensors) {
  if (alive_) alive_(contract::op_name(op.id));
  if (status_) status_ = run(op, tensors);
}

}  // namespace hadal
