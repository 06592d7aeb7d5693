#include "engine/reference_run.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "contract/operators.h"
#include "engine/working_memory.h"

namespace hadal {
namespace {

/// -1 stands behind the entries.
void sort_list(std::span<int32_t> list) {
  std::sort(list.begin(), list.end(), [](int32_t a, int32_t b) {
    return static_cast<uint32_t>(a) < static_cast<uint32_t>(b);
  });
}

/// Whether two rows hold other numbers, in whatever order.
bool differ(std::span<const int32_t> a, std::span<const int32_t> b) {
  std::vector<int32_t> x(a.begin(), a.end()), y(b.begin(), b.end());
  std::sort(x.begin(), x.end());
  std::sort(y.begin(), y.end());
  return x != y;
}

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
  reference.when_followed = {};
  reference.weights = WeightMode::kNative;
  reference.lower_all = true;
  return reference;
}

Result<ModelNumerics> ask_numerics(const Checkpoint& checkpoint, const RunnerOptions& options) {
  // Ranks compute what one device would, in the same classes.
  RunnerOptions asked = options;
  asked.ranks = nullptr;
  asked.rank_threads = 1;
  asked.when_followed = {};
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

Result<ChoiceCounts> compare_choices(const ChoiceLog& a, const ChoiceLog& b) {
  ChoiceCounts counts;
  if (a.size() != b.size()) return failed("one run chooses where the other does not");
  for (size_t call = 0; call < a.size(); ++call) {
    const size_t width = a[call].width;
    if (width != b[call].width || a[call].numbers.size() != b[call].numbers.size())
      return failed("one run chooses more than the other");
    for (size_t at = 0; width > 0 && at < a[call].numbers.size(); at += width) {
      ++counts.rows;
      counts.differ += differ(std::span(a[call].numbers).subspan(at, width),
                              std::span(b[call].numbers).subspan(at, width));
    }
  }
  return counts;
}

Status OperatorRun::begin(const StepInputs&, const hadal_step& step) {
  step_ = step;
  next_ = 0;
  return {};
}

Result<const Device*> OperatorRun::device_of(const Numerics& numerics) {
  const std::string table = contract::reference_table(numerics.numerics, numerics.block);
  std::unique_ptr<Device>& device = devices_[table];
  if (!device) {
    HADAL_TRY(device, Device::open({.chip = "ref", .kernels = table}));
  }
  return device.get();
}

Result<std::vector<std::byte>> OperatorRun::read(const Tensor& t) const {
  const Place& place = runner_.places()[0];
  std::vector<std::byte> bytes(reach(t, step_.rows[t.row_dim]));
  HADAL_TRY(place.device->copy_out(bytes, memory_of(place, t), t.offset));
  HADAL_TRY(place.device->sync());
  return bytes;
}

Status OperatorRun::write(const Tensor& t, int64_t row, std::span<const std::byte> bytes) const {
  const Place& place = runner_.places()[0];
  HADAL_TRY(place.device->copy_in(memory_of(place, t),
                                  t.offset + static_cast<uint64_t>(row * t.strides[0]), bytes));
  return place.device->sync();
}

/// Gives a row the weights of experts that were chosen otherwise.
Status OperatorRun::follow_router(const hadal_op& op, std::span<const Tensor> tensors, int64_t row,
                                  std::span<const int32_t> experts) {
  const Tensor& logits = tensors[HADAL_ROUTER_LOGITS];
  HADAL_TRY(const std::vector<std::byte> bytes, read(logits));
  std::vector<float> numbers(static_cast<size_t>(logits.extents[1]));
  std::memcpy(numbers.data(), bytes.data() + row * logits.strides[0],
              numbers.size() * sizeof(float));
  for (const int32_t e : experts)
    if (e < 0 || e >= logits.extents[1])
      return failed("the chip chose expert " + std::to_string(e) + " of " +
                    std::to_string(logits.extents[1]));
  const std::vector<float> weights = expert_weights(op.attr.router, numbers, experts);
  return write(tensors[HADAL_ROUTER_WEIGHT], row, std::as_bytes(std::span(weights)));
}

/// Behind an operator that chooses.
Status OperatorRun::choose(const hadal_op& op, std::span<const Tensor> tensors, uint32_t operand) {
  const Tensor& list = tensors[operand];
  HADAL_TRY(const std::vector<std::byte> bytes, read(list));
  const auto width = static_cast<size_t>(list.extents[1]);
  const int64_t rows = bytes.empty() ? 0 : list.extents[0] * step_.rows[list.row_dim];
  const size_t call = choices_.size();
  std::vector<int32_t>& own =
      choices_
          .emplace_back(ChosenRows{width, std::vector<int32_t>(static_cast<size_t>(rows) * width)})
          .numbers;
  if (followed_ && (call >= followed_->size() || (*followed_)[call].numbers.size() != own.size()))
    return failed("the reference chooses where the chip does not");
  for (int64_t row = 0; row < rows; ++row) {
    const std::span mine = std::span(own).subspan(static_cast<size_t>(row) * width, width);
    std::memcpy(mine.data(), bytes.data() + row * list.strides[0], width * sizeof(int32_t));
    const bool router = op.id == HADAL_OP_ROUTER;
    if (!router) sort_list(mine);
    if (!followed_) continue;
    const std::span other =
        std::span((*followed_)[call].numbers).subspan(static_cast<size_t>(row) * width, width);
    if (std::equal(mine.begin(), mine.end(), other.begin())) continue;
    HADAL_TRY(write(list, row, std::as_bytes(other)));
    if (router) HADAL_TRY(follow_router(op, tensors, row, other));
  }
  return {};
}

Status OperatorRun::run(const hadal_op& op, std::span<const Tensor> tensors) {
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
  switch (op.id) {
    case HADAL_OP_ROUTER:
      return choose(op, tensors, HADAL_ROUTER_EXPERT);
    case HADAL_OP_INDEX_TOPK:
      return choose(op, tensors, HADAL_INDEX_TOPK_LIST);
    case HADAL_OP_INDEX_BLOCKS:
      return choose(op, tensors, HADAL_INDEX_BLOCKS_LIST);
    default:
      return {};
  }
}

void OperatorRun::op(const hadal_op& op, std::span<const Tensor> tensors) {
  if (alive_) alive_(contract::op_name(op.id));
  if (status_) status_ = run(op, tensors);
}

}  // namespace hadal
